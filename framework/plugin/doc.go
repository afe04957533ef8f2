// Package plugin puts a node database into another process, which the host reaches by gRPC.
//
// A backend's author writes a db.Factory (or a kv.Store, of which package kvdb makes one) and a main
// that calls Serve. A host launches that program with Launch and opens databases in it with
// Process.Open; what that returns is a db.NodeDB like any other, with the same errors: errors.Is finds
// the sentinels, and db.ErrUnavailable says that the process can't be asked any more, which is never
// reported as an answer. Server and Connect do the same over any gRPC server and connection.
//
// The host's own program can serve its built-in backends: it is launched again with a reserved first
// argument, see ServeBuiltin and Builtin.
//
// # What goes when
//
// A host's session lasts as long as its connection. When it ends, also by kill -9 of the host, the plugin
// ends the session's calls, batches, walks and pins, closes its databases, and exits within two seconds.
// A batch or chunk whose stream breaks is aborted.
//
// # What travels how
//
// Calls that answer with little are one message each way. Nodes and write logs go as packed items in
// frames of up to 256 KiB, so that no call is paid per node; gRPC's flow control bounds what is under
// way. The file proto/nodedb.proto describes the wire for authors who use another language.
package plugin

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
// # Supervision
//
// Supervise launches a program and keeps it running: a process that ends, or ends its session, is seen at
// once, and another is started after a pause that grows with each failure (Restarts), until it fails too
// often. It is never ended by its number alone, and the next one is started when nothing is left of it.
// What Supervisor.Open returns survives its process:
//
//   - Calls under way when the process goes return db.ErrUnavailable: whether they were done is not known.
//     Batches, chunks and walks end with it, too; none of them is repeated. What was acknowledged is there,
//     and doing the same again is no error where the contract says so.
//   - Calls that begin later wait for the next process, as long as their contexts last.
//   - The database is opened as it was, for reading only where it was. It must be what it was: one that is
//     another, or lacks a version that was finalized, is refused.
//   - Pins are renewed, with version and owner, before any call comes through, so nothing that prunes gets
//     in between; they are in force since then. A pin that can't be renewed, because somebody else has pruned
//     its version meanwhile, is lost: that is logged, its Release returns the reason (db.ErrVersionPruned),
//     and so does whatever is asked of the version.
//   - A database that is not durable is lost with its process.
//
// What is given up (a process that fails too often, a database that is lost or is refused: locked by another
// process, foreign, damaged) returns errors that are db.ErrUnavailable, ErrGivenUp and the reason. The other
// databases of the process go on. A process that hangs, or is stopped, is not taken for dead: calls wait
// as long as their contexts last, and Close ends it by force.
//
// # What goes when
//
// A host's session lasts as long as its connection. When it ends, also by kill -9 of the host, the plugin
// ends the session's calls, batches and walks, and when these have ended its pins, closes its databases,
// and exits within two seconds. A batch or chunk whose stream breaks is aborted.
//
// # What travels how
//
// Calls that answer with little are one message each way. Nodes and write logs go as packed items in
// frames of up to 256 KiB, so that no call is paid per node; gRPC's flow control bounds what is under
// way. On Linux the frames of a walk lie in memory that both processes share, two megabytes for each of up
// to four walks at once, and messages say what is there; those of a fifth walk, or of a process that the
// memory does not reach, go through the connection. The file proto/nodedb.proto describes the wire for authors who use another language.
package plugin

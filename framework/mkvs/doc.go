// Package mkvs is the Merkle key-value store: an authenticated tree over a node database.
//
// A Tree is a view of one root and of the changes made to it since. It loads nodes as they are needed,
// keeps changes in memory, and writes them with Commit as one candidate root of a version; what makes a
// version count is NodeDB.Finalize. Changes come to the nodes when those are wanted, for a root hash, a
// proof or an iterator: all that came since the last time at once, in the order of their keys, so that each
// node is read, made and hashed once. An Overlay holds changes over a tree (or over another overlay) that
// may yet be thrown away.
//
// A tree, its iterators and its overlays belong to one goroutine. Where there is much to do they let others
// help, which have ended when the call returns. Any number of trees can be open over one database.
//
// Trees can be as deep as the longest key has bits, 65,528 levels: what recurses over nodes takes little of
// the stack for each.
package mkvs

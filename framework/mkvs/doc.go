// Package mkvs is the Merkle key-value store: an authenticated tree over a node database.
//
// A Tree is a view of one root and of the changes made to it since. It loads nodes as they are needed,
// keeps changes in memory, and writes them with Commit as one candidate root of a version; what makes a
// version count is NodeDB.Finalize. An Overlay holds changes over a tree (or over another overlay) that
// may yet be thrown away.
//
// A tree, its iterators and its overlays belong to one goroutine. Any number of trees can be open over
// one database.
//
// Trees can be as deep as the longest key has bits, so nothing here recurses over nodes.
package mkvs

// Package kvdb makes a node database (package db) of any ordered key-value store (package kv).
//
// # Layout
//
// A node is addressed by the version and candidate that wrote it and by its position. Nodes are packed,
// in pre-order, into blocks of about 4,000 bytes; a block's key ends with the position of its last
// live entry when it was written, so that a seek for a node's address finds the block that holds it. Versions come first in a
// key: a commit appends, and what a version holds lies together.
//
// The first byte of a key is its kind; where a kind has a root type, that is the byte's lower half.
//
//	00                                          stamp: what this is, format version, namespace
//	01                                          state: earliest and latest version, what is cleaned up
//	02                                          open multipart insert: its version
//	03 version                                  a finalized version: its roots
//	1t version candidate                        a candidate: hash, address, what it was made from
//	2t version candidate position               block of entries
//	3t version candidate position               dead slots of the block with the same rest of the key
//	4t version candidate part                   garbage list: entries of older versions not reached any more
//	6t version candidate                        a root of the multipart insert
//	7t version candidate part                   its tag
//	8t version candidate index                  mark of a chunk that is durable
//	9t version candidate position               raw spine: nodes of which chunks hold only a part
//	at version candidate part                   write log: keys; their values are the tree's
//
// Numbers in keys are big-endian: versions 8 bytes, candidates 2, parts 4, indices 8. Every value ends
// with a CRC-32C of key and value.
//
// # What makes things count
//
// A candidate counts when its record is there; it is in the last of a commit's atomic writes. A version
// counts when its record is, and the state says so: one atomic write. A chunk of a restore counts when
// its mark is there. Everything else that is found beside these when the database is opened was left
// behind by something unfinished, and is removed.
//
// # Pruning
//
// Prune and PruneBefore advance the earliest version, safely, and nothing else. The entries that this frees
// stand on the garbage lists, which are applied in rounds of many versions, as far as memory allows: by a
// goroutine of the database's own (background.go), or by whoever asks for it (collect.go). A block's dead
// slots are kept in a bitmap. Where up to three neighbours have a block's worth of free bytes between them, they
// are packed into one less (repack.go). Each round ends with the version up to which lists are applied, and can be done again. A version whose state shares
// nothing with those before it (it was restored, or began with an empty tree) has no need of a list: once the
// earliest version reaches it, everything below is dropped unread.
//
// # Locks
//
// One goroutine at a time has the turn to write (DB.turn): whoever changes what counts checks, writes
// and then updates what memory knows of it while it has the turn. Readers never wait for the turn; they
// look at memory under a mutex that is held for no I/O, and at a snapshot. Nobody waits for the turn
// while holding a snapshot: some stores (bbolt) can't grow while one is open.
package kvdb

// Package kv is the contract of an ordered key-value store, the smaller of the two ways to write a
// backend: an engine that keeps it is made a full NodeDB by package kvdb.
//
// Keys and values are byte strings; keys sort bytewise. In the clauses below, the caller is kvdb, the
// store is the backend.
//
// # Clauses for all methods
//
//	KV1  Any number of goroutines call the store at once; snapshots and cursors belong to one
//	     goroutine at a time. Apply is called by one goroutine at a time.
//	KV2  A method whose context is done returns its error soon, and then has done nothing or all.
//	KV3  The caller does not change a byte slice that it passed until the call has returned; the store
//	     does not keep it longer than that.
//	KV4  After Close, every method returns ErrClosed. The caller closes all snapshots before.
//	KV5  A failure of the machine below (disk full, I/O error) is an error that wraps its cause, and
//	     leaves the store as it was before the call.
//
// # Clauses for each method
//
// Limits
//
//	KV10 Limits returns the same numbers during the store's life and takes no I/O.
//	KV11 The caller keeps each number; the store may refuse what goes beyond with ErrLimitExceeded. Of
//	     Readers, too: a caller that wants one more snapshot waits until one is closed.
//	KV12 While pairs are put that were not there, in large batches and about in the order of their keys, the
//	     store's files never take more than Amplification bytes for each byte of keys and values, beside a
//	     few MiB: what is on its way (journals, tables being merged, pages half full) included. (For stores
//	     that say it. It is what a restore is measured by before it begins.)
//
// Apply
//
//	KV20 Apply makes all changes of a batch visible at once, or none. A snapshot taken after it
//	     returned sees them.
//	KV21 After kill -9 of the process, what an Apply that returned nil did is there; of one that did
//	     not return, all or nothing. (For stores whose Limits say Durable.)
//	KV22 With sync set, the same holds after a loss of power, for this batch and for all before it.
//	     Without it, a loss of power may take back the last batches, the newest first and each whole.
//	KV23 The last operation on a key within a batch counts. Deleting an absent key is no error.
//	KV24 A key has at least 1 byte; a value may be empty, and is then found as an empty value.
//	KV25 A store whose files are cut short, missing or damaged returns an error, or is as it was after an
//	     earlier batch, as after a loss of power: never another mixture, and never an empty store in the
//	     place of one that was not. (For stores whose Limits say Integrity. Bytes that change within a
//	     value may go unseen: the caller's values have checksums.)
//
// Snapshot
//
//	KV30 A Snapshot shows the store as it was when it was taken, whatever is applied later.
//	KV31 Get returns the value, or nil and ErrNotFound.
//	KV32 A cursor's Seek goes to the first key that is not less than the given one; Next to the first
//	     greater than the present one. Both return whether there is one; when not, Err says whether an
//	     error is why. A new cursor stands nowhere.
//	KV33 What Get, Key and Value return is valid until the snapshot is closed where Limits say
//	     StableValues, otherwise until the cursor moves or, for Get, the snapshot is closed. The
//	     caller does not change it.
//	KV34 Close releases the snapshot; calling it again does nothing. Cursors are closed before.
//
// Sync, Size, Compact, Close
//
//	KV40 Sync returns when everything that was applied before is safe from a loss of power.
//	KV41 Size tells the bytes that live data takes, as far as the store knows, and those that the
//	     store's files take. A store without files says 0 for these.
//	KV42 Compact gives unused space back to the file system. Nothing is lost when it is interrupted.
//	     A store that has nothing to give back returns nil.
//	KV43 Close makes everything that was applied safe, as Sync does, and releases files and locks.
//
// # Opening
//
// A store is opened by a function of the backend's own; package db's Config says where and how. What
// follows is for stores that keep files. Package storedir does most of it.
//
//	KV50 The store has Dir for itself. Where it is not there, it is made, with those above it, with mode
//	     0700. One that holds what the store did not make, or that is a file, is refused with
//	     db.ErrForeign, and left as it is.
//	KV51 With ReadOnly, no file is made or changed, and readers share the directory with each other.
//	     Where there is nothing to read, the error is fs.ErrNotExist.
//	KV52 A writer has the directory alone, until Close or the end of its process. An open that finds it
//	     held waits for LockWait (0 means db.DefaultLockWait) or until its context is done; then the
//	     error is db.ErrLocked, and its text holds the number of the process that has it.
package kv

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/common/errors"
)

const moduleName = "storage/mkvs/db/kvdb/kv"

// The errors of a store.
var (
	// ErrNotFound is returned by Get for a key that is not there.
	ErrNotFound = errors.New(moduleName, 1, "kv: key not found")
	// ErrClosed is returned by a store that has been closed.
	ErrClosed = errors.New(moduleName, 2, "kv: store is closed")
	// ErrReadOnly is returned by Apply on a store that was opened for reading only.
	ErrReadOnly = errors.New(moduleName, 3, "kv: store is read-only")
	// ErrLimitExceeded is returned for a batch, key or value beyond the store's limits.
	ErrLimitExceeded = errors.New(moduleName, 4, "kv: limit exceeded")
)

// Limits is what a store can take and what it promises.
type Limits struct {
	// BatchBytes and BatchOps bound one batch: the sum of the lengths of its keys and values, and the
	// number of its operations. 0 means no bound of the store's own.
	BatchBytes int
	BatchOps   int
	// KeyBytes and ValueBytes bound one key and one value. 0 means no bound. A store takes keys of at
	// least 9,500 bytes and values of at least 65 MiB: that is what the deepest node and the default
	// largest value need. One that takes less has to be opened with lower limits for its namespace.
	KeyBytes   int
	ValueBytes int
	// PreferredBatchBytes is the size of batch that is fastest in bulk. 0 means that any is.
	PreferredBatchBytes int
	// Readers bounds how many snapshots are open at once; 0 means no bound.
	Readers int
	// Durable says that clauses KV21 and KV22 are kept.
	Durable bool
	// StableValues says that values stay valid until their snapshot is closed (KV33).
	StableValues bool
	// Integrity says that clause KV25 is kept.
	Integrity bool
	// Amplification is the number of KV12; 0 where it is not known, or there are no files.
	Amplification float64
}

// Size is the space that a store takes.
type Size struct {
	// Live is the number of bytes that the data takes.
	Live int64
	// File is the number of bytes that the store's files take.
	File int64
}

// Store is an ordered key-value store. The package's documentation is its contract.
type Store interface {
	// Limits returns the store's limits: KV10 to KV12.
	Limits() Limits
	// Apply makes a batch's changes, atomically: KV20 to KV24.
	Apply(ctx context.Context, batch *Batch, sync bool) error
	// Snapshot returns a view of the store as it is now: KV30 to KV34.
	Snapshot(ctx context.Context) (Snapshot, error)
	// Sync makes what was applied safe: KV40.
	Sync(ctx context.Context) error
	// Size tells the space taken: KV41.
	Size(ctx context.Context) (Size, error)
	// Compact gives unused space back: KV42. It calls progress, which may be nil, with the bytes done and
	// the bytes to do.
	Compact(ctx context.Context, progress func(done, total int64)) error
	// Close closes the store: KV43.
	Close() error
}

// Snapshot is an unchanging view of a store.
type Snapshot interface {
	// Get returns the value of a key, or ErrNotFound.
	Get(key []byte) ([]byte, error)
	// Cursor returns a new cursor, which must be closed before the snapshot is.
	Cursor() Cursor
	// Close releases the snapshot.
	Close() error
}

// Cursor moves over a snapshot's keys in ascending order.
type Cursor interface {
	// Seek goes to the first key ≥ key and says whether there is one.
	Seek(key []byte) bool
	// Next goes to the next key and says whether there is one.
	Next() bool
	// Key returns the present key. It must not be called where Seek or Next returned false.
	Key() []byte
	// Value returns the present value. It must not be called where Seek or Next returned false.
	Value() []byte
	// Err returns the error that ended the movement, nil where it just came to the end.
	Err() error
	// Close releases the cursor.
	Close() error
}

// Op is one operation of a batch.
type Op struct {
	Key []byte
	// Value is the new value; it is not looked at where Delete is set.
	Value []byte
	// Delete says that the key is removed.
	Delete bool
}

// Batch is a list of operations that are applied at once. The zero value is an empty batch. It keeps
// the slices that it is given until it is reset.
type Batch struct {
	ops   []Op
	bytes int
}

// Put sets a key to a value.
func (b *Batch) Put(key, value []byte) {
	b.ops = append(b.ops, Op{Key: key, Value: value})
	b.bytes += len(key) + len(value)
}

// Delete removes a key.
func (b *Batch) Delete(key []byte) {
	b.ops = append(b.ops, Op{Key: key, Delete: true})
	b.bytes += len(key)
}

// Ops returns the operations in the order in which they were given.
func (b *Batch) Ops() []Op { return b.ops }

// Len is the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// Bytes is the sum of the lengths of all keys and values.
func (b *Batch) Bytes() int { return b.bytes }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	clear(b.ops)
	b.ops, b.bytes = b.ops[:0], 0
}

package db

import (
	"context"
	"iter"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// Factory opens databases of one kind.
type Factory interface {
	// Name is the kind's name: bbolt, leveldb, memory.
	Name() string
	// New opens the database that cfg names, and makes it where there is none (unless it is to be opened
	// for reading only). It waits for another process's lock for cfg.LockWait.
	New(ctx context.Context, cfg *Config) (NodeDB, error)
}

// Config says which database to open, and how.
type Config struct {
	// Dir is the directory that the database has for itself. It is made, with mode 0700, where it is not
	// there. A database in memory does not use it.
	Dir string
	// Namespace is the namespace of all roots. It is stamped into the database.
	Namespace common.Namespace
	// ReadOnly opens for reading only, and writes nothing to any file.
	ReadOnly bool
	// LockWait is how long to wait for another process's lock; 0 means DefaultLockWait.
	LockWait time.Duration
	// MaxKeyBytes and MaxValueBytes are the namespace's limits; 0 means the defaults.
	MaxKeyBytes   int
	MaxValueBytes int
	// DiscardWriteLogs says that write logs are not kept.
	DiscardWriteLogs bool
	// Migrate says that a database of an older format is brought to the present one first. Without it,
	// such a database is refused with ErrFormatVersion. It can be broken off, and goes on with the next
	// open that asks for it.
	Migrate bool
	// GarbageRate is how many bytes a second the background work that frees the space of pruned versions
	// reads and writes, together; when garbage piles up it goes faster. 0 means DefaultGarbageRate, a
	// negative number that there is no such work: CollectGarbage alone frees space.
	GarbageRate int64
	// MemoryBytes bounds what a walk, a check and the freeing of space hold in memory, each, beside one
	// record; 0 means DefaultMemoryBytes. Less than MinMemoryBytes is refused with ErrBadSettings.
	MemoryBytes int64
	// Settings are the backend's own settings, a JSON object, or nil. A backend refuses what it does not
	// know with ErrBadSettings.
	Settings []byte
	// Logger takes the database's messages; nil means none.
	Logger hclog.Logger
}

// Defaults of Config.
const (
	DefaultLockWait      = 10 * time.Second
	DefaultMaxKeyBytes   = node.MaxKeyBytes
	DefaultMaxValueBytes = 64 << 20
	// DefaultEmbedBytes is the length of encoding up to which leaves are embedded in their parents.
	DefaultEmbedBytes = 512
	// DefaultGarbageRate leaves most of a disk to others, and keeps up with a dozen versions of a thousand
	// changes a second.
	DefaultGarbageRate = 64 << 20
	DefaultMemoryBytes = 32 << 20
	MinMemoryBytes     = 1 << 20
)

// Info is what a database says of itself. It does not change while the database is open.
type Info struct {
	// Backend and BackendVersion name the implementation.
	Backend        string
	BackendVersion string
	// Namespace is the namespace of all roots.
	Namespace common.Namespace
	// MaxKeyBytes and MaxValueBytes are the limits that hold here.
	MaxKeyBytes   int
	MaxValueBytes int
	// EmbedBytes is the length of encoding up to which leaves are embedded; 0 where none are.
	EmbedBytes int
	// Amplification is how many bytes the database's files take for each byte of what it stores, at the most
	// while that is written by a restore (DB73); 0 where that is not known, or there are no files.
	Amplification float64
	// Capabilities is what the database can do and promises.
	Capabilities Capabilities
}

// Capabilities is what a database can do beyond what each has to, and what it promises.
type Capabilities struct {
	// Durable databases survive a crash as the clauses say; others are gone with their process.
	Durable bool
	// ReadOnly says that this database was opened for reading only.
	ReadOnly bool
	// WriteLogs says that write logs are kept.
	WriteLogs bool
	// Compact says that Compact gives space back.
	Compact bool
	// Integrity says that what is damaged where it is stored, be it a single bit, is found when it is read:
	// DB7 then holds for all damage, and not just for what happens to make no sense.
	Integrity bool
}

// Entry is one stored node.
type Entry struct {
	Address  node.Address
	Position node.Position
	Record   []byte
}

// NodeDB is a node database. The package's documentation is its contract.
type NodeDB interface {
	// Info tells what the database is. It takes no I/O.
	Info() Info

	// GetLatestVersion returns the latest finalized version, and whether there is any.
	GetLatestVersion(ctx context.Context) (uint64, bool, error)
	// GetEarliestVersion returns the earliest finalized version, and whether there is any.
	GetEarliestVersion(ctx context.Context) (uint64, bool, error)
	// GetRootsForVersion returns the roots of a version, sorted by type and then by hash: the finalized
	// ones of a finalized version, all candidates of another. It returns none, and no error, for a version
	// that is not there: DB11.
	GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error)
	// HasRoot says whether a root is there.
	HasRoot(ctx context.Context, root node.Root) (bool, error)

	// RootAddress returns the address of a root's node: DB20.
	RootAddress(ctx context.Context, root node.Root) (node.Address, error)
	// GetNode returns the record at an address and position: DB21.
	GetNode(ctx context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error)
	// GetPath returns the entries on the way to key, from the node at address whose position is the first
	// depth bits of key: DB22. depth must not be larger than key's length in bits.
	GetPath(ctx context.Context, root node.Root, address node.Address, depth node.Depth, key node.Key) ([]Entry, error)
	// Walk yields a root's entries in pre-order from a position on: DB23. An error ends the walk.
	Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[Entry, error]
	// GetWriteLog yields the changes from one root to the next: DB70.
	GetWriteLog(ctx context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error]

	// NewBatch begins a root of a version, made by changing oldRoot: DB30. Its type is oldRoot's, also
	// where oldRoot is empty.
	NewBatch(ctx context.Context, oldRoot node.Root, version uint64) (Batch, error)
	// Finalize makes roots their version's only ones: DB40 to DB43.
	Finalize(ctx context.Context, roots []node.Root) error

	// Pin keeps a version from being pruned: DB50. owner is a name for people to read.
	Pin(ctx context.Context, version uint64, owner string) (Pin, error)
	// Pins lists the pins in force.
	Pins(ctx context.Context) ([]PinInfo, error)
	// Prune removes the earliest version: DB51.
	Prune(ctx context.Context, version uint64) error
	// PruneBefore removes all versions below one, and says how many there were: DB52.
	PruneBefore(ctx context.Context, version uint64) (removed uint64, err error)
	// CollectGarbage frees the space of pruned versions: DB53. It calls progress, which may be nil, with
	// the pruned versions whose space is free and with those that were due when it began.
	CollectGarbage(ctx context.Context, progress func(done, total int64)) error

	// StartMultipart opens a multipart insert: DB60.
	StartMultipart(ctx context.Context, version uint64) error
	// Multipart tells the open multipart insert, nil where there is none.
	Multipart(ctx context.Context) (*Multipart, error)
	// AddMultipartRoot tells of a root to restore: DB61.
	AddMultipartRoot(ctx context.Context, root node.Root, chunks uint64, tag []byte) error
	// NewChunk begins a chunk of a root of the multipart insert: DB62.
	NewChunk(ctx context.Context, root node.Root, index uint64) (ChunkWriter, error)
	// CompleteRoot checks that a root of the multipart insert is whole: DB64.
	CompleteRoot(ctx context.Context, root node.Root) error
	// AbortRoot removes a root of the multipart insert: DB66.
	AbortRoot(ctx context.Context, root node.Root) error
	// AbortMultipart removes the multipart insert: DB66.
	AbortMultipart(ctx context.Context) error

	// Size tells the space taken.
	Size(ctx context.Context) (Size, error)
	// Compact gives unused space back; progress may be nil.
	Compact(ctx context.Context, progress func(done, total int64)) error
	// Check compares what is stored with itself: DB72.
	Check(ctx context.Context, opts CheckOptions) (*CheckReport, error)
	// Sync makes everything that was committed safe from a loss of power.
	Sync(ctx context.Context) error
	// Close closes the database: DB71. ctx bounds how long it may take.
	Close(ctx context.Context) error
}

// Batch is a root in the making. It belongs to one goroutine.
type Batch interface {
	// Address is what the batch's entries are stored under.
	Address() node.Address
	// Put adds an entry to the present run: DB31.
	Put(ctx context.Context, position node.Position, record []byte) error
	// EndRun ends the present run of entries.
	EndRun(ctx context.Context) error
	// Remove names an entry that the new root does not reach any more: DB32.
	Remove(ctx context.Context, address node.Address, position node.Position) error
	// PutWriteLog gives the next changes of the write log, sorted by key: DB33.
	PutWriteLog(ctx context.Context, log writelog.WriteLog) error
	// Commit makes the batch count: DB34.
	Commit(ctx context.Context, root node.Root, rootAddress node.Address) error
	// Abort ends a batch that is not committed: DB35.
	Abort(ctx context.Context) error
}

// ChunkWriter is a chunk of a multipart insert being written. It belongs to one goroutine.
type ChunkWriter interface {
	// Address is what the chunk's entries are stored under, and their children's in their records.
	Address() node.Address
	// Put adds the next entry in pre-order: DB62.
	Put(ctx context.Context, position node.Position, record []byte, whole bool) error
	// Commit makes the chunk count: DB63.
	Commit(ctx context.Context, sync bool) error
	// Abort ends a chunk that is not committed. After Commit it does nothing.
	Abort(ctx context.Context) error
}

// Multipart is the state of the open multipart insert.
type Multipart struct {
	Version uint64
	// Roots are the roots told so far, in the order in which they were.
	Roots []MultipartRoot
}

// MultipartRoot is the state of a root of a multipart insert.
type MultipartRoot struct {
	Root node.Root
	// Chunks is the number of chunks.
	Chunks uint64
	// Tag is what AddMultipartRoot was given.
	Tag []byte
	// Done holds, ascending, the indices of the chunks that have their mark.
	Done []uint64
	// Complete says that CompleteRoot has found the root whole.
	Complete bool
}

// Pin keeps a version from being pruned until it is released.
type Pin interface {
	// Version is the version that is kept.
	Version() uint64
	// Release ends the pin. Calling it again does nothing.
	Release(ctx context.Context) error
}

// PinInfo describes a pin.
type PinInfo struct {
	Version uint64
	Owner   string
	Since   time.Time
}

// Size is the space that a database takes, in bytes.
type Size struct {
	// Live is what the data takes, as far as the database knows.
	Live int64
	// File is what the database's files take.
	File int64
}

// CheckOptions says what Check looks at.
type CheckOptions struct {
	// Version is the version whose roots' trees are checked, whole; nil means everything that is stored.
	Version *uint64
	// Progress is called with the work done and to do, in a unit of the database's own; it may be nil.
	Progress func(done, total int64)
}

// CheckReport is what Check has found.
type CheckReport struct {
	// Versions and Roots count the versions and roots that were gone through, Records the stored records
	// that were read, Bytes what these take.
	Versions, Roots, Records, Bytes uint64
	// Nodes counts the nodes whose hash was compared, leaves within their parents' records included, and
	// Entries the keys among them. A node that versions share counts once, except where one version was
	// asked for.
	Nodes, Entries uint64
	// Unreachable counts stored nodes that no root reaches and no pruning will free.
	Unreachable uint64
	// Damaged counts the places where something is wrong; Problems are the first MaxProblems of them.
	Damaged  uint64
	Problems []*CorruptedError
}

// MaxProblems bounds how many problems a report names.
const MaxProblems = 1000

// Add notes a problem.
func (r *CheckReport) Add(p *CorruptedError) {
	if r.Damaged++; len(r.Problems) < MaxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// OK says whether nothing is wrong.
func (r *CheckReport) OK() bool { return r.Damaged == 0 && r.Unreachable == 0 }

package plugin_test

import (
	"context"
	"crypto/sha512"
	"encoding/binary"
	"encoding/json"
	"fmt"
	stdhash "hash"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// The fake backend keeps nothing. What it answers follows from what it is asked, so that a test knows what
// has to come out at the other end, and can ask for trouble.

var testNamespace = common.NewTestNamespaceFromSeed([]byte("plugin tests"), 0)

// What the fake does without making or digesting anything, so that benchmarks see the way alone.
const (
	benchmarkRecord  = 150
	benchmarkType    = node.RootType(99) // of a root that is walked
	stuckType        = node.RootType(98) // of one whose walk notices no end of its context
	benchmarkVersion = 1_000_007         // of a batch
)

// errUnknownHere is a sentinel that only the plugin's process registers.
const unknownModule, unknownCode = "somebody/elses/module", 77

// Versions that the fake's GetRootsForVersion has a special answer for.
const (
	versionPanics  = 1_000_001 // panics
	versionBlocks  = 1_000_002 // waits for its context's end
	versionFaults  = 1_000_003 // reads memory that isn't there
	versionPrints  = 1_000_004 // prints to standard output and error, in ways that a log can choke on
	versionExits   = 1_000_005 // ends the process
	versionSpawned = 1_000_006 // panics in a goroutine of its own
	versionFrees   = 1_000_008 // has walks that are stuck go on
)

// fakeErrors are what the fake's HasRoot returns: the root's version is the index.
func fakeErrors(register bool) []error {
	errs := []error{
		nil,
		db.ErrNodeNotFound, db.ErrWriteLogNotFound, db.ErrNotFinalized, db.ErrAlreadyFinalized, db.ErrVersionNotFound,
		db.ErrVersionNotNext, db.ErrRootNotFound, db.ErrRootMustFollowOld, db.ErrBadNamespace, db.ErrNotEarliest,
		db.ErrReadOnly, db.ErrMultipartInProgress, db.ErrInvalidMultipartVersion, db.ErrCannotPruneLatestVersion,
		db.ErrUnavailable, db.ErrClosed, db.ErrVersionPruned, db.ErrVersionPinned, db.ErrNoMultipart, db.ErrNotComplete,
		db.ErrChunksOverlap, db.ErrLimitExceeded, db.ErrLocked, db.ErrForeign, db.ErrFormatVersion, db.ErrBadSettings,
		db.ErrMalformed, db.ErrUnsupported,
		kv.ErrNotFound, kv.ErrClosed, kv.ErrReadOnly, kv.ErrLimitExceeded,
		context.Canceled, context.DeadlineExceeded,
		syscall.ENOSPC,
	}
	if register {
		return append(errs, errors.New(unknownModule, unknownCode, "only the plugin knows"))
	}
	return append(errs, errors.FromCode(unknownModule, unknownCode, "not known here"))
}

type fakeFactory struct{ name string }

func (f fakeFactory) Name() string { return f.name }

var registerOnce = sync.OnceValue(func() []error { return fakeErrors(true) })

func (f fakeFactory) New(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
	d := &fakeDB{cfg: *cfg, errs: registerOnce(), stuck: make(chan struct{})}
	d.free = sync.OnceFunc(func() { close(d.stuck) })
	if cfg.MaxValueBytes == 0 {
		d.cfg.MaxKeyBytes, d.cfg.MaxValueBytes = db.DefaultMaxKeyBytes, db.DefaultMaxValueBytes
	}
	if cfg.Settings != nil {
		if err := json.Unmarshal(cfg.Settings, &d.settings); err != nil {
			return nil, fmt.Errorf("%w: %w", db.ErrBadSettings, err)
		}
	}
	cfg.Logger.Warn("opened", "dir", filepath.Base(cfg.Dir))
	if exists(filepath.Join(cfg.Dir, exitAtOpen)) {
		os.Exit(9)
	}
	if d.settings.OpenMillis > 0 {
		if err := os.WriteFile(filepath.Join(cfg.Dir, openingMark), nil, 0o600); err != nil {
			return nil, err
		}
		time.Sleep(time.Duration(d.settings.OpenMillis) * time.Millisecond)
	}
	if err := d.openAgain(ctx); err != nil {
		return nil, err
	}
	if d.settings.PanicAtOpen {
		panic("no mood to open")
	}
	return d, nil
}

// openAgain takes long where the directory has been opened before.
func (d *fakeDB) openAgain(ctx context.Context) error {
	if d.settings.OpenAgainMillis == 0 {
		return nil
	}
	mark := filepath.Join(d.cfg.Dir, "opened")
	if !exists(mark) {
		return os.WriteFile(mark, nil, 0o600)
	}
	d.cfg.Logger.Warn("opening again")
	select {
	case <-time.After(time.Duration(d.settings.OpenAgainMillis) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type fakeSettings struct {
	PanicAtOpen bool `json:"panic_at_open"`
	OpenMillis  int  `json:"open_millis"`
	CloseMillis int  `json:"close_millis"`
	// OpenAgainMillis is how long every open of a directory but the first takes.
	OpenAgainMillis int `json:"open_again_millis"`
	// Durable has the fake say that it is: it keeps nothing, and so nothing is lost.
	Durable bool `json:"durable"`
}

// openingMark is a file in a database's directory that says that an open that takes long has begun.
const openingMark = "opening"

// exitAtOpen is a file in a database's directory that has the process end when it is opened.
const exitAtOpen = "exit at open"

type fakeDB struct {
	cfg      db.Config
	settings fakeSettings
	errs     []error

	mu   sync.Mutex
	pins []*fakePin
	// running counts walks and calls under way; left the batches and chunks that were begun and neither
	// committed nor aborted.
	running, left atomic.Int64
	multipart     *db.Multipart
	// stuck is closed by free.
	stuck chan struct{}
	free  func()
}

func pattern(i, n uint64) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(i + uint64(k)*7)
	}
	return b
}

func fakeEntry(i, size uint64) db.Entry {
	key := binary.BigEndian.AppendUint64(nil, i)
	return db.Entry{
		Address:  node.Address{Version: i * 3, Candidate: uint16(i)},
		Position: node.NewPosition(key, 64),
		Record:   pattern(i, size),
	}
}

// entrySize is the size of the i-th record of a walk of n: mostly small, now and then several frames.
func entrySize(i uint64) uint64 {
	if i%1000 == 999 {
		return 600_000
	}
	return i % 300
}

func fakeChange(i uint64) writelog.LogEntry {
	e := writelog.LogEntry{Key: binary.BigEndian.AppendUint64(nil, i)}
	switch i % 3 {
	case 0:
		e.Value = pattern(i, 1+entrySize(i))
	case 1:
		e.Value = []byte{}
	}
	return e
}

func fakeRoot(version uint64, seed string) node.Root {
	return node.Root{Namespace: testNamespace, Version: version, Type: node.RootTypeState, Hash: hash.NewFromBytes([]byte(seed))}
}

func (d *fakeDB) Info() db.Info {
	return db.Info{
		Backend: "fake", BackendVersion: "1.2.3", Namespace: d.cfg.Namespace,
		MaxKeyBytes: d.cfg.MaxKeyBytes, MaxValueBytes: d.cfg.MaxValueBytes, EmbedBytes: db.DefaultEmbedBytes,
		Amplification: 1.25,
		Capabilities:  db.Capabilities{Durable: d.settings.Durable, ReadOnly: d.cfg.ReadOnly, WriteLogs: !d.cfg.DiscardWriteLogs, Compact: true},
	}
}

func (d *fakeDB) GetLatestVersion(context.Context) (uint64, bool, error)   { return 1 << 63, true, nil }
func (d *fakeDB) GetEarliestVersion(context.Context) (uint64, bool, error) { return 0, false, nil }

func (d *fakeDB) GetRootsForVersion(ctx context.Context, version uint64) ([]node.Root, error) {
	switch version {
	case versionPanics:
		panic("a bug in the backend")
	case versionBlocks:
		d.running.Add(1)
		defer d.running.Add(-1)
		<-ctx.Done()
		return nil, fmt.Errorf("waited: %w", ctx.Err())
	case versionFaults:
		var nothing *int
		return nil, fmt.Errorf("read %d", *nothing)
	case versionPrints:
		for _, line := range strings.Split(weirdLines, "\n") {
			syscall.Write(2, []byte(line+"\n"))
			syscall.Write(1, []byte(line+"\n"))
			fmt.Println(line)
			fmt.Fprintln(os.Stderr, line)
		}
		long := strings.Repeat("long ", 100_000) + "\n"
		syscall.Write(2, []byte(long))
		syscall.Write(2, []byte("the last line\n"))
		return nil, nil
	case versionExits:
		os.Exit(7)
	case versionFrees:
		d.free()
		return nil, nil
	case versionSpawned:
		go panic("a bug in a goroutine of the backend")
		select {}
	}
	roots := make([]node.Root, version)
	for i := range roots {
		roots[i] = fakeRoot(version, fmt.Sprint(i))
	}
	return roots, nil
}

const weirdLines = `{"@message":5}
{"@level":[],"@message":"level is a list"}
{"@timestamp":1,"@message":"time is a number","@level":"warn"}
{"@message":"plain","@level":"warn","n":1,"list":[1,2],"object":{"a":null}}
{"@message":"escape \u001b[31m","@level":"error"}
{
null
{}
[WARN] a line with a level`

func (d *fakeDB) HasRoot(_ context.Context, root node.Root) (bool, error) {
	switch {
	case root.Version == 0:
		return true, nil
	case root.Version < uint64(len(d.errs)):
		return false, fmt.Errorf("asked for %s: %w", root.Hash, d.errs[root.Version])
	case root.Version == 1000:
		return false, &db.CorruptedError{Version: 9, Position: node.Position{1, 2, 3}, Reason: "planted"}
	case root.Version == 1001:
		return false, fmt.Errorf("wrapped: %w", &db.CorruptedError{Version: 9, Reason: "planted"})
	case root.Version == 1002:
		return false, errors.Join(db.ErrNotComplete, fmt.Errorf("both: %w", db.ErrChunksOverlap))
	case root.Version == 1003:
		return false, errors.New("long", 1, strings.Repeat("ä", 1<<20))
	case root.Version == 1004:
		return false, fmt.Errorf("no sentinel at all")
	}
	return false, nil
}

func (d *fakeDB) RootAddress(_ context.Context, root node.Root) (node.Address, error) {
	return node.Address{Version: root.Version, Candidate: uint16(root.Type)}, nil
}

func (d *fakeDB) GetNode(_ context.Context, root node.Root, address node.Address, position node.Position) ([]byte, error) {
	if address.Version == 0 {
		return nil, fmt.Errorf("%w: %s in %s", db.ErrNodeNotFound, position, root)
	}
	return pattern(uint64(address.Candidate), address.Version), nil
}

func (d *fakeDB) GetPath(_ context.Context, _ node.Root, address node.Address, depth node.Depth, key node.Key) ([]db.Entry, error) {
	entries := []db.Entry{{Address: address, Position: node.NewPosition(key, depth), Record: key}}
	for i := range address.Version {
		entries = append(entries, fakeEntry(i, entrySize(i)))
	}
	return entries, nil
}

func (d *fakeDB) Walk(ctx context.Context, root node.Root, from node.Position) iter.Seq2[db.Entry, error] {
	return func(yield func(db.Entry, error) bool) {
		d.running.Add(1)
		defer d.running.Add(-1)
		if !yield(db.Entry{Position: from}, nil) {
			return
		}
		if root.Type == stuckType {
			<-d.stuck
		}
		same := fakeEntry(1, benchmarkRecord)
		for root.Type == benchmarkType {
			if !yield(same, nil) {
				return
			}
		}
		for i := range root.Version {
			if err := ctx.Err(); err != nil {
				yield(db.Entry{}, err)
				return
			}
			if !yield(fakeEntry(i, entrySize(i)), nil) {
				return
			}
		}
		if root.Type == node.RootTypeIO {
			yield(db.Entry{}, &db.CorruptedError{Version: root.Version, Reason: "at the end"})
		}
	}
}

func (d *fakeDB) GetWriteLog(_ context.Context, start, end node.Root) iter.Seq2[writelog.LogEntry, error] {
	return func(yield func(writelog.LogEntry, error) bool) {
		for i := range end.Version - start.Version {
			if !yield(fakeChange(i), nil) {
				return
			}
		}
		if end.Version == start.Version {
			yield(writelog.LogEntry{}, db.ErrWriteLogNotFound)
		}
	}
}

// fakeWriter is a batch and a chunk: it digests what it is given, and its commit wants the root's hash to
// be that digest.
type fakeWriter struct {
	d      *fakeDB
	root   node.Root
	digest *digest
	open   bool
}

func (d *fakeDB) newWriter(root node.Root) *fakeWriter {
	d.left.Add(1)
	return &fakeWriter{d: d, root: root, digest: newDigest(), open: true}
}

func (w *fakeWriter) finish() {
	if w.open {
		w.open = false
		w.d.left.Add(-1)
	}
}

func (w *fakeWriter) Address() node.Address {
	return node.Address{Version: w.root.Version, Candidate: 513}
}

func (w *fakeWriter) Abort(context.Context) error {
	w.finish()
	return nil
}

type fakeBatch struct{ *fakeWriter }

func (d *fakeDB) NewBatch(_ context.Context, oldRoot node.Root, version uint64) (db.Batch, error) {
	if version == versionPanics {
		return nil, db.ErrAlreadyFinalized
	}
	w := d.newWriter(oldRoot)
	w.root.Version = version
	return fakeBatch{w}, nil
}

func (b fakeBatch) Put(_ context.Context, position node.Position, record []byte) error {
	if b.root.Version == benchmarkVersion {
		return nil
	}
	if string(record) == "refuse" {
		return fmt.Errorf("%w: refused", db.ErrMalformed)
	}
	if string(record) == "panic" {
		panic("a bug in Put")
	}
	b.digest.add("put", position, record)
	return nil
}

func (b fakeBatch) EndRun(context.Context) error {
	b.digest.add("end")
	return nil
}

func (b fakeBatch) Remove(_ context.Context, address node.Address, position node.Position) error {
	b.digest.add("remove", []byte(address.String()), position)
	return nil
}

func (b fakeBatch) PutWriteLog(_ context.Context, log writelog.WriteLog) error {
	for _, e := range log {
		b.digest.change(e)
	}
	return nil
}

func (b fakeBatch) Commit(ctx context.Context, root node.Root, address node.Address) error {
	if root.Version == versionBlocks {
		<-ctx.Done()
		return ctx.Err()
	}
	if root.Version == benchmarkVersion {
		b.finish()
		return nil
	}
	b.digest.add("commit", []byte(address.String()))
	if root.Hash != b.digest.sum() {
		return fmt.Errorf("%w: something was lost", db.ErrRootMustFollowOld)
	}
	b.finish()
	return nil
}

type fakeChunk struct{ *fakeWriter }

func (d *fakeDB) NewChunk(_ context.Context, root node.Root, index uint64) (db.ChunkWriter, error) {
	if index == 0 {
		return nil, db.ErrNoMultipart
	}
	return fakeChunk{d.newWriter(root)}, nil
}

func (c fakeChunk) Put(_ context.Context, position node.Position, record []byte, whole bool) error {
	c.digest.add(fmt.Sprint("put ", whole), position, record)
	return nil
}

func (c fakeChunk) Commit(_ context.Context, sync bool) error {
	c.digest.add(fmt.Sprint("commit ", sync))
	if c.root.Hash != c.digest.sum() {
		return fmt.Errorf("%w: something was lost", db.ErrNotComplete)
	}
	c.finish()
	return nil
}

// digest is a hash over calls and their arguments.
type digest struct{ b stdhash.Hash }

func newDigest() *digest { return &digest{sha512.New512_256()} }

func (d *digest) add(what string, parts ...[]byte) {
	fmt.Fprint(d.b, what, len(parts))
	for _, p := range parts {
		fmt.Fprint(d.b, len(p), " ")
		d.b.Write(p)
	}
}

func (d *digest) change(e writelog.LogEntry) {
	d.add(fmt.Sprint("change ", e.Value == nil), e.Key, e.Value)
}

func (d *digest) sum() hash.Hash { return hash.Hash(d.b.Sum(nil)) }

func (d *fakeDB) Finalize(_ context.Context, roots []node.Root) error {
	if len(roots) != 2 || roots[0] != fakeRoot(5, "a") || roots[1] != fakeRoot(5, "b") {
		return fmt.Errorf("%w: roots %v", db.ErrRootNotFound, roots)
	}
	return nil
}

type fakePin struct {
	d    *fakeDB
	info db.PinInfo
}

func (d *fakeDB) Pin(_ context.Context, version uint64, owner string) (db.Pin, error) {
	if version == 0 {
		return nil, db.ErrVersionPruned
	}
	p := &fakePin{d, db.PinInfo{Version: version, Owner: owner, Since: time.Unix(12345, 678)}}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pins = append(d.pins, p)
	return p, nil
}

func (p *fakePin) Version() uint64 { return p.info.Version }

func (p *fakePin) Release(context.Context) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.d.pins = slices.DeleteFunc(p.d.pins, func(other *fakePin) bool { return other == p })
	return nil
}

func (d *fakeDB) Pins(context.Context) ([]db.PinInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var infos []db.PinInfo
	for _, p := range d.pins {
		infos = append(infos, p.info)
	}
	return infos, nil
}

// prunesAtEnd is a version whose prune waits for its context's end, and writes how many pins it then sees to
// a file.
const prunesAtEnd = 7

func (d *fakeDB) Prune(ctx context.Context, version uint64) error {
	if version == prunesAtEnd {
		d.running.Add(1)
		defer d.running.Add(-1)
		<-ctx.Done()
		pins, _ := d.Pins(ctx)
		for range 20 { // a pin that is released too early is, sooner or later
			time.Sleep(10 * time.Millisecond)
			if now, _ := d.Pins(ctx); len(now) < len(pins) {
				pins = now
			}
		}
		return os.WriteFile(filepath.Join(d.cfg.Dir, "pins"), fmt.Append(nil, len(pins)), 0o600)
	}
	if version != 3 {
		return db.ErrNotEarliest
	}
	return nil
}

func (d *fakeDB) PruneBefore(_ context.Context, version uint64) (uint64, error) {
	if version != 3 {
		return 0, db.ErrVersionPinned
	}
	return 2, nil
}

func (d *fakeDB) CollectGarbage(_ context.Context, progress func(done, total int64)) error {
	progress(0, 7)
	progress(7, 7)
	return nil
}

// Check finds what the request asks for.
func (d *fakeDB) Check(_ context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	if opts.Version == nil {
		return nil, db.ErrUnsupported
	}
	opts.Progress(1, 1)
	return &db.CheckReport{
		Versions: *opts.Version, Roots: 2, Records: 3, Bytes: 4, Nodes: 5, Entries: 6, Unreachable: 7, Damaged: 8,
		Problems: []*db.CorruptedError{{Version: 9, Position: node.RootPosition(), Reason: "a node"}, {Version: 10, Reason: "a list"}},
	}, nil
}

func (d *fakeDB) StartMultipart(_ context.Context, version uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.multipart = &db.Multipart{Version: version}
	return nil
}

func (d *fakeDB) Multipart(context.Context) (*db.Multipart, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.multipart, nil
}

func (d *fakeDB) AddMultipartRoot(_ context.Context, root node.Root, chunks uint64, tag []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.multipart.Roots = append(d.multipart.Roots, db.MultipartRoot{
		Root: root, Chunks: chunks, Tag: slices.Clone(tag), Done: []uint64{0, 1, 2, 5, 9, 10}, Complete: chunks == 1,
	})
	return nil
}

func (d *fakeDB) CompleteRoot(_ context.Context, root node.Root) error {
	if root == fakeRoot(1, "complete") {
		return nil
	}
	return db.ErrNotComplete
}

func (d *fakeDB) AbortRoot(_ context.Context, root node.Root) error {
	if root == fakeRoot(1, "abort") {
		return nil
	}
	return db.ErrNoMultipart
}

func (d *fakeDB) AbortMultipart(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.multipart = nil
	return nil
}

// Size tells what the fake counts: what runs, and what was begun and is not over.
func (d *fakeDB) Size(context.Context) (db.Size, error) {
	return db.Size{Live: d.running.Load(), File: d.left.Load()}, nil
}

func (d *fakeDB) Compact(ctx context.Context, progress func(done, total int64)) error {
	for i := range int64(100_000) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		progress(i+1, 100_000)
	}
	return nil
}

func (d *fakeDB) Sync(context.Context) error { return io.ErrUnexpectedEOF }

func (d *fakeDB) Close(ctx context.Context) error {
	select {
	case <-time.After(time.Duration(d.settings.CloseMillis) * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.cfg.Dir != "" {
		return os.WriteFile(filepath.Join(d.cfg.Dir, "closed"), nil, 0o600)
	}
	return nil
}

package plugin

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// Between the types of package db and those of the wire: pure functions, to… for what is sent, from…
// for what was received, which is checked.

func toRoot(r node.Root) *pb.Root {
	return &pb.Root{Namespace: r.Namespace[:], Version: r.Version, Type: uint32(r.Type), Hash: r.Hash[:]}
}

func fromRoot(r *pb.Root) (node.Root, error) {
	if len(r.GetNamespace()) != common.NamespaceSize || len(r.GetHash()) != hash.Size || r.GetType() > math.MaxUint8 {
		return node.Root{}, fmt.Errorf("%w: root with a namespace of %d bytes, a hash of %d and type %d",
			ErrProtocol, len(r.GetNamespace()), len(r.GetHash()), r.GetType())
	}
	return node.Root{
		Namespace: common.Namespace(r.Namespace), Version: r.Version, Type: node.RootType(r.Type), Hash: hash.Hash(r.Hash),
	}, nil
}

func toRoots(roots []node.Root) []*pb.Root {
	out := make([]*pb.Root, len(roots))
	for i, r := range roots {
		out[i] = toRoot(r)
	}
	return out
}

func fromRoots(roots []*pb.Root) ([]node.Root, error) {
	if len(roots) == 0 {
		return nil, nil
	}
	out := make([]node.Root, len(roots))
	for i, r := range roots {
		var err error
		if out[i], err = fromRoot(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func toAddress(a node.Address) *pb.Address {
	return &pb.Address{Version: a.Version, Candidate: uint32(a.Candidate)}
}

func fromAddress(a *pb.Address) (node.Address, error) {
	if a.GetCandidate() > math.MaxUint16 {
		return node.Address{}, fmt.Errorf("%w: candidate %d", ErrProtocol, a.GetCandidate())
	}
	return node.Address{Version: a.GetVersion(), Candidate: uint16(a.GetCandidate())}, nil
}

func toOpen(session []byte, handle uint64, dir string, cfg *db.Config) *pb.OpenRequest {
	return &pb.OpenRequest{
		Session: session, Handle: handle, Dir: dir, Namespace: cfg.Namespace[:], ReadOnly: cfg.ReadOnly,
		LockWaitNanos: int64(cfg.LockWait), MaxKeyBytes: int64(cfg.MaxKeyBytes), MaxValueBytes: int64(cfg.MaxValueBytes),
		DiscardWriteLogs: cfg.DiscardWriteLogs, Settings: cfg.Settings, Migrate: cfg.Migrate,
		GarbageRate: cfg.GarbageRate, MemoryBytes: cfg.MemoryBytes,
	}
}

func fromOpen(r *pb.OpenRequest) (*db.Config, error) {
	if len(r.Namespace) != common.NamespaceSize {
		return nil, fmt.Errorf("%w: namespace of %d bytes", ErrProtocol, len(r.Namespace))
	}
	if r.MaxKeyBytes < 0 || r.MaxKeyBytes > math.MaxInt32 || r.MaxValueBytes < 0 || r.MaxValueBytes > math.MaxInt32 {
		return nil, fmt.Errorf("%w: limits of %d bytes for keys and %d for values", db.ErrBadSettings, r.MaxKeyBytes, r.MaxValueBytes)
	}
	return &db.Config{
		Dir: r.Dir, Namespace: common.Namespace(r.Namespace), ReadOnly: r.ReadOnly, LockWait: time.Duration(r.LockWaitNanos),
		MaxKeyBytes: int(r.MaxKeyBytes), MaxValueBytes: int(r.MaxValueBytes),
		DiscardWriteLogs: r.DiscardWriteLogs, Settings: r.Settings, Migrate: r.Migrate,
		GarbageRate: r.GarbageRate, MemoryBytes: r.MemoryBytes,
	}, nil
}

func toInfo(i db.Info) *pb.OpenResponse {
	return &pb.OpenResponse{
		Backend: i.Backend, BackendVersion: i.BackendVersion, Namespace: i.Namespace[:],
		MaxKeyBytes: int64(i.MaxKeyBytes), MaxValueBytes: int64(i.MaxValueBytes), EmbedBytes: int64(i.EmbedBytes),
		Durable: i.Capabilities.Durable, ReadOnly: i.Capabilities.ReadOnly,
		WriteLogs: i.Capabilities.WriteLogs, Compact: i.Capabilities.Compact,
		Integrity:     i.Capabilities.Integrity,
		Amplification: i.Amplification,
	}
}

func fromInfo(r *pb.OpenResponse) (db.Info, error) {
	if len(r.Namespace) != common.NamespaceSize {
		return db.Info{}, fmt.Errorf("%w: namespace of %d bytes", ErrProtocol, len(r.Namespace))
	}
	for _, n := range []int64{r.MaxKeyBytes, r.MaxValueBytes, r.EmbedBytes} {
		if n < 0 || n > math.MaxInt32 {
			return db.Info{}, fmt.Errorf("%w: limit of %d bytes", ErrProtocol, n)
		}
	}
	if a := r.Amplification; !(a >= 0 && a <= maxAmplification) { // not a number, either
		return db.Info{}, fmt.Errorf("%w: amplification of %g", ErrProtocol, a)
	}
	return db.Info{
		Backend: r.Backend, BackendVersion: r.BackendVersion, Namespace: common.Namespace(r.Namespace),
		MaxKeyBytes: int(r.MaxKeyBytes), MaxValueBytes: int(r.MaxValueBytes), EmbedBytes: int(r.EmbedBytes),
		Amplification: r.Amplification,
		Capabilities: db.Capabilities{
			Durable: r.Durable, ReadOnly: r.ReadOnly, WriteLogs: r.WriteLogs, Compact: r.Compact, Integrity: r.Integrity,
		},
	}, nil
}

// maxAmplification is more than any engine takes.
const maxAmplification = 1e6

func toPins(pins []db.PinInfo) *pb.PinsResponse {
	out := &pb.PinsResponse{}
	for _, p := range pins {
		out.Pins = append(out.Pins, &pb.PinInfo{Version: p.Version, Owner: cutText(p.Owner), SinceUnixNanos: p.Since.UnixNano()})
	}
	return out
}

func fromPins(r *pb.PinsResponse) []db.PinInfo {
	var out []db.PinInfo
	for _, p := range r.Pins {
		out = append(out, db.PinInfo{Version: p.Version, Owner: p.Owner, Since: time.Unix(0, p.SinceUnixNanos)})
	}
	return out
}

func toMultipart(m *db.Multipart) *pb.MultipartResponse {
	if m == nil {
		return &pb.MultipartResponse{}
	}
	out := &pb.MultipartResponse{Open: true, Version: m.Version}
	for _, r := range m.Roots {
		out.Roots = append(out.Roots, &pb.MultipartRoot{
			Root: toRoot(r.Root), Chunks: r.Chunks, Tag: r.Tag, DoneRuns: toRuns(r.Done), Complete: r.Complete,
		})
	}
	return out
}

func fromMultipart(r *pb.MultipartResponse) (*db.Multipart, error) {
	if !r.Open {
		return nil, nil
	}
	out := &db.Multipart{Version: r.Version}
	for _, mr := range r.Roots {
		root, err := fromRoot(mr.Root)
		if err != nil {
			return nil, err
		}
		done, err := fromRuns(mr.DoneRuns)
		if err != nil {
			return nil, err
		}
		out.Roots = append(out.Roots, db.MultipartRoot{Root: root, Chunks: mr.Chunks, Tag: mr.Tag, Done: done, Complete: mr.Complete})
	}
	return out, nil
}

func toCorrupted(c *db.CorruptedError) *pb.ErrorCorrupted {
	out := &pb.ErrorCorrupted{Version: c.Version, Reason: cutText(c.Reason)}
	if c.Position != nil {
		out.Position = c.Position
	}
	return out
}

func fromCorrupted(c *pb.ErrorCorrupted) *db.CorruptedError {
	return &db.CorruptedError{Version: c.Version, Position: c.Position, Reason: c.Reason}
}

// maxReportBytes bounds the problems that a report is sent with: positions are up to 9 kB long.
const maxReportBytes = 2 << 20

func toReport(r *db.CheckReport) *pb.CheckReport {
	out := &pb.CheckReport{
		Versions: r.Versions, Roots: r.Roots, Records: r.Records, Bytes: r.Bytes, Nodes: r.Nodes, Entries: r.Entries,
		Unreachable: r.Unreachable, Damaged: r.Damaged,
	}
	size := 0
	for _, p := range r.Problems {
		if size += 64 + len(p.Position) + len(p.Reason); size > maxReportBytes || len(out.Problems) == db.MaxProblems {
			break
		}
		out.Problems = append(out.Problems, toCorrupted(p))
	}
	return out
}

func fromReport(r *pb.CheckReport) *db.CheckReport {
	out := &db.CheckReport{
		Versions: r.Versions, Roots: r.Roots, Records: r.Records, Bytes: r.Bytes, Nodes: r.Nodes, Entries: r.Entries,
		Unreachable: r.Unreachable, Damaged: r.Damaged,
	}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, fromCorrupted(p))
	}
	return out
}

// maxDone bounds how many indices of chunks are unpacked: two gigabytes of them would be no restore.
const maxDone = 1 << 28

// toRuns packs ascending indices as pairs of first index and count.
func toRuns(indices []uint64) []uint64 {
	var runs []uint64
	for _, i := range indices {
		if n := len(runs); n > 0 && runs[n-2]+runs[n-1] == i {
			runs[n-1]++
			continue
		}
		runs = append(runs, i, 1)
	}
	return runs
}

func fromRuns(runs []uint64) ([]uint64, error) {
	if len(runs)%2 != 0 {
		return nil, fmt.Errorf("%w: half a run of chunk indices", ErrProtocol)
	}
	var total uint64
	for i := 0; i < len(runs); i += 2 {
		if total += runs[i+1]; runs[i+1] > maxDone || total > maxDone {
			return nil, fmt.Errorf("%w: more than %d chunk indices", ErrProtocol, maxDone)
		}
	}
	var indices []uint64
	for i := 0; i < len(runs); i += 2 {
		for k := range runs[i+1] {
			indices = append(indices, runs[i]+k)
		}
	}
	return indices, nil
}

// takeUvarint takes a number no larger than limit off the front of b.
func takeUvarint(b []byte, limit uint64) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || v > limit {
		return 0, nil, fmt.Errorf("%w: number in an item", ErrProtocol)
	}
	return v, b[n:], nil
}

// takeBytes takes a run of bytes that is preceded by its length, of at most limit, off the front of b.
func takeBytes(b []byte, limit int) (run, rest []byte, err error) {
	n, b, err := takeUvarint(b, uint64(limit))
	if err != nil || n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("%w: run of bytes in an item", ErrProtocol)
	}
	return b[:n:n], b[n:], nil
}

func appendAddress(b []byte, a node.Address) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, a.Version), uint64(a.Candidate))
}

func takeAddress(b []byte) (node.Address, []byte, error) {
	version, b, err := takeUvarint(b, math.MaxUint64)
	if err != nil {
		return node.Address{}, nil, err
	}
	candidate, b, err := takeUvarint(b, math.MaxUint16)
	return node.Address{Version: version, Candidate: uint16(candidate)}, b, err
}

// appendNodeHead appends what stands before the record in an itemNode.
func appendNodeHead(b []byte, a node.Address, p node.Position) []byte {
	return append(binary.AppendUvarint(appendAddress(b, a), uint64(len(p))), p...)
}

// parseNode takes an itemNode apart. It does in one piece what takeAddress and takeBytes do: this is done for
// each node of a walk.
func parseNode(b []byte) (e db.Entry, err error) {
	version, i := binary.Uvarint(b)
	candidate, j := binary.Uvarint(b[max(i, 0):])
	n, k := binary.Uvarint(b[max(i, 0)+max(j, 0):])
	from := i + j + k
	if i <= 0 || j <= 0 || k <= 0 || candidate > math.MaxUint16 || n > uint64(node.MaxPositionBytes) || int(n) > len(b)-from {
		return e, fmt.Errorf("%w: address and position of a node", ErrProtocol)
	}
	end := from + int(n)
	e.Address = node.Address{Version: version, Candidate: uint16(candidate)}
	e.Position, e.Record = node.Position(b[from:end:end]), b[end:]
	return e, nil
}

// appendPutHead appends what stands before the record in an itemPut.
func appendPutHead(b []byte, whole bool, p node.Position) []byte {
	var flags byte
	if whole {
		flags |= putWhole
	}
	return append(binary.AppendUvarint(append(b, flags), uint64(len(p))), p...)
}

func parsePut(b []byte) (whole bool, p node.Position, record []byte, err error) {
	if len(b) == 0 || b[0]&^putWhole != 0 {
		return false, nil, nil, fmt.Errorf("%w: flags of a put", ErrProtocol)
	}
	whole = b[0]&putWhole != 0
	p, record, err = takeBytes(b[1:], node.MaxPositionBytes)
	return whole, p, record, err
}

// writeChange writes one change of a write log. scratch is used for what stands before the value.
func writeChange(w *itemWriter, scratch []byte, e *writelog.LogEntry) ([]byte, error) {
	if e.Type() == writelog.LogDelete {
		return scratch, w.item(itemDelete, nil, e.Key)
	}
	scratch = append(binary.AppendUvarint(scratch[:0], uint64(len(e.Key))), e.Key...)
	return scratch, w.item(itemSet, scratch, e.Value)
}

// parseChange takes an itemSet or itemDelete apart. An empty value is not nil.
func parseChange(kind byte, b []byte) (e writelog.LogEntry, err error) {
	if kind == itemDelete {
		if len(b) > node.MaxKeyBytes {
			return e, fmt.Errorf("%w: key of %d bytes", ErrProtocol, len(b))
		}
		e.Key = b
		return e, nil
	}
	if e.Key, e.Value, err = takeBytes(b, node.MaxKeyBytes); err != nil {
		return e, err
	}
	if e.Value == nil {
		e.Value = []byte{}
	}
	return e, nil
}

// maxPayload is the longest payload of an item in a database with these limits: a node's record, with
// its position, its own leaf and two embedded ones; or a change of a write log.
func maxPayload(i db.Info) int {
	const parts = 64 << 10 // position, label, key, hashes, numbers: each below 10,000 bytes
	return i.MaxValueBytes + 2*i.EmbedBytes + parts
}

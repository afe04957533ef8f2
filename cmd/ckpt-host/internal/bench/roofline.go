package bench

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/golang/snappy"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// The rooflines: what of making and restoring a checkpoint can't be left out, done by one core on the
// bytes of the checkpoint that was made, with golang/snappy and crypto/sha512 in a plain loop that neither
// allocates nor reads or writes files.

const (
	// rooflineChunks is how many chunks, spread evenly, the rooflines are measured on.
	rooflineChunks = 4
	// rooflineRounds is how often; the best counts.
	rooflineRounds = 5
	// snappyBlock is how much the snappy framing format compresses at once.
	snappyBlock = 64 << 10
)

// Rooflines are the limits that one core sets.
type Rooflines struct {
	Make    Roofline `json:"make"`
	Restore Roofline `json:"restore"`
}

// Roofline is one limit.
type Roofline struct {
	// MBPerSecond is chunk bytes before compression, in millions a second.
	MBPerSecond      float64 `json:"mb_per_second"`
	EntriesPerSecond float64 `json:"entries_per_second"`
}

// rooflineWork is a chunk, prepared so that nothing is left but the work itself.
type rooflineWork struct {
	raw    []byte
	blocks [][]byte // compressed
	chunk  []byte
	out    []byte
	hashed []byte // what nodes' hashes are of, one after the other
	ends   []int
}

// measureRooflines measures them on the checkpoint in a store.
func measureRooflines(ctx context.Context, store string) (r Rooflines, err error) {
	works, entriesPerByte, err := rooflineWorks(ctx, store)
	if err != nil {
		return r, err
	}
	if r.Make, err = bestOf(ctx, works, entriesPerByte, (*rooflineWork).make); err != nil {
		return r, err
	}
	r.Restore, err = bestOf(ctx, works, entriesPerByte, (*rooflineWork).restore)
	return r, err
}

// rooflineWorks prepares chunks of the checkpoint in a store. It tells how many entries there are for a
// byte of chunks before compression.
func rooflineWorks(ctx context.Context, store string) (works []*rooflineWork, entriesPerByte float64, err error) {
	stored, manifest, err := theCheckpoint(ctx, store)
	if err != nil {
		return nil, 0, err
	}
	count := min(rooflineChunks, len(manifest.Chunks))
	for i := range count {
		index := i * len(manifest.Chunks) / count
		work, err := newRooflineWork(filepath.Join(stored.Path, "chunks", strconv.Itoa(index)))
		if err != nil {
			return nil, 0, fmt.Errorf("chunk %d: %w", index, err)
		}
		works = append(works, work)
	}
	return works, float64(manifest.Entries) / float64(manifest.RawBytes), nil
}

// bestOf does the work on all chunks some times, and tells of the best.
func bestOf(ctx context.Context, works []*rooflineWork, entriesPerByte float64, do func(*rooflineWork) error) (best Roofline, err error) {
	for range rooflineRounds {
		if err := ctx.Err(); err != nil {
			return best, err
		}
		bytes, began := 0, time.Now()
		for _, w := range works {
			if err := do(w); err != nil {
				return best, err
			}
			bytes += len(w.raw)
		}
		perSecond := float64(bytes) / time.Since(began).Seconds()
		best.MBPerSecond = max(best.MBPerSecond, perSecond/1e6)
		best.EntriesPerSecond = max(best.EntriesPerSecond, perSecond*entriesPerByte)
	}
	return best, nil
}

// make is the limit of making: compressing, and the digest of what comes out.
func (w *rooflineWork) make() error {
	digest := sha512.New512_256()
	for rest := w.raw; len(rest) > 0; {
		n := min(len(rest), snappyBlock)
		digest.Write(snappy.Encode(w.out, rest[:n]))
		rest = rest[n:]
	}
	var sum [hash.Size]byte
	digest.Sum(sum[:0])
	if sum == [hash.Size]byte{} {
		return errors.New("a digest of zeros")
	}
	return nil
}

// restore is the limit of restoring: the digest, decompressing, and one hash a node.
func (w *rooflineWork) restore() error {
	if sum := sha512.Sum512_256(w.chunk); sum == [hash.Size]byte{} {
		return errors.New("a digest of zeros")
	}
	for _, b := range w.blocks {
		if _, err := snappy.Decode(w.out, b); err != nil {
			return err
		}
	}
	from := 0
	for _, end := range w.ends {
		if sum := sha512.Sum512_256(w.hashed[from:end]); sum == [hash.Size]byte{} {
			return errors.New("a hash of zeros")
		}
		from = end
	}
	return nil
}

// newRooflineWork reads a chunk.
func newRooflineWork(path string) (*rooflineWork, error) {
	w := &rooflineWork{out: make([]byte, snappy.MaxEncodedLen(snappyBlock))}
	var err error
	if w.chunk, err = os.ReadFile(path); err != nil {
		return nil, err
	}
	if w.raw, err = io.ReadAll(snappy.NewReader(bytes.NewReader(w.chunk))); err != nil {
		return nil, err
	}
	for rest := w.raw; len(rest) > 0; {
		n := min(len(rest), snappyBlock)
		w.blocks = append(w.blocks, snappy.Encode(nil, rest[:n]))
		rest = rest[n:]
	}
	tree, err := decodeProof(w.raw)
	if err != nil {
		return nil, err
	}
	for i := range tree.Nodes {
		w.addNode(&tree.Nodes[i])
	}
	return w, nil
}

// addNode adds what the hashes of a node and its own leaf are of. Which bytes these are does not matter
// to the time they take; how many does.
func (w *rooflineWork) addNode(n *proof.Node) {
	const head = 1 + 2*4
	c := n.Compact()
	switch {
	case n.Kind == proof.KindHash:
		return
	case n.Kind == proof.KindLeaf:
		w.add(head, c.Key, c.Value)
		return
	case n.HasOwnLeaf:
		w.add(head, c.OwnKey, c.OwnValue)
	}
	w.add(1+2+3*hash.Size, c.Label[:c.LabelBitLength.ToBytes()])
}

func (w *rooflineWork) add(head int, parts ...[]byte) {
	w.hashed = append(w.hashed, make([]byte, head)...)
	for _, p := range parts {
		w.hashed = append(w.hashed, p...)
	}
	w.ends = append(w.ends, len(w.hashed))
}

// decodeProof decodes a chunk's entries.
func decodeProof(raw []byte) (*proof.Tree, error) {
	d := proof.NewDecoder(proof.Version0, proof.Limits{KeyBytes: node.MaxKeyBytes, Entries: checkpoint.DefaultEntries})
	for len(raw) > 0 {
		length, head := 0, 1
		switch b := raw[0]; {
		case b == 0xf6:
			length = -1
		case b < 0x58:
			length = int(b - 0x40)
		case b == 0x58 && len(raw) > 1:
			length, head = int(raw[1]), 2
		case b == 0x59 && len(raw) > 2:
			length, head = int(binary.BigEndian.Uint16(raw[1:])), 3
		case b == 0x5a && len(raw) > 4:
			length, head = int(binary.BigEndian.Uint32(raw[1:])), 5
		}
		if length > len(raw)-head {
			return nil, errors.New("an entry is cut short")
		}
		var entry []byte
		if length >= 0 {
			entry = raw[head : head+length]
		} else {
			length = 0
		}
		if err := d.Add(entry); err != nil {
			return nil, err
		}
		raw = raw[head+length:]
	}
	return d.Finish()
}

package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/golang/snappy"
	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// TestCompressAnything checks that entries of any lengths, in any segments, become the bytes that a writer of
// package snappy makes of one Write an entry, whatever the compressor was used for before.
func TestCompressAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rand.NewChaCha8([32]byte{byte(rapid.Int().Draw(t, "seed"))})
		lengths := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(frameMaxRaw-300, frameMaxRaw+300), rapid.IntRange(0, 5*frameMaxRaw))
		var want, got bytes.Buffer
		w := snappy.NewBufferedWriter(&want)
		var sent []*segment
		raw := int64(0)
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			s := &segment{}
			for range rapid.IntRange(1, 12).Draw(t, "entries") {
				entry := make([]byte, lengths.Draw(t, "length"))
				if rapid.Bool().Draw(t, "random") {
					random.Read(entry)
				}
				if _, err := w.Write(entry); err != nil {
					t.Fatal(err)
				}
				s.data = append(s.data, entry...)
				s.ends = append(s.ends, len(s.data))
			}
			raw += int64(len(s.data))
			sent = append(sent, s)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if raw == 0 {
			return // a chunk has bytes
		}
		in := make(chan *segment, len(sent))
		for _, s := range sent {
			in <- s
		}
		close(in)
		c, err := compress(&got, in)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatal("other bytes than those of package snappy")
		}
		if c.raw != raw || c.bytes != int64(got.Len()) || c.digest != hash.Sum(got.Bytes()) {
			t.Fatalf("told %+v of %d bytes, %d before", c, got.Len(), raw)
		}
	})
}

// TestMoreThanFitsAhead has more in a chunk than may wait before its compressor, in small entries and in ones that
// are larger than all of that, compressed or given up because its file can't be made.
func TestMoreThanFitsAhead(t *testing.T) {
	limits := Limits{}.withDefaults()
	entries := [][]byte{make([]byte, aheadBytes+1), make([]byte, 3*aheadBytes)}
	for range 3 * aheadBytes / 1000 {
		entries = append(entries, make([]byte, 1000))
	}
	send := func(e *chunkEncoder) (raw int64) {
		for _, b := range entries {
			e.included(b)
			raw += int64(len(appendBytesHead(nil, 1+len(b))) + 1 + len(b))
		}
		e.close()
		return raw
	}

	e, in := newChunkEncoder(&limits)
	sent := make(chan int64, 1)
	go func() { sent <- send(e) }()
	c, err := compress(io.Discard, in)
	if raw := <-sent; err != nil || c.raw != raw {
		t.Errorf("%d bytes of %d, %v", c.raw, raw, err)
	}

	e, in = newChunkEncoder(&limits)
	go func() { sent <- send(e) }()
	p := &pipeline{ctx: t.Context(), files: noFiles{}, limits: limits}
	if err := p.write(0, in, nil); !errors.Is(err, errNoFile) {
		t.Error(err)
	}
	<-sent
}

var errNoFile = errors.New("no file can be made")

// noFiles makes no file.
type noFiles struct{}

func (noFiles) create(uint64) (io.WriteCloser, error)         { return nil, errNoFile }
func (noFiles) done(context.Context, uint64, chunkInfo) error { panic("a chunk was made") }

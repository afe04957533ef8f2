package checkpoint

import (
	"bytes"
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

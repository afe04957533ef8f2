package kvdb

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// What a part of a write log is read as is what was written, part by part.
func TestWriteLogParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.SliceOfN(rapid.Byte(), 0, 6), 1, 40, func(k []byte) string { return string(k) }).Draw(t, "keys")
		slices.SortFunc(keys, bytes.Compare)
		var w logWriter
		var parts [][]byte
		removed := make([]bool, len(keys))
		storedUnder := []byte{kindWriteLog}
		for i, key := range keys {
			removed[i] = rapid.Bool().Draw(t, "removed")
			if err := w.add(key, removed[i]); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 4).Draw(t, "end") == 0 {
				parts = append(parts, w.seal(storedUnder))
			}
		}
		if len(w.buf) > 0 {
			parts = append(parts, w.seal(storedUnder))
		}
		i := 0
		for _, part := range parts {
			f, ok := unseal(storedUnder, part)
			if !ok {
				t.Fatal("a part's checksum is wrong")
			}
			for r := (logReader{fields: f}); len(r.b) > 0; i++ {
				key, gone, ok := r.next()
				if !ok || !bytes.Equal(key, keys[i]) || gone != removed[i] {
					t.Fatalf("change %d is %x (removed %v, %v), want %x (%v)", i, []byte(key), gone, ok, keys[i], removed[i])
				}
			}
		}
		if i != len(keys) || int(w.parts) != len(parts) {
			t.Fatalf("%d changes in %d parts, want %d in %d", i, w.parts, len(keys), len(parts))
		}
		if w.add(keys[len(keys)-1], false) == nil {
			t.Fatal("a key that does not come after the last one is taken")
		}
	})
}

// Any bytes are read to their end or refused, with no key beyond the limit and no memory beyond the bytes'.
func FuzzWriteLogPart(f *testing.F) {
	var w logWriter
	for _, key := range []string{"", "a", "ab", "b"} {
		_ = w.add(node.Key(key), key == "b")
	}
	f.Add(w.buf)
	f.Add([]byte{1, 0})
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, part []byte) {
		r, total := logReader{fields: fields{b: part}}, 0
		for len(r.b) > 0 {
			key, _, ok := r.next()
			if !ok {
				return
			}
			if len(key) > node.MaxKeyBytes {
				t.Fatalf("a key of %d bytes", len(key))
			}
			total++
		}
		if total > len(part) {
			t.Fatalf("%d changes in %d bytes", total, len(part))
		}
	})
}

package history

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance/reference"
)

// key draws one of few keys, of which many are prefixes of each other or differ late.
func (r *run) key() string {
	n := rapid.IntRange(0, 4).Draw(r.T, "key length")
	key := make([]byte, n)
	for i := range key {
		key[i] = draw(r, []byte{0x00, 0x01, 0x7f, 0x80, 0xff, 'a'}, "key byte")
	}
	return string(key)
}

// value draws a value around the sizes that matter: empty, just embedded or not, of blocks of its own.
func (r *run) value() string {
	size := draw(r, []int{0, 1, 5, 9, 100, r.embed - 9, r.embed, r.embed + 1, 1500, 9000}, "value size")
	return strings.Repeat(string(rune('a'+r.index(26, "value"))), max(size, 0))
}

// bulk returns many pairs.
func bulk(rng *rand.Rand, n int) reference.Content {
	c := reference.Content{}
	for range n {
		key := string([]byte{byte(rng.Uint32()), byte(rng.Uint32())})
		if rng.IntN(4) == 0 {
			key = strings.Repeat("k", rng.IntN(30))
		}
		c[key] = fmt.Sprintf("%0*d", 1+rng.IntN(60), rng.Uint32())
		if rng.IntN(20) == 0 {
			c[key] = strings.Repeat("v", rng.IntN(3000))
		}
	}
	return c
}

// edit is a change to a key.
type edit struct {
	key, value string
	remove     bool
}

// edits draws changes to a content.
func (r *run) edits(c reference.Content) (edits []edit) {
	keys := c.Keys()
	switch r.index(12, "kind of changes") {
	case 0:
		return nil
	case 1:
		for _, k := range keys {
			edits = append(edits, edit{key: k, remove: true})
		}
		return edits
	case 2, 3:
		more := bulk(r.rng, 1+r.index(100, "pairs"))
		for _, k := range more.Keys() {
			edits = append(edits, edit{key: k, value: more[k]})
		}
		for _, k := range keys {
			if r.rng.IntN(3) == 0 {
				edits = append(edits, edit{key: k, remove: true})
			}
		}
		return edits
	}
	for range 1 + r.index(8, "changes") {
		e := edit{remove: r.chance(3, "remove")}
		if e.key = r.key(); len(keys) > 0 && r.chance(2, "existing") {
			e.key = draw(r, keys, "key")
		}
		if !e.remove {
			e.value = r.value()
		}
		edits = append(edits, e)
	}
	return edits
}

// apply returns a copy of a content with changes made.
func apply(c reference.Content, edits []edit) reference.Content {
	c = c.With()
	for _, e := range edits {
		if e.remove {
			delete(c, e.key)
		} else {
			c[e.key] = e.value
		}
	}
	return c
}

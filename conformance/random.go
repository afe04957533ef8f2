package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// random is a source of contents that is the same every time.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 0x636b7074))} }

// key returns one of not too many keys, many of them prefixes of others, some long, one empty.
func (r random) key() string {
	switch r.IntN(6) {
	case 0:
		return strings.Repeat("a", r.IntN(40))
	case 1:
		return strings.Repeat("\x00", r.IntN(10)) + strings.Repeat("\x80", r.IntN(3))
	case 2:
		return fmt.Sprintf("long %d %s", r.IntN(10), strings.Repeat("k", 300))
	case 3:
		return string([]byte{byte(r.Uint32()), byte(r.Uint32())})
	default:
		return fmt.Sprintf("key %d", r.IntN(300))
	}
}

// value returns a value: empty, small, or too large to be embedded.
func (r random) value() string {
	switch r.IntN(8) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(string(rune('a'+r.IntN(26))), 400+r.IntN(300))
	case 2:
		return strings.Repeat(string(rune('a'+r.IntN(26))), 5000+r.IntN(5000))
	default:
		return fmt.Sprintf("value %d", r.Uint64())
	}
}

// content returns a content with up to n pairs.
func (r random) content(n int) content {
	c := content{}
	for range n {
		c[r.key()] = r.value()
	}
	return c
}

// change returns a copy of a content with some pairs changed.
func (r random) change(c content, n int) content {
	c = c.With()
	keys := c.Keys()
	for range n {
		switch {
		case len(keys) > 0 && r.IntN(3) == 0:
			delete(c, keys[r.IntN(len(keys))])
		case len(keys) > 0 && r.IntN(3) == 0:
			c[keys[r.IntN(len(keys))]] = r.value()
		default:
			c[r.key()] = r.value()
		}
	}
	return c
}

package bench

import (
	"context"
	"encoding/binary"
	"math/rand/v2"

	"github.com/ckpt-project/ckpt/conformance/vectors"
)

// dataSeed is the seed of all data sets and of the choice of entries.
const dataSeed = 1

// data is a data set, in one piece of memory, so that it costs neither time to make nor much to the
// garbage collector while something is measured.
type data struct {
	kind  string
	bytes []byte
	// ends are where each key and each value ends.
	ends []int
}

// newData makes a data set of n entries. It calls tell with the number made, now and then.
func newData(ctx context.Context, kind string, n int, tell func(done int)) (*data, error) {
	set := vectors.DataSet{Kind: kind, Seed: dataSeed, N: uint64(n)}
	d := &data{kind: kind, ends: make([]int, 0, 2*n)}
	for i := range n {
		if i%10_000 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			tell(i)
		}
		key, value := set.Entry(uint64(i))
		d.bytes = append(d.bytes, key...)
		d.ends = append(d.ends, len(d.bytes))
		d.bytes = append(d.bytes, value...)
		d.ends = append(d.ends, len(d.bytes))
	}
	return d, nil
}

func (d *data) len() int { return len(d.ends) / 2 }

func (d *data) field(i int) []byte {
	start := 0
	if i > 0 {
		start = d.ends[i-1]
	}
	return d.bytes[start:d.ends[i]]
}

// entry returns entry i.
func (d *data) entry(i int) (key, value []byte) { return d.field(2 * i), d.field(2*i + 1) }

// updates are random changes to a data set's entries: each sets a key to a value like the data set's, and
// like no earlier one.
type updates struct {
	data   *data
	random *rand.Rand
	count  uint64
	value  []byte
}

func newUpdates(d *data) *updates {
	return &updates{data: d, random: rand.New(rand.NewPCG(dataSeed, 0))}
}

// key returns the key of a random entry.
func (u *updates) key() []byte { return u.data.field(2 * u.random.IntN(u.data.len())) }

// next returns the next change. It is valid until the one after it.
func (u *updates) next() (key, value []byte) {
	u.count++
	u.value = binary.BigEndian.AppendUint64(u.value[:0], u.count)
	if like := u.data.field(2*u.random.IntN(u.data.len()) + 1); len(like) > len(u.value) {
		u.value = append(u.value, like[len(u.value):]...)
	}
	return u.key(), u.value
}

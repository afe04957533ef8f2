package kvdb

import (
	"bytes"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// sortedReader looks keys up in a root's tree, in ascending order: it stays where the last key was
// found, so that keys that lie together share most of their way.
type sortedReader struct {
	finders finders
	root    *rootRecord
	// way holds the internal nodes on the way to the last key, from the root down.
	way  []wayNode
	last node.Key
}

// wayNode is an internal node, and the depth at which its label ends.
type wayNode struct {
	record node.Record
	end    node.Depth
}

func newSortedReader(s kv.Snapshot, r *rootRecord) *sortedReader {
	return &sortedReader{finders: newFinders(s, r.typ), root: r}
}

// close releases what is held, and adds what fails to an error.
func (sr *sortedReader) close(err error) error { return errors.Join(err, sr.finders.close()) }

// get returns a copy of a key's value, and whether the key is there. Keys must ascend.
func (sr *sortedReader) get(key node.Key) (value []byte, found bool, err error) {
	if sr.root.isEmpty() {
		return nil, false, nil
	}
	common := sr.last.CommonPrefixLen(sr.last.BitLength(), key, key.BitLength())
	n := len(sr.way)
	for n > 0 && sr.way[n-1].end > common {
		n--
	}
	sr.way = sr.way[:n]
	sr.last = append(sr.last[:0], key...)

	a, depth := sr.root.address, node.Depth(0)
	for {
		if n := len(sr.way); n > 0 {
			top := &sr.way[n-1]
			if top.end == key.BitLength() {
				return bytes.Clone(top.record.OwnValue), top.record.OwnLeaf != nil, nil
			}
			child := &top.record.Children[sideOf(key, top.end)]
			if !child.Present {
				return nil, false, nil
			}
			if child.Embedded != nil {
				leaf, _, err := node.ParseCompactV0(child.Embedded)
				if err != nil || !leaf.Key.Equal(key) {
					return nil, false, err
				}
				return bytes.Clone(leaf.Value), true, nil
			}
			a, depth = child.Address, top.end+1
		}
		p := node.NewPosition(key, depth)
		f, err := sr.finders.at(a)
		if err != nil {
			return nil, false, err
		}
		record, err := f.find(p)
		if err != nil {
			return nil, false, err
		}
		if record == nil {
			return nil, false, f.corrupted(p, "node is missing")
		}
		r, err := parse(bytes.Clone(record), a, p)
		if err != nil {
			return nil, false, err
		}
		if r.Leaf {
			return r.Value, r.Key.Equal(key), nil
		}
		end, err := endOf(r.LabelBitLength, depth, a, p)
		if err != nil {
			return nil, false, err
		}
		if end > key.BitLength() || !runsThrough(key, end-r.LabelBitLength, &r) {
			return nil, false, nil
		}
		sr.way = append(sr.way, wayNode{r, end})
	}
}

package quickstart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// errDiffers is returned where a database does not hold what its source says.
var errDiffers = errors.New("the database differs from its source")

// checked is what a check counted.
type checked struct {
	// entries is the number of entries that were compared and found right, bytes what their values have.
	entries uint64
	bytes   int64
	leftOut LeftOut
}

// LeftOut counts what stands in the last version's commit and not in the state.
type LeftOut struct {
	// Submodules are commits of other repositories.
	Submodules uint64 `json:"submodules"`
	// LongPaths are paths longer than the longest key.
	LongPaths uint64 `json:"long_paths"`
	// LargeFiles are files larger than the largest value.
	LargeFiles uint64 `json:"large_files"`
}

// entries is what the check reads a database through: the part of mkvs.Iterator that it needs.
type entries interface {
	Rewind()
	Valid() bool
	Next()
	Key() node.Key
	Value() []byte
	Err() error
}

// check compares a database's entries, in key order, with what its source says: each that has to be there
// is, with the right value, and there is no other. Neither side is held in memory. progress is called after
// each entry.
func check(ctx context.Context, have entries, want iter.Seq2[expected, error], progress func(done uint64)) (checked, error) {
	var result checked
	var wrong differences
	var last []byte
	have.Rewind()
	for expect, err := range want {
		if err != nil {
			return result, err
		}
		if last != nil && bytes.Compare(last, expect.key) >= 0 {
			return result, fmt.Errorf("the commit's tree is not in order: %q comes after %q ('git fsck' tells more)", expect.key, last)
		}
		last = append(last[:0:0], expect.key...)
		for have.Valid() && bytes.Compare(have.Key(), expect.key) < 0 {
			wrong.add("not in the source: %q", have.Key())
			have.Next()
		}
		if have.Valid() && bytes.Equal(have.Key(), expect.key) {
			if value := have.Value(); expect.matches(value) {
				result.entries++
				result.bytes += int64(len(value))
			} else {
				wrong.add("another value: %q", expect.key)
			}
			have.Next()
			progress(result.entries)
			continue
		}
		if have.Err() != nil {
			break
		}
		why := notLeftOut
		if expect.leftOut != nil {
			if why, err = expect.leftOut(ctx); err != nil {
				return result, err
			}
		}
		switch why {
		case isSubmodule:
			result.leftOut.Submodules++
		case keyTooLong:
			result.leftOut.LongPaths++
		case valueTooLarge:
			result.leftOut.LargeFiles++
		default:
			wrong.add("missing: %q", expect.key)
		}
	}
	for ; have.Valid(); have.Next() {
		wrong.add("not in the source: %q", have.Key())
	}
	if err := have.Err(); err != nil {
		return result, err
	}
	return result, wrong.err()
}

// differences collects what is wrong: all of it counted, the first few told.
type differences struct {
	count uint64
	first []string
}

const differencesTold = 5

func (d *differences) add(format string, key []byte) {
	d.count++
	if len(d.first) < differencesTold {
		d.first = append(d.first, fmt.Sprintf(format, key))
	}
}

func (d *differences) err() error {
	if d.count == 0 {
		return nil
	}
	more := ""
	if rest := d.count - uint64(len(d.first)); rest > 0 {
		more = fmt.Sprintf("; and %d more", rest)
	}
	return fmt.Errorf("%w in %d entries: %s%s", errDiffers, d.count, strings.Join(d.first, "; "), more)
}

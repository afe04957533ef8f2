package kvdb

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"strings"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// An engine has files of its own, and finds damage in them that is none of a record's: a block of many
// records, of which it can read none. It says neither whose records these are nor where they end. A check
// tells such a place once, by the keys on its sides, and goes on behind it.

// isEngineDamage says whether an error is damage that the engine has found.
func isEngineDamage(err error) bool {
	var ours *db.CorruptedError
	return errors.Is(err, db.ErrCorrupted) && !errors.As(err, &ours)
}

// engineText is what the engine says of damage.
func engineText(err error) string {
	text := err.Error()
	if _, own, ok := strings.Cut(text, db.ErrCorrupted.Error()+": "); ok {
		return own
	}
	return text
}

// cantReadOn makes a problem of a place that the engine can't get beyond, where it is met first: from a key
// on, which is the last that was read or the first that was asked for, up to the next that can be read.
func (c *check) cantReadOn(from, until []byte, err error) {
	text := engineText(err)
	if c.recordsRead && c.told[text] {
		return
	}
	c.told[text] = true
	end, version := "to the end", db.UnknownVersion
	if until != nil {
		end = "up to " + keyText(until)
		if from[0] == until[0] && versionIn(from) == versionIn(until) {
			version = versionIn(from) // and so are all between them
		}
	}
	c.problem(version, nil, fmt.Sprintf("the engine can't read on from %s, %s: %s", keyText(from), end, text))
}

// keyText is a key and what it is the key of.
func keyText(key []byte) string {
	k, _, ok := kindOfKey(key)
	switch version := versionIn(key); {
	case !ok:
		return fmt.Sprintf("key %.32x", key)
	case version == db.UnknownVersion:
		return fmt.Sprintf("key %.32x (%s)", key, k.name)
	default:
		return fmt.Sprintf("key %.32x (%s of version %d)", key, k.name, version)
	}
}

// behind is behind under a snapshot of its own.
func (c *check) behind(ctx context.Context, key []byte) (next []byte, err error) {
	s, err := c.d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storeError(s.Close())) }()
	return behind(s, key)
}

// probeSize is the length of the keys that behind looks for. What begins with the same bytes as a key that
// can't be read is not told apart from it.
const probeSize = 32

// behind looks for the first key that the engine can read again after one from which it can't read on; nil
// where it can read none. It asks for keys farther and farther away, and then for those between the last
// that failed and the first that did not.
func behind(s kv.Snapshot, key []byte) (next []byte, err error) {
	var padded [probeSize]byte
	copy(padded[:], key)
	last := new(big.Int).SetBytes(padded[:])
	bad := last // nothing can be read from here on
	var good *big.Int
	for i := uint(0); good == nil; i++ {
		n := new(big.Int).Lsh(big.NewInt(1), i)
		n.Add(n, last)
		if n.BitLen() > 8*probeSize {
			return nil, nil
		}
		found, ok, err := readable(s, n.FillBytes(padded[:]))
		switch {
		case err != nil:
			return nil, err
		case ok:
			good, next = n, found
		default:
			bad = n
		}
	}
	for one := big.NewInt(1); new(big.Int).Sub(good, bad).Cmp(one) > 0; {
		n := new(big.Int).Add(bad, good)
		n.Rsh(n, 1)
		found, ok, err := readable(s, n.FillBytes(padded[:]))
		switch {
		case err != nil:
			return nil, err
		case ok:
			good, next = n, found
		default:
			bad = n
		}
	}
	return next, nil
}

// readable says whether the engine can read from a key on, and returns the first key there, nil where there
// is none. Each time it takes a new cursor: one that has failed may not move any more.
func readable(s kv.Snapshot, key []byte) (first []byte, ok bool, err error) {
	c := s.Cursor()
	defer func() { err = errors.Join(err, storeError(c.Close())) }()
	if c.Seek(key) {
		return bytes.Clone(c.Key()), true, nil
	}
	switch err := storeError(c.Err()); {
	case err == nil:
		return nil, true, nil
	case isEngineDamage(err):
		return nil, false, nil
	default:
		return nil, false, err
	}
}

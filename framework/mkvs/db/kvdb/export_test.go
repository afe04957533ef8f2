package kvdb

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// LiveEntries returns, for all entries that are stored and not marked dead, root type, address and
// position as a text.
func LiveEntries(ctx context.Context, ndb db.NodeDB) (map[string]bool, error) {
	d := ndb.(*DB)
	s, err := d.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	live := make(map[string]bool)
	for t := node.RootTypeState; t <= node.RootTypeMax; t++ {
		c := s.Cursor()
		prefix := kindBlock | byte(t)
		for ok := c.Seek([]byte{prefix}); ok && c.Key()[0] == prefix; ok = c.Next() {
			b, reason := openBlock(c.Key(), c.Value())
			if reason != "" {
				return nil, fmt.Errorf("block %x: %s", c.Key(), reason)
			}
			a, _, _ := addressOfKey(c.Key())
			deadKey := append([]byte(nil), c.Key()...)
			deadKey[0] = kindDead | byte(t)
			stored, err := getOrNil(s, deadKey)
			if err != nil {
				return nil, err
			}
			slots := d.deadSlots(&b, deadKey, stored, nil)
			for i := range b.n {
				suffix, _, _ := b.entry(i)
				if slots[i/8]&(1<<(i%8)) == 0 {
					live[EntryName(t, a, append(append(node.Position{}, b.shared...), suffix...))] = true
				}
			}
		}
		if err := c.Close(); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// EntryName is the text for an entry in LiveEntries.
func EntryName(t node.RootType, a node.Address, p node.Position) string {
	return fmt.Sprintf("%s %s %s", t, a, p)
}

// KindCounts returns the number of keys of each kind and root type.
func KindCounts(ctx context.Context, ndb db.NodeDB) (map[byte]int, error) {
	s, err := ndb.(*DB).snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	c := s.Cursor()
	defer c.Close()
	counts := make(map[byte]int)
	for ok := c.Seek([]byte{0}); ok; ok = c.Next() {
		counts[c.Key()[0]]++
	}
	return counts, c.Err()
}

// AwaitBackground returns when no pruned version waits for its space to be freed that the background
// frees. What it awaits is the state that each round writes.
func AwaitBackground(ctx context.Context, ndb db.NodeDB) error {
	d := ndb.(*DB)
	for {
		if s := d.present(); s.backlog() < collectEvery {
			return nil
		}
		if err := d.take(ctx, d.pruning); err != nil { // the background has it while it works
			return err
		}
		give(d.pruning)
		d.collectDue()
		time.Sleep(time.Millisecond)
	}
}

// HoldReader opens a snapshot as a reader does, and returns what closes it.
func HoldReader(ctx context.Context, ndb db.NodeDB) (release func() error, err error) {
	s, err := ndb.(*DB).snapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.Close, nil
}

// BlockBytes returns what the live entries of a version take, and what its blocks would if they were full.
func BlockBytes(ctx context.Context, ndb db.NodeDB, version uint64) (live, room int, err error) {
	d := ndb.(*DB)
	s, err := d.snapshot(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	c := s.Cursor()
	defer c.Close()
	prefix := typeKey(kindBlock, node.RootTypeState, version)
	for ok := c.Seek(prefix); ok && bytes.HasPrefix(c.Key(), prefix); ok = c.Next() {
		b, reason := openBlock(c.Key(), c.Value())
		if reason != "" {
			return 0, 0, fmt.Errorf("block %x: %s", c.Key(), reason)
		}
		deadKey := deadKeyOf(bytes.Clone(c.Key()))
		stored, err := getOrNil(s, deadKey)
		if err != nil {
			return 0, 0, err
		}
		slots := d.deadSlots(&b, deadKey, stored, nil)
		for i := range b.n {
			if suffix, record, _ := b.entry(i); !isDead(slots, i) {
				live += len(suffix) + len(record)
			}
		}
		room += blockTarget
	}
	return live, room, c.Err()
}

// Kind is what there is to know of a kind of keys.
type Kind struct {
	Byte       byte
	Name, Form string
	// HasType says that the byte's lower half is a root type.
	HasType bool
}

// Kinds are the kinds of keys.
func Kinds() []Kind {
	all := make([]Kind, len(kinds))
	for i, k := range kinds {
		all[i] = Kind{k.kind, k.name, string(k.form), k.kind >= firstWithType}
	}
	return all
}

// KindName is the name of a key's kind.
func KindName(key []byte) string {
	k, _, _ := kindOfKey(key)
	return k.name
}

// TakeNumber takes a candidate number, as a batch does that began when its version was not finalized yet.
func TakeNumber(ndb db.NodeDB, version uint64, t node.RootType) (uint16, error) {
	return ndb.(*DB).number(version, t)
}

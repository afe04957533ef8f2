package mkvs

import (
	"bytes"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// change is what was last done to a key since the tree's base.
type change struct {
	value   []byte // nil: removed
	existed bool   // in the base
}

// noteChange puts a change on the write log; value is nil where the key is removed. existed says whether
// the key was there before this change. The slices are kept.
func (t *Tree) noteChange(key node.Key, value []byte, existed bool) {
	if t.changes == nil {
		return
	}
	if before, again := t.changes[string(key)]; again {
		existed = before.existed
	}
	t.changes[string(key)] = change{value, existed}
}

// writeLog returns the changes, sorted by key. A key that was neither there before nor is there now
// is left out.
func (t *Tree) writeLog() writelog.WriteLog {
	if t.changes == nil {
		return nil
	}
	log := make(writelog.WriteLog, 0, len(t.changes))
	for key, c := range t.changes {
		if c.value != nil || c.existed {
			log = append(log, writelog.LogEntry{Key: []byte(key), Value: c.value})
		}
	}
	slices.SortFunc(log, func(a, b writelog.LogEntry) int { return bytes.Compare(a.Key, b.Key) })
	return log
}

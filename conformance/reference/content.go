package reference

import (
	"bytes"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/framework/mkvs/writelog"
)

// Content is what a tree holds: values by keys.
type Content map[string]string

// With returns a copy with pairs set, key after value.
func (c Content) With(keysAndValues ...string) Content {
	out := make(Content, len(c)+len(keysAndValues)/2)
	maps.Copy(out, c)
	for i := 0; i < len(keysAndValues); i += 2 {
		out[keysAndValues[i]] = keysAndValues[i+1]
	}
	return out
}

// Without returns a copy without keys.
func (c Content) Without(keys ...string) Content {
	out := c.With()
	for _, k := range keys {
		delete(out, k)
	}
	return out
}

// Keys returns the keys, sorted.
func (c Content) Keys() []string { return slices.Sorted(maps.Keys(c)) }

// Log is the write log that leads from one content to another.
func (c Content) Log(to Content) writelog.WriteLog {
	var log writelog.WriteLog
	for k, v := range to {
		if old, had := c[k]; !had || old != v {
			log = append(log, writelog.LogEntry{Key: []byte(k), Value: []byte(v)})
		}
	}
	for k := range c {
		if _, has := to[k]; !has {
			log = append(log, writelog.LogEntry{Key: []byte(k)})
		}
	}
	slices.SortFunc(log, func(a, b writelog.LogEntry) int { return bytes.Compare(a.Key, b.Key) })
	return log
}

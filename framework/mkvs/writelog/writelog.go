// Package writelog is the list of changes that leads from one tree to the next.
package writelog

// LogEntry is one change: a key and its new value, nil where the key was removed. An empty value that
// was set is not nil.
type LogEntry struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// WriteLog is a list of changes. A key is in it at most once in the logs that a commit returns, which
// are sorted by key.
type WriteLog []LogEntry

// LogEntryType says what a change does.
type LogEntryType uint8

// The types of changes.
const (
	LogInsert LogEntryType = iota
	LogDelete
)

// Type says what the change does.
func (e *LogEntry) Type() LogEntryType {
	if e.Value == nil {
		return LogDelete
	}
	return LogInsert
}

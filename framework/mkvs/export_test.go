package mkvs

// NodesInMemory counts the stored nodes that a tree keeps in memory.
func NodesInMemory(t *Tree) int { return t.nodesInMemory() }

// WithRunChanges sets how many changes those of a run are made by, and, with a small capacity, from how many
// on a commit is written in runs.
func WithRunChanges(n int) Option {
	return func(t *Tree) { t.runChanges = n }
}

// ChangesInMemory is how many bytes of keys and values a tree holds for changes that are not committed.
func ChangesInMemory(t *Tree) int { return t.changes.memory.used }

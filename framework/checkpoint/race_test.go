//go:build race

package checkpoint

// The race detector is slow, and looks for other things than known answers and depth.
const (
	largestVector = 1000
	deepStep      = 64
	// hashingBytes is what the hash of a node takes on the heap: the race detector keeps it off the stack.
	hashingBytes = 256
)

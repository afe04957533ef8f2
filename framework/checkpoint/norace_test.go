//go:build !race

package checkpoint

const (
	// largestVector is the number of entries up to which the known answers are tried.
	largestVector = 1 << 20
	// deepStep is by how many bytes the keys of the deepest tree differ.
	deepStep = 1
	// hashingBytes is what the hash of a node takes on the heap.
	hashingBytes = 0
)

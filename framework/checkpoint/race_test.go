//go:build race

package checkpoint

// The race detector is slow, and looks for other things than known answers and depth.
const (
	largestVector = 1000
	deepStep      = 64
)

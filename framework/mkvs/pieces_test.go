package mkvs

import (
	"slices"
	"testing"
)

// Pieces hold what was added to them, and what they took over, in that order.
func TestPieces(t *testing.T) {
	var all pieces[int]
	var want []int
	for _, n := range []int{0, 3, 0, 40, 2000, 1} {
		var more pieces[int]
		for range n {
			more.add(len(want))
			want = append(want, len(want))
		}
		all.join(&more)
		if more.len() != 0 || len(slices.Collect(more.all())) != 0 {
			t.Fatalf("%d are left after they were taken over", more.len())
		}
		all.add(len(want))
		want = append(want, len(want))
		if got := slices.Collect(all.all()); !slices.Equal(got, want) || all.len() != len(want) {
			t.Fatalf("%d: %v, want %v", all.len(), got, want)
		}
	}
	for range all.all() {
		break // ends it
	}
}

package console

import (
	"fmt"
	"strings"
	"time"
)

// Count writes a number for people, in groups of three digits.
func Count[T int | int64 | uint64](n T) string {
	text := fmt.Sprintf("%d", n)
	head := 0
	if n < 0 {
		head = 1
	}
	for i := len(text) - 3; i > head; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Counted writes a number and what it counts, in the singular or plural: 1 chunk, 2,000 entries.
func Counted[T int | int64 | uint64](n T, noun string) string {
	if n != 1 {
		if stem, found := strings.CutSuffix(noun, "ry"); found {
			noun = stem + "ries"
		} else {
			noun += "s"
		}
	}
	return Count(n) + " " + noun
}

// Duration writes a time for people, in tenths of a second where it is short.
func Duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

package console

import (
	"fmt"
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

// Duration writes a time for people, in tenths of a second where it is short.
func Duration(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

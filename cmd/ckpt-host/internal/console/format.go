package console

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
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

// Rate writes a number of bytes a second for people.
func Rate(bytes float64) string {
	switch {
	case bytes >= 1e6:
		return fmt.Sprintf("%.1f MB/s", bytes/1e6)
	default:
		return fmt.Sprintf("%.1f kB/s", bytes/1e3)
	}
}

// roughly writes a time for people, to the second, and where it is long to the minute.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute-time.Second/2:
		return fmt.Sprintf("%d s", max(1, int(d.Seconds()+0.5)))
	case d < time.Hour:
		return d.Round(time.Second).String()
	default:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
}

// Wrap breaks a text into lines of at most width characters, each beginning with indent. A word that is
// longer stands alone.
func Wrap(text, indent string, width int) string {
	var lines []string
	line := indent
	for _, word := range strings.Fields(text) {
		switch {
		case line == indent:
			line += word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, line), "\n")
}

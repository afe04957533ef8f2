// Package size reads and writes numbers of bytes as people write them: 8MiB, 1.5 GiB.
package size

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are the suffixes that Parse takes, in lower case, and what each multiplies by. A bare "M" is
// none of them, because it means one thing to some and another to others.
var units = []struct {
	suffix string
	bytes  uint64
}{
	// Longer suffixes stand before those that they end with.
	{"kib", 1 << 10},
	{"mib", 1 << 20},
	{"gib", 1 << 30},
	{"tib", 1 << 40},
	{"kb", 1e3},
	{"mb", 1e6},
	{"gb", 1e9},
	{"tb", 1e12},
	{"b", 1},
}

// Parse reads a number of bytes: digits, and after them B, KiB, MiB, GiB, TiB (powers of 1024) or kB,
// MB, GB, TB (powers of 1000), of either case, a space between them or not. Without a unit the number
// is bytes.
func Parse(text string) (uint64, error) {
	number, unit := strings.ToLower(strings.TrimSpace(text)), uint64(1)
	for _, u := range units {
		if rest, found := strings.CutSuffix(number, u.suffix); found {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	if !digits(number) {
		return 0, fmt.Errorf("%q is no size: a whole number of bytes, or a number with a unit like 64KiB, 8MiB or 1GiB", text)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * unit, nil
}

// digits says whether s holds nothing but decimal digits, and at least one.
func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Exact writes a number of bytes for people to the byte, and rounded where that is easier to read.
func Exact(n int64) string {
	if -1<<10 < n && n < 1<<10 {
		return Format(n)
	}
	return fmt.Sprintf("%d B (%s)", n, Format(n))
}

// Format writes a number of bytes for people: 17 B, 8 MiB, 1.4 GiB. It rounds; what must be exact is
// written as a number.
func Format(n int64) string {
	if n < 0 {
		return "-" + Format(-n)
	}
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/(1<<10), 0
	for value >= 1023.95 && unit < 5 {
		value, unit = value/(1<<10), unit+1
	}
	text := strconv.FormatFloat(value, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0") + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}[unit]
}

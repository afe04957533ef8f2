package size

import (
	"math"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]uint64{
		"0":                    0,
		"1":                    1,
		"17B":                  17,
		"8MiB":                 8 << 20,
		"8 MiB":                8 << 20,
		" 8mib ":               8 << 20,
		"64KiB":                64 << 10,
		"2kB":                  2000,
		"3MB":                  3e6,
		"1GB":                  1e9,
		"1GiB":                 1 << 30,
		"16777215TiB":          16777215 << 40,
		"18446744073709551615": math.MaxUint64,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("Parse(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, reason := range map[string]string{
		"":                     "is no size",
		"MiB":                  "is no size",
		"-1":                   "is no size",
		"+1":                   "is no size",
		"1.5MiB":               "is no size",
		"8M":                   "is no size",
		"8MiBs":                "is no size",
		"0x10":                 "is no size",
		"1 2":                  "is no size",
		"18446744073709551616": "is too large",
		"16777216TiB":          "is too large",
	} {
		if n, err := Parse(text); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("Parse(%q) = %d, %v, want an error with %q", text, n, err, reason)
		}
	}
}

func TestFormat(t *testing.T) {
	for n, want := range map[int64]string{
		0:             "0 B",
		1023:          "1023 B",
		1024:          "1 KiB",
		1536:          "1.5 KiB",
		8 << 20:       "8 MiB",
		1<<30 - 1:     "1 GiB",
		1<<40 + 1<<39: "1.5 TiB",
		-2048:         "-2 KiB",
		math.MaxInt64: "8 EiB",
	} {
		if got := Format(n); got != want {
			t.Errorf("Format(%d) = %q, want %q", n, got, want)
		}
	}
}

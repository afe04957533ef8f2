package config

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// text evaluates an attribute that has to be a string which is not empty.
func (r *resolver) text(a *hcl.Attribute) (string, bool) {
	v, ok := r.value(a)
	if !ok {
		return "", false
	}
	if v.IsNull() || v.Type() != cty.String || v.AsString() == "" {
		r.fail(a.Expr.Range(), "Bad value", "%s is a text in quotes, and not empty.", a.Name)
		return "", false
	}
	if strings.ContainsRune(v.AsString(), 0) {
		r.fail(a.Expr.Range(), "Bad value", "%s holds a character of value 0.", a.Name)
		return "", false
	}
	return v.AsString(), true
}

// digest evaluates an attribute that has to be a SHA-256 digest.
func (r *resolver) digest(a *hcl.Attribute) string {
	text, ok := r.text(a)
	if !ok {
		return ""
	}
	text = strings.ToLower(text)
	if b, err := hex.DecodeString(text); err != nil || len(b) != 32 {
		r.fail(a.Expr.Range(), "Bad digest", "%s is 64 hexadecimal digits, as sha256sum prints them.", a.Name)
	}
	return text
}

// number evaluates an attribute that has to be a whole number from low to high.
func (r *resolver) number(a *hcl.Attribute, absent, low, high uint64, unit string) uint64 {
	v, ok := r.value(a)
	if !ok {
		return absent
	}
	n, whole := asNumber(v)
	if !whole || n < low || n > high {
		r.fail(a.Expr.Range(), "Bad value", "%s is a whole number of %s, from %d to %d.", a.Name, unit, low, high)
	}
	return n
}

// size evaluates an attribute that has to be a number of bytes from low to high: a number, or a text
// with a unit.
func (r *resolver) size(a *hcl.Attribute, absent, low, high uint64) uint64 {
	v, ok := r.value(a)
	if !ok {
		return absent
	}
	n, whole := asNumber(v)
	if !v.IsNull() && v.Type() == cty.String {
		parsed, err := size.Parse(v.AsString())
		if err != nil {
			r.fail(a.Expr.Range(), "Bad size", "%s: %s.", a.Name, err)
			return absent
		}
		n, whole = parsed, true
	}
	if !whole || n < low || n > high {
		r.fail(a.Expr.Range(), "Bad size", "%s is a whole number of bytes from %d to %d, or a text with a unit like \"64KiB\" or \"8MiB\".", a.Name, low, high)
	}
	return n
}

// rate evaluates an attribute that has to be a number of bytes a second. 0, for no work, is -1 in the
// configuration of a database.
func (r *resolver) rate(a *hcl.Attribute, absent int64) int64 {
	n := r.size(a, uint64(absent), 0, MaxGarbageRate)
	switch {
	case n == 0:
		return -1
	case n < MinGarbageRate:
		r.fail(a.Expr.Range(), "Bad value", "%s is a number of bytes a second: 0 for none, otherwise at least %d, or a text like \"64MiB\".", a.Name, MinGarbageRate)
	}
	return int64(min(n, MaxGarbageRate))
}

// duration evaluates an attribute that has to be a time of at most high.
func (r *resolver) duration(a *hcl.Attribute, absent, high time.Duration) time.Duration {
	v, ok := r.value(a)
	if !ok {
		return absent
	}
	if !v.IsNull() && v.Type() == cty.String {
		if d, err := time.ParseDuration(v.AsString()); err == nil && d >= 0 && d <= high {
			return d
		}
	}
	r.fail(a.Expr.Range(), "Bad value", "%s is a time in quotes like \"90s\" or \"5m\", up to \"%s\".", a.Name, high)
	return absent
}

// choice evaluates an attribute that has to be one of some texts, and returns what it stands for.
func choice[T any](r *resolver, a *hcl.Attribute, absent T, choices map[string]T) T {
	v, ok := r.value(a)
	if !ok {
		return absent
	}
	names := slices.Sorted(maps.Keys(choices))
	text := ""
	if !v.IsNull() && v.Type() == cty.String {
		text = v.AsString()
		if chosen, ok := choices[text]; ok {
			return chosen
		}
	}
	r.fail(a.Expr.Range(), "Bad value", "%s is one of \"%s\".%s", a.Name, strings.Join(names, "\", \""), didYouMean(text, names))
	return absent
}

// asNumber returns v where it is a whole number that is not negative.
func asNumber(v cty.Value) (uint64, bool) {
	if v.IsNull() || v.Type() != cty.Number {
		return 0, false
	}
	n := v.AsBigFloat()
	if !n.IsInt() || n.Sign() < 0 {
		return 0, false
	}
	whole, accuracy := n.Uint64()
	return whole, accuracy == 0
}

// didYouMean suggests the known name that is nearest to one that is not known, as a sentence with a
// space before it; "" where none is near.
func didYouMean(name string, known []string) string {
	best, nearest := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < nearest && d < len(k) {
			best, nearest = k, d
		}
	}
	if best == "" {
		return ""
	}
	return " Did you mean \"" + best + "\"?"
}

// distance is the number of bytes to insert, remove or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

package quickstart

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// pairs are entries in key order: "key=value".
type pairs struct {
	list []string
	at   int
	err  error
}

func (p *pairs) Rewind()     { p.at = 0 }
func (p *pairs) Valid() bool { return p.at < len(p.list) }
func (p *pairs) Next()       { p.at++ }
func (p *pairs) Err() error  { return p.err }
func (p *pairs) Key() node.Key {
	key, _, _ := strings.Cut(p.list[p.at], "=")
	return node.Key(key)
}

func (p *pairs) Value() []byte {
	_, value, _ := strings.Cut(p.list[p.at], "=")
	return []byte(value)
}

// wanting yields expectations of "key=value", and "key?reason" for those that are left out.
func wanting(list ...string) iter.Seq2[expected, error] {
	return func(yield func(expected, error) bool) {
		for _, want := range list {
			key, value, _ := strings.Cut(want, "=")
			key, why, out := strings.Cut(key, "?")
			entry := expected{
				key:     []byte(key),
				matches: func(have []byte) bool { return string(have) == value },
				leftOut: func(context.Context) (reason, error) { return notLeftOut, nil },
			}
			if out {
				reasons := map[string]reason{"submodule": isSubmodule, "long": keyTooLong, "large": valueTooLarge}
				entry.matches = func([]byte) bool { return false }
				entry.leftOut = func(context.Context) (reason, error) { return reasons[why], nil }
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		have, want []string
		entries    uint64
		leftOut    LeftOut
		err        string
	}{
		"nothing":            {},
		"all":                {have: []string{"a=1", "b=", "c=3"}, want: []string{"a=1", "b=", "c=3"}, entries: 3},
		"left out":           {have: []string{"b=1"}, want: []string{"a?submodule", "b=1", "c?long", "d?large", "e?large"}, entries: 1, leftOut: LeftOut{1, 1, 2}},
		"a value differs":    {have: []string{"a=1", "b=2"}, want: []string{"a=1", "b=3"}, entries: 1, err: `in 1 entries: another value: "b"`},
		"missing":            {have: []string{"b=2"}, want: []string{"a=1", "b=2", "c=3"}, entries: 1, err: `in 2 entries: missing: "a"; missing: "c"`},
		"one too many first": {have: []string{"a=1", "b=2"}, want: []string{"b=2"}, entries: 1, err: `not in the source: "a"`},
		"one too many last":  {have: []string{"a=1", "b=2"}, want: []string{"a=1"}, entries: 1, err: `not in the source: "b"`},
		"all too many":       {have: []string{"a=1"}, err: `not in the source: "a"`},
		"another key":        {have: []string{"a=1"}, want: []string{"b=1"}, err: `in 2 entries: not in the source: "a"; missing: "b"`},
		"left out and there": {have: []string{"a=1"}, want: []string{"a?submodule"}, err: `another value: "a"`},
		"source not sorted":  {have: []string{"a=1"}, want: []string{"b=1", "a=1"}, err: "not in order"},
		"more than are told": {want: []string{"1=", "2=", "3=", "4=", "5=", "6=", "7="}, err: `in 7 entries: missing: "1"; missing: "2"; missing: "3"; missing: "4"; missing: "5"; and 2 more`},
	} {
		t.Run(name, func(t *testing.T) {
			told := uint64(0)
			result, err := check(t.Context(), &pairs{list: test.have}, wanting(test.want...), func(done uint64) { told = done })
			switch {
			case test.err == "" && err != nil:
				t.Errorf("got %v", err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("got %v, want %s", err, test.err)
			case err != nil && errors.Is(err, errDiffers) == strings.Contains(test.err, "order"):
				t.Errorf("%v: identity", err)
			}
			if test.err == "" && (result.entries != test.entries || result.leftOut != test.leftOut || told != test.entries) {
				t.Errorf("got %+v, told %d", result, told)
			}
		})
	}
}

func TestCheckFails(t *testing.T) {
	broken := errors.New("broken")
	if _, err := check(t.Context(), &pairs{err: broken}, wanting("a=1"), func(uint64) {}); !errors.Is(err, broken) {
		t.Errorf("a database that can't be read: %v", err)
	}
	fails := func(yield func(expected, error) bool) { yield(expected{}, broken) }
	if _, err := check(t.Context(), &pairs{}, fails, func(uint64) {}); !errors.Is(err, broken) {
		t.Errorf("a source that can't be read: %v", err)
	}
	unknown := func(yield func(expected, error) bool) {
		yield(expected{key: []byte("a"), leftOut: func(context.Context) (reason, error) { return notLeftOut, broken }}, nil)
	}
	if _, err := check(t.Context(), &pairs{}, unknown, func(uint64) {}); !errors.Is(err, broken) {
		t.Errorf("a size that can't be read: %v", err)
	}
}

func TestLeftOutText(t *testing.T) {
	for _, test := range []struct {
		left LeftOut
		want string
	}{
		{LeftOut{}, ""},
		{LeftOut{Submodules: 1200}, "1,200 submodules"},
		{LeftOut{1, 2, 3}, "1 submodule, 3 files larger than the largest value allowed, 2 paths longer than the longest key allowed"},
	} {
		if got := test.left.String(); got != test.want {
			t.Errorf("%+v: %q", test.left, got)
		}
	}
}

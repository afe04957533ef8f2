package cli

import (
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/conformance"
)

// TestAlone gives commands to run a case alone that a shell reads as they are meant.
func TestAlone(t *testing.T) {
	c := conformance.Case{Name: "walk/one"}
	for _, test := range []struct {
		plugin string
		flags  conformanceFlags
		want   string
	}{
		{"bbolt", conformanceFlags{}, `ckpt-host conformance bbolt --run '^walk/one$'`},
		{
			"./my plugin",
			conformanceFlags{settings: "it's.hcl", opts: conformance.Options{Profile: conformance.ProfileDurable}},
			`ckpt-host conformance './my plugin' --config 'it'\''s.hcl' --profile durable --run '^walk/one$'`,
		},
	} {
		if test.flags.opts.Profile == "" {
			test.flags.opts.Profile = conformance.ProfileCore
		}
		if got := test.flags.alone(test.plugin, &c); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestCaseStatus(t *testing.T) {
	a, b := &conformance.Case{Name: "walk/a"}, &conformance.Case{Name: "walk/b"}
	s := &caseStatus{bench: true}
	s.chosen(2)
	is := func(want string) {
		t.Helper()
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	is("starting")
	s.began(a)
	s.began(b)
	is("0 of 2 cases: walk/a")
	s.ended(&conformance.Result{Name: "walk/a", Verdict: conformance.Fail, Required: true})
	is("1 of 2 cases, 1 failed: walk/b")
	s.ended(&conformance.Result{Name: "walk/b", Verdict: conformance.Fail})
	is("2 of 2 cases, 1 failed: measuring")
}

// TestCaseText cuts long logs, and does not say twice what is the reason.
func TestCaseText(t *testing.T) {
	c := conformance.Result{
		Name: "walk/a", Clauses: []string{"DB1"}, Verdict: conformance.Fail, Reason: "it broke", Explanation: "Why it matters.",
		Log: []string{"it broke", strings.Repeat("stack\n", maxLogLines+2)}, Alone: "the command",
	}
	got := caseText(&c)
	if !strings.HasPrefix(got, "FAIL  walk/a  (DB1; 0 ms)\n  it broke\n  | stack\n") || strings.Count(got, "it broke") != 1 ||
		strings.Count(got, "| stack") != maxLogLines || !strings.HasSuffix(got, "  | … and 2 lines, which a report has\n  Why it matters.\n  alone: the command") {
		t.Errorf("got\n%s", got)
	}
}

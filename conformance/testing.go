package conformance

import (
	"context"
	"os"
	"strconv"
	"testing"
)

// killsEnv is how often crash histories kill, in a test; see Options.Kills.
const killsEnv = "CKPT_CRASHES"

// Run proves a harness's databases in a test: a subtest for each case. It tries what is in profile durable
// where the backend declares that it is durable, and otherwise what is in core. Cases that make no sense
// for it are skipped, with the reason.
func Run(t *testing.T, h Harness) {
	RunProfile(t, h, "")
}

// RunProfile is Run for a given profile.
func RunProfile(t *testing.T, h Harness, profile Profile) {
	ctx := context.WithoutCancel(t.Context()) // subtests go on after this test's own context has ended
	kills := 0
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", killsEnv, err)
		}
	}
	s := newSuite(h, Options{Profile: profile, Dir: t.TempDir(), Kills: kills})
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
	if err := s.begin(ctx); err != nil {
		t.Fatal(err)
	}
	if profile == "" && s.declared[Durable] {
		s.opts.Profile = ProfileDurable
	}
	for _, c := range s.opts.Cases {
		if !s.opts.Profile.requires(&c, s.declared) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel() // much of it is waiting for the disk
			r := s.run(t.Context(), &c)
			for _, line := range r.Log {
				t.Log(line)
			}
			switch r.Verdict {
			case Pass:
			case NotSupported:
				t.Skip(r.Reason)
			default:
				t.Errorf("%s: %s\n%s", r.Verdict, r.Reason, r.Explanation)
			}
		})
	}
}

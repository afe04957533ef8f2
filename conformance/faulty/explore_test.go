package faulty_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/faulty"
)

func TestMain(m *testing.M) {
	faulty.Play(bbolt.New())
	os.Exit(m.Run())
}

func TestExplore(t *testing.T) {
	only := os.Getenv("ONLY")
	for _, d := range faulty.Defects() {
		if only != "" && !strings.Contains(","+only+",", ","+d.Name+",") {
			continue
		}
		if only == "" && (d.Name == "hangs" || d.Name == "deaf" || d.Name == "slow" || d.Name == "panics") {
			continue
		}
		h := conformance.Harness{Open: faulty.New(memory.New()).New, Settings: faulty.Settings(d.Name)}
		profile := conformance.ProfileCore
		if d.Stored {
			h.Open = faulty.New(bbolt.New()).New
			profile = conformance.ProfileDurable
		}
		if d.Killed {
			dir, _ := os.MkdirTemp("", "ckpt-x")
			defer os.RemoveAll(dir)
			h = conformance.Program{Path: os.Args[0], Env: []string{faulty.ProgramVariable + "=", "GORACE=atexit_sleep_ms=0"}, Settings: faulty.Settings(d.Name), RunDir: dir}.Harness()
		}
		var cases []conformance.Case
		for _, c := range conformance.Cases() {
			if c.Name == "format/vectors" || d.Killed && c.Level != conformance.Durable || d.Stored && !d.Killed && c.Level != conformance.Durable {
				continue
			}
			cases = append(cases, c)
		}
		began := time.Now()
		r, err := conformance.Prove(t.Context(), h, conformance.Options{Profile: profile, Cases: cases, Timeout: 10 * time.Second, Dir: t.TempDir()})
		if err != nil {
			fmt.Printf("%-26s PROVE %v\n", d.Name, err)
			continue
		}
		var failed []string
		for _, c := range r.Cases {
			switch c.Verdict {
			case conformance.Fail:
				failed = append(failed, c.Name)
			case conformance.Error:
				failed = append(failed, "ERROR:"+c.Name+c.Reason)
			}
			if only != "" && c.Verdict == conformance.Fail {
				fmt.Println("   ", c.Name, c.Reason)
			}
		}
		fmt.Printf("%-26s %.1fs %2d %s\n", d.Name, time.Since(began).Seconds(), len(failed), strings.Join(failed, " "))
	}
}

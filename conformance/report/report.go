// Package report writes what came of a conformance run for those who read it: JSON for programs, JUnit's XML
// for continuous integration, and a page of HTML for people.
package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/conformance"
)

// ErrFormat is returned for files whose names don't say which form they are to have.
var ErrFormat = errors.New("a report's name ends in .json, .xml or .html")

// formats are the forms of a report by the ends of their files' names.
var formats = map[string]func(io.Writer, *conformance.Report) error{
	".json": JSON,
	".xml":  JUnit,
	".html": HTML,
}

// CheckName says whether WriteFile knows which form a file is to have.
func CheckName(path string) error {
	if formats[strings.ToLower(filepath.Ext(path))] == nil {
		return fmt.Errorf("%s: %w", path, ErrFormat)
	}
	return nil
}

// WriteFile writes a report in the form that the end of the file's name asks for. The file is in its place
// at once: who finds it finds all of it, also after a loss of power.
func WriteFile(path string, r *conformance.Report) error {
	if err := CheckName(path); err != nil {
		return err
	}
	var content bytes.Buffer
	if err := formats[strings.ToLower(filepath.Ext(path))](&content, r); err != nil {
		return fmt.Errorf("report %s: %w", path, err)
	}
	if err := replace(path, content.Bytes()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// replace puts a file in its place.
func replace(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	// A report is for others to read, which a temporary file is not.
	if err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Area is the part of a report about a part of the contract.
type Area struct {
	Name  string
	Cases []conformance.Result
	// Counts are of the cases that the profile asks for, and Aside is the number of the others.
	Counts conformance.Counts
	Aside  int
	// Seconds is the time that the cases took, one after the other.
	Seconds float64
}

// Asked is the number of cases that the profile asks for.
func (a *Area) Asked() int { return asked(a.Counts) }

func asked(c conformance.Counts) int { return c.Pass + c.Fail + c.NotSupported + c.Error }

// Areas are the parts of a report, in the order of its cases.
func Areas(r *conformance.Report) []Area {
	var areas []Area
	at := map[string]int{}
	for _, c := range r.Cases {
		i, known := at[c.Area]
		if !known {
			i = len(areas)
			at[c.Area] = i
			areas = append(areas, Area{Name: c.Area})
		}
		a := &areas[i]
		a.Cases = append(a.Cases, c)
		a.Seconds += c.Seconds
		switch {
		case !c.Required:
			a.Aside++
		case c.Verdict == conformance.Pass:
			a.Counts.Pass++
		case c.Verdict == conformance.Fail:
			a.Counts.Fail++
		case c.Verdict == conformance.NotSupported:
			a.Counts.NotSupported++
		default:
			a.Counts.Error++
		}
	}
	return areas
}

// NotPassed are the cases that the profile asks for and that did not pass, the failures first.
func NotPassed(r *conformance.Report) []conformance.Result {
	var out []conformance.Result
	for _, v := range []conformance.Verdict{conformance.Fail, conformance.Error, conformance.NotSupported} {
		for _, c := range r.Cases {
			if c.Required && c.Verdict == v {
				out = append(out, c)
			}
		}
	}
	return out
}

// Subject names what the report is about.
func Subject(r *conformance.Report) string {
	switch {
	case r.Backend == "" && r.Program == "":
		return "the backend"
	case r.Backend == "":
		return r.Program
	case r.BackendVersion == "":
		return r.Backend
	default:
		return r.Backend + " " + r.BackendVersion
	}
}

// Sentence is the verdict in one.
func Sentence(r *conformance.Report) string {
	subject, took := Subject(r), Took(r.Seconds)
	reason, _, _ := strings.Cut(r.Reason, "\n")
	reason = strings.TrimRight(reason, ".:")
	switch r.Verdict {
	case conformance.Pass:
		return fmt.Sprintf("%s passes profile %s: all %s of it, in %s.", subject, r.Profile, cases(asked(r.Counts)), took)
	case conformance.Partial:
		return fmt.Sprintf("%s has passed %s of profile %s, and not all of it: %s.", subject, cases(r.Counts.Pass), r.Profile, reason)
	case conformance.Fail:
		if n := asked(r.Counts); n > 0 {
			return fmt.Sprintf("%s fails profile %s: of %s, %d failed.", subject, r.Profile, cases(n), r.Counts.Fail)
		}
		return fmt.Sprintf("%s fails profile %s before its first case: %s.", subject, r.Profile, reason)
	default:
		return fmt.Sprintf("whether %s passes profile %s is not known: %s.", subject, r.Profile, reason)
	}
}

func cases(n int) string {
	if n == 1 {
		return "1 case"
	}
	return fmt.Sprintf("%d cases", n)
}

// Took is a time for people.
func Took(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	default:
		return d.Round(time.Second).String()
	}
}

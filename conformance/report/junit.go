package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/ckpt-project/ckpt/conformance"
)

// The elements of JUnit's XML, as Jenkins' schema has them and GitLab and others read them: one suite an
// area, one test a case. encoding/xml escapes what is hostile, and replaces characters that XML can't hold.

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Errors   int          `xml:"errors,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name       string          `xml:"name,attr"`
	Tests      int             `xml:"tests,attr"`
	Failures   int             `xml:"failures,attr"`
	Errors     int             `xml:"errors,attr"`
	Skipped    int             `xml:"skipped,attr"`
	Time       string          `xml:"time,attr"`
	Timestamp  string          `xml:"timestamp,attr"`
	Properties []junitProperty `xml:"properties>property"`
	Cases      []junitCase     `xml:"testcase"`
}

type junitProperty struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Name      string        `xml:"name,attr"`
	ClassName string        `xml:"classname,attr"`
	Time      string        `xml:"time,attr"`
	Skipped   *junitSkipped `xml:"skipped"`
	Error     *junitProblem `xml:"error"`
	Failure   *junitProblem `xml:"failure"`
	SystemOut string        `xml:"system-out,omitempty"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

type junitProblem struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes a report as JUnit's XML. A case that the profile does not ask for and that did not pass is
// skipped there, so that a build is red only where the profile is not passed. Where no case could be tried,
// that is a test of its own.
func JUnit(w io.Writer, r *conformance.Report) error {
	root := junitSuites{Name: "conformance of " + Subject(r), Time: junitSeconds(r.Seconds)}
	for _, a := range Areas(r) {
		suite := newJUnitSuite(r, a.Name, a.Seconds)
		for i := range a.Cases {
			suite.add(junitCaseOf(r, &a.Cases[i]))
		}
		root.add(suite)
	}
	if len(r.Cases) == 0 {
		suite := newJUnitSuite(r, "start", r.Seconds)
		suite.add(junitCaseOf(r, &conformance.Result{
			Name: "start", Area: "start", Verdict: r.Verdict, Reason: r.Reason, Required: true, Seconds: r.Seconds,
		}))
		root.add(suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(root); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func newJUnitSuite(r *conformance.Report, name string, seconds float64) junitSuite {
	return junitSuite{
		Name: name, Time: junitSeconds(seconds), Timestamp: r.Started.UTC().Format("2006-01-02T15:04:05"),
		Properties: []junitProperty{
			{"suite", r.Suite},
			{"backend", r.Backend},
			{"backend_version", r.BackendVersion},
			{"program", r.Program},
			{"sha256", r.SHA256},
			{"platform", r.Platform},
			{"profile", string(r.Profile)},
			{"verdict", string(r.Verdict)},
		},
	}
}

func (s *junitSuites) add(suite junitSuite) {
	s.Tests += suite.Tests
	s.Failures += suite.Failures
	s.Errors += suite.Errors
	s.Suites = append(s.Suites, suite)
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
	s.Cases = append(s.Cases, c)
}

func junitCaseOf(r *conformance.Report, c *conformance.Result) junitCase {
	backend := r.Backend
	if backend == "" {
		backend = "backend"
	}
	out := junitCase{
		Name: c.Name, Time: junitSeconds(c.Seconds),
		// Readers cut it at dots into a package and a class.
		ClassName: strings.ReplaceAll(backend, ".", "-") + "." + c.Area,
	}
	problem := &junitProblem{Type: string(c.Verdict), Message: c.Reason, Text: junitText(c)}
	switch {
	case c.Verdict == conformance.Pass:
		out.SystemOut = strings.Join(c.Log, "\n")
	case !c.Required:
		out.Skipped = &junitSkipped{fmt.Sprintf("profile %s does not ask for it; %s: %s", r.Profile, c.Verdict, c.Reason)}
	case c.Verdict == conformance.NotSupported:
		out.Skipped = &junitSkipped{c.Reason}
	case c.Verdict == conformance.Fail:
		out.Failure = problem
	default:
		out.Error = problem
	}
	return out
}

// junitText is what a reader of a failure needs.
func junitText(c *conformance.Result) string {
	var text strings.Builder
	for _, line := range c.Log {
		fmt.Fprintln(&text, line)
	}
	if len(c.Log) == 0 && c.Reason != "" {
		fmt.Fprintln(&text, c.Reason)
	}
	if c.Explanation != "" {
		fmt.Fprintf(&text, "\nwhat it is about (%s): %s\n", strings.Join(c.Clauses, ", "), c.Explanation)
	}
	if c.Alone != "" {
		fmt.Fprintf(&text, "to run it alone: %s\n", c.Alone)
	}
	return text.String()
}

func junitSeconds(s float64) string { return fmt.Sprintf("%.3f", s) }

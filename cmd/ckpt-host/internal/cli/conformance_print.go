package cli

import (
	"fmt"
	"strings"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/report"
)

const (
	// textWidth is how wide explanations are printed.
	textWidth = 100
	// maxLogLines is how much of a case's log is printed: the rest is in the reports.
	maxLogLines = 20
)

// caseList is what `conformance --list --json` prints.
type caseList struct {
	Suite string       `json:"suite"`
	Cases []listedCase `json:"cases"`
}

type listedCase struct {
	Name        string            `json:"name"`
	Area        string            `json:"area"`
	Level       conformance.Level `json:"level"`
	Clauses     []string          `json:"clauses"`
	Explanation string            `json:"explanation"`
}

func (e *env) listCases(cases []conformance.Case, asJSON bool) error {
	if asJSON {
		list := caseList{Suite: conformance.Version, Cases: []listedCase{}}
		for _, c := range cases {
			list.Cases = append(list.Cases, listedCase{c.Name, c.Area(), c.Level, c.Clauses, c.Explanation})
		}
		return e.JSON(list)
	}
	longest := 0
	for _, c := range cases {
		longest = max(longest, len(c.Name))
	}
	for _, c := range cases {
		if err := e.Printf("%-*s  %-10s  %s\n%s\n", longest, c.Name, c.Level, strings.Join(c.Clauses, ", "),
			console.Wrap(c.Explanation, "    ", textWidth)); err != nil {
			return err
		}
	}
	return nil
}

// printConformance prints a report: what did not pass, counts, and the verdict.
func (e *env) printConformance(r *conformance.Report, asJSON bool) error {
	if asJSON {
		return e.JSON(r)
	}
	for _, c := range report.NotPassed(r) {
		if err := e.Printf("%s\n\n", caseText(&c)); err != nil {
			return err
		}
	}
	if len(r.Cases) > 0 {
		if err := e.printAreas(r); err != nil {
			return err
		}
	}
	if len(r.Benchmarks) > 0 {
		rows := make([][]string, len(r.Benchmarks))
		for i, b := range r.Benchmarks {
			rows[i] = []string{b.Name, decimals(b.Value) + " " + b.Unit}
		}
		if err := e.Table([]string{"BENCHMARK", "RESULT"}, rows); err != nil {
			return err
		}
		if err := e.Printf("\n"); err != nil {
			return err
		}
	}
	for _, remark := range r.Remarks {
		if err := e.Printf("remark: %s\n", remark); err != nil {
			return err
		}
	}
	return e.Printf("%s\n", report.Sentence(r))
}

func (e *env) printAreas(r *conformance.Report) error {
	var rows [][]string
	for _, a := range report.Areas(r) {
		rows = append(rows, append(append([]string{a.Name}, counted(a.Counts, a.Aside)...), report.Took(a.Seconds)))
	}
	header := []string{"AREA", "PASSED", "FAILED", "ERRORS", "NOT SUPPORTED", "NOT ASKED FOR", "TIME"}
	if err := e.Table(header, rows); err != nil {
		return err
	}
	return e.Printf("\n")
}

// counted are the counts of an area. What is none of the profile's is counted apart.
func counted(c conformance.Counts, aside int) []string {
	cells := make([]string, 0, 5)
	for _, n := range []int{c.Pass, c.Fail, c.Error, c.NotSupported, aside} {
		if n == 0 {
			cells = append(cells, "-")
			continue
		}
		cells = append(cells, console.Count(n))
	}
	return cells
}

// caseText is what there is to say of a case that did not pass.
func caseText(c *conformance.Result) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s  (%s; %s)\n", strings.ToUpper(string(c.Verdict)), c.Name, strings.Join(c.Clauses, ", "), report.Took(c.Seconds))
	fmt.Fprintf(&text, "  %s\n", c.Reason)
	log := c.Log
	if len(log) > 0 && log[0] == c.Reason {
		log = log[1:]
	}
	var lines []string
	for _, entry := range log {
		lines = append(lines, strings.Split(strings.TrimRight(entry, "\n"), "\n")...)
	}
	for _, line := range lines[:min(len(lines), maxLogLines)] {
		fmt.Fprintf(&text, "  | %s\n", line)
	}
	if more := len(lines) - maxLogLines; more > 0 {
		fmt.Fprintf(&text, "  | … and %s, which a report has\n", console.Counted(more, "line"))
	}
	fmt.Fprintf(&text, "%s\n", console.Wrap(c.Explanation, "  ", textWidth))
	fmt.Fprintf(&text, "  alone: %s", c.Alone)
	return text.String()
}

package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/report"
)

var update = flag.Bool("update", false, "write what comes out to the golden files")

// hostile is what a backend may put into an error: markup of each kind, a quote of each kind, and characters
// that XML can't hold.
const hostile = "<script>alert('1')</script> & \"two\" ]]> \x00\x1b[31m \xff {{.}}"

// sample is a report with a case of each verdict, asked for and not.
func sample() *conformance.Report {
	result := func(name string, v conformance.Verdict, required bool) conformance.Result {
		area, _, _ := strings.Cut(name, "/")
		r := conformance.Result{
			Name: name, Area: area, Level: conformance.Core, Clauses: []string{"DB1", "DB2"}, Explanation: "It is tried, & it matters.",
			Verdict: v, Required: required, Seconds: 0.25, Alone: "ckpt-host conformance ./mine --run '^" + name + "$'",
		}
		if v != conformance.Pass {
			r.Reason = "it was <not> what it should be"
			r.Log = []string{r.Reason, "second line"}
		}
		return r
	}
	r := &conformance.Report{
		Suite: "1.0.0", Platform: "linux/amd64", Backend: "mine", BackendVersion: "1.2.3",
		Capabilities: []conformance.Level{conformance.Durable, conformance.WriteLogs},
		Program:      "./mine", SHA256: strings.Repeat("ab", 32), Profile: conformance.ProfileCore,
		Verdict: conformance.Fail, Reason: "2 cases failed", Remarks: []string{"a <remark>"},
		Started: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Seconds: 61.5,
		Counts: conformance.Counts{Pass: 2, Fail: 2, NotSupported: 1, Error: 1},
		Cases: []conformance.Result{
			result("walk/one", conformance.Pass, true),
			result("walk/two", conformance.Fail, true),
			result("prune/one", conformance.NotSupported, true),
			result("prune/two", conformance.Error, true),
			result("prune/three", conformance.Fail, true),
			result("crash/one", conformance.Fail, false),
			result("crash/two", conformance.Pass, false),
			result("crash/three", conformance.Pass, true),
			result("upkeep/one", conformance.NotSupported, false),
		},
		Benchmarks: []conformance.Benchmark{{Name: "walk", Value: 1234567, Unit: "records/s"}, {Name: "read", Value: 0.25, Unit: "ms"}},
	}
	r.Cases[4].Reason, r.Cases[4].Log = hostile, []string{hostile}
	return r
}

// notBegun is the report of a program that is no plugin.
func notBegun() *conformance.Report {
	return &conformance.Report{
		Suite: "1.0.0", Platform: "linux/amd64", Capabilities: []conformance.Level{}, Program: "/bin/true",
		Profile: conformance.ProfileDurable, Verdict: conformance.Fail, Reason: "it is no plugin\nits last output: <none>",
		Started: time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC), Cases: []conformance.Result{},
	}
}

func text(t *testing.T, write func(io.Writer, *conformance.Report) error, r *conformance.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares with a file in testdata: the forms are read by programs, which a change breaks.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestJSON(t *testing.T) {
	for name, r := range map[string]*conformance.Report{"sample.json": sample(), "not-begun.json": notBegun()} {
		got := text(t, report.JSON, r)
		golden(t, name, got)
		var back conformance.Report
		if err := json.Unmarshal([]byte(got), &back); err != nil {
			t.Fatal(err)
		}
		// JSON holds no bytes that are not UTF-8.
		for i := range r.Cases {
			c := &r.Cases[i]
			c.Reason = strings.ToValidUTF8(c.Reason, "\ufffd")
			for j := range c.Log {
				c.Log[j] = strings.ToValidUTF8(c.Log[j], "\ufffd")
			}
		}
		if diff := cmp.Diff(r, &back); diff != "" {
			t.Errorf("%s does not come back as it was written (-want +got):\n%s", name, diff)
		}
	}
}

// junitSchema is what Jenkins' schema (jenkins-junit.xsd) allows of each element that we write, and what of
// it is required, with !.
var junitSchema = map[string]struct{ attributes, children string }{
	"testsuites": {"name time tests failures disabled errors", "testsuite"},
	"testsuite":  {"name! tests! failures errors time disabled skipped timestamp hostname id package", "properties testcase system-out system-err"},
	"properties": {"", "property"},
	"property":   {"name! value!", ""},
	"testcase":   {"name! assertions time classname status", "skipped error failure system-out system-err"},
	"skipped":    {"message", ""},
	"error":      {"type message", ""},
	"failure":    {"type message", ""},
	"system-out": {"", ""},
}

// element is any element of XML.
type element struct {
	XMLName  xml.Name
	Attrs    []xml.Attr `xml:",any,attr"`
	Children []element  `xml:",any"`
	Text     string     `xml:",chardata"`
}

func (e *element) attr(name string) string {
	for _, a := range e.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// find returns the elements of a name, at any depth.
func (e *element) find(name string) (out []*element) {
	for i := range e.Children {
		c := &e.Children[i]
		if c.XMLName.Local == name {
			out = append(out, c)
		}
		out = append(out, c.find(name)...)
	}
	return out
}

func (e *element) conforms(t *testing.T) {
	rule, known := junitSchema[e.XMLName.Local]
	if !known {
		t.Errorf("element %s", e.XMLName.Local)
	}
	var names []string
	for _, a := range e.Attrs {
		names = append(names, a.Name.Local)
		if allowed := strings.Fields(strings.ReplaceAll(rule.attributes, "!", "")); !slices.Contains(allowed, a.Name.Local) {
			t.Errorf("%s has an attribute %s", e.XMLName.Local, a.Name.Local)
		}
	}
	for _, name := range strings.Fields(rule.attributes) {
		if required, is := strings.CutSuffix(name, "!"); is && !slices.Contains(names, required) {
			t.Errorf("%s has no attribute %s", e.XMLName.Local, required)
		}
	}
	for i := range e.Children {
		c := &e.Children[i]
		if !slices.Contains(strings.Fields(rule.children), c.XMLName.Local) {
			t.Errorf("%s in %s", c.XMLName.Local, e.XMLName.Local)
		}
		c.conforms(t)
	}
}

func parseJUnit(t *testing.T, r *conformance.Report) *element {
	t.Helper()
	var root element
	if err := xml.Unmarshal([]byte(text(t, report.JUnit, r)), &root); err != nil {
		t.Fatal(err)
	}
	if root.XMLName.Local != "testsuites" {
		t.Errorf("the root is %s", root.XMLName.Local)
	}
	root.conforms(t)
	for _, s := range append(root.find("testsuite"), &root) {
		for attribute, of := range map[string]string{"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"} {
			if s == &root && attribute == "skipped" {
				continue // the schema has none there
			}
			if want := strconv.Itoa(len(s.find(of))); s.attr(attribute) != want {
				t.Errorf("%s %s: %s is %s, and there are %s", s.XMLName.Local, s.attr("name"), attribute, s.attr(attribute), want)
			}
		}
	}
	return &root
}

func TestJUnit(t *testing.T) {
	golden(t, "sample.xml", text(t, report.JUnit, sample()))
	root := parseJUnit(t, sample())
	if got := len(root.find("testsuite")); got != 4 {
		t.Errorf("%d suites, want one an area", got)
	}
	want := map[string]string{
		"walk/one": "", "walk/two": "failure", "prune/one": "skipped", "prune/two": "error", "prune/three": "failure",
		"crash/one": "skipped", "crash/two": "", "crash/three": "", "upkeep/one": "skipped",
	}
	for _, c := range root.find("testcase") {
		got := ""
		if len(c.Children) > 0 {
			got = c.Children[0].XMLName.Local
		}
		if area, _, _ := strings.Cut(c.attr("name"), "/"); got != want[c.attr("name")] || c.attr("classname") != "mine."+area || c.attr("time") != "0.250" {
			t.Errorf("case %s: %q, class %s, time %s", c.attr("name"), got, c.attr("classname"), c.attr("time"))
		}
		delete(want, c.attr("name"))
	}
	if len(want) > 0 {
		t.Errorf("left out: %v", want)
	}
	failure := root.find("failure")[0]
	for _, part := range []string{"second line", "It is tried, & it matters.", "DB1, DB2", "--run '^walk/two$'"} {
		if !strings.Contains(failure.Text, part) {
			t.Errorf("a failure's text has no %q: %s", part, failure.Text)
		}
	}
	// What XML can't hold is replaced, the rest comes through.
	if got := root.find("failure")[1].attr("message"); !strings.HasPrefix(got, "<script>alert('1')</script> & \"two\" ]]> \ufffd\ufffd[31m") {
		t.Errorf("the hostile reason came as %q", got)
	}

	// Where nothing was tried, there is one test, so that the build is red.
	root = parseJUnit(t, notBegun())
	if len(root.find("testcase")) != 1 || len(root.find("failure")) != 1 || !strings.Contains(root.find("failure")[0].Text, "its last output: <none>") {
		t.Errorf("not begun: %+v", root)
	}
}

func TestHTML(t *testing.T) {
	for name, r := range map[string]*conformance.Report{"sample": sample(), "not begun": notBegun()} {
		got := text(t, report.HTML, r)
		// The elements close each other as they should, which XML's rules can tell.
		decoder := xml.NewDecoder(strings.NewReader(got))
		decoder.Entity = xml.HTMLEntity
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		// It needs nothing else, and runs nothing.
		for _, part := range []string{"<script", "<link", "<img", "src=", "url(", "http:", "https:", "ZgotmplZ"} {
			if strings.Contains(got, part) {
				t.Errorf("%s: %q is in the page", name, part)
			}
		}
		for line := range strings.Lines(got) {
			if trimmed := strings.TrimRight(line, " \t\n"); trimmed+"\n" != line {
				t.Errorf("%s: a line ends in blanks: %q", name, line)
			}
		}
	}
	got := text(t, report.HTML, sample())
	for _, part := range []string{
		"<h1>mine<small>1.2.3</small></h1>", `<div class="verdict fail">fail</div>`, strings.Repeat("ab", 32), "linux/amd64", "profile core",
		"<b>2</b>passed", "<b>2</b>failed", "<b>1</b>errors of the suite", "<b>1</b>not supported", "a &lt;remark&gt;", "4 May 2026, 03:02 UTC",
		"1 of 2 passed", "1 of 1 passed, 2 not asked for · 750 ms", "<span>1 not asked for · 250 ms", "it was &lt;not&gt; what it should be", "second line", "1,234,567 records/s", "width: 33.33%",
		"&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;", "prefers-color-scheme: dark", "Profile core does not ask for it",
		"ckpt-host conformance ./mine --run &#39;^walk/two$&#39;",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in the page", part)
		}
	}
	// The cases that did not pass come first, and in their areas once more.
	if n := strings.Count(got, `id="problem-`); n != 4 {
		t.Errorf("%d cases that did not pass", n)
	}
	if !strings.Contains(text(t, report.HTML, notBegun()), "<pre>it is no plugin\nits last output: &lt;none&gt;</pre>") {
		t.Error("the page says not why nothing could be tried")
	}
}

func TestSentence(t *testing.T) {
	passed, partial, broken, one := sample(), sample(), notBegun(), sample()
	passed.Verdict, passed.Counts = conformance.Pass, conformance.Counts{Pass: 74}
	partial.Verdict, partial.Counts, partial.Reason = conformance.Partial, conformance.Counts{Pass: 1}, "73 cases of the profile left out"
	broken.Verdict = conformance.Error
	one.Counts = conformance.Counts{Fail: 1}
	for _, c := range []struct {
		r    *conformance.Report
		want string
	}{
		{passed, "mine 1.2.3 passes profile core: all 74 cases of it, in 1m2s."},
		{partial, "mine 1.2.3 has passed 1 case of profile core, and not all of it: 73 cases of the profile left out."},
		{sample(), "mine 1.2.3 fails profile core: of 6 cases, 2 failed."},
		{one, "mine 1.2.3 fails profile core: of 1 case, 1 failed."},
		{notBegun(), "/bin/true fails profile durable before its first case: it is no plugin."},
		{broken, "whether /bin/true passes profile durable is not known: it is no plugin."},
		{&conformance.Report{Profile: "core", Verdict: conformance.Fail, Reason: "x"}, "the backend fails profile core before its first case: x."},
	} {
		if got := report.Sentence(c.r); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"r.json", "r.xml", "r.HTML"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := report.WriteFile(path, sample()); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"r.json": "{", "r.xml": "<?xml", "r.HTML": "<!DOCTYPE html>"}[name]; !strings.HasPrefix(string(got), want) {
			t.Errorf("%s begins with %.20q", name, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if err := report.WriteFile(filepath.Join(dir, "r.txt"), sample()); !errors.Is(err, report.ErrFormat) {
		t.Errorf("r.txt: %v", err)
	}
	if err := report.WriteFile(filepath.Join(dir, "nowhere", "r.json"), sample()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	// What can't be put in its place leaves what is there, and nothing else.
	if err := os.MkdirAll(filepath.Join(dir, "d.json", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := report.WriteFile(filepath.Join(dir, "d.json"), sample()); err == nil {
		t.Error("a directory was replaced")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(entries); got != "[d d.json/ - r.HTML - r.json - r.xml]" {
		t.Errorf("in the directory: %s", got)
	}
}

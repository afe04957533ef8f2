package conformance

import (
	"strings"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
)

// Report is what came of a run. Its JSON form is stable.
type Report struct {
	// Suite is the suite's version, Platform the operating system and processor it ran on.
	Suite    string `json:"suite"`
	Platform string `json:"platform"`

	// Backend and BackendVersion are what the backend calls itself, Capabilities the levels that it declares.
	Backend        string  `json:"backend"`
	BackendVersion string  `json:"backend_version"`
	Capabilities   []Level `json:"capabilities"`
	// Program names the program that was run, and SHA256 its file's hash; both are empty where the backend was
	// in the suite's own process.
	Program string `json:"program,omitempty"`
	SHA256  string `json:"sha256,omitempty"`

	Profile Profile `json:"profile"`
	// Verdict is of the whole profile, and Reason says why it is none that was hoped for.
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"`
	// Remarks are what is worth to know and changes no verdict.
	Remarks []string `json:"remarks,omitempty"`

	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	Counts  Counts    `json:"counts"`
	Cases   []Result  `json:"cases"`
	// Benchmarks stand beside the verdict and are no part of it.
	Benchmarks []Benchmark `json:"benchmarks,omitempty"`
}

// Counts are how many cases had which verdict, of those that the profile asks for.
type Counts struct {
	Pass         int `json:"pass"`
	Fail         int `json:"fail"`
	NotSupported int `json:"not_supported"`
	Error        int `json:"error"`
}

// Result is what came of a case.
type Result struct {
	Name        string   `json:"name"`
	Area        string   `json:"area"`
	Level       Level    `json:"level"`
	Clauses     []string `json:"clauses"`
	Explanation string   `json:"explanation"`

	Verdict Verdict `json:"verdict"`
	// Reason says in a line why a case did not pass.
	Reason string `json:"reason,omitempty"`
	// Required says that the profile asks for the case.
	Required bool    `json:"required"`
	Seconds  float64 `json:"seconds"`
	// Log is what the case noted, its failures included.
	Log []string `json:"log,omitempty"`
	// Alone is how to run the case alone.
	Alone string `json:"alone"`
}

// Benchmark is a measurement.
type Benchmark struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// notBegun is the verdict where no case could be tried.
func (r *Report) notBegun(err error, took time.Duration) {
	r.Verdict, r.Reason, r.Seconds = Fail, printable(strings.TrimPrefix(err.Error(), "conformance: ")), seconds(took)
	var broken *brokenError
	if errors.As(err, &broken) {
		r.Verdict = Error
	}
}

// sum counts, and gives the whole its verdict. all is how many cases the profile asks for.
func (r *Report) sum(all int) {
	required := 0
	for i := range r.Cases {
		c := &r.Cases[i]
		if !c.Required {
			continue
		}
		required++
		switch c.Verdict {
		case Pass:
			r.Counts.Pass++
		case Fail:
			r.Counts.Fail++
		case NotSupported:
			r.Counts.NotSupported++
		default:
			r.Counts.Error++
		}
	}
	switch {
	case r.Counts.Fail > 0:
		r.Verdict, r.Reason = Fail, count(r.Counts.Fail, "case")+" failed"
	case r.Counts.Error > 0:
		r.Verdict, r.Reason = Error, count(r.Counts.Error, "case")+" could not be tried"
	case r.Counts.NotSupported > 0:
		r.Verdict, r.Reason = Partial, count(r.Counts.NotSupported, "case")+" of the profile can't be tried here"
	case required < all:
		r.Verdict, r.Reason = Partial, count(all-required, "case")+" of the profile left out"
	default:
		r.Verdict = Pass
	}
}

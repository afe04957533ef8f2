package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ckpt-project/ckpt/conformance"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"asked":  asked,
	"look":   look,
	"number": number,
	"share":  share,
	"took":   Took,
	"log":    log,
}).Parse(pageText))

// HTML writes a report as one page that needs nothing else, no scripts either.
func HTML(w io.Writer, r *conformance.Report) error {
	var b bytes.Buffer
	if err := page.Execute(&b, struct {
		*conformance.Report
		Subject, Sentence string
		Areas             []Area
		NotPassed         []conformance.Result
	}{r, Subject(r), Sentence(r), Areas(r), NotPassed(r)}); err != nil {
		return err
	}
	// Pages hold no control characters, nor bytes that are no UTF-8.
	_, err := w.Write(bytes.Map(func(c rune) rune {
		if unicode.IsControl(c) && c != '\n' && c != '\t' {
			return utf8.RuneError
		}
		return c
	}, b.Bytes()))
	return err
}

// log is a case's log as a text, "" where it says no more than the reason.
func log(c conformance.Result) string {
	if len(c.Log) == 1 && c.Log[0] == c.Reason {
		return ""
	}
	return strings.Join(c.Log, "\n")
}

// look is how a verdict looks: the name of its class, and the sign that stands for it where there is no
// room, or no colour.
func look(v conformance.Verdict, required bool) struct{ Class, Sign, Word string } {
	type looks = struct{ Class, Sign, Word string }
	var l looks
	switch v {
	case conformance.Pass:
		l = looks{"pass", "✓", "pass"}
	case conformance.Fail:
		l = looks{"fail", "✗", "fail"}
	case conformance.NotSupported:
		l = looks{"skip", "–", "not supported"}
	case conformance.Partial:
		l = looks{"partial", "◐", "partial"}
	default:
		l = looks{"error", "!", "error"}
	}
	if !required && v != conformance.Pass {
		l.Class = "aside"
	}
	return l
}

// number is a number for people, in groups of three digits.
func number(v float64) string {
	if v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// share is a part of the whole in percent, for the width of a bar.
func share(part int, c conformance.Counts) string {
	return fmt.Sprintf("%.2f%%", 100*float64(part)/float64(max(asked(c), 1)))
}

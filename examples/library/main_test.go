package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = "restored: apple is yellow\nrestored: pear is green\nrestored: plum is blue\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("it prints\n%s\nand should end with\n%s", &out, want)
	}
}

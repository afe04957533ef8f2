package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// InvalidError is what is wrong with a configuration file, in the form that people read it in: for each
// error what it is, file, line and the line itself.
type InvalidError struct {
	// File is the file's name as it was given.
	File string
	// Diagnostics are the errors, in the order of the file.
	Diagnostics hcl.Diagnostics

	text string
}

// Error returns all errors as text of several lines.
func (e *InvalidError) Error() string { return e.text }

// Load reads a configuration file. What is wrong with its contents comes as an *InvalidError.
func Load(file string) (*Config, error) {
	source, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("the configuration can't be read: %w", err)
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("the configuration's directory: %w", err)
	}
	return Parse(source, file, absolute)
}

func read(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	source, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(source) > maxFileBytes:
		return nil, fmt.Errorf("%s is larger than %d bytes, which no configuration is", file, maxFileBytes)
	default:
		return source, nil
	}
}

// Parse reads a configuration from source. shown is the file's name in errors, absolute the path that
// relative paths in it begin from.
func Parse(source []byte, shown, absolute string) (*Config, error) {
	parser := hclparse.NewParser()
	file, diags := parser.ParseHCL(source, shown)
	if diags.HasErrors() {
		return nil, invalid(parser, shown, diags)
	}
	var block fileBlock
	decoded := gohcl.DecodeBody(file.Body, nil, &block)
	// What could be read is checked even where something else in the file is wrong, so that all comes at
	// once.
	r := resolver{file: absolute, diags: decoded}
	cfg := r.config(&block, file.Body.MissingItemRange())
	if r.diags.HasErrors() {
		return nil, invalid(parser, shown, r.diags)
	}
	return cfg, nil
}

func invalid(parser *hclparse.Parser, shown string, diags hcl.Diagnostics) error {
	// gohcl reports attributes in the order of a Go map.
	slices.SortStableFunc(diags, func(a, b *hcl.Diagnostic) int { return start(a) - start(b) })
	var text bytes.Buffer
	if err := hcl.NewDiagnosticTextWriter(&text, parser.Files(), 0, false).WriteDiagnostics(diags); err != nil {
		return errors.Join(diags, err)
	}
	return &InvalidError{File: shown, Diagnostics: diags, text: strings.TrimRight(text.String(), "\n")}
}

func start(d *hcl.Diagnostic) int {
	if d.Subject == nil {
		return 0
	}
	return d.Subject.Start.Byte
}

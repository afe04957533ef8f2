package config

import (
	"fmt"

	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// LoadSettings reads a file that holds a backend's own settings and nothing else, as they stand in the config
// block of a configuration, and returns them as the JSON object that the backend is given. What is wrong
// with its contents comes as an *InvalidError.
func LoadSettings(file string) ([]byte, error) {
	source, err := read(file)
	if err != nil {
		return nil, fmt.Errorf("the settings can't be read: %w", err)
	}
	return parseSettings(source, file)
}

func parseSettings(source []byte, shown string) ([]byte, error) {
	parser := hclparse.NewParser()
	file, diags := parser.ParseHCL(source, shown)
	if diags.HasErrors() {
		return nil, invalid(parser, shown, diags)
	}
	r := resolver{file: shown}
	if body, ok := file.Body.(*hclsyntax.Body); ok {
		for _, b := range body.Blocks {
			r.fail(b.DefRange(), "Unexpected block",
				"This file holds a backend's own settings alone: what stands within the config block of a configuration, as in \"cache_bytes = 1048576\".")
		}
	}
	if r.diags.HasErrors() {
		return nil, invalid(parser, shown, r.diags)
	}
	var block settingsBlock
	r.diags = gohcl.DecodeBody(file.Body, nil, &block)
	settings := r.settings(&block)
	if r.diags.HasErrors() {
		return nil, invalid(parser, shown, r.diags)
	}
	return settings, nil
}

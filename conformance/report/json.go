package report

import (
	"encoding/json"
	"io"

	"github.com/ckpt-project/ckpt/conformance"
)

// JSON writes a report as one object, indented. Its fields are those of conformance.Report.
func JSON(w io.Writer, r *conformance.Report) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Package settings reads a backend's own settings: a JSON object, of which every name must be known.
package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Decode reads a JSON object into a struct, which holds the defaults beforehand. No bytes, null and {}
// are no settings. Its errors are db.ErrBadSettings and name backend and setting.
func Decode(backend string, raw []byte, into any) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %s: %w", db.ErrBadSettings, backend, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: %s: more than one JSON value", db.ErrBadSettings, backend)
	}
	return nil
}

// Bad is the error for a setting whose value makes no sense.
func Bad(backend, setting, reason string) error {
	return fmt.Errorf("%w: %s: %s: %s", db.ErrBadSettings, backend, setting, reason)
}

package bbolt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct{ settings, names string }{ // names: "" where they are accepted
		{"", ""},
		{"{}", ""},
		{"null", ""},
		{`{"initial_mmap_bytes": 0}`, ""},
		{`{"initial_mmap_bytes": 1048576, "fill_percent": 0.5}`, ""},
		{`{"fill_percent": 1}`, ""},
		{`{"fill_percent": 0}`, "fill_percent"},
		{`{"fill_percent": 1.5}`, "fill_percent"},
		{`{"fill_percent": "much"}`, "fill_percent"},
		{`{"initial_mmap_bytes": -1}`, "initial_mmap_bytes"},
		{`{"initial_mmap_bytes": 1e30}`, "initial_mmap_bytes"},
		{`{"initial_mmap_bytes": 9000000000000000000}`, "initial_mmap_bytes"},
		{`{"no_sync": true}`, "no_sync"},
		{`[]`, "bbolt"},
		{`{} {}`, "more than one"},
		{`{`, "bbolt"},
	} {
		s, err := bbolt.OpenStore(t.Context(), &db.Config{Dir: t.TempDir(), Settings: []byte(c.settings)})
		switch {
		case c.names == "" && err != nil:
			t.Errorf("%s: %v", c.settings, err)
		case c.names != "" && (!errors.Is(err, db.ErrBadSettings) || !strings.Contains(err.Error(), c.names)):
			t.Errorf("%s: %v, want %v that names %s", c.settings, err, db.ErrBadSettings, c.names)
		}
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

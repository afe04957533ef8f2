package leveldb_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func TestSettings(t *testing.T) {
	for _, c := range []struct{ settings, names string }{ // names: "" where they are accepted
		{"", ""},
		{"{}", ""},
		{`{"write_buffer_bytes": 1048576, "block_cache_bytes": 0, "compression": "snappy"}`, ""},
		{`{"compression": "none"}`, ""},
		{`{"write_buffer_bytes": 1000}`, "write_buffer_bytes"},
		{`{"write_buffer_bytes": 100000000000}`, "write_buffer_bytes"},
		{`{"block_cache_bytes": -1}`, "block_cache_bytes"},
		{`{"compression": "zstd"}`, "compression"},
		{`{"compression": 1}`, "compression"},
		{`{"bloom": 10}`, "bloom"},
		{`"none"`, "leveldb"},
	} {
		s, err := leveldb.OpenStore(t.Context(), &db.Config{Dir: t.TempDir(), Settings: []byte(c.settings)})
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

package db_test

import (
	"errors"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// An error about damage names what is known of the place, and nothing else.
func TestCorruptedErrorSaysWhere(t *testing.T) {
	const prefix = "mkvs: database is corrupted: "
	p := node.RootPosition()
	for _, c := range []struct {
		err  db.CorruptedError
		want string
	}{
		{db.CorruptedError{Version: 0, Reason: "bad"}, "version 0: bad"},
		{db.CorruptedError{Version: 7, Reason: "bad"}, "version 7: bad"},
		{db.CorruptedError{Version: 7, Position: p, Reason: "bad"}, "version 7, position " + p.String() + ": bad"},
		{db.CorruptedError{Version: db.UnknownVersion, Reason: "bad"}, "bad"},
	} {
		if got := c.err.Error(); got != prefix+c.want {
			t.Errorf("%q, want %q", got, prefix+c.want)
		}
		if !errors.Is(&c.err, db.ErrCorrupted) {
			t.Errorf("%v is not %v", &c.err, db.ErrCorrupted)
		}
	}
}

package exit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, OK},
		{errors.New("anything"), Failed},
		{Errorf(Usage, "wrong"), Usage},
		{fmt.Errorf("around: %w", Errorf(Config, "wrong")), Config},
		{db.ErrLocked, Unavailable},
		{fmt.Errorf("around: %w", db.ErrUnavailable), Unavailable},
		{errors.Join(db.ErrUnavailable, plugin.ErrGivenUp, db.ErrCorrupted), Invalid},
		{plugin.ErrLaunchFailed, Unavailable},
		{plugin.ErrChecksum, Config},
		{db.ErrVersionPruned, NotFound},
		{os.ErrNotExist, NotFound},
		{checkpoint.ErrChunkCorrupted, Invalid},
		{&db.CorruptedError{Version: 1, Reason: "x"}, Invalid},
		{errors.Join(checkpoint.ErrChunkNotFound, os.ErrNotExist), NotFound},
		{Errorf(Invalid, "%w", os.ErrNotExist), Invalid},
		// However it is wrapped, a signal is a signal, and a reader that has gone is no failure of ours.
		{Errorf(Invalid, "%w", context.Canceled), Interrupted},
		{errors.Join(db.ErrUnavailable, context.Canceled), Interrupted},
		{fmt.Errorf("write: %w", syscall.EPIPE), BrokenPipe},
	} {
		if got, _ := Of(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestHints(t *testing.T) {
	if _, hint := Of(fmt.Errorf("around: %w", Errorf(Failed, "x").WithHint("do %s", "this"))); hint != "do this" {
		t.Errorf("got %q", hint)
	}
	if _, hint := Of(db.ErrLocked); hint == "" {
		t.Error("a locked database has no hint")
	}
	if _, hint := Of(Errorf(Failed, "%w", db.ErrLocked).WithHint("own")); hint != "own" {
		t.Errorf("got %q", hint)
	}
}

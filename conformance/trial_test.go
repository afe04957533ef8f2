package conformance

import (
	"context"
	"errors"
	"os"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestBrokenOffWhileACaseHangs breaks off a run in a case that hears nothing of it: it is given up, long
// before the time is up that a case may take.
func TestBrokenOffWhileACaseHangs(t *testing.T) {
	afterTimeout = 50 * time.Millisecond
	t.Cleanup(func() { afterTimeout = 15 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hung sync.WaitGroup
	release := make(chan struct{})
	calls := 0
	h := Harness{Open: func(ctx context.Context, cfg *db.Config) (db.NodeDB, error) {
		if calls++; calls > 1 { // the first one is the suite's, to see what the backend is
			hung.Add(1)
			defer hung.Done()
			cancel()
			<-release
		}
		return memory.New().New(context.WithoutCancel(ctx), cfg)
	}}
	dir := t.TempDir()
	ended := make(chan error, 1)
	go func() {
		_, err := Prove(ctx, h, Options{Dir: dir, Timeout: time.Hour, Cases: Select(regexp.MustCompile("^versions/empty-root$"))})
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("the run waits for a case that hangs")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	close(release)
	hung.Wait()
}

package kvtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv/kvtest"
)

// None of the backends bounds how many snapshots are open at once. boundedStore does: it is the store in
// memory with a bound, and with a fault where a test wants to see that one noticed.
type boundedStore struct {
	kv.Store
	readers int
	fault   fault

	mu   sync.Mutex
	open int
}

// fault is a way in which a boundedStore breaks its word.
type fault string

const (
	none       fault = ""
	fewer      fault = "it gives fewer snapshots than it states"
	otherError fault = "it refuses with an error of its own"
	waits      fault = "it lets the caller wait who wants one too many"
	leaks      fault = "a snapshot that was closed counts on"
	latest     fault = "a snapshot shows what came after it"
	larger     fault = "its files take more than it states"
	lenient    fault = "it gives more than it states" // which it may
)

func (s *boundedStore) Limits() kv.Limits {
	l := s.Store.Limits()
	l.Readers = s.readers
	if s.fault == larger {
		l.Durable, l.Amplification = true, 1.5
	}
	return l
}

func (s *boundedStore) Size(ctx context.Context) (kv.Size, error) {
	size, err := s.Store.Size(ctx)
	if s.fault == larger {
		size.File = 2 * size.Live
	}
	return size, err
}

func (s *boundedStore) Snapshot(ctx context.Context) (kv.Snapshot, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	snap, err := s.Store.Snapshot(ctx)
	if err != nil {
		s.leave()
		return nil, err
	}
	return &boundedSnapshot{Snapshot: snap, store: s}, nil
}

func (s *boundedStore) enter(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := s.readers
	switch s.fault {
	case fewer:
		room--
	case lenient:
		room++
	}
	switch {
	case s.open < room:
		s.open++
		return nil
	case s.fault == otherError:
		return errors.New("too many")
	case s.fault == waits:
		<-ctx.Done()
		return ctx.Err()
	default:
		return fmt.Errorf("%w: %d snapshots are open", kv.ErrLimitExceeded, s.open)
	}
}

func (s *boundedStore) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
}

type boundedSnapshot struct {
	kv.Snapshot
	store  *boundedStore
	closed bool
}

func (s *boundedSnapshot) Get(key []byte) ([]byte, error) {
	if s.store.fault != latest {
		return s.Snapshot.Get(key)
	}
	now, err := s.store.Store.Snapshot(context.Background())
	if err != nil {
		return nil, err
	}
	defer now.Close()
	return now.Get(key)
}

func (s *boundedSnapshot) Close() error {
	if !s.closed && s.store.fault != leaks {
		s.store.leave()
	}
	s.closed = true
	return s.Snapshot.Close()
}

func bounded(readers int, f fault) kvtest.Harness {
	return kvtest.Harness{Open: func(ctx context.Context, cfg *db.Config) (kv.Store, error) {
		s, err := memory.OpenStore(ctx, cfg)
		if err != nil {
			return nil, err
		}
		return &boundedStore{Store: s, readers: readers, fault: f}, nil
	}}
}

// A store that bounds its snapshots passes all cases, for they ask for no more, save the one that wants to
// see what becomes of it.
func TestBoundedStore(t *testing.T) {
	for _, readers := range []int{1, 2, 30} {
		t.Run(fmt.Sprint(readers), func(t *testing.T) { kvtest.Run(t, bounded(readers, none)) })
	}
	t.Run(string(lenient), func(t *testing.T) { kvtest.Run(t, bounded(3, lenient)) })
}

// faultEnv tells this test's own binary, run again, which fault the store has that it proves.
const faultEnv = "CKPT_KVTEST_FAULT"

func TestFaultyStore(t *testing.T) {
	f := fault(os.Getenv(faultEnv))
	if f == none {
		t.Skip("runs for TestFaultsAreNoticed")
	}
	kvtest.Run(t, bounded(3, f))
}

// The case about a bound fails for a store that breaks its word.
func TestFaultsAreNoticed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const snapshots, files = "TestFaultyStore/KV11/snapshots_at_once", "TestFaultyStore/KV12/how_much_its_files_take"
	for f, theCase := range map[fault]string{
		fewer: snapshots, otherError: snapshots, waits: snapshots, leaks: snapshots, latest: snapshots, larger: files,
	} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel() // one of them waits
			cmd := exec.CommandContext(t.Context(), self, "-test.v", "-test.run=^"+strings.ReplaceAll(theCase, "/", "$/^")+"$")
			cmd.Env = append(os.Environ(), faultEnv+"="+string(f))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: "+theCase+" ") {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

package plugin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/plugin"
	pb "github.com/ckpt-project/ckpt/framework/plugin/proto"
)

// sharedResident returns how many kilobytes of the memory that walks go through a process has touched, and
// whether it has such memory at all.
func sharedResident(t *testing.T, pid int) (kilobytes int, mapped bool) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	within := false
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		line := lines.Text()
		if head, _, _ := strings.Cut(line, " "); strings.Contains(head, "-") { // "from-to", the beginning of a mapping
			within = strings.Contains(line, "memfd:ckpt-walks")
			mapped = mapped || within
		}
		var n int
		if _, err := fmt.Sscanf(line, "Rss: %d kB", &n); err == nil && within {
			kilobytes += n
		}
	}
	return kilobytes, mapped
}

// requireWalk walks over n entries of the fake.
func requireWalk(t *testing.T, ndb db.NodeDB, n int) {
	t.Helper()
	i := -1
	for e, err := range ndb.Walk(testContext(t), fakeRoot(uint64(n), "a"), node.RootPosition()) {
		if err != nil {
			t.Fatal(err)
		}
		if i >= 0 {
			requireEntry(t, uint64(i), e)
		}
		i++
	}
	if i != n {
		t.Errorf("%d entries, want %d", i, n)
	}
}

// The tests here look at this process's memory, so they don't run beside others.

// TestWalkThroughSharedMemory sees that a walk goes that way, and that the memory goes with the process.
func TestWalkThroughSharedMemory(t *testing.T) {
	p := launch(t, "fake")
	ndb := open(t, p)
	if n, mapped := sharedResident(t, os.Getpid()); n != 0 || !mapped {
		t.Errorf("before a walk: %d KiB are resident, mapped: %v", n, mapped)
	}
	requireWalk(t, ndb, 20_000)
	for name, pid := range map[string]int{"host": os.Getpid(), "backend": p.PID()} {
		if n, _ := sharedResident(t, pid); n < 256 || n > 2048 {
			t.Errorf("after a walk the %s has %d KiB of the memory resident", name, n)
		}
	}
	if err := p.Close(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if _, mapped := sharedResident(t, os.Getpid()); mapped {
		t.Error("the memory has outlived its process")
	}
}

// TestWalkWithoutSharedMemory has hosts that share none, and processes that it does not reach.
func TestWalkWithoutSharedMemory(t *testing.T) {
	for name, change := range map[string]func(*plugin.LaunchConfig){
		"not wanted": func(cfg *plugin.LaunchConfig) { cfg.NoSharedMemory = true },
		"closed on the way": func(cfg *plugin.LaunchConfig) {
			throughShell(cfg, `exec 3>&-; exec "$@"`)
		},
		"another file": func(cfg *plugin.LaunchConfig) {
			throughShell(cfg, `exec 3</dev/null; exec "$@"`)
		},
		"told nonsense": func(cfg *plugin.LaunchConfig) {
			throughShell(cfg, `CKPT_BACKEND_SHARED_MEMORY=3:4:5 exec "$@"`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, "fake", change)
			if _, mapped := sharedResident(t, p.PID()); mapped {
				t.Error("the process has the memory")
			}
			if _, mapped := sharedResident(t, os.Getpid()); mapped && name == "not wanted" {
				t.Error("this process has the memory")
			}
			requireWalk(t, open(t, p), 3000)
		})
	}
}

// throughShell has a shell script start the program, which finds it and its arguments in "$@".
func throughShell(cfg *plugin.LaunchConfig, script string) {
	program, err := os.Executable()
	if err != nil {
		panic(err)
	}
	shell, err := exec.LookPath("sh")
	if err != nil {
		panic(err)
	}
	cfg.Path, cfg.Args = shell, append([]string{"-c", script, "sh", program}, cfg.Args...)
}

// TestWalksAtOnce has more walks than there is memory for, which are left and cancelled anywhere, so that others
// take their memory over while the backend may still write to it.
func TestWalksAtOnce(t *testing.T) {
	ndb := openFake(t)
	ctx := testContext(t)
	var walks sync.WaitGroup
	for k := range 8 {
		walks.Go(func() {
			random := rand.New(rand.NewPCG(uint64(k), 1))
			for range 40 {
				leaveAt, cancelAt := random.IntN(6000), random.IntN(6000)
				walkCtx, cancel := context.WithCancel(ctx)
				i := -1
				for e, err := range ndb.Walk(walkCtx, fakeRoot(3000, "a"), node.RootPosition()) {
					if err != nil {
						if !errors.Is(err, context.Canceled) || i < cancelAt {
							t.Errorf("after %d entries: %v", i, err)
						}
						break
					}
					if want := fakeEntry(uint64(i), entrySize(uint64(i))); i >= 0 &&
						(e.Address != want.Address || string(e.Position) != string(want.Position) || string(e.Record) != string(want.Record)) {
						t.Errorf("entry %d: %v %v, %d bytes", i, e.Address, e.Position, len(e.Record))
						break
					}
					if i == cancelAt {
						cancel()
					}
					if i++; i == leaveAt {
						break
					}
				}
				cancel()
			}
		})
	}
	walks.Wait()
	requireIdle(t, ndb)
	requireWalk(t, ndb, 3000)
}

// TestMemoryOutlivesItsWalks closes processes under walks that go on reading.
func TestMemoryOutlivesItsWalks(t *testing.T) {
	for range 10 {
		p := launch(t, "fake")
		ndb := open(t, p)
		var walks sync.WaitGroup
		var under sync.WaitGroup
		for range 4 {
			under.Add(1)
			walks.Go(func() {
				begun := sync.OnceFunc(under.Done)
				var last error
				i := -1
				for e, err := range ndb.Walk(testContext(t), fakeRoot(1<<40, "a"), node.RootPosition()) {
					if last = err; err != nil {
						break
					}
					if want := fakeEntry(uint64(i), entrySize(uint64(i))); i >= 0 && string(e.Record) != string(want.Record) {
						t.Errorf("entry %d is wrong", i)
						break
					}
					if i++; i == 100 {
						begun()
					}
				}
				begun()
				if !errors.Is(last, db.ErrClosed) && !errors.Is(last, db.ErrUnavailable) {
					t.Error("a walk whose process is closed ends with", last)
				}
			})
		}
		under.Wait()
		if err := p.Close(testContext(t)); err != nil {
			t.Error(err)
		}
		walks.Wait()
		if _, mapped := sharedResident(t, os.Getpid()); mapped {
			t.Error("the memory has outlived its process and walks")
		}
	}
}

// TestStuckWalkHoldsNobodyUp cancels walks that the backend goes on with for ever, one for each piece of memory.
// Others take the memory over, and must not wait for it.
func TestStuckWalkHoldsNobodyUp(t *testing.T) {
	p := launch(t, "fake")
	stuck, sound := open(t, p), open(t, p)
	root := fakeRoot(1, "a")
	root.Type = stuckType
	running := func(n int64) bool {
		size, err := stuck.Size(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		return size.Live == n
	}
	for n := range int64(4) {
		ctx, cancel := context.WithCancel(testContext(t))
		var walk sync.WaitGroup
		walk.Go(func() {
			for _, err := range stuck.Walk(ctx, root, node.RootPosition()) {
				if !errors.Is(err, context.Canceled) {
					t.Error("a walk that is stuck:", err)
				}
			}
		})
		eventually(t, "the walk runs", func() bool { return running(n + 1) })
		cancel()
		walk.Wait()
	}
	for range 5 {
		requireWalk(t, sound, 3000)
	}
	if !running(4) {
		t.Error("a walk that was stuck has ended")
	}
	if _, err := stuck.GetRootsForVersion(testContext(t), versionFrees); err != nil {
		t.Fatal(err)
	}
	requireIdle(t, stuck)
	for range 5 {
		requireWalk(t, sound, 3000)
	}
}

// TestFailedLaunchesKeepNothing launches what is no plugin, for whatever reason.
func TestFailedLaunchesKeepNothing(t *testing.T) {
	cancelled, cancel := context.WithCancel(testContext(t))
	cancel()
	for name, change := range map[string]func(*plugin.LaunchConfig){
		"not there":  func(cfg *plugin.LaunchConfig) { cfg.Path = t.TempDir() + "/nothing" },
		"no program": func(cfg *plugin.LaunchConfig) { cfg.Path = t.TempDir() },
		"ends":       func(cfg *plugin.LaunchConfig) { throughShell(cfg, "exit 3") },
		"is mute":    func(cfg *plugin.LaunchConfig) { throughShell(cfg, "exec sleep 60") },
		"no backend": func(cfg *plugin.LaunchConfig) { cfg.Args[1] = "nothing" },
	} {
		for ctxName, ctx := range map[string]context.Context{"": within(t, 500*time.Millisecond), ", cancelled": cancelled} {
			path, args, err := plugin.Builtin("fake")
			if err != nil {
				t.Fatal(err)
			}
			cfg := plugin.LaunchConfig{Path: path, Args: args, RunDir: runDir(t)}
			change(&cfg)
			if _, err := plugin.Launch(ctx, cfg); err == nil {
				t.Fatalf("%s%s: launched", name, ctxName)
			}
			if _, mapped := sharedResident(t, os.Getpid()); mapped {
				t.Errorf("%s%s: memory is left", name, ctxName)
			}
		}
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range open {
		if target, _ := os.Readlink(name); strings.Contains(target, "memfd:ckpt-walks") {
			t.Error("a file is left")
		}
	}
}

// TestForeignHostsOfMemory has hosts that use memory against the rules: each gets an error, and the rings go on.
func TestForeignHostsOfMemory(t *testing.T) {
	ctx := testContext(t)
	p := launch(t, "fake")
	raw := pb.NewNodeDBClient(p.Conn())
	handle := rawOpen(t, raw)
	root := fakeRoot(1<<40, "a")
	walk := &pb.WalkRequest{Handle: handle, Root: &pb.Root{Namespace: root.Namespace[:], Version: root.Version, Type: 1, Hash: root.Hash[:]}}
	const last = 3 // a ring that is in use again, and soundly at the end
	for name, c := range map[string]struct {
		requests []*pb.SharedWalkRequest
		module   string
		code     uint32
	}{
		"no walk":           {[]*pb.SharedWalkRequest{{Ring: 0, Turn: 1}}, db.ModuleName, codeClosed},
		"no such handle":    {[]*pb.SharedWalkRequest{{Walk: &pb.WalkRequest{Handle: handle + 1}, Turn: 1}}, db.ModuleName, codeClosed},
		"no root":           {[]*pb.SharedWalkRequest{{Walk: &pb.WalkRequest{Handle: handle}, Ring: 1, Turn: 1}}, plugin.ModuleName, codeProtocol},
		"no such ring":      {[]*pb.SharedWalkRequest{{Walk: walk, Ring: 4, Turn: 1}}, plugin.ModuleName, codeProtocol},
		"no turn":           {[]*pb.SharedWalkRequest{{Walk: walk, Ring: 0}}, plugin.ModuleName, codeProtocol},
		"more than is sent": {[]*pb.SharedWalkRequest{{Walk: walk, Ring: 2, Turn: 1}, {Taken: 9}}, plugin.ModuleName, codeProtocol},
		"beyond all bounds": {[]*pb.SharedWalkRequest{{Walk: walk, Ring: last, Turn: 1}, {Taken: 1<<32 - 1}}, plugin.ModuleName, codeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := raw.SharedWalk(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, request := range c.requests {
				if err := stream.Send(request); err != nil {
					t.Fatal(err)
				}
			}
			for err == nil {
				_, err = stream.Recv()
			}
			requireError(t, err, c.module, c.code)
		})
	}
	t.Run("closed before its end", func(t *testing.T) {
		stream, err := raw.SharedWalk(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&pb.SharedWalkRequest{Walk: walk, Ring: last, Turn: 2}); err != nil {
			t.Fatal(err)
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		frames := 0
		for ; err == nil; frames++ {
			_, err = stream.Recv()
		}
		requireError(t, err, plugin.ModuleName, codeProtocol)
		if frames != 8+1 { // as many as there are slots, and the error
			t.Errorf("%d frames came", frames-1)
		}
	})
	stream, err := raw.SharedWalk(ctx)
	if err != nil {
		t.Fatal(err)
	}
	walk.Root.Version = 10
	if err := stream.Send(&pb.SharedWalkRequest{Walk: walk, Ring: last, Turn: 3}); err != nil {
		t.Fatal(err)
	}
	frame, err := stream.Recv()
	if err != nil || frame.Bytes == 0 {
		t.Errorf("a sound walk: %v, %v", frame, err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Error("a sound walk ends with", err)
	}
}

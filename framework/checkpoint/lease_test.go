package checkpoint

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// These make the test's binary serve a checkpoint to its parent.
const (
	serveDirEnv  = "CKPT_CHECKPOINT_SERVE_DIR"
	serveRootEnv = "CKPT_CHECKPOINT_SERVE_ROOT"
)

// stuckWriter takes a chunk's bytes, and then waits.
type stuckWriter struct {
	got  chan struct{}
	goOn chan struct{}
}

func newStuckWriter() *stuckWriter {
	return &stuckWriter{got: make(chan struct{}), goOn: make(chan struct{})}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	w.got <- struct{}{}
	<-w.goOn
	return len(p), nil
}

// firstChunk names the first chunk of a checkpoint.
func firstChunk(t testing.TB, m *Metadata) *ChunkMetadata {
	t.Helper()
	chunk, err := m.GetChunkMetadata(0)
	if err != nil {
		t.Fatal(err)
	}
	return chunk
}

// served is a chain that makes a checkpoint of each tenth version, and keeps one.
func served(t testing.TB) (*chain, *ManagedCheckpointer, *Metadata) {
	t.Helper()
	c := newChain(t)
	c.grow(t, 1, 10, false)
	m := c.with(t, CheckpointerConfig{Parameters: &CreationParameters{Interval: 10, NumKept: 1}})
	flush(t, m)
	metadata, err := c.creator.GetCheckpoint(t.Context(), 1, c.roots[10][0])
	if err != nil {
		t.Fatal(err)
	}
	c.grow(t, 11, 20, false)
	return c, m, metadata
}

// TestServedIsSpared checks that a checkpoint of which a chunk is being read is not deleted, nor soon after, and is
// at the next notification, though nothing else is wanted then.
func TestServedIsSpared(t *testing.T) {
	for name, open := range map[string]func(c *chain) ChunkProvider{
		"the creator itself": func(c *chain) ChunkProvider { return c.creator },
		"a directory": func(c *chain) ChunkProvider {
			d, err := OpenDirectory(c.dir)
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
		"its directory": func(c *chain) ChunkProvider {
			d, err := OpenDirectory(CheckpointDir(c.dir, c.roots[10][0]))
			if err != nil {
				t.Fatal(err)
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, m, metadata := served(t)
				provider := open(c)
				w := newStuckWriter()
				read := make(chan error, 1)
				go func() { read <- provider.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), w) }()
				<-w.got
				m.NotifyNewVersion(20)
				wait(t, m)
				c.check(t, 20, 10)

				time.Sleep(10 * leaseGrace) // it is read for long
				m.NotifyNewVersion(20)
				wait(t, m)
				c.check(t, 20, 10)

				close(w.goOn)
				if err := <-read; err != nil {
					t.Error(err)
				}
				time.Sleep(leaseGrace / 2)
				// Another chunk begins the grace anew.
				if err := provider.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), io.Discard); err != nil {
					t.Error(err)
				}
				time.Sleep(leaseGrace * 3 / 4)
				m.NotifyNewVersion(20)
				wait(t, m)
				c.check(t, 20, 10)

				time.Sleep(leaseGrace)
				m.NotifyNewVersion(20)
				wait(t, m)
				c.check(t, 20)
			})
		})
	}
}

// TestServedByAnotherProcess checks the same of a provider in another process, which goes by a kill.
func TestServedByAnotherProcess(t *testing.T) {
	if dir := os.Getenv(serveDirEnv); dir != "" {
		serveForever(t, dir, os.Getenv(serveRootEnv))
		return
	}
	c, m, metadata := served(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestServedByAnotherProcess$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), serveDirEnv+"="+c.dir, serveRootEnv+"="+metadata.Root.Hash.Hex())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill()
			_, _ = in.Close(), cmd.Wait() // it was killed
		}
	}
	defer end()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "read\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	flush(t, m)
	c.check(t, 20, 10)
	end()
	flush(t, m)
	c.check(t, 20)
}

// serveForever reads a chunk, tells of it, and waits to be killed: the lease outlasts the reading.
func serveForever(t *testing.T, dir, root string) {
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s Stored) bool { return s.Metadata.Root.Hash.Hex() == root })
	if err := d.GetCheckpointChunk(t.Context(), firstChunk(t, all[i].Metadata), io.Discard); err != nil {
		t.Fatal(err)
	}
	fmt.Println("read")
	_, err = io.Copy(io.Discard, os.Stdin)
	t.Fatalf("not killed: %v", err)
}

// TestVerifiedIsSpared checks that a checkpoint that is being verified is not deleted.
func TestVerifiedIsSpared(t *testing.T) {
	c, m, metadata := served(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	verified := make(chan error, 1)
	go func() {
		_, err := Verify(t.Context(), CheckpointDir(c.dir, metadata.Root), VerifyWorkers(1), VerifyProgress(func(done VerifyCount) {
			if done.Chunks == 1 {
				close(begun)
				<-goOn
			}
		}))
		verified <- err
	}()
	<-begun
	flush(t, m)
	c.check(t, 20, 10)
	close(goOn)
	if err := <-verified; err != nil {
		t.Error(err)
	}
	flush(t, m)
	c.check(t, 20)
}

// TestDeletedWhileServed checks that a person's deletion is done although a chunk is being read, that the reading
// comes to its end, and that there is none afterwards, also where the checkpoint is made again.
func TestDeletedWhileServed(t *testing.T) {
	c, _, metadata := served(t)
	d, err := OpenDirectory(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	w := newStuckWriter()
	read := make(chan error, 1)
	go func() { read <- d.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), w) }()
	<-w.got
	if err := c.creator.DeleteCheckpoint(t.Context(), 1, metadata.Root); err != nil {
		t.Fatal(err)
	}
	if err := d.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), io.Discard); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("a chunk of one that was deleted: %v", err)
	}
	if _, err := c.creator.CreateCheckpoint(withOrigin(t.Context(), originCheckpointer), metadata.Root, 512); err != nil {
		t.Fatal(err)
	}
	again := newStuckWriter()
	m2, err := c.creator.GetCheckpoint(t.Context(), 1, metadata.Root)
	if err != nil {
		t.Fatal(err)
	}
	readAgain := make(chan error, 1)
	go func() { readAgain <- d.GetCheckpointChunk(t.Context(), firstChunk(t, m2), again) }()
	<-again.got
	close(w.goOn)
	if err := <-read; err != nil {
		t.Errorf("the chunk that was being read: %v", err)
	}
	// The end of the old reading does not end the new lease.
	err = c.creator.DeleteCheckpoint(withOrigin(t.Context(), originCheckpointer), 1, metadata.Root)
	if !errors.Is(err, ErrCheckpointInUse) {
		t.Errorf("a checkpointer deletes what is read: %v", err)
	}
	close(again.goOn)
	if err := <-readAgain; err != nil {
		t.Error(err)
	}
}

// TestKeep checks that a mark keeps a checkpoint from being deleted, by whom it be, until it is taken away; that it
// is seen; and that it changes nothing else.
func TestKeep(t *testing.T) {
	ctx := t.Context()
	c, m, metadata := served(t)
	keeper := c.creator.(Keeper)
	for range 2 {
		if err := keeper.Keep(ctx, metadata.Root); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, m)
	c.check(t, 20, 10)
	// In another process.
	other := newCreator(t, c.dir, nil)
	if err := other.DeleteCheckpoint(ctx, 1, metadata.Root); !errors.Is(err, ErrCheckpointKept) {
		t.Errorf("delete: %v", err)
	}
	if err := other.DeleteCheckpoint(withOrigin(ctx, originCheckpointer), 1, metadata.Root); !errors.Is(err, ErrCheckpointKept) {
		t.Errorf("delete by a checkpointer: %v", err)
	}
	all, err := other.(Inspector).List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Kept || !all[1].Kept || all[1].Metadata.Root != metadata.Root {
		t.Errorf("listed %+v", all)
	}
	single, err := OpenDirectory(all[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := single.List(ctx); err != nil || len(all) != 1 || !all[0].Kept {
		t.Errorf("listed %+v, %v", all, err)
	}
	if _, err := Verify(ctx, all[1].Path, VerifyRoot(metadata.Root)); err != nil {
		t.Error(err)
	}
	// Neither is it counted: as many others are kept.
	c.grow(t, 21, 30, false)
	flush(t, m)
	c.check(t, 30, 10)

	for range 2 {
		if err := keeper.Unkeep(ctx, metadata.Root); err != nil {
			t.Fatal(err)
		}
	}
	m.NotifyNewVersion(30)
	wait(t, m)
	c.check(t, 30)
	if names := readNames(t, c.dir); !slices.Equal(names, []string{"30", IndexName}) {
		t.Errorf("in the directory: %v", names)
	}
	none := node.Root{Namespace: metadata.Root.Namespace, Version: 10, Type: node.RootTypeIO, Hash: metadata.Root.Hash}
	if err := keeper.Keep(ctx, none); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("keeping none: %v", err)
	}
	if err := keeper.Unkeep(ctx, none); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("keeping none no more: %v", err)
	}
}

// TestKeepWhileBeingDeleted checks that no mark is said to be there on a checkpoint that a checkpointer is about
// to delete.
func TestKeepWhileBeingDeleted(t *testing.T) {
	c, _, metadata := served(t)
	dir := CheckpointDir(c.dir, metadata.Root)
	err := ifUnused(dir, func() error {
		if err := newCreator(t, c.dir, nil).(Keeper).Keep(t.Context(), metadata.Root); !errors.Is(err, ErrCheckpointNotFound) {
			t.Errorf("keep: %v", err)
		}
		if err := c.creator.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), io.Discard); !errors.Is(err, ErrCheckpointNotFound) {
			t.Errorf("a chunk: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, keepName)); !os.IsNotExist(err) {
		t.Errorf("a mark is there: %v", err)
	}
}

// TestKeepLeavesNoLease checks that marking a checkpoint does not make it one that is being served.
func TestKeepLeavesNoLease(t *testing.T) {
	c, _, metadata := served(t)
	if err := c.creator.(Keeper).Keep(t.Context(), metadata.Root); err != nil {
		t.Fatal(err)
	}
	if err := ifUnused(CheckpointDir(c.dir, metadata.Root), func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestKeepEndsNoLease checks that marking a checkpoint that is being fetched, before or while a chunk is read, does not
// end the grace that whoever fetches it has.
func TestKeepEndsNoLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, metadata := served(t)
		dir := CheckpointDir(c.dir, metadata.Root)
		l := &c.creator.(*fileCreator).leases
		read := func() {
			if err := c.creator.GetCheckpointChunk(t.Context(), firstChunk(t, metadata), io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		for name, do := range map[string]func(){
			"marked afterwards": func() {
				read()
				if err := c.creator.(Keeper).Keep(t.Context(), metadata.Root); err != nil {
					t.Fatal(err)
				}
			},
			"marked while it is read": func() {
				release, err := l.take(dir, 0) // as Keep does
				if err != nil {
					t.Fatal(err)
				}
				read()
				release()
			},
		} {
			do()
			time.Sleep(leaseGrace * 3 / 4)
			nothing := func() error { return nil }
			if err := ifUnused(dir, nothing); !errors.Is(err, ErrCheckpointInUse) {
				t.Errorf("%s: within the grace: %v", name, err)
			}
			time.Sleep(leaseGrace / 2)
			if err := ifUnused(dir, nothing); err != nil {
				t.Errorf("%s: after the grace: %v", name, err)
			}
			if err := c.creator.(Keeper).Unkeep(t.Context(), metadata.Root); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestExportedIsSpared checks that a checkpoint of which an archive is being written is not deleted.
func TestExportedIsSpared(t *testing.T) {
	for name, export := range map[string]func(dir string, opts ExportOptions) error{
		"to a writer": func(dir string, opts ExportOptions) error {
			_, err := WriteArchive(t.Context(), io.Discard, dir, opts)
			return err
		},
		"to a file": func(dir string, opts ExportOptions) error {
			_, err := WriteArchiveFile(t.Context(), filepath.Join(t.TempDir(), "a.tar"), dir, opts)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, m, metadata := served(t)
			begun, goOn := make(chan struct{}), make(chan struct{})
			first := true
			exported := make(chan error, 1)
			go func() {
				exported <- export(CheckpointDir(c.dir, metadata.Root), ExportOptions{Progress: func(int64, int64) {
					if first {
						first = false
						close(begun)
						<-goOn
					}
				}})
			}()
			<-begun
			flush(t, m)
			c.check(t, 20, 10)
			close(goOn)
			if err := <-exported; err != nil {
				t.Error(err)
			}
			flush(t, m)
			c.check(t, 20)
		})
	}
}

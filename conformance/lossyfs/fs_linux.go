package lossyfs

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// FS is a file system in memory. Its methods may be called by any goroutine.
type FS struct {
	mu         sync.Mutex
	root       *inode
	inodes     map[uint64]*inode
	next       uint64
	ignoreSync bool
	// off says that the power is off: nothing is done any more.
	off bool
	// changes counts; at the one numbered cutAt (0: never), the power goes off and cut is called.
	changes, cutAt uint64
	cut            func()
	// changed is called after each change, without mu.
	changed func()
}

// New returns an empty file system.
func New() *FS {
	root := &inode{id: rootID, dir: true, mode: 0o700, names: map[string]*inode{}, safeNames: map[string]*inode{}}
	return &FS{root: root, inodes: map[uint64]*inode{rootID: root}, next: rootID}
}

// SetIgnoreSync says whether syncs do nothing, and say that they have.
func (f *FS) SetIgnoreSync(ignore bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ignoreSync = ignore
}

// Changes counts the writes, truncations, syncs and changes of names so far.
func (f *FS) Changes() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// CutAfter lets the power go off in the n-th change from now on, which may be done in part: every operation
// fails from then on. cut is called, in a goroutine of the file system, which it must not use.
func (f *FS) CutAfter(n uint64, cut func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt, f.cut = f.changes+n, cut
}

// OnChange sets what is called after each write, truncation, sync and change of names, before whoever made it hears
// of it, by several goroutines at once. It may ask what a loss would leave just now, and must not use the mount.
func (f *FS) OnChange(changed func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = changed
}

// Cut lets the power go off now.
func (f *FS) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = true
}

// Off says whether the power is off.
func (f *FS) Off() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.off
}

// AfterLoss returns what a machine finds when it comes up again. All of that is safe.
func (f *FS) AfterLoss(rng *rand.Rand) *FS {
	return f.after(survivor{rng: rng, loss: loss(rng.IntN(int(losses)))})
}

// AfterLosingAll returns what a machine finds of whose writes none has reached the disk that was not synced.
func (f *FS) AfterLosingAll() *FS { return f.after(survivor{loss: loseAll}) }

func (f *FS) after(s survivor) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.made, s.moves = map[*inode]*inode{}, map[*move]bool{}
	root := s.of(f.root)
	g := &FS{root: root, inodes: make(map[uint64]*inode, len(s.made)), next: s.next, ignoreSync: f.ignoreSync}
	for _, n := range s.made {
		g.inodes[n.id] = n
	}
	return g
}

// change counts a change, and says whether it is to be done; once the power has gone off, none is. The
// last one is done, without being safe or anybody hearing of it. Its caller holds mu.
func (f *FS) change() (do, acknowledged bool) {
	if f.off {
		return false, false
	}
	if f.changes++; f.changes == f.cutAt {
		f.off = true
		go f.cut()
		return true, false
	}
	return true, true
}

// CopyTo copies all that there is into a directory of another file system, where the process that mounts this one
// can look at it.
func (f *FS) CopyTo(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.root.copyTo(dir, 0); err != nil {
		return fmt.Errorf("lossyfs: %w", err)
	}
	return nil
}

// maxDepth is more than anybody's directories have, and less than those of a directory that holds itself.
const maxDepth = 100

func (n *inode) copyTo(path string, depth int) error {
	if !n.dir {
		return os.WriteFile(path, n.data, 0o600)
	}
	if depth == maxDepth {
		return fmt.Errorf("%s: directories %d deep", path, depth)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		if err := n.names[name].copyTo(filepath.Join(path, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

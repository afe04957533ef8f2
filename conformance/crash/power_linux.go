package crash

import (
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/conformance/lossyfs"
)

// losing is a machine that loses power.
type losing struct {
	mount   string
	newHost func() (host, error)
	fs      *lossyfs.FS
	mounted *lossyfs.Mount
	// made is how many changes of files operations made, the last few of each kind, before how many there had
	// been when the last one was done.
	made   map[kind][]uint64
	before uint64
}

func newLosing(mount string, newHost func() (host, error), ignoreSync bool) (*losing, error) {
	m := &losing{mount: mount, newHost: newHost, fs: lossyfs.New(), made: map[kind][]uint64{}}
	m.fs.SetIgnoreSync(ignoreSync)
	var err error
	m.mounted, err = m.fs.MountAt(mount)
	return m, err
}

func (m *losing) dir() string          { return filepath.Join(m.mount, "db") }
func (m *losing) start() (host, error) { return m.newHost() }
func (m *losing) losesPower() bool     { return true }
func (m *losing) crashed() bool        { return m.fs.Off() }

// arm cuts the power at a random change within what such an operation made before.
func (m *losing) arm(h host, k kind, rng *rand.Rand) {
	within := uint64(3)
	if m.knows(k) {
		within = max(1, pick(rng, m.made[k]))
	}
	m.fs.CutAfter(1+rng.Uint64N(within), h.kill)
}

func (m *losing) took(k kind, _ time.Duration) {
	now := m.fs.Changes()
	m.made[k] = append(m.made[k], now-m.before)
	m.made[k] = m.made[k][max(0, len(m.made[k])-samples):]
	m.before = now
}

func (m *losing) knows(k kind) bool { return len(m.made[k]) > 0 }

func (m *losing) crash(h host, rng *rand.Rand) (err error) {
	m.fs.Cut()
	h.kill()
	_ = h.end() // it was killed
	if err := m.mounted.Unmount(); err != nil {
		return err
	}
	m.fs, m.before = m.fs.AfterLoss(rng), 0
	m.mounted, err = m.fs.MountAt(m.mount)
	return err
}

// PowerLoss lets the machines of databases lose power.
func PowerLoss(t *testing.T, h Harness) {
	needFUSE(t)
	n, seed := amount(t, h)
	c := newCounts()
	for ; c.Crashes < n; seed++ {
		powerless(t, h, seed, c, false)
	}
	t.Log(c)
}

// PowerLossWithoutSync does the same where syncs do nothing, and fails where that is not noticed: then
// PowerLoss would notice nothing either.
func PowerLossWithoutSync(t *testing.T, h Harness) {
	needFUSE(t)
	n, seed := amount(t, h)
	c := newCounts()
	found := 0
	for ; c.Crashes < n; seed++ {
		var v *Violation
		before := c.Crashes
		err := powerlessRun(t, h, seed, c, true)
		switch {
		case errors.As(err, &v) && c.Crashes > before:
			found++
		case err != nil:
			t.Fatal(err)
		}
	}
	if t.Logf("%d of %d histories came to an end: %s", found, c.Histories, c); found == 0 {
		t.Errorf("no loss was found in %s", c)
	}
}

func needFUSE(t *testing.T) {
	if err := lossyfs.Available(); err != nil {
		t.Skip("a file system that loses power can't be mounted here:", err)
	}
}

func powerless(t *testing.T, h Harness, seed uint64, c *Counts, ignoreSync bool) {
	t.Helper()
	if err := powerlessRun(t, h, seed, c, ignoreSync); err != nil {
		t.Fatalf("seed %d, after %d crashes: %v", seed, c.Crashes, err)
	}
}

func powerlessRun(t *testing.T, h Harness, seed uint64, c *Counts, ignoreSync bool) error {
	m, err := newLosing(t.TempDir(), func() (host, error) { return startChild(h.Factory.Name()) }, ignoreSync)
	if err != nil {
		return err
	}
	r := newRun(m, &h, seed, c)
	err = r.history(context.WithoutCancel(t.Context()), crashesPerHistory)
	if err != nil && r.host != nil {
		r.host.kill()
		_ = r.host.end()
	}
	return errors.Join(err, m.mounted.Unmount())
}

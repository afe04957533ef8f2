package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// ImportWay is how a data set comes into an empty database.
type ImportWay string

// The ways. The first two take the entries in random order, the third in the order of their keys.
const (
	// ImportOne is all entries as one version.
	ImportOne ImportWay = "one version"
	// ImportVersions is versions of some entries each, each finalized, and so safe from a loss of power, before
	// the next one is: one is made while the one before it is being finalized.
	ImportVersions ImportWay = "versions"
	// ImportSorted is all entries as one version, in memory that does not grow with their number.
	ImportSorted ImportWay = "sorted"
)

// ImportWays are all ways, in the order in which they are measured.
var ImportWays = []ImportWay{ImportOne, ImportVersions, ImportSorted}

// ImportOptions say what Import measures.
type ImportOptions struct {
	Way ImportWay
	// VersionEntries is the number of entries of a version, where there are several; 0 means 1,000.
	VersionEntries int
	// PluginPID is the process that the database is in, 0 where that is this one.
	PluginPID int
	// Tell, which may be nil, is called with the number of entries that are done.
	Tell func(done int)
}

// ImportCost is what it took to import a data set.
type ImportCost struct {
	Way              ImportWay `json:"way"`
	Data             string    `json:"data"`
	Entries          int       `json:"entries"`
	KeyValueBytes    int64     `json:"key_value_bytes"`
	Versions         int       `json:"versions"`
	Seconds          float64   `json:"seconds"`
	EntriesPerSecond float64   `json:"entries_per_second"`
	// Version is how long it took from one version that was finalized to the next, where there are several.
	Version *Times `json:"version,omitempty"`
	// Host is this process, with the data set in it, and Plugin the database's, where that is another.
	Host   ProcessCost  `json:"host"`
	Plugin *ProcessCost `json:"plugin,omitempty"`
	// InputBytes is how much of Host's memory is the data set, which was there before.
	InputBytes int64     `json:"input_bytes"`
	Root       node.Root `json:"root"`
}

// ProcessCost is what a step took of a process. What the operating system does not tell is 0.
type ProcessCost struct {
	CPUSeconds float64 `json:"cpu_seconds"`
	// PeakAnonBytes is the most memory that was in use at once, without what is mapped from files.
	PeakAnonBytes int64 `json:"peak_anon_bytes"`
}

// Import puts a data set into an empty database, and tells what that took. The newest version is then the
// result's root.
func Import(ctx context.Context, ndb db.NodeDB, data *data, opts ImportOptions) (ImportCost, error) {
	im := &importRun{
		ndb: ndb, data: data, opts: opts,
		root: node.Root{Namespace: ndb.Info().Namespace, Type: node.RootTypeState, Hash: hash.EmptyHash},
	}
	if im.opts.VersionEntries == 0 {
		im.opts.VersionEntries = 1000
	}
	r := ImportCost{Way: opts.Way, Data: data.kind, Entries: data.len(), KeyValueBytes: int64(len(data.bytes))}
	way, known := map[ImportWay]func(context.Context) error{
		ImportOne:      im.one,
		ImportVersions: im.versions,
		ImportSorted:   im.sorted,
	}[opts.Way]
	if !known {
		return r, fmt.Errorf("there is no way to import called %q", opts.Way)
	}
	if opts.Way == ImportSorted {
		im.sort()
	} else {
		im.shuffle()
	}
	watched := watchProcesses(opts.PluginPID)
	r.InputBytes = watched.before
	began := time.Now()
	err := way(ctx)
	r.Seconds = time.Since(began).Seconds()
	r.Host, r.Plugin = watched.end()
	if err != nil {
		return r, err
	}
	r.EntriesPerSecond = float64(r.Entries) / r.Seconds
	r.Root, r.Versions = im.root, int(im.root.Version)
	if len(im.times) > 1 {
		times := sumUp(im.times)
		r.Version = &times
	}
	return r, nil
}

// importRun is a data set on its way into a database.
type importRun struct {
	ndb  db.NodeDB
	data *data
	opts ImportOptions
	// order is the order in which the entries come.
	order []uint32
	root  node.Root
	times []time.Duration
}

// sort makes the order that of the keys.
func (im *importRun) sort() {
	im.shuffle()
	slices.SortFunc(im.order, func(a, b uint32) int {
		return bytes.Compare(im.data.field(2*int(a)), im.data.field(2*int(b)))
	})
}

// shuffle makes the order a random one, the same each time.
func (im *importRun) shuffle() {
	im.order = make([]uint32, im.data.len())
	for i := range im.order {
		im.order[i] = uint32(i)
	}
	random := rand.New(rand.NewPCG(dataSeed, 1))
	random.Shuffle(len(im.order), func(i, j int) { im.order[i], im.order[j] = im.order[j], im.order[i] })
}

func (im *importRun) tell(done int) {
	if im.opts.Tell != nil {
		im.opts.Tell(done)
	}
}

// insert puts the entries of some places in the order into a tree.
func (im *importRun) insert(ctx context.Context, tree *mkvs.Tree, from, to int) error {
	for i, at := range im.order[from:to] {
		if i%10_000 == 0 {
			im.tell(from + i)
		}
		key, value := im.data.entry(int(at))
		if err := tree.Insert(ctx, key, value); err != nil {
			return err
		}
	}
	return nil
}

// commit commits a tree as the next version.
func (im *importRun) commit(ctx context.Context, tree *mkvs.Tree) (node.Root, error) {
	next := im.root
	next.Version++
	var err error
	_, next.Hash, err = tree.Commit(ctx, next.Namespace, next.Version)
	return next, err
}

func (im *importRun) one(ctx context.Context) error {
	tree := mkvs.NewWithRoot(im.ndb, im.root, mkvs.WithoutWriteLog())
	defer tree.Close()
	if err := im.insert(ctx, tree, 0, len(im.order)); err != nil {
		return err
	}
	root, err := im.commit(ctx, tree)
	if err != nil {
		return err
	}
	im.root = root
	return im.ndb.Finalize(ctx, []node.Root{root})
}

func (im *importRun) sorted(ctx context.Context) error {
	next := im.root
	next.Version++
	b, err := mkvs.NewBuilder(ctx, im.ndb, next, mkvs.WithoutWriteLog())
	if err != nil {
		return err
	}
	defer b.Close()
	for i, at := range im.order {
		if i%10_000 == 0 {
			im.tell(i)
		}
		key, value := im.data.entry(int(at))
		if err := b.Add(key, value); err != nil {
			return err
		}
	}
	if im.root, err = b.Commit(); err != nil {
		return err
	}
	return im.ndb.Finalize(ctx, []node.Root{im.root})
}

// versions commits each version while the one before it is being finalized.
func (im *importRun) versions(ctx context.Context) (err error) {
	tree := mkvs.NewWithRoot(im.ndb, im.root, mkvs.WithCapacity(0), mkvs.WithCapacityBytes(importCapacity))
	defer tree.Close()
	im.times = slices.Grow(im.times, len(im.order)/im.opts.VersionEntries+1)
	began := time.Now()
	var finalizing chan error
	wait := func() error {
		if finalizing == nil {
			return nil
		}
		err := <-finalizing
		finalizing = nil
		im.times = append(im.times, time.Since(began))
		began = time.Now()
		return err
	}
	defer func() { err = errors.Join(err, wait()) }()
	for from := 0; from < len(im.order); from += im.opts.VersionEntries {
		if err := im.insert(ctx, tree, from, min(from+im.opts.VersionEntries, len(im.order))); err != nil {
			return err
		}
		root, err := im.commit(ctx, tree)
		if err != nil {
			return err
		}
		if err := wait(); err != nil {
			return err
		}
		finalizing = make(chan error, 1)
		go func() { finalizing <- im.ndb.Finalize(ctx, []node.Root{root}) }()
		im.root = root
	}
	return nil
}

// importCapacity is how many bytes of nodes the tree of an import keeps in memory from one version to the
// next, as `ckpt-host import` does.
const importCapacity = 160 << 20

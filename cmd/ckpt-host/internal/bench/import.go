package bench

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// importWay is how a data set comes into an empty database.
type importWay string

// The ways. The first two take the entries in random order, the third in the order of their keys.
const (
	// importOne is all entries as one version.
	importOne importWay = stepImport
	// importVersions is several versions, each finalized, and so safe from a loss of power, before the next one
	// is: one is made while the one before it is being finalized.
	importVersions importWay = stepVersions
	// importSorted is all entries as one version, in memory that does not grow with their number.
	importSorted importWay = stepSorted
)

var importWays = []importWay{importOne, importVersions, importSorted}

// newImport prepares the import of a data set into an empty database: as so many versions, in the second way.
func newImport(ndb db.NodeDB, data *data, way importWay, versions int) *importRun {
	im := &importRun{
		ndb: ndb, data: data, way: way, perVersion: max(1, (data.len()+versions-1)/max(versions, 1)),
		root: node.Root{Namespace: ndb.Info().Namespace, Type: node.RootTypeState, Hash: hash.EmptyHash},
	}
	if im.shuffle(); way == importSorted {
		im.sort()
	}
	return im
}

// run does the import. The newest version's root is in root then.
func (im *importRun) run(ctx context.Context) error {
	switch im.way {
	case importVersions:
		return im.versions(ctx)
	case importSorted:
		return im.sorted(ctx)
	default:
		return im.one(ctx)
	}
}

// importRun is a data set on its way into a database.
type importRun struct {
	ndb  db.NodeDB
	data *data
	way  importWay
	// perVersion is the number of entries of each version, where there are several.
	perVersion int
	// order is the order in which the entries come.
	order []uint32
	root  node.Root
	// times are how long it took from one version that was finalized to the next, where there are several.
	times []time.Duration
}

// sort makes the order that of the keys.
func (im *importRun) sort() {
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

// insert puts the entries of some places in the order into a tree.
func (im *importRun) insert(ctx context.Context, tree *mkvs.Tree, from, to int) error {
	for _, at := range im.order[from:to] {
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
	for _, at := range im.order {
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
	im.times = slices.Grow(im.times, len(im.order)/im.perVersion+1)
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
	for from := 0; from < len(im.order); from += im.perVersion {
		if err := im.insert(ctx, tree, from, min(from+im.perVersion, len(im.order))); err != nil {
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

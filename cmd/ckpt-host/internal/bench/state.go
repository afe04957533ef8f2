package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// state is a database that is measured, and the newest root in it.
type state struct {
	dir  string
	ns   common.Namespace
	ndb  db.NodeDB
	root node.Root
	// earliest is the earliest version, once there is any.
	earliest uint64
}

func openState(ctx context.Context, backend string, cfg db.Config) (*state, error) {
	factory, err := factoryOf(backend)
	if err != nil {
		return nil, err
	}
	cfg.Namespace = common.NewTestNamespaceFromSeed([]byte("bench"), 0)
	ndb, err := factory.New(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	root := node.Root{Namespace: cfg.Namespace, Type: node.RootTypeState, Hash: hash.EmptyHash}
	return &state{dir: cfg.Dir, ns: cfg.Namespace, ndb: ndb, root: root, earliest: 1}, nil
}

// remove closes the database and removes its files, whatever ctx says.
func (s *state) remove(ctx context.Context) error {
	return errors.Join(s.ndb.Close(context.WithoutCancel(ctx)), os.RemoveAll(s.dir))
}

// finalize commits a tree as the next version, and finalizes that.
func (s *state) finalize(ctx context.Context, tree *mkvs.Tree) (committed time.Time, err error) {
	version := s.root.Version + 1
	_, h, err := tree.Commit(ctx, s.ns, version)
	if err != nil {
		return committed, err
	}
	committed = time.Now()
	next := node.Root{Namespace: s.ns, Version: version, Type: node.RootTypeState, Hash: h}
	if err := s.ndb.Finalize(ctx, []node.Root{next}); err != nil {
		return committed, err
	}
	s.root = next
	return committed, nil
}

// load puts the whole data set into the database, as one version. It calls tell as it goes.
func (s *state) load(ctx context.Context, data *data, tell func(what string, done int)) (r Load, err error) {
	r.Entries = data.len()
	r.Usage, err = measure(func() error {
		tree := mkvs.NewWithRoot(s.ndb, s.root)
		defer tree.Close()
		began := time.Now()
		for i := range data.len() {
			if i%10_000 == 0 {
				tell("inserting", i)
			}
			key, value := data.entry(i)
			if err := tree.Insert(ctx, key, value); err != nil {
				return err
			}
		}
		inserted := time.Now()
		tell("committing", data.len())
		committed, err := s.finalize(ctx, tree)
		if err != nil {
			return err
		}
		r.Seconds = time.Since(began).Seconds()
		r.InsertSeconds = inserted.Sub(began).Seconds()
		r.CommitSeconds = committed.Sub(inserted).Seconds()
		r.FinalizeSeconds = time.Since(committed).Seconds()
		return nil
	})
	r.EntriesPerSecond = float64(r.Entries) / r.Seconds
	return r, err
}

// disk tells the space taken.
func (s *state) disk(ctx context.Context, data *data) (Disk, error) {
	size, err := s.ndb.Size(ctx)
	if err != nil {
		return Disk{}, err
	}
	r := Disk{KeyValueBytes: int64(len(data.bytes)), FileBytes: size.File, LiveBytes: size.Live}
	if r.KeyValueBytes > 0 {
		r.Amplification = float64(r.FileBytes) / float64(r.KeyValueBytes)
	}
	return r, nil
}

// scan walks through the newest version.
func (s *state) scan(ctx context.Context, passes int) (r Scan, err error) {
	r.Passes = passes
	r.Usage, err = measure(func() error {
		began := time.Now()
		for range passes {
			if r.Records, r.Nodes, err = s.walk(ctx); err != nil {
				return err
			}
		}
		r.Seconds = time.Since(began).Seconds()
		return nil
	})
	r.RecordsPerSecond = float64(passes*r.Records) / r.Seconds
	r.NodesPerSecond = float64(passes*r.Nodes) / r.Seconds
	return r, err
}

// walk counts the records and the nodes of the newest version.
func (s *state) walk(ctx context.Context) (records, nodes int, err error) {
	for entry, err := range s.ndb.Walk(ctx, s.root, node.RootPosition()) {
		if err != nil {
			return 0, 0, err
		}
		record, err := node.ParseRecord(entry.Record, entry.Address)
		if err != nil {
			return 0, 0, err
		}
		records++
		nodes++
		if record.OwnLeaf != nil {
			nodes++
		}
		for side := range record.Children {
			if record.Children[side].Embedded != nil {
				nodes++
			}
		}
	}
	return records, nodes, nil
}

// read reads random keys.
func (s *state) read(ctx context.Context, data *data, reads int) (r Reads, err error) {
	random := newUpdates(data)
	times := make([]time.Duration, reads)
	r.Reads = reads
	r.Usage, err = measure(func() error {
		for i := range times {
			key := random.key()
			began := time.Now()
			tree := mkvs.NewWithRoot(s.ndb, s.root, mkvs.WithoutWriteLog())
			value, err := tree.Get(ctx, key)
			if err != nil {
				return err
			}
			tree.Close()
			if times[i] = time.Since(began); value == nil {
				return fmt.Errorf("key %x is not there", key)
			}
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Times = sumUp(times)
	return r, nil
}

// commits adds versions of a number of updates each.
func (s *state) commits(ctx context.Context, data *data, count, rounds int) (r Commits, err error) {
	random := newUpdates(data)
	times := make([]time.Duration, rounds)
	r.Updates, r.Rounds = count, rounds
	r.Usage, err = measure(func() error {
		for i := range times {
			began := time.Now()
			tree := mkvs.NewWithRoot(s.ndb, s.root)
			if err := s.update(ctx, tree, random, count); err != nil {
				return err
			}
			times[i] = time.Since(began)
			tree.Close()
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.Times = sumUp(times)
	return r, nil
}

// update makes a version of a number of random changes.
func (s *state) update(ctx context.Context, tree *mkvs.Tree, random *updates, count int) error {
	for range count {
		key, value := random.next()
		if err := tree.Insert(ctx, key, value); err != nil {
			return err
		}
	}
	_, err := s.finalize(ctx, tree)
	return err
}

// kept is the number of versions that are there.
func (s *state) kept() int { return int(s.root.Version + 1 - s.earliest) }

// prune removes the earliest version.
func (s *state) prune(ctx context.Context) error {
	if err := s.ndb.Prune(ctx, s.earliest); err != nil {
		return err
	}
	s.earliest++
	return nil
}

// steady commits and prunes versions, once there are as many as are to be kept and no others. It calls
// tell with the number of versions that were measured.
func (s *state) steady(ctx context.Context, data *data, keep, versions int, tell func(done int)) (r Steady, err error) {
	tree := mkvs.NewWithRoot(s.ndb, s.root)
	defer tree.Close()
	random := newUpdates(data)
	r = Steady{Updates: steadyUpdates, Keep: keep, Versions: versions}
	// The versions before are not like those to come, and so nothing is measured while any of them is kept.
	for range keep {
		tell(0)
		if err := s.update(ctx, tree, random, steadyUpdates); err != nil {
			return r, err
		}
	}
	s.earliest = s.root.Version + 1 - uint64(keep)
	if _, err := s.ndb.PruneBefore(ctx, s.earliest); err != nil {
		return r, err
	}
	if err := s.ndb.CollectGarbage(ctx, nil); err != nil {
		return r, err
	}
	r.Usage, err = measure(func() error {
		began := time.Now()
		segments := min(steadySegments, versions)
		for i := range segments {
			count := (i+1)*versions/segments - i*versions/segments
			segment, err := s.segment(ctx, tree, random, keep, count, func(done int) { tell(i*versions/segments + done) })
			if err != nil {
				return err
			}
			r.Segments = append(r.Segments, segment)
		}
		pruned := time.Now()
		if err := s.ndb.CollectGarbage(ctx, nil); err != nil {
			return err
		}
		r.Seconds, r.CollectSeconds = time.Since(began).Seconds(), time.Since(pruned).Seconds()
		return nil
	})
	if err != nil {
		return r, err
	}
	r.VersionsPerSecond = float64(versions) / r.Seconds
	r.FileBytesFirst, r.FileBytesLast = r.Segments[0].FileBytes, r.Segments[len(r.Segments)-1].FileBytes
	return r, nil
}

// segment commits and prunes some versions of a steady state.
func (s *state) segment(ctx context.Context, tree *mkvs.Tree, random *updates, keep, versions int, tell func(done int)) (r Segment, err error) {
	commits, prunes := make([]time.Duration, versions), make([]time.Duration, versions)
	began := time.Now()
	for i := range versions {
		tell(i)
		start := time.Now()
		if err := s.update(ctx, tree, random, steadyUpdates); err != nil {
			return r, err
		}
		committed := time.Now()
		commits[i] = committed.Sub(start)
		for s.kept() > keep {
			if err := s.prune(ctx); err != nil {
				return r, err
			}
		}
		prunes[i] = time.Since(committed)
	}
	seconds := time.Since(began).Seconds()
	size, err := s.ndb.Size(ctx)
	if err != nil {
		return r, err
	}
	return Segment{
		Versions: versions, VersionsPerSecond: float64(versions) / seconds,
		Commit: sumUp(commits), Prune: sumUp(prunes),
		FileBytes: size.File, LiveBytes: size.Live,
	}, nil
}

// fill adds versions of one change until there are as many.
func (s *state) fill(ctx context.Context, versions int, tell func(done int)) error {
	tree := mkvs.NewWithRoot(s.ndb, s.root)
	defer tree.Close()
	for s.kept() < versions {
		tell(s.kept())
		count := binary.BigEndian.AppendUint64(nil, s.root.Version)
		if err := tree.Insert(ctx, count[7:], count); err != nil {
			return err
		}
		if _, err := s.finalize(ctx, tree); err != nil {
			return err
		}
	}
	return nil
}

// pruneOneByOne prunes some versions, and then frees their space.
func (s *state) pruneOneByOne(ctx context.Context, versions int) (r PruneCost, err error) {
	times := make([]time.Duration, versions)
	r.Backend, r.Pruned = s.ndb.Info().Backend, versions
	r.Usage, err = measure(func() error {
		for i := range times {
			began := time.Now()
			if err := s.prune(ctx); err != nil {
				return err
			}
			times[i] = time.Since(began)
		}
		began := time.Now()
		err := s.ndb.CollectGarbage(ctx, nil)
		r.CollectMS = milliseconds(time.Since(began)) / float64(versions)
		return err
	})
	r.Kept = s.kept()
	if err != nil {
		return r, err
	}
	r.Prune = sumUp(times)
	return r, nil
}

package history

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// insert is the multipart insert that is open.
type insert struct {
	version uint64
	roots   []*restore
}

// restore is a root of an insert: of a checkpoint, or of chunks that no checkpoint is made of.
type restore struct {
	name    node.Root
	content reference.Content
	tag     []byte // nil where a restorer chooses it
	chunks  int
	done    map[int]bool
	// complete says that the database has found it whole.
	complete bool

	raw []reference.Chunk

	metadata *checkpoint.Metadata
	files    [][]byte
	// opened says that the insert ends with an abort of this restore, where it is the last.
	opened bool
}

// current is the restore that the restorer is at, nil where there is none.
func (r *run) current() *restore {
	m := r.restorer.GetCurrentCheckpoint()
	if m == nil || r.insert == nil {
		return nil
	}
	for _, x := range r.insert.roots {
		if x.name == m.Root && x.metadata != nil {
			return x
		}
	}
	r.Fatalf("the restorer is at %s, which nobody began", m.Root)
	return nil
}

// source draws what is restored: often something that is like what the database has.
func (r *run) source() (name node.Root, c reference.Content) {
	version := r.next() + uint64(r.index(4, "versions ahead"))
	if r.insert != nil {
		version = r.insert.version
	}
	typ := draw(r, []node.RootType{stateType, stateType, ioType}, "type")
	all := r.all()
	switch kind := r.index(4, "content"); {
	case kind == 0 || len(all) == 0:
		c = bulk(r.rng, r.index(200, "pairs"))
	case kind == 1: // the same
		c = draw(r, all, "like").content
	default:
		c = draw(r, all, "like").content
		c = apply(c, r.edits(c))
	}
	return node.Root{Namespace: namespace, Version: version, Type: typ, Hash: reference.Build(c).RootHash()}, c
}

// restoring returns the restore of a root, nil where the insert has none.
func (r *run) restoring(name node.Root) *restore {
	if r.insert == nil {
		return nil
	}
	for _, x := range r.insert.roots {
		if x.name == name {
			return x
		}
	}
	return nil
}

// unfinished returns a root of the insert that is not complete, nil where there is none.
func (r *run) unfinished() *restore {
	if r.insert == nil {
		return nil
	}
	for _, x := range r.insert.roots {
		if !x.complete {
			return x
		}
	}
	return nil
}

// startRestore makes a checkpoint in another database and begins to restore it.
func (r *run) startRestore() bool {
	name, c := r.source()
	x := r.checkpointOf(name, c)
	switch {
	case r.restoring(name) != nil && r.current() == nil:
		return true // it may be taken up, or is in the way
	case r.unfinished() != nil || r.current() != nil:
		r.refused("a restore beside another", r.restorer.StartRestore(r.ctx, x.metadata), checkpoint.ErrRestoreAlreadyInProgress)
		return true
	}
	r.must(r.restorer.StartRestore(r.ctx, x.metadata))
	if x.opened = r.insert == nil; x.opened {
		r.insert = &insert{version: name.Version}
	}
	r.insert.roots = append(r.insert.roots, x)
	return true
}

// checkpointOf makes a checkpoint of a root that is made, in two versions, in a database of its own.
func (r *run) checkpointOf(name node.Root, c reference.Content) *restore {
	r.sources++
	dir := r.dir + "/source" + strconv.Itoa(r.sources)
	cfg := r.cfg
	cfg.Dir = dir + "/db"
	ndb, err := r.h.Open(r.ctx, &cfg)
	r.must(err)
	defer func() {
		r.must(ndb.Close(r.ctx))
		r.must(os.RemoveAll(dir))
	}()
	tree := mkvs.New(ndb, name.Type)
	defer tree.Close()
	fill := func(part int) {
		for i, k := range c.Keys() {
			if i%2 == part {
				r.must(tree.Insert(r.ctx, []byte(k), []byte(c[k])))
			}
		}
	}
	fill(0)
	if name.Type == stateType {
		_, h, err := tree.Commit(r.ctx, namespace, name.Version-1)
		r.must(err)
		r.must(ndb.Finalize(r.ctx, []node.Root{{Namespace: namespace, Version: name.Version - 1, Type: name.Type, Hash: h}}))
	}
	fill(1)
	_, got, err := tree.Commit(r.ctx, namespace, name.Version)
	r.must(err)
	if got != name.Hash {
		r.Fatalf("a source has hash %s, want %s", got, name.Hash)
	}
	r.must(ndb.Finalize(r.ctx, []node.Root{name}))

	creator, err := checkpoint.NewFileCreator(dir+"/checkpoints", ndb, checkpoint.WithThreads(draw(r, []int{0, 2, 5}, "threads")))
	r.must(err)
	metadata, err := creator.CreateCheckpoint(r.ctx, name, draw(r, []uint64{1, 200, 1000, 5000, 1 << 20}, "chunk size"))
	r.must(err)
	x := &restore{name: name, content: c, done: map[int]bool{}, metadata: metadata, chunks: len(metadata.Chunks)}
	for i := range metadata.Chunks {
		chunk, err := metadata.GetChunkMetadata(uint64(i))
		r.must(err)
		var b bytes.Buffer
		r.must(creator.GetCheckpointChunk(r.ctx, chunk, &b))
		x.files = append(x.files, b.Bytes())
	}
	return x
}

// startRawRestore tells of a root whose chunks are cut anywhere.
func (r *run) startRawRestore() bool {
	name, c := r.source()
	if r.restoring(name) != nil {
		return false
	}
	r.must(r.ndb.StartMultipart(r.ctx, name.Version))
	if r.insert == nil {
		r.insert = &insert{version: name.Version}
	}
	r.refused("an insert beside another", r.ndb.StartMultipart(r.ctx, name.Version+1), db.ErrMultipartInProgress)
	if r.any {
		r.refused("an insert of a version that is there", r.ndb.StartMultipart(r.ctx, r.latest), db.ErrInvalidMultipartVersion, db.ErrMultipartInProgress)
	}
	most := 1 + r.index(50, "nodes a chunk")
	chunks := reference.Cut(reference.Build(c), func(_ []*reference.Node, start int) int { return start + 1 + r.rng.IntN(most) })
	x := &restore{name: name, content: c, done: map[int]bool{}, raw: chunks, chunks: len(chunks), tag: []byte("tag of " + name.String())}
	for range 2 {
		r.must(r.ndb.AddMultipartRoot(r.ctx, name, uint64(x.chunks), x.tag))
	}
	r.refused("a root with another tag", r.ndb.AddMultipartRoot(r.ctx, name, uint64(x.chunks), nil), db.ErrMultipartInProgress)
	r.insert.roots = append(r.insert.roots, x)
	return true
}

// restoreChunks goes on with a restore.
func (r *run) restoreChunks() bool {
	var going []*restore
	if r.insert != nil {
		going = slices.DeleteFunc(slices.Clone(r.insert.roots), func(x *restore) bool { return x.complete })
	}
	if len(going) == 0 {
		return false
	}
	x := draw(r, going, "restore")
	if x.metadata != nil {
		x = r.takeUp(x)
	}
	r.restoreSome(x, r.chance(4, "all chunks"))
	return true
}

// takeUp has the restorer go on with a restore. It returns the one that it is at.
func (r *run) takeUp(x *restore) *restore {
	switch current := r.current(); {
	case current == x:
		return x
	case current != nil:
		r.refused("a restore beside another", r.restorer.StartRestore(r.ctx, x.metadata), checkpoint.ErrRestoreAlreadyInProgress)
		return current
	}
	r.must(r.restorer.StartRestore(r.ctx, x.metadata))
	x.opened = true
	var want []uint64
	for i := range x.chunks {
		if !x.done[i] {
			want = append(want, uint64(i))
		}
	}
	if got := r.restorer.(checkpoint.Progress).PendingChunks(); !slices.Equal(got, want) {
		r.Fatalf("a restore is taken up with chunks %d to do, want %d", got, want)
	}
	return x
}

// restoreSome restores some of the chunks of an incomplete root, or all, in any order, some twice and some
// at once.
func (r *run) restoreSome(x *restore, all bool) {
	order := r.rng.Perm(x.chunks)
	if !all {
		order = order[:1+r.rng.IntN(len(order))]
	}
	order = append(order, order[:r.rng.IntN(len(order)+1)/3]...)
	if x.metadata != nil && !x.done[order[0]] && r.chance(3, "a bad chunk first") {
		bad := bytes.Clone(x.files[order[0]])
		bad[r.rng.IntN(len(bad))] ^= 0x40
		_, err := r.restorer.RestoreChunk(r.ctx, uint64(order[0]), bytes.NewReader(bad))
		r.refused("a corrupt chunk", err, checkpoint.ErrChunkCorrupted)
	}
	one := r.restoreChunk
	if x.raw != nil {
		one = r.writeChunk
	}
	results := make([]chunkResult, len(order))
	workers := draw(r, []int{1, 1, 4}, "at once")
	safe := r.rng.IntN(3) == 0
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < len(order); i += workers {
				results[i] = one(x, order[i], safe)
			}
		})
	}
	group.Wait()

	written := maps.Clone(x.done)
	for i, result := range results {
		if result.err == nil {
			x.done[order[i]] = true
		}
	}
	completed := 0
	for i, result := range results {
		switch {
		case result.err == nil && x.metadata != nil && written[order[i]]:
			r.Fatalf("chunk %d of %s was restored twice", order[i], x.name)
		case result.err == nil:
			written[order[i]] = true
		case x.metadata == nil, !x.done[order[i]]:
			r.Fatalf("chunk %d of %s: %v", order[i], x.name, result.err)
		default:
			r.refused("a chunk again", result.err, checkpoint.ErrChunkAlreadyRestored, checkpoint.ErrNoRestoreInProgress)
		}
		if result.complete {
			completed++
		}
	}
	r.complete(x, completed)
}

// complete completes a root whose chunks are all in; a restorer has done so itself, for one caller.
func (r *run) complete(x *restore, completed int) {
	whole := len(x.done) == x.chunks
	switch {
	case x.metadata != nil:
		if whole && completed != 1 || !whole && completed != 0 {
			r.Fatalf("%d of %d chunks of %s are in, and %d calls say that it is complete", len(x.done), x.chunks, x.name, completed)
		}
		x.complete = whole
	case !whole:
		r.refused("CompleteRoot", r.ndb.CompleteRoot(r.ctx, x.name), db.ErrNotComplete)
	default:
		for range 2 {
			r.must(r.ndb.CompleteRoot(r.ctx, x.name))
		}
		x.complete = true
	}
}

// chunkResult is what came of a chunk.
type chunkResult struct {
	complete bool
	err      error
}

func (r *run) restoreChunk(x *restore, index int, _ bool) chunkResult {
	complete, err := r.restorer.RestoreChunk(r.ctx, uint64(index), bytes.NewReader(x.files[index]))
	return chunkResult{complete, err}
}

func (r *run) writeChunk(x *restore, index int, sync bool) chunkResult {
	w, err := r.ndb.NewChunk(r.ctx, x.name, uint64(index))
	if err != nil {
		return chunkResult{err: err}
	}
	if err := x.raw[index].Put(r.ctx, w, r.embed); err != nil {
		return chunkResult{err: err}
	}
	if err := w.Commit(r.ctx, sync); err != nil {
		return chunkResult{err: err}
	}
	return chunkResult{err: w.Abort(r.ctx)} // does nothing
}

// restoreAll brings the open insert, or a new one, to its end.
func (r *run) restoreAll() bool {
	if r.insert == nil {
		start := r.startRestore
		if r.chance(3, "raw") {
			start = r.startRawRestore
		}
		start()
	}
	if r.insert == nil || len(r.insert.roots) == 0 {
		return false
	}
	chosen := map[node.RootType]*restore{}
	for _, x := range rapid.Permutation(r.insert.roots).Draw(r.T, "order") {
		if chosen[x.name.Type] != nil || len(chosen) > 0 && r.chance(3, "leave it out") {
			continue
		}
		for !x.complete {
			going := x
			if x.metadata != nil {
				going = r.takeUp(x)
			}
			r.restoreSome(going, true)
		}
		chosen[x.name.Type] = x
	}
	var roots []*root
	for t := stateType; t <= node.RootTypeMax; t++ {
		switch x := chosen[t]; {
		case x != nil:
			roots = append(roots, &root{Root: x.name})
		case r.chance(3, "an empty one beside it"):
			if r.restoring(emptyRoot(t, r.insert.version)) == nil {
				roots = append(roots, r.bare(t, r.insert.version))
			}
		case r.chance(2, "a candidate beside it"):
			i := slices.IndexFunc(r.pending(), func(c *root) bool {
				return c.Version == r.insert.version && c.Type == t && r.parentFinal(c) && r.restoring(c.Root) == nil
			})
			if i >= 0 {
				roots = append(roots, r.pending()[i])
			}
		}
	}
	r.must(r.ndb.Finalize(r.ctx, names(roots)))
	r.finalized(roots)
	return true
}

// settleRestored finds out where the nodes of a restored root are.
func (r *run) settleRestored(t *root) {
	r.adopt(t)
	t.top.All(func(n *reference.Node) {
		if !n.Embedded && n.Address.Version != t.Version {
			r.Fatalf("%s was restored, and has an entry of version %s", t.Root, n.Address)
		}
	})
}

// abortRestore gives up a restore, or all.
func (r *run) abortRestore() bool {
	if r.insert == nil {
		r.must(r.ndb.AbortMultipart(r.ctx))
		r.must(r.ndb.AbortRoot(r.ctx, nothing(stateType, r.next()).Root))
		r.must(r.restorer.AbortRestore(r.ctx))
		return false
	}
	current := r.current()
	switch {
	case r.chance(3, "the insert"):
		r.must(r.ndb.AbortMultipart(r.ctx))
		r.insert = nil
		r.must(r.restorer.AbortRestore(r.ctx))
	case current != nil && r.chance(2, "the restorer's"):
		r.must(r.restorer.AbortRestore(r.ctx))
		r.drop(current)
		if current.opened && len(r.insert.roots) == 0 {
			r.insert = nil
		}
	default:
		others := slices.DeleteFunc(slices.Clone(r.insert.roots), func(x *restore) bool { return x == current })
		if len(others) == 0 {
			return false
		}
		x := draw(r, others, "root")
		r.must(r.ndb.AbortRoot(r.ctx, x.name))
		r.drop(x)
	}
	return true
}

// drop forgets a root of the insert.
func (r *run) drop(x *restore) {
	r.insert.roots = slices.DeleteFunc(r.insert.roots, func(o *restore) bool { return o == x })
}

// compareInsert compares what the database says of the open insert.
func (r *run) compareInsert() {
	mp, err := r.ndb.Multipart(r.ctx)
	r.must(err)
	if (mp == nil) != (r.insert == nil) {
		r.Fatalf("the open insert is %+v, want %+v", mp, r.insert)
	}
	if mp == nil {
		return
	}
	if mp.Version != r.insert.version || len(mp.Roots) != len(r.insert.roots) {
		r.Fatalf("the insert of version %d has %d roots, want %d of %d", mp.Version, len(mp.Roots), len(r.insert.roots), r.insert.version)
	}
	for i, got := range mp.Roots {
		want := r.insert.roots[i]
		var done []uint64
		for _, index := range slices.Sorted(maps.Keys(want.done)) {
			done = append(done, uint64(index))
		}
		if got.Root != want.name || got.Chunks != uint64(want.chunks) || want.tag != nil && !bytes.Equal(got.Tag, want.tag) ||
			got.Complete != want.complete || !slices.Equal(got.Done, done) {
			r.Fatalf("the insert has %s, %d chunks, %d done, complete %t; want %s, %d, %d, %t",
				got.Root, got.Chunks, got.Done, got.Complete, want.name, want.chunks, done, want.complete)
		}
	}
}

package checkpoint

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// checkIndex checks that a directory's index tells of these roots, and of each what is there.
func checkIndex(t *testing.T, dir string, want ...node.Root) {
	t.Helper()
	index, err := ReadIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []node.Root
	for _, e := range index.Checkpoints {
		path := filepath.Join(dir, filepath.FromSlash(e.Path))
		m, err := readMetadata(path, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		var bytes int64
		for i := range m.Chunks {
			info, err := os.Stat(chunkPath(path, uint64(i)))
			if err != nil {
				t.Fatal(err)
			}
			bytes += info.Size()
		}
		told := IndexEntry{
			Path: e.Path, Namespace: m.Root.Namespace, Version: m.Root.Version, Type: m.Root.Type.String(), Root: m.Root.Hash,
			MetadataHash: m.EncodedHash(), Bytes: bytes,
		}
		if e != told {
			t.Errorf("%+v, want %+v", e, told)
		}
		got = append(got, m.Root)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the index tells of %v, want %v", got, want)
	}
}

func TestIndex(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	dir := t.TempDir()
	c := newCreator(t, dir, ndb)
	var roots []node.Root
	for v := range uint64(4) {
		state := commit(t, ndb, v, node.RootTypeState, dataSet("uniform", 10+v))
		io := commit(t, ndb, v, node.RootTypeIO, dataSet("uniform", 5))
		finalize(t, ndb, state, io)
		roots = append(roots, state, io)
	}
	create := func(root node.Root) {
		t.Helper()
		if _, err := c.CreateCheckpoint(ctx, root, 512); err != nil {
			t.Fatal(err)
		}
	}
	create(roots[0])
	checkIndex(t, dir, roots[0])
	create(roots[2])
	create(roots[3])
	checkIndex(t, dir, roots[2], roots[3], roots[0])

	// One that is damaged is left out, and hides no other; one that was copied here is told of.
	if err := os.WriteFile(filepath.Join(CheckpointDir(dir, roots[2]), metadataName), []byte("damaged"), fileMode); err != nil {
		t.Fatal(err)
	}
	elsewhere := makeCheckpoint(t, ndb, roots[4], 512, 0)
	if err := os.CopyFS(CheckpointDir(dir, roots[4]), os.DirFS(elsewhere.path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(CheckpointDir(dir, roots[4]), manifestName)); err != nil {
		t.Fatal(err)
	}
	create(roots[6])
	checkIndex(t, dir, roots[6], roots[4], roots[3], roots[0])

	// It is made anew where it can't be used, and goes along with what is deleted.
	for name, b := range map[string]string{"none": "", "cut": `{"format": 1`, "another format": `{"format": 2}`} {
		path := filepath.Join(dir, IndexName)
		if err := os.WriteFile(path, []byte(b), fileMode); err != nil {
			t.Fatal(err)
		}
		if name == "none" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := c.GetCheckpoint(ctx, 1, roots[6]); err != nil { // nobody needs it
			t.Errorf("%s: %v", name, err)
		}
		if err := c.DeleteCheckpoint(ctx, 1, roots[6]); err != nil {
			t.Fatal(err)
		}
		checkIndex(t, dir, roots[4], roots[3], roots[0])
		create(roots[6])
		checkIndex(t, dir, roots[6], roots[4], roots[3], roots[0])
	}
	// A directory where the index is to be costs no checkpoint.
	if err := os.Remove(filepath.Join(dir, IndexName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, IndexName), dirMode); err != nil {
		t.Fatal(err)
	}
	create(roots[1])
	if _, err := c.GetCheckpoint(ctx, 1, roots[1]); err != nil {
		t.Errorf("without an index: %v", err)
	}
}

// TestIndexConcurrently has many creators, as several processes would be, make and delete at once: the
// index is of what is there in the end, and at any time one that can be read.
func TestIndexConcurrently(t *testing.T) {
	ctx := t.Context()
	ndb := openDB(t)
	dir := t.TempDir()
	const versions = 12
	var roots []node.Root
	for v := range uint64(versions) {
		root := commit(t, ndb, v, node.RootTypeState, dataSet("uniform", 10+v))
		finalize(t, ndb, root)
		roots = append(roots, root)
	}
	var group errgroup.Group
	for _, root := range roots {
		group.Go(func() error {
			c := newCreator(t, dir, ndb)
			if _, err := c.CreateCheckpoint(ctx, root, 512); err != nil {
				return err
			}
			if _, err := ReadIndex(dir); err != nil {
				return err
			}
			if root.Version%3 == 0 {
				return c.DeleteCheckpoint(ctx, 1, root)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(roots)
	checkIndex(t, dir, slices.DeleteFunc(roots, func(r node.Root) bool { return r.Version%3 == 0 })...)
}

// TestIndexOvertaken checks that whoever writes an index late, when others have changed the directory and
// written theirs, does not leave it so.
func TestIndexOvertaken(t *testing.T) {
	ndb := openDB(t)
	dir := t.TempDir()
	c := newCreator(t, dir, ndb)
	var roots []node.Root
	for v := range uint64(2) {
		root := commit(t, ndb, v, node.RootTypeState, dataSet("uniform", 10+v))
		finalize(t, ndb, root)
		roots = append(roots, root)
	}
	if _, err := c.CreateCheckpoint(t.Context(), roots[0], 512); err != nil {
		t.Fatal(err)
	}
	written := 0
	err := c.(*fileCreator).updateIndex(t.Context(), func(b []byte) error {
		if written++; written == 1 {
			if _, err := c.CreateCheckpoint(t.Context(), roots[1], 512); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(dir, IndexName), b, fileMode)
	})
	if err != nil || written != 2 {
		t.Errorf("written %d times, %v", written, err)
	}
	checkIndex(t, dir, roots[1], roots[0])
}

func FuzzDecodeIndex(f *testing.F) {
	for _, s := range []string{
		`{"format":1,"checkpoints":[]}`, `{"format":1}`, `{"format":2}`, `{`, `null`,
		`{"format":1,"checkpoints":[{"path":"7/ab","type":"io","version":7,"bytes":3}]}`,
		`{"format":1,"checkpoints":[{"path":"../7","type":"io"}]}`, `{"format":1,"checkpoints":[{"path":"/7","type":"io"}]}`,
		`{"format":1,"checkpoints":[{"path":"7","type":"io","bytes":-1}]}`, `{"format":1,"checkpoints":[{"path":"7","type":"?"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		index, err := DecodeIndex(b)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		for _, e := range index.Checkpoints {
			if !filepath.IsLocal(filepath.FromSlash(e.Path)) || e.Bytes < 0 {
				t.Errorf("%+v was taken", e)
			}
		}
		again, err := EncodeIndex(index)
		if err != nil {
			t.Fatal(err)
		}
		if decoded, err := DecodeIndex(again); err != nil || !reflect.DeepEqual(decoded, index) {
			t.Errorf("encoded and decoded again: %+v, %v", decoded, err)
		}
	})
}

func TestDecodeIndexRefuses(t *testing.T) {
	for _, s := range []string{
		``, `null`, `{`, `{"format":2}`,
		`{"format":1,"checkpoints":[{"path":"../7","type":"io"}]}`, `{"format":1,"checkpoints":[{"path":"/7","type":"io"}]}`,
		`{"format":1,"checkpoints":[{"path":"","type":"io"}]}`, `{"format":1,"checkpoints":[{"path":".","type":"io"}]}`,
		`{"format":1,"checkpoints":[{"path":"7","type":"io","bytes":-1}]}`, `{"format":1,"checkpoints":[{"path":"7","type":""}]}`,
	} {
		if index, err := DecodeIndex([]byte(s)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %+v, %v", s, index, err)
		}
	}
}

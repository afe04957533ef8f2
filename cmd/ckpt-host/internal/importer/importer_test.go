package importer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

var namespace = common.NewTestNamespaceFromSeed([]byte("importer"), 0)

type fataler interface{ Fatal(args ...any) }

func open(t fataler) db.NodeDB {
	ndb, err := memory.New().New(context.Background(), &db.Config{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	return ndb
}

// importText imports operations in hexadecimal digits, with little memory for the state.
func importText(ndb db.NodeDB, text string) (Result, error) {
	ctx := context.Background()
	im, err := New(ctx, ndb, nil, mkvs.WithCapacityBytes(50))
	if err != nil {
		return Result{}, err
	}
	defer im.Close()
	err = im.Run(ctx, ndjson.NewReader(strings.NewReader(text), ndjson.Hex, 100, 1000))
	return im.Status(), err
}

// contents returns what a version's root of a type holds; nil where there is no such root.
func contents(t fataler, ndb db.NodeDB, version uint64, rootType node.RootType) map[string]string {
	ctx := context.Background()
	roots, err := ndb.GetRootsForVersion(ctx, version)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		if root.Type != rootType {
			continue
		}
		tree := mkvs.NewWithRoot(ndb, root)
		defer tree.Close()
		it := tree.NewIterator(ctx)
		defer it.Close()
		entries := map[string]string{}
		for it.Rewind(); it.Valid(); it.Next() {
			entries[string(it.Key())] = string(it.Value())
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		return entries
	}
	return nil
}

// TestImportAgainstModel imports random operations, in several runs, and compares every version with
// maps.
func TestImportAgainstModel(t *testing.T) {
	type model struct{ state, io map[string]string }
	rapid.Check(t, func(t *rapid.T) {
		ndb := open(t)
		defer ndb.Close(context.Background())
		key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0x80, 0xff}), 0, 3)
		value := rapid.SliceOfN(rapid.Byte(), 0, 40)
		first := rapid.Uint64Range(0, 5).Draw(t, "first version")
		versions := rapid.IntRange(1, 6).Draw(t, "versions")
		models := map[uint64]model{}
		state := map[string]string{}
		var input strings.Builder
		for version := first; version < first+uint64(versions); version++ {
			m := model{io: nil}
			for range rapid.IntRange(1, 10).Draw(t, "operations") {
				k, v := key.Draw(t, "key"), value.Draw(t, "value")
				target, suffix := state, ""
				if rapid.IntRange(0, 3).Draw(t, "type") == 0 {
					if m.io == nil {
						m.io = map[string]string{}
					}
					target, suffix = m.io, `,"type":"io"`
				}
				if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
					delete(target, string(k))
					fmt.Fprintf(&input, `{"version":%d,"key":"%x","delete":true%s}`+"\n", version, k, suffix)
				} else {
					target[string(k)] = string(v)
					fmt.Fprintf(&input, `{"version":%d,"key":"%x","value":"%x"%s}`+"\n", version, k, v, suffix)
				}
			}
			m.state = maps.Clone(state)
			models[version] = m
			if rapid.Bool().Draw(t, "new run") {
				if _, err := importText(ndb, input.String()); err != nil {
					t.Fatal(err)
				}
				input.Reset()
			}
		}
		if _, err := importText(ndb, input.String()); err != nil {
			t.Fatal(err)
		}
		for version, m := range models {
			if got := contents(t, ndb, version, node.RootTypeState); !maps.Equal(got, m.state) {
				t.Fatalf("state of version %d: %q, want %q", version, got, m.state)
			}
			got := contents(t, ndb, version, node.RootTypeIO)
			if (got == nil) != (m.io == nil) || !maps.Equal(got, m.io) {
				t.Fatalf("io root of version %d: %q, want %q", version, got, m.io)
			}
		}
	})
}

// TestWhatIsKept imports input with a bad line and looks which versions are there.
func TestWhatIsKept(t *testing.T) {
	good := func(version int, key string) string {
		return fmt.Sprintf(`{"version":%d,"key":"%s","value":""}`, version, hex.EncodeToString([]byte(key)))
	}
	const garbage = "garbage"
	bad := func(version int) string { return fmt.Sprintf(`{"version":%d,"key":"x","value":""}`, version) }
	for name, test := range map[string]struct {
		lines []string
		kept  uint64 // the latest version; 0: none
		line  int
	}{
		"in the first version":             {[]string{good(1, "a"), bad(1)}, 0, 2},
		"of the next version":              {[]string{good(1, "a"), bad(2)}, 1, 2},
		"of the present version":           {[]string{good(1, "a"), good(2, "a"), bad(2), good(3, "a")}, 1, 3},
		"unreadable, present goes on":      {[]string{good(1, "a"), good(2, "a"), garbage, good(2, "b")}, 1, 3},
		"unreadable, a version is missing": {[]string{good(1, "a"), good(2, "a"), garbage, good(4, "b")}, 2, 3},
		"unreadable, next begins":          {[]string{good(1, "a"), garbage, good(2, "b")}, 1, 2},
		"unreadable, at the end":           {[]string{good(1, "a"), garbage}, 1, 2},
		"unreadable, alone":                {[]string{garbage}, 0, 1},
		"cut short, version readable":      {[]string{good(1, "a"), good(2, "a"), `{"version":2,"ke`}, 1, 3},
		"a version is left out":            {[]string{good(1, "a"), good(12, "a")}, 1, 2},
		"a version again":                  {[]string{good(1, "a"), good(2, "a"), good(1, "b")}, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			ndb := open(t)
			defer ndb.Close(context.Background())
			result, err := importText(ndb, strings.Join(test.lines, "\n"))
			var line *ndjson.LineError
			if !errors.As(err, &line) || line.Line != test.line {
				t.Fatalf("got %v, want line %d", err, test.line)
			}
			latest, exists, err := ndb.GetLatestVersion(context.Background())
			if err != nil || exists != (test.kept > 0) || latest != test.kept {
				t.Errorf("latest version: %d, %v, %v, want %d", latest, exists, err, test.kept)
			}
			if result.Versions != test.kept {
				t.Errorf("%d versions are told", result.Versions)
			}
		})
	}
}

func TestFinalizedIsTold(t *testing.T) {
	ndb := open(t)
	ctx := context.Background()
	defer ndb.Close(ctx)
	var told []uint64
	im, err := New(ctx, ndb, func(version uint64) { told = append(told, version) })
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	input := bytes.NewBufferString(`{"version":3,"key":"","value":""}
{"version":4,"key":"","delete":true}
{"version":5,"key":"","value":"00","type":"io"}`)
	if err := im.Run(ctx, ndjson.NewReader(input, ndjson.Hex, 10, 10)); err != nil {
		t.Fatal(err)
	}
	if want := []uint64{3, 4, 5}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	r := im.Status()
	if r.First != 3 || r.Last != 5 || r.Operations != 3 || len(r.Roots) != 2 || !r.Roots[0].IsEmpty() {
		t.Errorf("%+v", r)
	}
}

// TestSorted imports a first version whose state is sorted, and compares it with the same imported as any.
func TestSorted(t *testing.T) {
	ctx := context.Background()
	input := `{"version":2,"key":"","value":"01"}
{"version":2,"key":"ff","value":"","type":"io"}
{"version":2,"key":"0a","value":"02"}
{"version":2,"key":"0a00","value":"03"}
{"version":2,"key":"0b","value":"04"}
{"version":3,"key":"0a","delete":true}`
	roots := map[bool][]node.Root{}
	for _, sorted := range []bool{false, true} {
		ndb := open(t)
		defer ndb.Close(ctx)
		im, err := New(ctx, ndb, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer im.Close()
		if sorted {
			if err := im.Sorted(); err != nil {
				t.Fatal(err)
			}
		}
		if err := im.Run(ctx, ndjson.NewReader(strings.NewReader(input), ndjson.Hex, 10, 10)); err != nil {
			t.Fatal(err)
		}
		for version := uint64(2); version <= 3; version++ {
			r, err := ndb.GetRootsForVersion(ctx, version)
			if err != nil {
				t.Fatal(err)
			}
			roots[sorted] = append(roots[sorted], r...)
		}
		if got := contents(t, ndb, 3, node.RootTypeState); len(got) != 3 {
			t.Errorf("version 3 holds %q", got)
		}
		var log []string
		for change, err := range ndb.GetWriteLog(ctx, node.Root{Namespace: namespace, Version: 2, Type: node.RootTypeState, Hash: hash.EmptyHash}, roots[sorted][0]) {
			if err != nil {
				t.Fatal(err)
			}
			log = append(log, hex.EncodeToString(change.Key)+"="+hex.EncodeToString(change.Value))
		}
		if want := []string{"=01", "0a=02", "0a00=03", "0b=04"}; !slices.Equal(log, want) {
			t.Errorf("sorted %v: write log %q", sorted, log)
		}
		if again, err := New(ctx, ndb, nil); err != nil {
			t.Error(err)
		} else if err := again.Sorted(); !errors.Is(err, ErrNotEmpty) {
			t.Errorf("sorted into a database with versions: %v", err)
		}
	}
	if !slices.Equal(roots[true], roots[false]) {
		t.Errorf("roots %v, want %v", roots[true], roots[false])
	}
}

// TestNotSorted imports what is not as sorted input has to be: it ends at that line, with nothing left.
func TestNotSorted(t *testing.T) {
	ctx := context.Background()
	for name, line := range map[string]string{
		"a key again":  `{"version":1,"key":"0b","value":""}`,
		"a key before": `{"version":1,"key":"0a","value":""}`,
		"a removal":    `{"version":1,"key":"0c","delete":true}`,
	} {
		ndb := open(t)
		defer ndb.Close(ctx)
		im, err := New(ctx, ndb, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := im.Sorted(); err != nil {
			t.Fatal(err)
		}
		input := `{"version":1,"key":"0b","value":""}` + "\n" + line
		var bad *ndjson.LineError
		if err := im.Run(ctx, ndjson.NewReader(strings.NewReader(input), ndjson.Hex, 10, 10)); !errors.As(err, &bad) || bad.Line != 2 {
			t.Errorf("%s: %v", name, err)
		}
		im.Close()
		if _, exists, err := ndb.GetLatestVersion(ctx); exists || err != nil || im.Status().Versions != 0 {
			t.Errorf("%s: a version is there: %v", name, err)
		}
	}
}

// slowFinalize is a database that finalizes a version only when it is told to.
type slowFinalize struct {
	db.NodeDB
	begun, may chan uint64
}

func (d *slowFinalize) Finalize(ctx context.Context, roots []node.Root) error {
	d.begun <- roots[0].Version
	var allowed uint64
	select {
	case allowed = <-d.may:
	case <-ctx.Done():
		return ctx.Err()
	}
	if allowed != roots[0].Version {
		return fmt.Errorf("version %d is finalized, want %d", roots[0].Version, allowed)
	}
	return d.NodeDB.Finalize(ctx, roots)
}

// lines is input that comes line by line.
type lines chan string

func (l lines) Read(p []byte) (int, error) {
	line, more := <-l
	if !more {
		return 0, io.EOF
	}
	return copy(p, line), nil
}

// TestFinalizesMeanwhile looks that the next version is committed while one is being finalized, that none is
// told of before, and that an error of the last one is not lost.
func TestFinalizesMeanwhile(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sound := open(t)
	defer sound.Close(context.Background())
	ndb := &slowFinalize{sound, make(chan uint64, 3), make(chan uint64, 3)}
	im, err := New(ctx, ndb, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	input := make(lines, 3)
	ended := make(chan error, 1)
	go func() { ended <- im.Run(ctx, ndjson.NewReader(input, ndjson.Hex, 10, 10)) }()
	for version := range 3 {
		input <- fmt.Sprintf(`{"version":%d,"key":"%02x","value":"00"}`+"\n", version+1, version)
	}
	if got := <-ndb.begun; got != 1 {
		t.Fatalf("version %d is finalized", got)
	}
	for { // the third version has ended the second, whose candidate comes though the first is not finalized
		roots, err := sound.GetRootsForVersion(ctx, 2)
		if err != nil {
			t.Fatal("version 2 waits for the first: ", err)
		}
		if len(roots) > 0 {
			break
		}
		runtime.Gosched()
	}
	if im.Status().Versions != 0 {
		t.Error("a version is told of that is not finalized")
	}
	ndb.may <- 1
	if got := <-ndb.begun; got != 2 {
		t.Fatalf("version %d is finalized", got)
	}
	if im.Status().Last != 1 {
		t.Errorf("%+v after version 1", im.Status())
	}
	close(input)
	ndb.may <- 2
	if got := <-ndb.begun; got != 3 {
		t.Fatalf("version %d is finalized", got)
	}
	ndb.may <- 77 // fails
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("ended with %v", err)
	}
	if im.Status().Last != 2 {
		t.Errorf("%+v at the end", im.Status())
	}
}

// brokenFinalize is a database that can't finalize a version.
type brokenFinalize struct {
	db.NodeDB
	version uint64
}

var errFull = errors.New("the disk is full")

func (d *brokenFinalize) Finalize(ctx context.Context, roots []node.Root) error {
	if roots[0].Version == d.version {
		return errFull
	}
	return d.NodeDB.Finalize(ctx, roots)
}

// TestWrongLineAfterWhatCannotBeKept checks that a wrong line does not hide why the version before it, or the one
// before that, is not kept.
func TestWrongLineAfterWhatCannotBeKept(t *testing.T) {
	const text = `{"version":1,"key":"00","value":""}
{"version":2,"key":"00","value":""}
{"version":3,"key":"zz"}
`
	for version := range uint64(2) {
		ndb := &brokenFinalize{open(t), version + 1}
		done, err := importText(ndb, text)
		var bad *ndjson.LineError
		if !errors.Is(err, errFull) || errors.As(err, &bad) || !strings.Contains(err.Error(), "line 3") || done.Versions != version {
			t.Errorf("version %d can't be finalized: %+v, %v", version+1, done, err)
		}
		ndb.Close(t.Context())
	}
}

func TestStateThatWasLeftOut(t *testing.T) {
	ctx := context.Background()
	ndb := open(t)
	defer ndb.Close(ctx)
	root := node.Root{Namespace: namespace, Version: 3, Type: node.RootTypeIO}
	root.Hash.Empty()
	if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(ctx, ndb, nil); !errors.Is(err, db.ErrRootNotFound) {
		t.Errorf("got %v", err)
	}
}

package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// archiveOf returns the archive of the checkpoint in dir.
func archiveOf(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	exported, err := WriteArchive(context.Background(), &b, dir, ExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if exported.Bytes != int64(b.Len()) {
		t.Errorf("%d bytes were told of, and %d written", exported.Bytes, b.Len())
	}
	return b.Bytes()
}

func importArchive(archive []byte, dir string, opts ImportOptions) (*Imported, error) {
	return ImportArchive(context.Background(), bytes.NewReader(archive), dir, opts)
}

// file is a file of an archive.
type file struct {
	*tar.Header
	body []byte
}

// filesOf takes an archive apart, as any tar program does.
func filesOf(t testing.TB, archive []byte) (files []file) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file{header, body})
	}
}

// archiveFrom puts an archive together.
func archiveFrom(t testing.TB, files []file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// checkSame checks that two directories hold the same checkpoint.
func checkSame(t testing.TB, a, b string, m *Metadata) {
	t.Helper()
	for i := range len(m.Chunks) + 1 {
		name := metadataName
		if i > 0 {
			name = filepath.Join(chunksName, fmt.Sprint(i-1))
		}
		want, err := os.ReadFile(filepath.Join(a, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(b, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d: %v", name, len(got), len(want), err)
		}
	}
	want, wantErr := ReadManifest(a, m)
	got, gotErr := ReadManifest(b, m)
	if errors.Is(wantErr, fs.ErrNotExist) && errors.Is(gotErr, fs.ErrNotExist) {
		return
	}
	if wantErr != nil || gotErr != nil || !reflect.DeepEqual(got, archivedManifest(want)) {
		t.Errorf("manifest %+v, %v, want %+v, %v", got, gotErr, want, wantErr)
	}
}

// checkNothing checks that an import has left nothing in dir.
func checkNothing(t testing.TB, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(names) > 0 {
		t.Errorf("%s is left in %s", names[0], dir)
	}
}

func TestArchiveRoundTrip(t *testing.T) {
	for name, pairs := range map[string]uint64{"empty": 0, "one": 1, "many": 300} {
		t.Run(name, func(t *testing.T) {
			source := sourceOf(t, dataSet("uniform", pairs), 512, 1)
			archive := archiveOf(t, source.path)
			var told [2]int64
			dir := filepath.Join(t.TempDir(), "new")
			opts := ImportOptions{Namespace: &source.Root.Namespace, Progress: func(done, total int64) { told = [2]int64{done, total} }}

			dry := opts
			dry.DryRun = true
			want := Imported{
				Path: CheckpointDir(dir, source.Root), Metadata: source.Metadata, Bytes: bytesOf(t, &source), Entries: pairs,
			}
			got, err := importArchive(archive, dir, dry)
			if err != nil {
				t.Fatal(err)
			}
			want.Manifest = got.Manifest
			if !reflect.DeepEqual(*got, want) || got.Manifest == nil || got.Manifest.Entries != pairs {
				t.Errorf("dry run: %+v, want %+v", got, want)
			}
			if told != [2]int64{int64(len(archive)), int64(len(archive))} {
				t.Errorf("dry run: progress %v of %d", told, len(archive))
			}
			checkNothing(t, dir)

			got, err = ImportArchive(t.Context(), iotest.HalfReader(bytes.NewReader(archive)), dir, opts)
			if err != nil || !reflect.DeepEqual(*got, want) {
				t.Fatalf("%+v, %v, want %+v", got, err, want)
			}
			checkSame(t, source.path, got.Path, source.Metadata)
			checkIndex(t, dir, source.Root)
			if again := archiveOf(t, got.Path); !bytes.Equal(again, archive) {
				t.Error("the archive of what was imported is another one")
			}
			if names := readNames(t, dir); !slices.Equal(names, []string{"1", IndexName}) {
				t.Errorf("names %v", names)
			}

			want.Existed, want.Entries = true, 0
			for _, opts := range []ImportOptions{opts, dry} {
				if got, err := importArchive(archive, dir, opts); err != nil || !reflect.DeepEqual(*got, want) {
					t.Errorf("again: %+v, %v, want %+v", got, err, want)
				}
			}
			if _, err := importArchive(archive[:len(archive)-600], dir, opts); !errors.Is(err, ErrMalformedArchive) {
				t.Errorf("half of what is there: %v", err)
			}
		})
	}
}

// TestArchiveIsTar checks what a tar program sees of an archive, and that one which such a program has put
// together is as good.
func TestArchiveIsTar(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 100), 1024, 1)
	archive := archiveOf(t, source.path)
	files := filesOf(t, archive)
	dir := fmt.Sprintf("1/%s/", source.Root.Hash)
	want := []string{dir + "meta", dir + "manifest.json"}
	for i := range source.Chunks {
		want = append(want, fmt.Sprintf("%schunks/%d", dir, i))
	}
	var names []string
	for i, f := range files {
		names = append(names, f.Name)
		if f.Typeflag != tar.TypeReg || f.Mode != 0o600 || f.ModTime.Unix() != 0 || f.Uid != 0 || f.Uname != "" || f.Format != tar.FormatUSTAR {
			t.Errorf("%+v", f.Header)
		}
		if i >= 2 && hash.Sum(f.body) != source.Chunks[i-2] {
			t.Errorf("%s is not the chunk", f.Name)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("names %v, want %v", names, want)
	}

	for i := range files {
		files[i].Header = &tar.Header{
			Typeflag: tar.TypeReg, Name: files[i].Name, Size: files[i].Size, Mode: 0o644, Uid: 1000, Gid: 100,
			Uname: "somebody", ModTime: files[i].ModTime.AddDate(50, 0, 0), Format: tar.FormatGNU,
		}
	}
	other := append(archiveFrom(t, files), make([]byte, 10240)...)
	if bytes.Equal(other[:len(archive)], archive) {
		t.Fatal("the other archive is the same one")
	}
	got, err := importArchive(other, t.TempDir(), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, source.path, got.Path, source.Metadata)

	// One without a manifest.
	got, err = importArchive(archiveFrom(t, slices.Delete(files, 1, 2)), t.TempDir(), ImportOptions{})
	if err != nil || got.Manifest != nil || got.Entries != 100 {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(got.Path, manifestName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("manifest: %v", err)
	}
	if err := os.Remove(filepath.Join(source.path, manifestName)); err != nil {
		t.Fatal(err)
	}
	if a, b := archiveOf(t, got.Path), archiveOf(t, source.path); !bytes.Equal(a, b) {
		t.Error("not the same archive without a manifest")
	}
}

// TestArchiveOfACheckpointer checks that a checkpoint does not belong to a checkpointer on the other side.
func TestArchiveOfACheckpointer(t *testing.T) {
	ndb := openDB(t)
	root := commit(t, ndb, 1, node.RootTypeState, dataSet("uniform", 10))
	finalize(t, ndb, root)
	c := newCreator(t, t.TempDir(), ndb)
	m, err := c.CreateCheckpoint(withOrigin(t.Context(), originCheckpointer), root, 512)
	if err != nil {
		t.Fatal(err)
	}
	manifest, path, err := c.(Inspector).Describe(t.Context(), root)
	if err != nil || manifest.Origin != originCheckpointer {
		t.Fatalf("%+v, %v", manifest, err)
	}
	archive := archiveOf(t, path)
	files := filesOf(t, archive)
	if bytes.Contains(files[1].body, []byte(originCheckpointer)) {
		t.Error("the archive tells of a checkpointer")
	}
	// An archive that was made otherwise.
	forged, err := encodeManifest(manifest)
	if err != nil {
		t.Fatal(err)
	}
	files[1].body, files[1].Size = forged, int64(len(forged))
	got, err := importArchive(archiveFrom(t, files), t.TempDir(), ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if manifest, err := ReadManifest(got.Path, m); err != nil || manifest.Origin != "" {
		t.Errorf("%+v, %v", manifest, err)
	}
}

// TestImportBesideOthers imports what meets another checkpoint in the directory.
func TestImportBesideOthers(t *testing.T) {
	ndb := openDB(t)
	pairs := dataSet("uniform", 100)
	state := commit(t, ndb, 1, node.RootTypeState, pairs)
	io := commit(t, ndb, 1, node.RootTypeIO, pairs)
	finalize(t, ndb, state, io)
	if state.Hash != io.Hash {
		t.Fatal("two hashes")
	}
	dir := t.TempDir()
	for _, root := range []node.Root{state, io} {
		m := makeCheckpoint(t, ndb, root, 512, 1)
		for _, dryRun := range []bool{true, false} {
			got, err := importArchive(archiveOf(t, m.path), dir, ImportOptions{DryRun: dryRun})
			want := CheckpointDir(dir, root)
			if root == io {
				want += "-2"
			}
			if err != nil || got.Path != want {
				t.Errorf("%s, dry run %v: %+v, %v", root, dryRun, got, err)
			}
		}
	}
	checkIndex(t, dir, state, io)
	otherwise := makeCheckpoint(t, ndb, state, 1024, 1)
	for _, dryRun := range []bool{true, false} {
		_, err := importArchive(archiveOf(t, otherwise.path), dir, ImportOptions{DryRun: dryRun})
		if !errors.Is(err, ErrParametersDiffer) {
			t.Errorf("one that is cut otherwise: %v", err)
		}
	}
	foreign := common.NewTestNamespaceFromSeed([]byte("another"), 0)
	if _, err := importArchive(archiveOf(t, otherwise.path), t.TempDir(), ImportOptions{Namespace: &foreign}); !errors.Is(err, db.ErrBadNamespace) {
		t.Errorf("of another namespace: %v", err)
	}
}

// TestImportConcurrently imports one archive many times at once.
func TestImportConcurrently(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 100), 512, 1)
	archive := archiveOf(t, source.path)
	dir := t.TempDir()
	const importers = 8
	existed := make([]bool, importers)
	var group errgroup.Group
	for i := range importers {
		group.Go(func() error {
			got, err := importArchive(archive, dir, ImportOptions{})
			if err != nil {
				return err
			}
			existed[i] = got.Existed
			if got.Existed != (got.Entries == 0) {
				t.Errorf("it existed: %v, and has %d entries", got.Existed, got.Entries)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(existed, func(e bool) bool { return e })); n != 1 {
		t.Errorf("%d imports say that they brought the checkpoint", n)
	}
	checkSame(t, source.path, CheckpointDir(dir, source.Root), source.Metadata)
	checkIndex(t, dir, source.Root)
	if names := readNames(t, dir); !slices.Equal(names, []string{"1", IndexName}) {
		t.Errorf("names %v", names)
	}
}

// TestImportRefuses checks that what is no archive of a good checkpoint is refused, with its error, and
// leaves nothing.
func TestImportRefuses(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 60), 512, 1)
	archive := archiveOf(t, source.path)
	dir := archiveDir(source.Root)
	with := func(change func(files []file) []file) []byte {
		return archiveFrom(t, change(filesOf(t, archive)))
	}
	rename := func(index int, name string) []byte {
		return with(func(files []file) []file {
			files[index].Name = name
			return files
		})
	}
	// insert puts an entry before a file.
	insert := func(index int, header tar.Header, body string) []byte {
		return with(func(files []file) []file {
			if header.Format == 0 {
				header.Format = tar.FormatUSTAR
			}
			header.Size = int64(len(body))
			return slices.Insert(files, index, file{&header, []byte(body)})
		})
	}
	body := func(index int, b []byte) []byte {
		return with(func(files []file) []file {
			files[index].body, files[index].Size = b, int64(len(b))
			return files
		})
	}
	manifest := func(change func(m *Manifest)) []byte {
		m, err := ReadManifest(source.path, source.Metadata)
		if err != nil {
			t.Fatal(err)
		}
		change(m)
		b, err := encodeManifest(m)
		if err != nil {
			t.Fatal(err)
		}
		return body(1, b)
	}
	meta := func(change func(m *Metadata)) []byte {
		m := source.clone()
		change(m)
		return with(func(files []file) []file {
			b := EncodeMetadata(m)
			files[0].body, files[0].Size = b, int64(len(b))
			return slices.Delete(files, 1, 2)
		})
	}
	// raw changes the archive's bytes at a file's header, and repairs the header's checksum.
	raw := func(index int, change func(block []byte)) []byte {
		b := bytes.Clone(archive)
		at := 0
		for i, f := range filesOf(t, archive) {
			if i == index {
				break
			}
			at += int(archiveEntryBytes(f.Size))
		}
		block := b[at : at+archiveBlock]
		change(block)
		copy(block[148:156], "        ")
		sum := 0
		for _, c := range block {
			sum += int(c)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	size := func(index int, octal string) []byte {
		return raw(index, func(block []byte) { copy(block[124:136], octal) })
	}
	// forged is a checkpoint whose chunks have the right digests, and one of which is no proof.
	forged := sourceOf(t, dataSet("uniform", 60), 512, 1)
	forged.replace(t, 2, []byte("no chunk"))
	short := sourceOf(t, dataSet("uniform", 60), 512, 1)
	short.Chunks = short.Chunks[:len(short.Chunks)-1]
	if err := os.WriteFile(filepath.Join(short.path, metadataName), EncodeMetadata(short.Metadata), fileMode); err != nil {
		t.Fatal(err)
	}
	sparse := "GNU.sparse.major"
	last := len(filesOf(t, archive)) - 1
	otherTypes := []string{
		"directory", "symbolic link", "hard link", "device", "sparse file", "extended header", "extended header of a sparse", "long name",
	}

	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"nothing":                     {nil, ErrMalformedArchive},
		"the end of a tar file":       {make([]byte, 1024), ErrMalformedArchive},
		"noise":                       {[]byte(strings.Repeat("no tar file ", 1000)), ErrMalformedArchive},
		"compressed":                  {append([]byte("\x1f\x8b\x08"), make([]byte, 2000)...), ErrMalformedArchive},
		"name with ..":                {rename(0, "../"+dir+"/meta"), ErrMalformedArchive},
		"absolute name":               {rename(0, "/"+dir+"/meta"), ErrMalformedArchive},
		"name with .. in it":          {rename(0, dir+"/../x/meta"), ErrMalformedArchive},
		"chunk with ..":               {rename(2, dir+"/chunks/../0"), ErrMalformedArchive},
		"metadata's other name":       {rename(0, "2/"+source.Root.Hash.Hex()+"/meta"), ErrMalformedArchive},
		"manifest's other name":       {rename(1, dir+"/manifest"), ErrMalformedArchive},
		"chunk's other name":          {rename(3, dir+"/chunks/01"), ErrMalformedArchive},
		"chunk twice":                 {rename(3, dir+"/chunks/0"), ErrMalformedArchive},
		"metadata twice":              {rename(1, dir+"/meta"), ErrMalformedArchive},
		"no metadata":                 {with(func(f []file) []file { return f[1:] }), ErrMalformedArchive},
		"chunks first":                {with(func(f []file) []file { slices.Reverse(f); return f }), ErrMalformedArchive},
		"two chunks exchanged":        {with(func(f []file) []file { f[2], f[3] = f[3], f[2]; return f }), ErrMalformedArchive},
		"last chunk missing":          {with(func(f []file) []file { return f[:last] }), ErrMalformedArchive},
		"no chunks":                   {with(func(f []file) []file { return f[:2] }), ErrMalformedArchive},
		"more chunks":                 {insert(last+1, tar.Header{Name: archiveChunkName(source.Root, len(source.Chunks))}, "more"), ErrMalformedArchive},
		"another file at the end":     {insert(last+1, tar.Header{Name: dir + "/lock"}, ""), ErrMalformedArchive},
		"directory":                   {insert(0, tar.Header{Typeflag: tar.TypeDir, Name: dir + "/"}, ""), ErrMalformedArchive},
		"directory for a file":        {raw(2, func(b []byte) { b[156] = 0; b[strings.IndexByte(string(b), 0)] = '/' }), ErrMalformedArchive},
		"symbolic link":               {insert(2, tar.Header{Typeflag: tar.TypeSymlink, Name: archiveChunkName(source.Root, 0), Linkname: "/etc/passwd"}, ""), ErrMalformedArchive},
		"hard link":                   {insert(3, tar.Header{Typeflag: tar.TypeLink, Name: archiveChunkName(source.Root, 1), Linkname: archiveChunkName(source.Root, 0)}, ""), ErrMalformedArchive},
		"device":                      {insert(2, tar.Header{Typeflag: tar.TypeChar, Name: archiveChunkName(source.Root, 0)}, ""), ErrMalformedArchive},
		"sparse file":                 {raw(2, func(b []byte) { b[156] = tar.TypeGNUSparse }), ErrMalformedArchive},
		"extended header":             {insert(0, tar.Header{Name: dir + "/x", Format: tar.FormatPAX, PAXRecords: map[string]string{"comment": "x"}}, ""), ErrMalformedArchive},
		"extended header of a sparse": {raw(2, func(b []byte) { b[156] = tar.TypeXHeader; copy(b[512-20:], sparse) }), ErrMalformedArchive},
		"long name":                   {insert(0, tar.Header{Name: strings.Repeat("x/", 300) + "meta", Format: tar.FormatGNU}, ""), ErrMalformedArchive},
		"wrong checksum of a header":  {func() []byte { b := bytes.Clone(archive); b[110]++; return b }(), ErrMalformedArchive},
		"metadata of a gigabyte":      {size(0, "10000000000\x00"), ErrLimitExceeded},
		"manifest of a gigabyte":      {size(1, "10000000000\x00"), ErrMalformedArchive},
		"chunk of a gigabyte":         {size(2, "10000000000\x00"), ErrLimitExceeded},
		"chunk of 2^62 bytes":         {size(2, "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00"), ErrLimitExceeded},
		"chunk of -1 bytes":           {size(2, strings.Repeat("\xff", 12)), ErrMalformedArchive},
		"chunk of no number of bytes": {size(2, "12345678z\x00"), ErrMalformedArchive},
		"chunk that is longer":        {size(2, "00000002000\x00"), ErrDamaged}, // than the manifest tells
		"chunk that is no chunk":      {body(2, make([]byte, len(source.chunk(t, 0)))), ErrChunkCorrupted},
		"something follows":           {append(bytes.Clone(archive), 'x'), ErrMalformedArchive},
		"another archive follows":     {append(bytes.Clone(archive), archive...), ErrMalformedArchive},
		"zeros follow without end":    {append(bytes.Clone(archive), make([]byte, maxArchiveTail+1)...), ErrMalformedArchive},
		"something in between":        {func() []byte { b := bytes.Clone(archive); b[archiveBlock+filesOf(t, archive)[0].Size] = 1; return b }(), ErrMalformedArchive},
		"one block of zeros":          {slices.Insert(bytes.Clone(archive), 0, make([]byte, 512)...), ErrMalformedArchive},
		"one block of zeros at end":   {func() []byte { b := bytes.Clone(archive); b[len(b)-1] = 1; return b }(), ErrMalformedArchive},
		"metadata that is none":       {body(0, []byte("meta")), ErrMalformedMetadata},
		"metadata of no chunks":       {meta(func(m *Metadata) { m.Chunks = nil }), ErrMalformedMetadata},
		"metadata of more chunks":     {meta(func(m *Metadata) { m.Chunks = append(m.Chunks, hash.Hash{}) }), ErrMalformedArchive},
		"metadata of fewer chunks":    {meta(func(m *Metadata) { m.Chunks = m.Chunks[:3] }), ErrMalformedArchive},
		"metadata of another root":    {meta(func(m *Metadata) { m.Root.Hash[0]++ }), ErrMalformedArchive},
		"metadata with two exchanged": {meta(func(m *Metadata) { m.Chunks[0], m.Chunks[1] = m.Chunks[1], m.Chunks[0] }), ErrChunkCorrupted},
		"empty tree of many chunks":   {meta(func(m *Metadata) { m.Root.Hash = hash.EmptyHash }), ErrMalformedMetadata},
		"manifest that is none":       {body(1, []byte("{}")), ErrDamaged},
		"manifest of other entries":   {manifest(func(m *Manifest) { m.Entries++ }), ErrDamaged},
		"manifest of other bytes":     {manifest(func(m *Manifest) { m.Bytes++ }), ErrDamaged},
		"manifest of another root":    {manifest(func(m *Manifest) { m.Root.Version++ }), ErrDamaged},
		"manifest of other chunks":    {manifest(func(m *Manifest) { m.Chunks[1].Bytes++ }), ErrDamaged},
		"manifest of fewer chunks":    {manifest(func(m *Manifest) { m.Chunks = m.Chunks[1:] }), ErrDamaged},
		"chunk that is no proof":      {archiveOf(t, forged.path), ErrChunkProofVerificationFailed},
		"checkpoint with a hole":      {archiveOf(t, short.path), ErrChunkProofVerificationFailed},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dryRun := range []bool{true, false} {
				dir := filepath.Join(t.TempDir(), "new")
				got, err := importArchive(c.archive, dir, ImportOptions{DryRun: dryRun})
				if !errors.Is(err, c.want) || got != nil {
					t.Errorf("dry run %v: %+v, %v", dryRun, got, err)
				}
				checkNothing(t, dir)
				if others := "an archive holds only regular files"; slices.Contains(otherTypes, name) && !strings.Contains(err.Error(), others) {
					t.Errorf("it is not for its type that it is refused: %v", err)
				}
			}
		})
	}

	for name, limits := range map[string]Limits{
		"chunks": {Chunks: len(source.Chunks) - 1}, "chunk bytes": {ChunkBytes: 100}, "raw bytes": {RawBytes: 100},
		"entries": {Entries: 3}, "value bytes": {ValueBytes: 1},
	} {
		for _, dryRun := range []bool{true, false} {
			dir := t.TempDir()
			if _, err := importArchive(archive, dir, ImportOptions{Limits: limits, DryRun: dryRun}); !errors.Is(err, ErrLimitExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			checkNothing(t, dir)
		}
	}
}

// TestImportTakesNoMemoryForPromises checks that memory is taken for what comes, not for what is told to come.
func TestImportTakesNoMemoryForPromises(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 20), 512, 1)
	files := filesOf(t, archiveOf(t, source.path))
	promise := func(index int, size int64) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, f := range slices.Delete(files[:index], min(1, index), index) { // the metadata, no manifest
			if err := errors.Join(w.WriteHeader(f.Header), second(w.Write(f.body))); err != nil {
				t.Fatal(err)
			}
		}
		name := []string{files[0].Name, "", archiveChunkName(source.Root, 0)}[index]
		if err := w.WriteHeader(archiveHeader(name, size)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for name, archive := range map[string][]byte{
		"metadata": promise(0, MaxMetadataBytes), "chunk": promise(2, DefaultChunkBytes),
	} {
		for _, dryRun := range []bool{true, false} {
			var before, after runtime.MemStats
			dir := t.TempDir()
			runtime.ReadMemStats(&before)
			_, err := importArchive(archive, dir, ImportOptions{DryRun: dryRun})
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrMalformedArchive) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s: %v", name, err)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("%s, dry run %v: %d bytes of memory", name, dryRun, n)
			}
		}
	}
}

// zeros is a file of zeros without end.
type zeros struct{ read int }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.read += len(p)
	return len(p), nil
}

// TestImportReadsNothingBeyondLimits checks that what is too long is refused when its header says so.
func TestImportReadsNothingBeyondLimits(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 20), 512, 1)
	files := filesOf(t, archiveOf(t, source.path))
	const chunkBytes = 1 << 20
	for index, limit := range []int64{
		MaxMetadataBytes, maxManifestBytes(source.Metadata), chunkBytes,
	} {
		before := archiveFrom(t, files[:min(index, 1)]) // the metadata, for what comes behind it
		before = before[:len(before)-archiveEndBlocks*archiveBlock]
		var header bytes.Buffer
		if err := tar.NewWriter(&header).WriteHeader(archiveHeader(files[index].Name, limit+1)); err != nil {
			t.Fatal(err)
		}
		rest := &zeros{}
		r := io.MultiReader(bytes.NewReader(before), &header, rest)
		_, err := ImportArchive(t.Context(), r, t.TempDir(), ImportOptions{Limits: Limits{ChunkBytes: chunkBytes}})
		if !errors.Is(err, ErrMalformedArchive) && !errors.Is(err, ErrLimitExceeded) || rest.read > 0 {
			t.Errorf("%s: %d bytes read, %v", files[index].Name, rest.read, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestTruncatedArchive cuts an archive short everywhere.
func TestTruncatedArchive(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 20), 512, 1)
	archive := archiveOf(t, source.path)
	dir := t.TempDir()
	for n := 0; n < len(archive); n += 101 {
		for _, end := range []int{n, n / archiveBlock * archiveBlock} {
			_, err := importArchive(archive[:end], dir, ImportOptions{DryRun: n%2 == 0})
			if !errors.Is(err, ErrMalformedArchive) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%d bytes of %d: %v", end, len(archive), err)
			}
		}
	}
	checkNothing(t, dir)
	for n := 0; n < len(archive); n += 301 { // from a reader that knows how much should have come
		r := io.MultiReader(bytes.NewReader(archive[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))
		if _, err := ImportArchive(t.Context(), r, dir, ImportOptions{DryRun: true}); !errors.Is(err, ErrMalformedArchive) {
			t.Errorf("%d bytes, and no more: %v", n, err)
		}
	}
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader(archive[:len(archive)/2]), iotest.ErrReader(broken))
	if _, err := ImportArchive(t.Context(), r, dir, ImportOptions{}); !errors.Is(err, broken) || errors.Is(err, ErrMalformedArchive) {
		t.Errorf("a reader that fails: %v", err)
	}
	checkNothing(t, dir)
}

// TestFlippedArchive flips bits everywhere: what is taken all the same is the same checkpoint.
func TestFlippedArchive(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 20), 512, 1)
	archive := archiveOf(t, source.path)
	taken := 0
	for at := 0; at < len(archive); at += 7 {
		flipped := bytes.Clone(archive)
		flipped[at] ^= 1 << (at % 8)
		got, err := importArchive(flipped, t.TempDir(), ImportOptions{DryRun: true})
		if err != nil {
			continue
		}
		taken++
		if got.Metadata.EncodedHash() != source.EncodedHash() || got.Entries != 20 {
			t.Errorf("byte %d: %+v", at, got)
		}
	}
	if most := len(filesOf(t, archive)[1].body) / 7; taken > most {
		t.Errorf("%d of %d were taken", taken, len(archive)/7)
	}
}

// cancelling ends a context when so much was read.
type cancelling struct {
	io.Reader
	left   int
	cancel context.CancelFunc
	after  int // how often it was read afterwards
}

func (c *cancelling) Read(p []byte) (int, error) {
	if c.left < 0 {
		c.after++
	}
	n, err := c.Reader.Read(p)
	if c.left -= n; c.left < 0 {
		c.cancel()
	}
	return n, err
}

func TestInterruptedImport(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 100), 512, 1)
	archive := archiveOf(t, source.path)
	for _, at := range []int{0, 1000, len(archive) / 2, len(archive) - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		dir := t.TempDir()
		r := &cancelling{Reader: bytes.NewReader(archive), left: at, cancel: cancel}
		_, err := ImportArchive(ctx, r, dir, ImportOptions{})
		cancel()
		if !errors.Is(err, context.Canceled) || r.after > 0 {
			t.Errorf("at byte %d: %v, and read %d times more", at, err, r.after)
		}
		checkNothing(t, dir)
	}
}

func TestWriteArchiveFile(t *testing.T) {
	source := sourceOf(t, dataSet("uniform", 100), 512, 1)
	want := archiveOf(t, source.path)
	dir := t.TempDir()
	name := filepath.Join(dir, "a.tar")
	write := func(opts ExportOptions) error {
		return second(WriteArchiveFile(t.Context(), name, source.path, opts))
	}
	check := func(want []byte) {
		t.Helper()
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
		}
		if names := readNames(t, dir); !slices.Equal(names, []string{"a.tar"}) {
			t.Errorf("names %v", names)
		}
	}

	if err := write(ExportOptions{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	checkNothing(t, dir)
	var told [2]int64
	if err := write(ExportOptions{Progress: func(done, total int64) { told = [2]int64{done, total} }}); err != nil {
		t.Fatal(err)
	}
	if n := int64(len(want)); told != [2]int64{n, n} {
		t.Errorf("progress %v of %d", told, n)
	}
	check(want)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	old := []byte("something else")
	if err := os.WriteFile(name, old, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		if err := write(ExportOptions{DryRun: dryRun}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("one that is there: %v", err)
		}
	}
	check(old)

	// A damaged checkpoint is not exported, and what is there stays.
	chunk := source.chunk(t, 3)
	damage := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(chunkPath(source.path, 3), b, fileMode); err != nil {
			t.Fatal(err)
		}
	}
	flipped := bytes.Clone(chunk)
	flipped[len(chunk)/2] ^= 4
	for _, b := range [][]byte{flipped, chunk[1:], append(bytes.Clone(chunk), 0), nil} {
		damage(b)
		if err := write(ExportOptions{Replace: true}); !errors.Is(err, ErrChunkCorrupted) {
			t.Errorf("%d bytes of %d: %v", len(b), len(chunk), err)
		}
		check(old)
	}
	if err := os.Remove(chunkPath(source.path, 3)); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		if err := write(ExportOptions{Replace: true, DryRun: dryRun}); !errors.Is(err, ErrChunkNotFound) {
			t.Errorf("missing chunk: %v", err)
		}
	}
	check(old)
	damage(chunk)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := WriteArchiveFile(ctx, name, source.path, ExportOptions{Replace: true, Progress: func(done, _ int64) {
		if done > 4000 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	check(old)

	if err := write(ExportOptions{Replace: true}); err != nil {
		t.Fatal(err)
	}
	check(want)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	for _, there := range []string{dir, link} {
		if _, err := WriteArchiveFile(t.Context(), there, source.path, ExportOptions{Replace: true}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s is no file: %v", there, err)
		}
	}
	if _, err := WriteArchiveFile(t.Context(), filepath.Join(dir, "no", "a.tar"), source.path, ExportOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := WriteArchiveFile(t.Context(), name+"2", dir, ExportOptions{}); !errors.Is(err, ErrCheckpointNotFound) {
		t.Errorf("no checkpoint: %v", err)
	}

	// A manifest that can't be used is no loss.
	manifest, err := ReadManifest(source.path, source.Metadata)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(m *Manifest){
		"format":        func(m *Manifest) { m.Format++ },
		"root":          func(m *Manifest) { m.Root.Version++ },
		"bytes":         func(m *Manifest) { m.Bytes++ },
		"chunk's bytes": func(m *Manifest) { m.Chunks[1].Bytes++ },
	} {
		bad := *manifest
		bad.Chunks = slices.Clone(bad.Chunks)
		change(&bad)
		b, err := encodeManifest(&bad)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source.path, manifestName), b, fileMode); err != nil {
			t.Fatal(err)
		}
		if err := write(ExportOptions{Replace: true}); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if files := filesOf(t, got); len(files) != 1+len(source.Chunks) {
			t.Errorf("another %s: %d files", what, len(files))
		}
		if _, err := importArchive(got, t.TempDir(), ImportOptions{}); err != nil {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

// TestArchiveAppearsOnce checks that an archive never takes the place of what somebody else has put there
// while it was written.
func TestArchiveAppearsOnce(t *testing.T) {
	dir := t.TempDir()
	name, aside := filepath.Join(dir, "a.tar"), filepath.Join(dir, rand.Text())
	for path, text := range map[string]string{name: "theirs", aside: "ours"} {
		if err := os.WriteFile(path, []byte(text), fileMode); err != nil {
			t.Fatal(err)
		}
	}
	if err := appear(aside, name, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "theirs" {
		t.Errorf("%q, %v", b, err)
	}
}

// FuzzImportArchive checks that whatever is taken for an archive holds a checkpoint that verifies, and whose
// own archive is taken, too; and that all else is refused with an error of the package's.
func FuzzImportArchive(f *testing.F) {
	source := sourceOf(f, dataSet("uniform", 6), 256, 1)
	archive := archiveOf(f, source.path)
	f.Add(archive)
	f.Add(archive[:len(archive)-512])
	f.Add(append(bytes.Clone(archive), make([]byte, 2048)...))
	f.Add(archiveFrom(f, slices.Delete(filesOf(f, archive), 1, 2)))
	f.Add(archiveOf(f, sourceOf(f, nil, 256, 1).path))
	limits := Limits{ChunkBytes: 1 << 20, RawBytes: 1 << 20}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := importArchive(b, "nowhere", ImportOptions{DryRun: true, Limits: limits, Workers: 1})
		if err != nil {
			for _, known := range []error{
				ErrMalformedArchive, ErrMalformedMetadata, ErrDamaged, ErrLimitExceeded, ErrChunkCorrupted, ErrChunkProofVerificationFailed,
			} {
				if errors.Is(err, known) {
					return
				}
			}
			t.Fatalf("another error: %v", err)
		}
		dir := t.TempDir()
		written, err := importArchive(b, dir, ImportOptions{Limits: limits, Workers: 1})
		if err != nil || written.Entries != got.Entries {
			t.Fatalf("verified, and not imported: %+v, %v", written, err)
		}
		if _, err := Verify(t.Context(), written.Path, VerifyRoot(got.Metadata.Root)); err != nil {
			t.Fatalf("imported, and does not verify: %v", err)
		}
		again, err := importArchive(archiveOf(t, written.Path), t.TempDir(), ImportOptions{Limits: limits, Workers: 1})
		if err != nil || again.Metadata.EncodedHash() != got.Metadata.EncodedHash() || !reflect.DeepEqual(again.Manifest, got.Manifest) {
			t.Fatalf("%+v comes out as %+v, %v", got, again, err)
		}
	})
}

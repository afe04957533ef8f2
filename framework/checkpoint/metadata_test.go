package checkpoint

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ckpt-project/ckpt/conformance/vectors"
	ckpterrors "github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func TestErrorIdentities(t *testing.T) {
	for code, want := range map[uint32]struct {
		err  error
		text string
	}{
		1: {ErrCheckpointNotFound, "checkpoint: not found"},
		2: {ErrChunkNotFound, "checkpoint: chunk not found"},
		3: {ErrRestoreAlreadyInProgress, "checkpoint: restore already in progress"},
		4: {ErrNoRestoreInProgress, "checkpoint: no restore in progress"},
		5: {ErrChunkAlreadyRestored, "checkpoint: chunk already restored"},
		6: {ErrChunkProofVerificationFailed, "chunk: chunk proof verification failed"},
		7: {ErrChunkCorrupted, "chunk: corrupted chunk"},
	} {
		module, got, text := ckpterrors.Code(want.err)
		if module != "storage/mkvs/checkpoint" || got != code || text != want.text {
			t.Errorf("%v has module %q, code %d, text %q", want.err, module, got, text)
		}
	}
	if !errors.Is(errIncomplete, ErrChunkProofVerificationFailed) {
		t.Error("an incomplete checkpoint is another error than a failed verification")
	}
}

// knownMetadata is the encoding of some known answer's metadata, and what it means.
func knownMetadata(t testing.TB) ([]byte, *Metadata) {
	t.Helper()
	for _, v := range vectors.All() {
		if v.MetadataCBOR == "" || v.Chunks < 3 {
			continue
		}
		b, err := hex.DecodeString(v.MetadataCBOR)
		if err != nil {
			t.Fatal(err)
		}
		return b, &Metadata{
			Version: 1,
			Root:    node.Root{Namespace: testNamespace(t), Version: v.Version(), Type: node.RootTypeState, Hash: v.Root},
			Chunks:  v.ChunkDigests,
		}
	}
	t.Fatal("no vector with metadata")
	return nil, nil
}

func TestMetadataEncoding(t *testing.T) {
	b, want := knownMetadata(t)
	if got := EncodeMetadata(want); !bytes.Equal(got, b) {
		t.Errorf("encoding %x, want %x", got, b)
	}
	m, err := DecodeMetadata(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
	if got, want := m.EncodedHash(), hash.Sum(b); got != want {
		t.Errorf("hash %s, want %s", got, want)
	}
}

func TestMetadataJSON(t *testing.T) {
	_, m := knownMetadata(t)
	chunk, err := m.GetChunkMetadata(1)
	if err != nil {
		t.Fatal(err)
	}
	version := uint64(7)
	for _, c := range []struct {
		value any
		want  string
	}{
		{m.Root, `{"ns":"` + m.Root.Namespace.Hex() + `","version":1,"root_type":1,"hash":"` + m.Root.Hash.Hex() + `"}`},
		{&Metadata{Version: 1, Root: m.Root, Chunks: m.Chunks[:1]}, `{"version":1,"root":ROOT,"chunks":["` + m.Chunks[0].Hex() + `"]}`},
		{chunk, `{"version":1,"root":ROOT,"index":1,"digest":"` + m.Chunks[1].Hex() + `"}`},
		{&GetCheckpointsRequest{Version: 1, Namespace: m.Root.Namespace}, `{"version":1,"namespace":"` + m.Root.Namespace.Hex() + `"}`},
		{
			&GetCheckpointsRequest{Version: 1, Namespace: m.Root.Namespace, RootVersion: &version},
			`{"version":1,"namespace":"` + m.Root.Namespace.Hex() + `","root_version":7}`,
		},
	} {
		got, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		root, err := json.Marshal(m.Root)
		if err != nil {
			t.Fatal(err)
		}
		if want := bytes.ReplaceAll([]byte(c.want), []byte("ROOT"), root); !bytes.Equal(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestGetChunkMetadata(t *testing.T) {
	_, m := knownMetadata(t)
	for i := range uint64(len(m.Chunks)) {
		c, err := m.GetChunkMetadata(i)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&ChunkMetadata{Version: 1, Root: m.Root, Index: i, Digest: m.Chunks[i]}, c); d != "" {
			t.Error(d)
		}
	}
	for _, i := range []uint64{uint64(len(m.Chunks)), 1 << 63, ^uint64(0)} {
		if _, err := m.GetChunkMetadata(i); !errors.Is(err, ErrChunkNotFound) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
}

func TestMetadataRefused(t *testing.T) {
	b, m := knownMetadata(t)
	with := func(change func(*Metadata)) []byte {
		c := m.clone()
		change(c)
		return EncodeMetadata(c)
	}
	replace := func(from, to string) []byte {
		f, err := hex.DecodeString(from)
		if err != nil {
			t.Fatal(err)
		}
		r, err := hex.DecodeString(to)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(b, f) != 1 {
			t.Fatalf("%s comes %d times", from, bytes.Count(b, f))
		}
		return bytes.Replace(b, f, r, 1)
	}
	rootType := "69" + hex.EncodeToString([]byte("root_type"))
	chunks := "66" + hex.EncodeToString([]byte("chunks"))
	reserved := m.clone()
	reserved.Root.Namespace[1] = 1
	for name, in := range map[string][]byte{
		"nothing":                 nil,
		"cut short":               b[:len(b)-1],
		"trailing byte":           append(bytes.Clone(b), 0),
		"version 0":               with(func(m *Metadata) { m.Version = 0 }),
		"version 2":               with(func(m *Metadata) { m.Version = 2 }),
		"root type 0":             with(func(m *Metadata) { m.Root.Type = 0 }),
		"root type 3":             with(func(m *Metadata) { m.Root.Type = 3 }),
		"no chunks":               with(func(m *Metadata) { m.Chunks = nil }),
		"namespace's bits":        EncodeMetadata(reserved),
		"longer number":           replace(rootType+"01", rootType+"1801"),
		"longer array":            replace(chunks+"83", chunks+"9803"),
		"indefinite array":        append(replace(chunks+"83", chunks+"9f")[:len(b)-9], append([]byte{0xff}, b[len(b)-9:]...)...),
		"null for chunks":         append(replace(chunks+"83", chunks+"f6")[:bytes.Index(b, []byte("chunks"))+7], b[len(b)-9:]...),
		"tag":                     replace(rootType+"01", rootType+"c101"),
		"unknown field":           append([]byte{0xa4, 0x61, 'x', 0}, b[1:]...),
		"duplicate field":         append(append([]byte{0xa4}, b[1:]...), b[len(b)-9:]...),
		"other order":             append(append([]byte{0xa3}, b[len(b)-9:]...), b[1:len(b)-9]...),
		"field left out":          append([]byte{0xa2}, b[1:len(b)-9]...),
		"a huge array":            replace(chunks+"83", chunks+"9affffffff"),
		"more than a million":     make([]byte, MaxMetadataBytes+1),
		"an array instead":        {0x83, 1, 2, 3},
		"deep nesting":            bytes.Repeat([]byte{0x81}, 1000),
		"hash of 31 bytes":        replace(hex.EncodeToString(m.Chunks[0][:])[60:]+"5820", hex.EncodeToString(m.Chunks[0][:])[60:]+"581f"),
		"text instead of a hash":  replace(chunks+"835820", chunks+"837820"),
		"field in capital":        replace(chunks, "66"+hex.EncodeToString([]byte("Chunks"))),
		"null instead of a hash":  replace(chunks+"835820"+hex.EncodeToString(m.Chunks[0][:]), chunks+"83f6"),
		"negative version":        replace(rootType+"01", rootType+"20"),
		"number that is a float":  replace(rootType+"01", rootType+"f93c00"),
		"number beyond its field": replace(rootType+"01", rootType+"190101"),
	} {
		t.Run(name, func(t *testing.T) {
			if m, err := DecodeMetadata(in); !errors.Is(err, ErrMalformedMetadata) {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
}

// FuzzDecodeMetadata checks that whatever decodes is the one encoding of what it decodes to.
func FuzzDecodeMetadata(f *testing.F) {
	b, m := knownMetadata(f)
	f.Add(b)
	m.Root.Type, m.Root.Version = node.RootTypeIO, 1<<40
	f.Add(EncodeMetadata(m))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMetadata(b)
		if err != nil {
			if !errors.Is(err, ErrMalformedMetadata) {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if !bytes.Equal(EncodeMetadata(m), b) {
			t.Fatalf("%x decodes to %+v, which encodes otherwise", b, m)
		}
	})
}

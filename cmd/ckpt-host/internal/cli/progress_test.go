package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// TestVerifyAmount makes a checkpoint, and checks that what is told of the making comes to what the manifest
// says, which is what a verification of it has to do.
func TestVerifyAmount(t *testing.T) {
	ctx := t.Context()
	namespace := common.NewTestNamespaceFromSeed([]byte("progress"), 0)
	ndb, err := memory.New().New(ctx, &db.Config{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(ctx)
	tree := mkvs.New(ndb, node.RootTypeState)
	defer tree.Close()
	for i := range 200 {
		if err := tree.Insert(ctx, []byte{byte(i)}, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	_, h, err := tree.Commit(ctx, namespace, 1)
	if err != nil {
		t.Fatal(err)
	}
	root := node.Root{Namespace: namespace, Version: 1, Type: node.RootTypeState, Hash: h}
	if err := ndb.Finalize(ctx, []node.Root{root}); err != nil {
		t.Fatal(err)
	}

	var made console.Amount
	creator, err := checkpoint.NewFileCreator(filepath.Join(t.TempDir(), "checkpoints"), ndb,
		checkpoint.WithProgress(func(_ node.Root, chunks uint64, bytes int64, entries uint64) {
			made = console.Amount{Bytes: bytes, Entries: int64(entries), Chunks: int64(chunks)}
		}))
	if err != nil {
		t.Fatal(err)
	}
	metadata, err := creator.CreateCheckpoint(ctx, root, 1024)
	if err != nil {
		t.Fatal(err)
	}
	_, path, err := creator.(checkpoint.Inspector).Describe(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	want := verifyAmount(path, metadata, checkpoint.LevelFull)
	if want.Entries != 200 || want.Chunks != int64(len(metadata.Chunks)) || want.Bytes == 0 {
		t.Errorf("to verify: %+v", want)
	}
	if made != want {
		t.Errorf("made %+v, want %+v", made, want)
	}
	if got := verifyAmount(path, metadata, checkpoint.LevelDigests); got.Entries != 0 || got.Bytes != want.Bytes {
		t.Errorf("to verify, of digests: %+v", got)
	}
	if got := verifyAmount(t.TempDir(), metadata, checkpoint.LevelFull); got != (console.Amount{Chunks: want.Chunks}) {
		t.Errorf("to verify, without a manifest: %+v", got)
	}
}

// TestArchiveMeter checks what is told of the reading of an archive, by its own length and by that of the input
// where it doesn't tell, and then of the verification.
func TestArchiveMeter(t *testing.T) {
	m := newArchiveMeter(&input{name: "x.tar", bytes: 100})
	for _, c := range []struct {
		do         func()
		head, tail string
	}{
		{func() { m.read(20, 0) }, "reading x.tar: 20%, ", ", 20 B of 100 B"},
		{func() { m.read(30, 120) }, "reading x.tar: 25%, ", ", 30 B of 120 B"},
		{func() { m.verified(1, 4, 20, 80) }, "verifying what x.tar holds: 25%, ", ", 1 of 4 chunks, 20 B of 80 B"},
		// It doesn't begin again.
		{func() { m.Earlier(console.Amount{Bytes: 4}); m.verified(2, 4, 56, 80) }, "verifying what x.tar holds: 75%, ", ", 2 of 4 chunks, 60 B of 80 B"},
	} {
		c.do()
		if got := m.String(); !strings.HasPrefix(got, c.head) || !strings.HasSuffix(got, c.tail) {
			t.Errorf("got %q, want %s...%s", got, c.head, c.tail)
		}
	}
}

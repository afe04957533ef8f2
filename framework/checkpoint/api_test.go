package checkpoint_test

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Code that was written against the API which this package keeps needs it as it is: a member more would
// break whoever implements an interface or writes a struct without field names, one less whoever uses it.

var (
	_ func(context.Context, db.NodeDB, checkpoint.Creator, checkpoint.CheckpointerConfig) (checkpoint.Checkpointer, error) = checkpoint.NewCheckpointer
	_ func(checkpoint.Creator, checkpoint.Restorer) checkpoint.CreateRestorer                                              = checkpoint.NewCreateRestorer

	_ func(*checkpoint.Metadata) hash.Hash                                             = (*checkpoint.Metadata).EncodedHash
	_ func(checkpoint.Metadata, uint64) (*checkpoint.ChunkMetadata, error)             = checkpoint.Metadata.GetChunkMetadata
	_ func(string, db.NodeDB, ...checkpoint.CreatorOption) (checkpoint.Creator, error) = checkpoint.NewFileCreator
	_ func(db.NodeDB, ...checkpoint.RestorerOption) (checkpoint.Restorer, error)       = checkpoint.NewRestorer
)

// provider, creator, restorer and the rest have the methods of the interfaces, and no others.
type (
	provider interface {
		GetCheckpoints(context.Context, *checkpoint.GetCheckpointsRequest) ([]*checkpoint.Metadata, error)
		GetCheckpointChunk(context.Context, *checkpoint.ChunkMetadata, io.Writer) error
	}
	creator interface {
		provider
		CreateCheckpoint(context.Context, node.Root, uint64) (*checkpoint.Metadata, error)
		GetCheckpoint(context.Context, uint16, node.Root) (*checkpoint.Metadata, error)
		DeleteCheckpoint(context.Context, uint16, node.Root) error
	}
	restorer interface {
		StartRestore(context.Context, *checkpoint.Metadata) error
		AbortRestore(context.Context) error
		GetCurrentCheckpoint() *checkpoint.Metadata
		RestoreChunk(context.Context, uint64, io.Reader) (bool, error)
	}
	createRestorer interface {
		creator
		restorer
	}
	checkpointer interface {
		NotifyNewVersion(uint64)
	}
)

// Interfaces with the same methods can be assigned to each other, in both directions.
var (
	_ = func(p checkpoint.ChunkProvider) provider { return p }
	_ = func(p provider) checkpoint.ChunkProvider { return p }
	_ = func(c checkpoint.Creator) creator { return c }
	_ = func(c creator) checkpoint.Creator { return c }
	_ = func(r checkpoint.Restorer) restorer { return r }
	_ = func(r restorer) checkpoint.Restorer { return r }
	_ = func(c checkpoint.CreateRestorer) createRestorer { return c }
	_ = func(c createRestorer) checkpoint.CreateRestorer { return c }
	_ = func(c checkpoint.Checkpointer) checkpointer { return c }
	_ = func(c checkpointer) checkpoint.Checkpointer { return c }
)

func TestStructsHaveTheseFieldsOnly(t *testing.T) {
	for _, c := range []struct {
		of   any
		want []string
	}{
		{checkpoint.Metadata{}, []string{
			`Version uint16 "version"`, `Root node.Root "root"`, `Chunks []hash.Hash "chunks"`,
		}},
		{checkpoint.ChunkMetadata{}, []string{
			`Version uint16 "version"`, `Root node.Root "root"`, `Index uint64 "index"`, `Digest hash.Hash "digest"`,
		}},
		{checkpoint.GetCheckpointsRequest{}, []string{
			`Version uint16 "version"`, `Namespace common.Namespace "namespace"`, `RootVersion *uint64 "root_version,omitempty"`,
		}},
		{node.Root{}, []string{
			`Namespace common.Namespace "ns"`, `Version uint64 "version"`, `Type node.RootType "root_type"`, `Hash hash.Hash "hash"`,
		}},
		{checkpoint.CreationParameters{}, []string{`Interval uint64 ""`, `NumKept uint64 ""`, `ChunkSize uint64 ""`}},
		{checkpoint.CheckpointerConfig{}, []string{
			`Name string ""`, `Namespace common.Namespace ""`, `CheckInterval time.Duration ""`, `RootsPerVersion int ""`,
			`Parameters *checkpoint.CreationParameters ""`,
			`GetParameters func(context.Context) (*checkpoint.CreationParameters, error) ""`,
			`GetRoots func(context.Context, uint64) ([]hash.Hash, error) ""`,
		}},
	} {
		typ := reflect.TypeOf(c.of)
		var got []string
		for f := range typ.Fields() {
			got = append(got, fmt.Sprintf("%s %s %q", f.Name, f.Type, f.Tag.Get("json")))
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s has the fields\n%s\nwant\n%s", typ, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// The field types once more, by the compiler: names of packages alone would not tell two apart.
var _ = checkpoint.CheckpointerConfig{
	"",
	common.Namespace{},
	time.Duration(0), 0,
	(*checkpoint.CreationParameters)(nil),
	(func(context.Context) (*checkpoint.CreationParameters, error))(nil),
	(func(context.Context, uint64) ([]hash.Hash, error))(nil),
}

func TestCreateRestorer(t *testing.T) {
	ndb, err := memory.New().New(t.Context(), &db.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer ndb.Close(context.Background())
	c, err := checkpoint.NewFileCreator(t.TempDir(), ndb)
	if err != nil {
		t.Fatal(err)
	}
	r, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		t.Fatal(err)
	}
	both := checkpoint.NewCreateRestorer(c, r)
	root := node.Root{Version: 1, Type: node.RootTypeState, Hash: hash.EmptyHash}
	if err := ndb.Finalize(t.Context(), []node.Root{root}); err != nil {
		t.Fatal(err)
	}
	m, err := both.CreateCheckpoint(t.Context(), root, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.Root.Version++ // of the next version, the same: what is restored lies above what is there
	if err := both.StartRestore(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if going := r.GetCurrentCheckpoint(); !reflect.DeepEqual(going, m) {
		t.Errorf("the restorer restores %+v, want %+v", going, m)
	}
	if err := both.AbortRestore(t.Context()); err != nil {
		t.Error(err)
	}
}

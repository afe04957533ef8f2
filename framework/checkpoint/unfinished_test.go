package checkpoint

import (
	"testing"

	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestUnfinishedFrom checks that the checkpoint of a restore is told by what the restorer has told of it, whether that
// is the metadata or its hash, and that nothing which another program has told is taken for either.
func TestUnfinishedFrom(t *testing.T) {
	_, small := knownMetadata(t)
	large := small.clone()
	large.Chunks = make([]hash.Hash, maxTagBytes/digestBytes+1)
	of := func(m *Metadata, tag []byte) *db.MultipartRoot {
		return &db.MultipartRoot{Root: m.Root, Chunks: uint64(len(m.Chunks)), Tag: tag}
	}
	for name, m := range map[string]*Metadata{"metadata": small, "hash": large} {
		got, ok := UnfinishedFrom(of(m, restoreTag(m)))
		if !ok || got != m.EncodedHash() {
			t.Errorf("%s: %s, %v", name, got, ok)
		}
	}
	other := small.clone()
	other.Root.Version++
	for name, root := range map[string]*db.MultipartRoot{
		"no tag":            of(small, nil),
		"another root's":    of(small, restoreTag(other)),
		"32 bytes of a few": of(small, make([]byte, hash.Size)),
		"text":              of(large, []byte("restored by hand")),
		"of more chunks":    {Root: small.Root, Chunks: uint64(len(small.Chunks)) + 1, Tag: restoreTag(small)},
	} {
		if h, ok := UnfinishedFrom(root); ok {
			t.Errorf("%s: %s", name, h)
		}
	}
}

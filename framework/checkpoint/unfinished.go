package checkpoint

import (
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// UnfinishedFrom returns the hash of the metadata of the checkpoint that a root of a database's multipart
// insert is being restored from. It returns false where no Restorer told of the root: other programs have
// tags of their own.
func UnfinishedFrom(root *db.MultipartRoot) (metadata hash.Hash, ok bool) {
	// Of metadata which is too long for a tag it is the hash, see restoreTag.
	if len(root.Tag) == hash.Size && root.Chunks > (maxTagBytes-metadataHeadBytes)/digestBytes {
		return hash.Hash(root.Tag), true
	}
	m, err := DecodeMetadata(root.Tag)
	if err != nil || m.Root != root.Root || uint64(len(m.Chunks)) != root.Chunks {
		return hash.Hash{}, false
	}
	return hash.Sum(root.Tag), true
}

package checkpoint

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// writeChunk writes the nodes of a verified chunk of a session and its mark (clauses DB62 and DB63).
func writeChunk(ctx context.Context, w db.ChunkWriter, tree *proof.Tree, embedBytes int, s *session) (err error) {
	var written int64
	defer func() {
		if err != nil {
			// The chunk has no mark and never counts; what it wrote goes with the insert or is written again.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
			defer cancel()
			_ = w.Abort(ctx)
		}
	}()

	self := w.Address()
	embedded := make([]bool, len(tree.Nodes))
	var record []byte
	for i, position := range tree.Positions() {
		n := &tree.Nodes[i]
		switch {
		case n.Kind == proof.KindHash || embedded[i]:
			continue
		case n.Kind == proof.KindLeaf:
			record = node.AppendLeafRecord(record[:0], n.Encoding)
		default:
			var children [2]node.Child
			for side, c := range n.Children {
				if c == proof.None {
					continue
				}
				child := &tree.Nodes[c]
				if n.Whole && child.Kind == proof.KindLeaf && len(child.Encoding) <= embedBytes {
					embedded[c] = true
					children[side] = node.Child{Present: true, Embedded: child.Encoding}
				} else {
					children[side] = node.Child{Present: true, Hash: child.Hash, Address: self}
				}
			}
			record = node.AppendInternalRecord(record[:0], n.Encoding, self, &children)
		}
		if err := w.Put(ctx, position, record, n.Whole); err != nil {
			return err
		}
		written += int64(len(record))
	}
	c := s.beginCommit(written)
	err = w.Commit(ctx, c.sync)
	s.endCommit(c, err)
	return err
}

package checkpoint

import (
	"context"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// putNodes gives the nodes of a verified chunk to a writer (clause DB62), and returns the length of their records.
func putNodes(ctx context.Context, w db.ChunkWriter, tree *proof.Tree, embedBytes int) (written int64, err error) {
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
			return 0, err
		}
		written += int64(len(record))
	}
	return written, nil
}

// abandon gives up a chunk that failed, also where ctx has ended: it has no mark (DB63) and never counts; what
// it wrote goes with the insert or is written again.
func abandon(ctx context.Context, w db.ChunkWriter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = w.Abort(ctx)
}

package reference

import "github.com/ckpt-project/ckpt/framework/mkvs/node"

// Settle stores a new tree on top of an old one: what is the same at the same position stays where it is,
// the rest goes to an address. It returns the nodes to put, in pre-order, and those of the old tree that
// go.
func Settle(top, old *Node, address node.Address, embedBytes int) (put, remove []*Node) {
	before := old.ByPosition()
	kept := make(map[*Node]bool)
	top.All(func(n *Node) {
		if o := before[string(n.Position)]; o != nil && o.Hash == n.Hash {
			n.Address, n.Embedded = o.Address, o.Embedded
			kept[o] = true
			return
		}
		n.Address = address
		if n.Embedded = n.Parent != nil && n.Small(embedBytes); !n.Embedded {
			put = append(put, n)
		}
	})
	old.All(func(o *Node) {
		if !o.Embedded && !kept[o] {
			remove = append(remove, o)
		}
	})
	return put, remove
}

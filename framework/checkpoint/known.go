package checkpoint

import (
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
	"github.com/ckpt-project/ckpt/framework/mkvs/proof"
)

// knownTree is what chunks of one tree, each a verified proof, hold together. It keeps the nodes that
// have something below them that no chunk held so far, and nothing of the subtrees that are whole: for
// chunks that come in order, that is the path to where they have come to.
//
// All proofs being of one root, a node that two of them hold is the same one.
type knownTree struct {
	root    known
	entries uint64
}

// known is a place in the tree.
type known struct {
	// whole says that every node from here down was held by some chunk. Then there are no children.
	whole bool
	// held says that some chunk held the node itself; children are set then, nil where there is none.
	held     bool
	ownLeaf  bool
	children [2]*known
}

func newKnownTree() *knownTree { return &knownTree{} }

// complete says whether every node of the tree was held by some chunk.
func (k *knownTree) complete() bool { return k.root.whole }

// step is a place and the node of a proof that is there.
type step struct {
	at    *known
	index int32
	// back says that what is below was added.
	back bool
}

// add adds what a chunk holds.
func (k *knownTree) add(tree *proof.Tree) {
	if len(tree.Nodes) == 0 {
		k.root.whole = true // the empty tree
		return
	}
	stack := []step{{at: &k.root}}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n := &tree.Nodes[s.index]
		switch {
		case s.back:
			s.at.collapse()
		case s.at.whole || n.Kind == proof.KindHash:
		case n.Whole:
			k.entries += leavesOf(tree, s.index) - s.at.ownLeaves()
			*s.at = known{whole: true}
		default:
			if !s.at.held {
				s.at.hold(n)
				if s.at.ownLeaf {
					k.entries++
				}
			}
			stack = append(stack, step{at: s.at, index: s.index, back: true})
			for side, c := range n.Children {
				if c != proof.None {
					stack = append(stack, step{at: s.at.children[side], index: c})
				}
			}
		}
	}
}

func (k *known) hold(n *proof.Node) {
	k.held, k.ownLeaf = true, n.HasOwnLeaf
	for side, c := range n.Children {
		if c != proof.None {
			k.children[side] = &known{}
		}
	}
}

// collapse makes the place whole where all of its children are.
func (k *known) collapse() {
	for _, c := range k.children {
		if c != nil && !c.whole {
			return
		}
	}
	*k = known{whole: true}
}

// ownLeaves counts the own leaves that were counted at or below a place, which is not whole.
func (k *known) ownLeaves() (count uint64) {
	stack := []*known{k}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if at.ownLeaf {
			count++
		}
		for _, c := range at.children {
			if c != nil {
				stack = append(stack, c)
			}
		}
	}
	return count
}

// leavesOf counts the leaves of a whole subtree.
func leavesOf(tree *proof.Tree, index int32) (count uint64) {
	depth := tree.Nodes[index].Depth
	for i := int(index); i < len(tree.Nodes); i++ {
		n := &tree.Nodes[i]
		if i > int(index) && n.Depth <= depth {
			break
		}
		if n.Kind == proof.KindLeaf || n.HasOwnLeaf {
			count++
		}
	}
	return count
}

// span is the stretch, in pre-order, from a chunk's first whole node to its last. A store keeps whole
// nodes by position, so no two chunks may have the same: spans of one checkpoint are disjoint.
type span struct {
	first, last node.Position
	chunk       int
}

// spanOf returns a chunk's span; none where it has no whole node.
func spanOf(tree *proof.Tree, chunk int) (s span, ok bool) {
	first, last := -1, -1
	for i := range tree.Nodes {
		if tree.Nodes[i].Whole {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return span{}, false
	}
	return span{first: positionOfWhole(tree, first), last: positionOfWhole(tree, last), chunk: chunk}, true
}

// positionOfWhole returns the position of a whole node: the beginning of any key below it.
func positionOfWhole(tree *proof.Tree, index int) node.Position {
	depth := tree.Nodes[index].Depth
	for i := index; ; i++ {
		switch n := &tree.Nodes[i]; {
		case n.Kind == proof.KindLeaf:
			return node.NewPosition(n.Compact().Key, depth)
		case n.HasOwnLeaf:
			return node.NewPosition(n.Compact().OwnKey, depth)
		}
	}
}

// overlap says which two chunks hold the same whole nodes, given all spans sorted by their first.
func overlap(spans []span) error {
	for i := 1; i < len(spans); i++ {
		if spans[i].first.Compare(spans[i-1].last) <= 0 {
			return fmt.Errorf("%w: chunks %d and %d hold the same nodes", ErrChunkProofVerificationFailed, spans[i-1].chunk, spans[i].chunk)
		}
	}
	return nil
}

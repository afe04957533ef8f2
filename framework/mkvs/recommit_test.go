package mkvs_test

import (
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A root that was committed before (by a run that was killed before it finalized it, or by another tree) is
// no error, and the database keeps the nodes of the first commit only. The tree goes on from those.
func TestCommitWhatIsThereAlready(t *testing.T) {
	ndb := newStrictDB()
	first := mkvs.New(ndb, node.RootTypeState)
	for i := range 50 {
		insert(t, first, fmt.Sprint("key", i), "1")
	}
	_, root := commit(t, first, 1)

	change := func(tree *mkvs.Tree) { insert(t, tree, "key7", "2", "key33", "2", "new", "2") }
	killed := mkvs.NewWithRoot(ndb, root)
	change(killed)
	_, candidate := commit(t, killed, 2)

	resumed := mkvs.NewWithRoot(ndb, root)
	change(resumed)
	_, again := commit(t, resumed, 2)
	if again != candidate {
		t.Fatalf("root %s, then %s", candidate, again)
	}
	want := contents(t, killed)
	if got := contents(t, resumed); got != want {
		t.Errorf("after the commit the tree holds %q, want %q", got, want)
	}
	insert(t, resumed, "key8", "3")
	remove(t, resumed, "key33")
	_, next := commit(t, resumed, 3)
	got := contents(t, mkvs.NewWithRoot(ndb, next))

	insert(t, killed, "key8", "3")
	remove(t, killed, "key33")
	if want := contents(t, killed); got != want {
		t.Errorf("the next version holds %q, want %q", got, want)
	}
}

// The same holds for a tree that is unchanged where the root that is there was made otherwise.
func TestCommitUnchangedWhatIsThereAlready(t *testing.T) {
	ndb := newStrictDB()
	kept := mkvs.New(ndb, node.RootTypeState)
	fresh := mkvs.New(ndb, node.RootTypeState)
	for i := range 20 {
		insert(t, kept, fmt.Sprint("key", i), "1")
		insert(t, fresh, fmt.Sprint("key", i), "1")
	}
	commit(t, kept, 1)
	_, root := commit(t, fresh, 2)
	if _, again := commit(t, kept, 2); again != root {
		t.Fatalf("root %s, then %s", root, again)
	}
	insert(t, kept, "key3", "2")
	_, next := commit(t, kept, 3) // strictDB holds what it removes against what the root at version 2 reaches
	if got, want := contents(t, mkvs.NewWithRoot(ndb, next)), contents(t, kept); got != want {
		t.Errorf("the next version holds %q, want %q", got, want)
	}
}

package crash

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// kind is what an operation does.
type kind uint8

const (
	openDatabase kind = iota
	closeDatabase
	commitRoot
	abandonBatch
	finalizeRoots
	pruneVersion
	pruneBefore
	collectGarbage
	compactFiles
	syncFiles
	pinVersion
	unpinAll
	readRoot
	startInsert
	addInsertRoot
	writeChunk
	completeRoot
	abortRoot
	abortInsert
	lookAround
)

var kindNames = [...]string{
	"open", "close", "commit", "abandon", "finalize", "prune", "prune before", "collect garbage", "compact", "sync",
	"pin", "unpin", "read", "start insert", "add root", "chunk", "complete", "abort root", "abort insert", "look",
}

func (k kind) String() string { return kindNames[k] }

// activity is what a host is about when it asks for an operation. Crashes are spread over them evenly.
type activity uint8

const (
	committing activity = iota
	finalizing
	pruning
	collecting
	compacting
	restoring
	activities // how many there are
)

var activityNames = [activities]string{"commits", "finalizes", "prunes", "collections", "compactions", "restores"}

func (a activity) String() string { return activityNames[a] }

// activity says what an operation is a part of, if it is one of those that crashes are spread over.
func (k kind) activity() (_ activity, ok bool) {
	switch k {
	case commitRoot:
		return committing, true
	case finalizeRoots:
		return finalizing, true
	case pruneVersion, pruneBefore:
		return pruning, true
	case collectGarbage:
		return collecting, true
	case compactFiles:
		return compacting, true
	case startInsert, addInsertRoot, writeChunk, completeRoot, abortRoot, abortInsert:
		return restoring, true
	default:
		return 0, false
	}
}

// op is an operation as it travels to the process that does it.
type op struct {
	Kind kind
	// Dir and Settings say what to open.
	Dir      string
	Settings []byte
	// Old is what a commit begins from, Changes what it changes, and Root what has to come out.
	Old     node.Root
	Changes []change
	// Root is what the other operations on one root are about, Roots what is finalized.
	Root  node.Root
	Roots []node.Root
	// Version is that of a prune, pin or insert, and up to which a look goes.
	Version uint64
	// Content is what a batch that is abandoned holds, or the tree that Index is a chunk of, when it is cut
	// into Pieces.
	Content reference.Content
	Pieces  int
	Index   uint64
	Sync    bool
}

// change is what a commit does to a key.
type change struct {
	Key, Value string
	Remove     bool
}

func (o *op) String() string {
	switch o.Kind {
	case commitRoot:
		return fmt.Sprintf("commit %s on %s", o.Root, o.Old)
	case finalizeRoots:
		return fmt.Sprintf("finalize %v", o.Roots)
	case pruneVersion, pruneBefore, pinVersion, startInsert:
		return fmt.Sprintf("%s %d", o.Kind, o.Version)
	case addInsertRoot, completeRoot, abortRoot, readRoot:
		return fmt.Sprintf("%s %s", o.Kind, o.Root)
	case writeChunk:
		return fmt.Sprintf("chunk %d of %s (sync %t)", o.Index, o.Root, o.Sync)
	default:
		return o.Kind.String()
	}
}

// promisesItself says whether what was acknowledged survives a loss of power: clauses DB40, DB51, DB52,
// DB63 and DB71.
func (o *op) promisesItself() bool {
	switch o.Kind {
	case finalizeRoots, pruneVersion, pruneBefore, syncFiles, closeDatabase:
		return true
	case writeChunk:
		return o.Sync
	default:
		return false
	}
}

// promisesOthers says whether what was acknowledged before does: clauses DB40, DB63, DB71. A prune is one
// more that is applied with sync, and KV22 speaks of all batches before it.
func (o *op) promisesOthers() bool { return o.promisesItself() || o.Kind == completeRoot }

// step is a set of operations that are done at once.
type step struct {
	ops []op
	// acked are the indices of those that were acknowledged, in that order.
	acked []int
}

func (s *step) unacked() (indices []int) {
	for i := range s.ops {
		if !slices.Contains(s.acked, i) {
			indices = append(indices, i)
		}
	}
	return indices
}

func (s *step) String() string {
	texts := make([]string, len(s.ops))
	for i := range s.ops {
		texts[i] = s.ops[i].String()
		if !slices.Contains(s.acked, i) {
			texts[i] += " [in flight]"
		}
	}
	return strings.Join(texts, " | ")
}

// answer is what comes back of an operation.
type answer struct {
	// Index is the operation's among those that were asked for together.
	Index int
	// Err is the text of what it failed with.
	Err string
	// Content is what a root holds that was read.
	Content reference.Content
	// Sight is what a look has seen.
	Sight *sight
}

// host is a process with a database.
type host interface {
	// do lets operations be done at once, and calls answered as each is, one after the other. It returns an
	// error where the process ends before all are.
	do(ctx context.Context, ops []op, answered func(answer)) error
	// kill ends the process as kill -9 does, and may be called by any goroutine, at any time, and again.
	kill()
	// end waits for the end of the process, which was killed or has closed its database.
	end() error
}

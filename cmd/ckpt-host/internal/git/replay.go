package git

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
)

// Change is what became of one path from one tree to the next.
type Change struct {
	// Path is the path that changed.
	Path []byte
	// Removed says that there is no file at the path any more (a submodule is no file).
	Removed bool
	// TooLarge says that the file is larger than the replay was told to read.
	TooLarge bool
	// Size is the new content's length in bytes.
	Size int64
	// Content is the new content, nil where the file was removed or is too large. It is the caller's.
	Content []byte
}

// Replay goes through a history tree by tree. It belongs to one goroutine.
//
// Two git processes work ahead of the reader: one compares trees, the other reads the blobs that turn
// out to be needed. How far ahead is bounded by pipes and a short queue of paths.
type Replay struct {
	diff     *command
	blobs    *command
	contents *bufio.Reader
	changes  chan pendingChange
	cancel   context.CancelFunc
	done     sync.WaitGroup
	maxBytes int64
	// inTree says that changes of the present tree may follow, begun that the next one's beginning has been
	// received already.
	inTree, begun bool
	err           error
}

// pendingChange is a change whose content has been asked for and not yet read. One without a path begins
// a tree.
type pendingChange struct {
	path    []byte
	removed bool
	blob    ID
	tree    string // where a tree begins: what git was asked to compare
	err     error
}

// readAhead is the number of changes that git may be ahead of the reader.
const readAhead = 1024

// Replay begins to go from one tree through the trees of commits, one after the other. Files of more than
// maxBytes are not read. The caller closes what it gets.
func (r *Repository) Replay(ctx context.Context, from ID, commits []Commit, maxBytes int64) (*Replay, error) {
	ctx, cancel := context.WithCancel(ctx)
	diff, err := r.start(ctx, true, "diff-tree", "--stdin", "-r", "-z", "--raw", "--no-abbrev", "--no-renames",
		"--ignore-submodules=none")
	if err != nil {
		cancel()
		return nil, err
	}
	blobs, err := r.start(ctx, true, "cat-file", "--batch")
	if err != nil {
		cancel()
		diff.stop()
		return nil, err
	}
	p := &Replay{
		diff:     diff,
		blobs:    blobs,
		contents: bufio.NewReaderSize(blobs.stdout, 64<<10),
		changes:  make(chan pendingChange, readAhead),
		cancel:   cancel,
		maxBytes: maxBytes,
	}
	p.done.Go(func() { p.feed(from, commits) })
	p.done.Go(func() { p.list(ctx, from, commits) })
	return p, nil
}

// feed tells git which trees to compare. If git ends early, its output says so to whoever reads it.
func (p *Replay) feed(from ID, commits []Commit) {
	defer p.diff.stdin.Close()
	w := bufio.NewWriter(p.diff.stdin)
	for _, commit := range commits {
		if _, err := fmt.Fprintln(w, comparison(from, commit.Tree)); err != nil {
			return
		}
		from = commit.Tree
	}
	_ = w.Flush() // see above
}

// comparison is how git is asked to compare two trees, and begins its answer.
func comparison(from, to ID) string { return from.String() + " " + to.String() }

// list reads the differences, asks for the blobs that they need, and queues what changed, in order.
func (p *Replay) list(ctx context.Context, from ID, commits []Commit) {
	defer close(p.changes)
	defer p.blobs.stdin.Close()
	requests := bufio.NewWriter(p.blobs.stdin)
	queue := func(c pendingChange) bool {
		select {
		case p.changes <- c:
			return true
		default:
		}
		// The reader may be waiting for a blob that is asked for in here.
		if err := requests.Flush(); err != nil {
			c.err = p.blobs.broken(io.ErrUnexpectedEOF)
		}
		select {
		case p.changes <- c:
			return c.err == nil
		case <-ctx.Done():
			return false
		}
	}
	records := newRecords(p.diff.stdout)
	for {
		change, more, err := readChange(records)
		if err == io.EOF {
			err = p.diff.wait()
			if err == nil && len(commits) > 0 {
				// Where git can't read a tree it says so, and ends well.
				err = &commandError{command: "diff-tree", stderr: p.diff.stderr.text(), cause: p.notCompared(from, commits)}
			}
			if err == nil {
				if requests.Flush() != nil {
					err = p.blobs.broken(io.ErrUnexpectedEOF)
				}
			}
			if err != nil {
				queue(pendingChange{err: err})
			}
			return
		}
		if err != nil {
			queue(pendingChange{err: p.diff.broken(err)})
			return
		}
		if !more {
			continue
		}
		if change.path != nil && !change.removed {
			if _, err := fmt.Fprintf(requests, "%s\n", change.blob); err != nil {
				queue(pendingChange{err: p.blobs.broken(io.ErrUnexpectedEOF)})
				return
			}
		} else if change.path == nil {
			if len(commits) == 0 || change.tree != comparison(from, commits[0].Tree) {
				queue(pendingChange{err: p.notCompared(from, commits)})
				return
			}
			from, commits = commits[0].Tree, commits[1:]
			// A tree is a good moment: the reader ends up waiting for what is asked for in it.
			if err := requests.Flush(); err != nil {
				queue(pendingChange{err: p.blobs.broken(io.ErrUnexpectedEOF)})
				return
			}
		}
		if !queue(change) {
			return
		}
	}
}

func (p *Replay) notCompared(from ID, commits []Commit) error {
	if len(commits) == 0 {
		return fmt.Errorf("git diff-tree: %w: more than it was asked for", ErrMalformed)
	}
	return fmt.Errorf("git diff-tree: %w: trees %s of commit %s were not compared",
		ErrMalformed, comparison(from, commits[0].Tree), commits[0].ID)
}

// readChange reads a line that begins a tree, or one entry of the raw format. It returns false for an
// entry that changes no content.
func readChange(records *records) (pendingChange, bool, error) {
	first, err := records.r.Peek(1)
	if err != nil {
		return pendingChange{}, false, err
	}
	if first[0] != ':' {
		line, err := records.next('\n')
		return pendingChange{tree: string(line)}, err == nil, unexpected(err)
	}
	head, err := records.next(0)
	if err != nil {
		return pendingChange{}, false, unexpected(err)
	}
	fields := bytes.Split(head[1:], []byte{' '})
	if len(fields) != 5 {
		return pendingChange{}, false, fmt.Errorf("%w: %.200q", ErrMalformed, head)
	}
	oldIsFile, newIsFile := isFile(fields[0]), isFile(fields[1])
	oldBlob, err := ParseID(string(fields[2]))
	if err != nil {
		return pendingChange{}, false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	change := pendingChange{removed: !newIsFile}
	if change.blob, err = ParseID(string(fields[3])); err != nil {
		return pendingChange{}, false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	path, err := records.next(0)
	if err != nil {
		return pendingChange{}, false, unexpected(err)
	}
	if len(path) == 0 {
		return pendingChange{}, false, fmt.Errorf("%w: an entry without a path", ErrMalformed)
	}
	change.path = bytes.Clone(path)
	if oldIsFile && newIsFile {
		return change, oldBlob != change.blob, nil
	}
	return change, oldIsFile || newIsFile, nil
}

func isFile(mode []byte) bool { return string(mode) != modeAbsent && string(mode) != modeSubmodule }

// unexpected marks an end of the stream in the middle of something.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// NextTree goes to the next tree, past what is left of the present one. It returns io.EOF after the last.
func (p *Replay) NextTree() error {
	for p.inTree {
		if _, err := p.NextChange(); err != nil && err != io.EOF {
			return err
		}
	}
	if !p.begun {
		if _, err := p.receive(); err != nil {
			return err
		}
	}
	p.begun, p.inTree = false, true
	return nil
}

// NextChange returns the next change of the present tree, io.EOF after the last.
func (p *Replay) NextChange() (Change, error) {
	if !p.inTree {
		return Change{}, io.EOF
	}
	pending, err := p.receive()
	if err == io.EOF || err == nil && pending.path == nil {
		p.inTree, p.begun = false, err == nil
		return Change{}, io.EOF
	}
	if err != nil {
		return Change{}, err
	}
	change := Change{Path: pending.path, Removed: pending.removed}
	if !change.Removed {
		if err := p.read(&change, pending.blob); err != nil {
			p.err = fmt.Errorf("%q: %w", change.Path, err)
			return Change{}, p.err
		}
	}
	return change, nil
}

// receive takes the next change from the queue. An error stays; so does io.EOF.
func (p *Replay) receive() (pendingChange, error) {
	if p.err != nil {
		return pendingChange{}, p.err
	}
	pending, ok := <-p.changes
	switch {
	case !ok && p.blobs.ctx.Err() != nil:
		p.err = p.blobs.ctx.Err()
	case !ok:
		p.err = io.EOF
	case pending.err != nil:
		p.err = pending.err
	}
	return pending, p.err
}

// read reads git's answer for a blob.
func (p *Replay) read(change *Change, blob ID) error {
	line, err := p.contents.ReadSlice('\n')
	if err != nil {
		return p.blobs.broken(err)
	}
	fields := bytes.Fields(line)
	if len(fields) == 2 && string(fields[1]) == "missing" {
		return fmt.Errorf("%w: blob %s (git fsck tells more; a partial clone needs to reach its origin)", ErrMissingObject, blob)
	}
	if len(fields) != 3 || string(fields[0]) != blob.String() || string(fields[1]) != "blob" {
		return fmt.Errorf("git cat-file: %w: %.200q", ErrMalformed, line)
	}
	if change.Size, err = strconv.ParseInt(string(fields[2]), 10, 64); err != nil || change.Size < 0 {
		return fmt.Errorf("git cat-file: %w: %.200q", ErrMalformed, line)
	}
	if change.TooLarge = change.Size > p.maxBytes; change.TooLarge {
		_, err = io.CopyN(io.Discard, p.contents, change.Size)
	} else {
		change.Content = make([]byte, change.Size)
		_, err = io.ReadFull(p.contents, change.Content)
	}
	if err == nil {
		_, err = p.contents.Discard(1) // the line feed after it
	}
	if err != nil {
		return p.blobs.broken(err)
	}
	return nil
}

// Close ends the git processes and waits for them. It can be called at any time, and again.
func (p *Replay) Close() {
	p.cancel()
	p.diff.stop()
	p.blobs.stop()
	p.done.Wait()
}

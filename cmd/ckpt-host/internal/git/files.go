package git

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"strconv"
)

// maxRecord bounds one record of git's output: a path and what stands before it. Paths are as long as
// whoever made the commit likes.
const maxRecord = 1 << 20

// Modes of entries that are no files, as git writes them.
const (
	modeAbsent    = "000000"
	modeSubmodule = "160000"
)

// File is an entry of a commit's tree, below all directories.
type File struct {
	// Path is the whole path, its parts separated by slashes, in whatever bytes it was committed with.
	Path []byte
	// Blob names the content: the file's bytes, or a symlink's target.
	Blob ID
	// Submodule says that the entry is a submodule; Blob is then a commit of another repository.
	Submodule bool
}

// Files yields the files of a commit in the order of the bytes of their paths. A File's Path is valid
// until the next step.
func (r *Repository) Files(ctx context.Context, commit ID) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		c, err := r.start(ctx, false, "ls-tree", "-r", "-z", "--full-tree", commit.String())
		if err != nil {
			yield(File{}, err)
			return
		}
		defer c.stop()
		records := newRecords(c.stdout)
		for {
			record, err := records.next(0)
			if err == io.EOF {
				break
			}
			if err != nil {
				yield(File{}, c.broken(err))
				return
			}
			file, err := parseFile(record)
			if !yield(file, err) || err != nil {
				return
			}
		}
		if err := c.wait(); err != nil {
			yield(File{}, err)
		}
	}
}

// parseFile parses "MODE TYPE ID\tPATH".
func parseFile(record []byte) (File, error) {
	head, path, found := bytes.Cut(record, []byte{'\t'})
	fields := bytes.Split(head, []byte{' '})
	if !found || len(fields) != 3 || len(path) == 0 {
		return File{}, fmt.Errorf("git ls-tree: %w: %.100q", ErrMalformed, record)
	}
	id, err := ParseID(string(fields[2]))
	if err != nil {
		return File{}, fmt.Errorf("git ls-tree: %w: %w", ErrMalformed, err)
	}
	return File{Path: path, Blob: id, Submodule: string(fields[0]) == modeSubmodule}, nil
}

// BlobSize returns the length of a blob without reading it.
func (r *Repository) BlobSize(ctx context.Context, blob ID) (int64, error) {
	out, err := r.output(ctx, "cat-file", "-s", blob.String())
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(string(bytes.TrimSpace(out)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("git cat-file: %w: %w", ErrMalformed, err)
	}
	return size, nil
}

// records splits a stream at delimiters into records of bounded length.
type records struct {
	r   *bufio.Reader
	buf []byte
}

func newRecords(r io.Reader) *records { return &records{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next record without its delimiter. It is valid until the next call. The error is
// io.EOF only where the stream ends between records.
func (r *records) next(delimiter byte) ([]byte, error) {
	r.buf = r.buf[:0]
	for {
		part, err := r.r.ReadSlice(delimiter)
		switch {
		case err == nil && len(r.buf) == 0:
			return part[:len(part)-1], nil
		case err == nil:
			r.buf = append(r.buf, part[:len(part)-1]...)
			return r.buf, nil
		case err == bufio.ErrBufferFull && len(r.buf)+len(part) <= maxRecord:
			r.buf = append(r.buf, part...)
		case err == bufio.ErrBufferFull:
			return nil, fmt.Errorf("%w: a path longer than %d bytes", ErrMalformed, maxRecord)
		case err == io.EOF && len(r.buf)+len(part) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

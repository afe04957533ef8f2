package ndjson

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Reader reads operations, one a line. Lines of nothing but white space are passed over.
type Reader struct {
	in       *bufio.Reader
	encoding Encoding
	maxLine  int

	number int
	line   []byte
	parser parser
	err    error
}

// overhead is room in a line for everything but the key and the value.
const overhead = 4096

// NewReader returns a reader of operations whose keys and values have up to keyBytes and valueBytes
// bytes; no line is longer than those can need, so that no input takes more memory.
func NewReader(in io.Reader, encoding Encoding, keyBytes, valueBytes int) *Reader {
	return &Reader{
		in:       bufio.NewReaderSize(in, 1<<16),
		encoding: encoding,
		maxLine:  encoding.maxText(keyBytes) + encoding.maxText(valueBytes) + overhead,
	}
}

// LineError is a line that is no operation.
type LineError struct {
	// Line is the line's number, from 1 on.
	Line int
	// Err is what is wrong with it.
	Err error
	// Version is the version that the line speaks of, where Readable says that it could be read.
	Version  uint64
	Readable bool
}

// Error returns the line's number and what is wrong.
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// Line is the number of the line that was read last, from 1 on.
func (r *Reader) Line() int { return r.number }

// Next returns the next operation, in memory of its own; io.EOF after the last one, and a *LineError
// for a line that is none, after which the line after it can be read, unless that line was too long.
func (r *Reader) Next() (Operation, error) {
	if r.err != nil {
		return Operation{}, r.err
	}
	for {
		line, err := r.readLine()
		if err != nil {
			r.err = err
			return Operation{}, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		op, err := r.parser.operation(line, r.encoding)
		if err != nil {
			return Operation{}, r.fail(line, err)
		}
		return op, nil
	}
}

func (r *Reader) fail(line []byte, err error) error {
	version, readable := versionOf(line)
	return &LineError{Line: r.number, Err: err, Version: version, Readable: readable}
}

// readLine returns the next line, valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.number++
	line, err := r.in.ReadSlice('\n')
	if err == nil {
		return line, nil
	}
	r.line = append(r.line[:0], line...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(r.line) > r.maxLine {
			return nil, r.fail(r.line, fmt.Errorf("longer than %d bytes, which the longest key and value allowed here don't need", r.maxLine))
		}
		line, err = r.in.ReadSlice('\n')
		r.line = append(r.line, line...)
	}
	switch {
	case err == nil, errors.Is(err, io.EOF) && len(r.line) > 0:
		return r.line, nil
	case errors.Is(err, io.EOF):
		return nil, io.EOF
	default:
		return nil, fmt.Errorf("line %d: %w", r.number, err)
	}
}

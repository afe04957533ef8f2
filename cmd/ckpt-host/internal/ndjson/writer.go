package ndjson

import (
	"bufio"
	"fmt"
	"io"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Writer writes entries, one a line: {"key":"...","value":"..."}.
type Writer struct {
	out      *bufio.Writer
	encoding Encoding
	line     []byte
}

// NewWriter returns a writer of entries. What it writes is out when Flush has returned.
func NewWriter(out io.Writer, encoding Encoding) *Writer {
	return &Writer{out: bufio.NewWriterSize(out, 1<<16), encoding: encoding}
}

// Write writes one entry.
func (w *Writer) Write(key node.Key, value []byte) error {
	line := append(w.line[:0], `{"key":`...)
	line, err := w.encoding.appendString(line, key)
	if err != nil {
		return fmt.Errorf("the key %x: %w", []byte(key), err)
	}
	line = append(line, `,"value":`...)
	if line, err = w.encoding.appendString(line, value); err != nil {
		return fmt.Errorf("the value of key %x: %w", []byte(key), err)
	}
	w.line = append(line, "}\n"...)
	_, err = w.out.Write(w.line)
	return err
}

// Flush hands on what was written.
func (w *Writer) Flush() error { return w.out.Flush() }

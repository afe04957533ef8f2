package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// The journal is a file of batches, one after the other: the body's length (8 bytes, big-endian), its
// CRC-32C (4 bytes), the body. The body is a list of operations: 0 for a put or 1 for a delete, then the
// key and, for a put, the value, each with its length (a uvarint) before it. A batch that is cut short
// at the end of the file was never applied: its writer died, or its Apply failed.

const headBytes = 8 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendBatch(to []byte, ops []kv.Op) []byte {
	start := len(to)
	to = append(to, make([]byte, headBytes)...)
	for _, op := range ops {
		if op.Delete {
			to = appendBytes(append(to, 1), op.Key)
		} else {
			to = appendBytes(appendBytes(append(to, 0), op.Key), op.Value)
		}
	}
	body := to[start+headBytes:]
	binary.BigEndian.PutUint64(to[start:], uint64(len(body)))
	binary.BigEndian.PutUint32(to[start+8:], crc32.Checksum(body, castagnoli))
	return to
}

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

// replay hands all batches of a journal to apply, and returns where the last one ends. What apply gets
// is its own to keep.
func replay(f *os.File, apply func([]kv.Op)) (end int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, info.Size()), 1<<20)
	for {
		var head [headBytes]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return end, nil
		} else if err != nil {
			return end, err
		}
		n := binary.BigEndian.Uint64(head[:])
		if left := uint64(info.Size() - end - headBytes); n > left {
			return end, nil
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return end, err
		}
		next := end + headBytes + int64(n)
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[8:]) {
			if next == info.Size() {
				return end, nil // a loss of power while the last batch was being written
			}
			return end, fmt.Errorf("%w: journal: batch at byte %d", db.ErrCorrupted, end)
		}
		ops, ok := parseOps(body)
		if !ok {
			return end, fmt.Errorf("%w: journal: batch at byte %d makes no sense", db.ErrCorrupted, end)
		}
		apply(ops)
		end = next
	}
}

func parseOps(body []byte) (ops []kv.Op, ok bool) {
	cut := func() (b []byte, ok bool) {
		n, size := binary.Uvarint(body)
		if size <= 0 || n > uint64(len(body)-size) {
			return nil, false
		}
		b, body = body[size:size+int(n):size+int(n)], body[size+int(n):]
		return b, true
	}
	for len(body) > 0 {
		op := kv.Op{Delete: body[0] == 1}
		body = body[1:]
		if op.Key, ok = cut(); !ok || len(op.Key) == 0 {
			return nil, false
		}
		if !op.Delete {
			if op.Value, ok = cut(); !ok {
				return nil, false
			}
		}
		ops = append(ops, op)
	}
	return ops, true
}

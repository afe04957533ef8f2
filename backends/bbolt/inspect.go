package bbolt

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// The layout of the engine's file, as far as it is looked at here. Numbers are in the machine's order.
//
//	page:  id 8 ‖ flags 2 ‖ count 2 ‖ overflow 4 ‖ content
//	meta:  magic 4 ‖ version 4 ‖ page size 4 ‖ flags 4 ‖ root page 8 ‖ sequence 8 ‖ freelist 8 ‖ pages 8 ‖
//	       transaction 8 ‖ checksum 8, FNV-1a over what stands before it; on pages 0 and 1
const (
	pageHeaderBytes = 16
	metaBytes       = 64
	metaMagic       = 0xED0CDAED
	metaVersion     = 2
	freelistFlag    = 0x10
	noFreelist      = 1<<64 - 1
	// countEscape in a freelist's count says that its first number is the count.
	countEscape = 0xffff

	minPageSize = 1 << 10
	maxPageSize = 1 << 24
)

type meta struct {
	pageSize, version           uint32
	root, freelist, pages, txid uint64
}

// inspect looks for damage that the engine would trip over before it notices: a file that was cut
// short (reading beyond its end is a signal, not an error), and a list of free pages that is none.
func inspect(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	m, err := newestMeta(f, info.Size())
	if err != nil {
		return err
	}
	if m.version != metaVersion {
		return fmt.Errorf("%w: engine's format %d", db.ErrFormatVersion, m.version)
	}
	if need := m.pages; need > uint64(info.Size())/uint64(m.pageSize) {
		return fmt.Errorf("%w: the file has %d bytes, and should have %d pages of %d", db.ErrCorrupted, info.Size(), need, m.pageSize)
	}
	if m.root >= m.pages {
		return fmt.Errorf("%w: root at page %d of %d", db.ErrCorrupted, m.root, m.pages)
	}
	if m.freelist == noFreelist {
		return nil
	}
	return inspectFreelist(f, m)
}

// newestMeta returns the newer of the meta pages that are whole.
func newestMeta(f *os.File, size int64) (newest meta, err error) {
	found := false
	take := func(offset int64) error {
		m, ok, err := readMeta(f, offset)
		if ok && (!found || m.txid > newest.txid) {
			newest, found = m, true
		}
		return err
	}
	if err := take(0); err != nil {
		return newest, err
	}
	if found {
		err = take(int64(newest.pageSize))
	} else {
		for at := int64(minPageSize); at <= maxPageSize && at < size && err == nil && !found; at *= 2 {
			err = take(at)
		}
	}
	if err == nil && !found {
		err = fmt.Errorf("%w: neither of its first two pages is whole", db.ErrCorrupted)
	}
	return newest, err
}

func readMeta(f *os.File, offset int64) (m meta, whole bool, err error) {
	var b [pageHeaderBytes + metaBytes]byte
	if _, err := f.ReadAt(b[:], offset); err == io.EOF {
		return m, false, nil
	} else if err != nil {
		return m, false, err
	}
	body, order := b[pageHeaderBytes:], binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(body[:metaBytes-8])
	if order.Uint32(body) != metaMagic || order.Uint64(body[metaBytes-8:]) != sum.Sum64() {
		return m, false, nil
	}
	m = meta{
		version: order.Uint32(body[4:]), pageSize: order.Uint32(body[8:]),
		root: order.Uint64(body[16:]), freelist: order.Uint64(body[32:]),
		pages: order.Uint64(body[40:]), txid: order.Uint64(body[48:]),
	}
	return m, m.pageSize >= minPageSize && m.pageSize <= maxPageSize, nil
}

func inspectFreelist(f *os.File, m meta) error {
	damaged := func(what string, n uint64) error {
		return fmt.Errorf("%w: list of free pages, on page %d of %d: %s %d", db.ErrCorrupted, m.freelist, m.pages, what, n)
	}
	if m.freelist < 2 || m.freelist >= m.pages {
		return damaged("page", m.freelist)
	}
	var b [pageHeaderBytes + 8]byte
	if _, err := f.ReadAt(b[:], int64(m.freelist)*int64(m.pageSize)); err != nil {
		return err
	}
	order := binary.NativeEndian
	if id := order.Uint64(b[:]); id != m.freelist {
		return damaged("number", id)
	}
	if flags := order.Uint16(b[8:]); flags != freelistFlag {
		return damaged("kind", uint64(flags))
	}
	count, overflow := uint64(order.Uint16(b[10:])), uint64(order.Uint32(b[12:]))
	if overflow >= m.pages-m.freelist {
		return damaged("overflow", overflow)
	}
	room := (overflow+1)*uint64(m.pageSize) - pageHeaderBytes
	if count == countEscape {
		count, room = order.Uint64(b[pageHeaderBytes:]), room-8
	}
	if count > room/8 {
		return damaged("count", count)
	}
	return nil
}

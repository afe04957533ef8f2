package kvdb

import (
	"encoding/binary"

	"github.com/ckpt-project/ckpt/framework/hash"
)

// Small values are fields one after the other, sealed with a checksum of key and value.

// seal appends the checksum to a value.
func seal(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint32(value, checksum(key, value))
}

// unseal checks a value and returns a reader of its fields.
func unseal(key, value []byte) (fields, bool) {
	if len(value) < crcSize {
		return fields{}, false
	}
	body := value[:len(value)-crcSize]
	return fields{b: body}, checksum(key, body) == binary.LittleEndian.Uint32(value[len(body):])
}

// fields reads a value's fields; bad is set, and stays so, where one is not there.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) bytes(n uint64) []byte {
	if f.bad || n > uint64(len(f.b)) {
		f.bad = true
		return nil
	}
	out := f.b[:n:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) byte() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uvarint() uint64 {
	v, k := binary.Uvarint(f.b)
	if f.bad || k <= 0 {
		f.bad = true
		return 0
	}
	f.b = f.b[k:]
	return v
}

// uint16 and uint32 are numbers in as few bytes as they take, no larger than their names say.
func (f *fields) uint16() uint16 {
	v := f.uvarint()
	f.bad = f.bad || v > 0xffff
	return uint16(v)
}

func (f *fields) uint32() uint32 {
	v := f.uvarint()
	f.bad = f.bad || v > 0xffffffff
	return uint32(v)
}

func (f *fields) hash() (h hash.Hash) {
	copy(h[:], f.bytes(hash.Size))
	return h
}

// done says whether all fields were there, and nothing else.
func (f *fields) done() bool { return !f.bad && len(f.b) == 0 }

package git

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"strconv"
)

// Format is a repository's object format: how its objects are named.
type Format string

// The object formats.
const (
	SHA1   Format = "sha1"
	SHA256 Format = "sha256"
)

// size is the length of the format's ids in bytes.
func (f Format) size() int {
	if f == SHA256 {
		return sha256.Size
	}
	return sha1.Size
}

func (f Format) new() hash.Hash {
	if f == SHA256 {
		return sha256.New()
	}
	return sha1.New()
}

// ObjectID returns the name that git gives to an object of this type ("blob", "tree") and content.
func (f Format) ObjectID(objectType string, content []byte) ID {
	h := f.new()
	h.Write([]byte(objectType + " " + strconv.Itoa(len(content)) + "\x00"))
	h.Write(content)
	id := ID{n: uint8(f.size())}
	h.Sum(id.b[:0])
	return id
}

// EmptyTree is the tree that holds nothing. Git knows it in every repository.
func (f Format) EmptyTree() ID { return f.ObjectID("tree", nil) }

// ID names an object of a repository. IDs can be compared with ==. The zero value names nothing.
type ID struct {
	b [sha256.Size]byte
	n uint8
}

// ParseID parses the hexadecimal form of either object format.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != 2*sha1.Size && len(text) != 2*sha256.Size {
		return ID{}, fmt.Errorf("git: %.80q is no object id", text)
	}
	n, err := hex.Decode(id.b[:], []byte(text))
	if err != nil {
		return ID{}, fmt.Errorf("git: %.80q is no object id: %w", text, err)
	}
	id.n = uint8(n)
	return id, nil
}

// String returns the hexadecimal form.
func (id ID) String() string { return hex.EncodeToString(id.b[:id.n]) }

// Short returns the first twelve digits, for people to read.
func (id ID) Short() string { return hex.EncodeToString(id.b[:min(id.n, 6)]) }

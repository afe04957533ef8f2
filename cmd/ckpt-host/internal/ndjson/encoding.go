// Package ndjson is the form in which operations come into the host and entries go out of it: one JSON
// object a line. Reading is strict, because an operation that is read otherwise than it was meant ends
// up in a root hash: unknown and repeated fields, other spellings, and text that is not what it says to
// be are refused.
package ndjson

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Encoding is how bytes stand in a JSON string.
type Encoding int

// The encodings.
const (
	// Base64 is the standard alphabet with padding.
	Base64 Encoding = iota
	// Hex is two digits a byte, of either case.
	Hex
	// UTF8 is the text itself. Bytes that are no UTF-8 have no such form.
	UTF8
)

// ErrNotUTF8 is returned for bytes that UTF8 has no form for.
var ErrNotUTF8 = errors.New("not UTF-8 text")

// ParseEncoding reads an encoding's name.
func ParseEncoding(name string) (Encoding, error) {
	for _, e := range []Encoding{Base64, Hex, UTF8} {
		if e.String() == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("%q is no encoding: base64, hex or utf8", name)
}

// String returns the encoding's name.
func (e Encoding) String() string {
	switch e {
	case Base64:
		return "base64"
	case Hex:
		return "hex"
	default:
		return "utf8"
	}
}

// maxText is the length of the longest form of n bytes within a JSON string, escapes included.
func (e Encoding) maxText(n int) int {
	switch e {
	case Base64:
		return 2 * base64.StdEncoding.EncodedLen(n) // "/" may be written "\/"
	case Hex:
		return 2 * n
	default:
		return 6 * n // "\u0000"
	}
}

// decode returns, in memory of their own, the bytes that text, the contents of a JSON string, stands
// for. A result of no bytes is not nil.
func (e Encoding) decode(text []byte) ([]byte, error) {
	switch e {
	case Base64:
		// The decoder of the standard library passes over line breaks.
		for _, c := range text {
			if c == '\n' || c == '\r' {
				return nil, errors.New("not base64: a line break in it")
			}
		}
		out, err := base64.StdEncoding.Strict().AppendDecode([]byte{}, text)
		if err != nil {
			return nil, errors.New("not base64 (of the standard alphabet, with padding)")
		}
		return out, nil
	case Hex:
		out, err := hex.AppendDecode([]byte{}, text)
		if err != nil {
			return nil, errors.New("not hexadecimal digits, two a byte")
		}
		return out, nil
	default:
		return append([]byte{}, text...), nil
	}
}

// appendString appends to dst the JSON string that stands for b.
func (e Encoding) appendString(dst, b []byte) ([]byte, error) {
	dst = append(dst, '"')
	switch e {
	case Base64:
		dst = base64.StdEncoding.AppendEncode(dst, b)
	case Hex:
		dst = hex.AppendEncode(dst, b)
	default:
		if !utf8.Valid(b) {
			return nil, ErrNotUTF8
		}
		dst = appendEscaped(dst, b)
	}
	return append(dst, '"'), nil
}

// appendEscaped appends text with what JSON asks for escaped, and nothing else.
func appendEscaped(dst, text []byte) []byte {
	const digits = "0123456789abcdef"
	start := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		}
	}
	return append(dst, text[start:]...)
}

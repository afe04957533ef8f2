package ndjson

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Operation is one change of a tree.
type Operation struct {
	// Version is the version that the change belongs to.
	Version uint64
	// Type is the root that it is a change of.
	Type node.RootType
	// Key is the key.
	Key []byte
	// Value is the new value, not nil, or nil where the key is removed.
	Value []byte
}

// parser reads one object of one line. It knows flat objects of strings, numbers and booleans, which is
// all there is.
type parser struct {
	line []byte
	at   int
	// text is room for strings with their escapes undone.
	text []byte
}

// The fields of an operation.
const (
	fieldVersion = 1 << iota
	fieldType
	fieldKey
	fieldValue
	fieldDelete
)

var fields = map[string]int{
	"version": fieldVersion, "type": fieldType, "key": fieldKey, "value": fieldValue, "delete": fieldDelete,
}

// operation reads the line as an operation.
func (p *parser) operation(line []byte, encoding Encoding) (Operation, error) {
	p.line, p.at = line, 0
	op := Operation{Type: node.RootTypeState}
	var seen int
	var remove bool
	if !utf8.Valid(line) {
		return op, errors.New("not UTF-8")
	}
	err := p.object(func(name string) error {
		field := fields[name]
		switch {
		case field == 0:
			return fmt.Errorf("unknown field %q: an operation has version, key, value or delete, and type", clip(name))
		case seen&field != 0:
			return fmt.Errorf("the field %q stands in it twice", name)
		}
		seen |= field
		var err error
		switch field {
		case fieldVersion:
			op.Version, err = p.number()
		case fieldType:
			op.Type, err = p.rootType()
		case fieldKey:
			op.Key, err = p.bytes(encoding)
		case fieldValue:
			op.Value, err = p.bytes(encoding)
		case fieldDelete:
			remove, err = p.boolean()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return op, err
	case seen&fieldVersion == 0:
		return op, errors.New("no version")
	case seen&fieldKey == 0:
		return op, errors.New("no key")
	case remove && seen&fieldValue != 0:
		return op, errors.New("both a value and delete")
	case !remove && seen&fieldValue == 0:
		return op, errors.New("neither a value nor delete")
	}
	return op, nil
}

var versionField = regexp.MustCompile(`(?:^|[^\\])"version"\s*:\s*([0-9]{1,20})\s*(?:[,}]|$)`)

// versionOf finds the version that a line which is no operation speaks of, where it can be read.
func versionOf(line []byte) (uint64, bool) {
	found := versionField.FindSubmatch(line)
	if found == nil {
		return 0, false
	}
	version, err := strconv.ParseUint(string(found[1]), 10, 64)
	return version, err == nil
}

// object reads one object, and nothing after it. field reads the value of the field that it is called
// with the name of.
func (p *parser) object(field func(name string) error) error {
	if !p.take('{') {
		return p.unexpected("an object, { ... }")
	}
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return p.unexpected(`"," or "}"`)
		}
		name, err := p.str()
		if err != nil {
			return err
		}
		text := string(name)
		if !p.take(':') {
			return p.unexpected(`":"`)
		}
		if err := field(text); err != nil {
			return err
		}
	}
	if p.space(); p.at < len(p.line) {
		return p.unexpected("nothing after the object")
	}
	return nil
}

func (p *parser) space() {
	for p.at < len(p.line) {
		switch p.line[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// take passes over c, and space before it, where it comes next.
func (p *parser) take(c byte) bool {
	p.space()
	if p.at < len(p.line) && p.line[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *parser) unexpected(want string) error {
	p.space()
	if p.at >= len(p.line) {
		return fmt.Errorf("not a JSON object: it ends where %s should come", want)
	}
	r, _ := utf8.DecodeRune(p.line[p.at:])
	return fmt.Errorf("not a JSON object of an operation: %q at byte %d, where %s should come", r, p.at+1, want)
}

// token reads the letters and digits that come next.
func (p *parser) token() string {
	p.space()
	start := p.at
	for p.at < len(p.line) {
		switch c := p.line[p.at]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '+', c == '-', c == '.':
			p.at++
		default:
			return string(p.line[start:min(p.at, start+64)])
		}
	}
	return string(p.line[start:min(p.at, start+64)])
}

// number reads a whole number as JSON writes it: no sign, no fraction, no exponent, no leading zero.
func (p *parser) number() (uint64, error) {
	p.space()
	start := p.at
	text := p.token()
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case text == "":
		return 0, p.unexpected("a whole number")
	case err != nil || text[0] == '+' || len(text) > 1 && text[0] == '0':
		return 0, fmt.Errorf("%s is no whole number from 0 to 18446744073709551615", clip(string(p.line[start:p.at])))
	}
	return n, nil
}

func (p *parser) boolean() (bool, error) {
	p.space()
	start := p.at
	switch p.token() {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	p.at = start
	return false, p.unexpected("true or false")
}

func (p *parser) rootType() (node.RootType, error) {
	text, err := p.str()
	if err != nil {
		return node.RootTypeInvalid, err
	}
	switch string(text) {
	case "state":
		return node.RootTypeState, nil
	case "io":
		return node.RootTypeIO, nil
	default:
		return node.RootTypeInvalid, fmt.Errorf("%q is no root type: state or io", clip(string(text)))
	}
}

// bytes reads a string and returns, in memory of their own, the bytes that it stands for.
func (p *parser) bytes(encoding Encoding) ([]byte, error) {
	text, err := p.str()
	if err != nil {
		return nil, err
	}
	return encoding.decode(text)
}

// str reads a string and returns its contents, valid until the next call.
func (p *parser) str() ([]byte, error) {
	if !p.take('"') {
		return nil, p.unexpected("a string")
	}
	start := p.at
	for p.at < len(p.line) {
		switch c := p.line[p.at]; {
		case c == '"':
			p.at++
			return p.line[start : p.at-1], nil
		case c == '\\':
			p.text = append(p.text[:0], p.line[start:p.at]...)
			return p.escaped()
		case c < ' ':
			return nil, fmt.Errorf("a control character in a string, at byte %d", p.at+1)
		}
		p.at++
	}
	return nil, errors.New("a string without an end")
}

// escaped goes on with a string at its first escape.
func (p *parser) escaped() ([]byte, error) {
	for p.at < len(p.line) {
		c := p.line[p.at]
		p.at++
		switch {
		case c == '"':
			return p.text, nil
		case c < ' ':
			return nil, fmt.Errorf("a control character in a string, at byte %d", p.at)
		case c != '\\':
			p.text = append(p.text, c)
			continue
		}
		if err := p.escape(); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("a string without an end")
}

var plainEscapes = map[byte]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape reads what follows a backslash.
func (p *parser) escape() error {
	if p.at >= len(p.line) {
		return errors.New("a string without an end")
	}
	c := p.line[p.at]
	p.at++
	if plain, ok := plainEscapes[c]; ok {
		p.text = append(p.text, plain)
		return nil
	}
	if c != 'u' {
		return fmt.Errorf("a bad escape in a string, at byte %d", p.at)
	}
	r, err := p.codeUnit()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(r) {
		low := rune(-1)
		if p.at+1 < len(p.line) && p.line[p.at] == '\\' && p.line[p.at+1] == 'u' {
			p.at += 2
			if low, err = p.codeUnit(); err != nil {
				return err
			}
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return fmt.Errorf("half a surrogate pair in a string, at byte %d", p.at)
		}
	}
	p.text = utf8.AppendRune(p.text, r)
	return nil
}

// codeUnit reads the four digits of a \u escape.
func (p *parser) codeUnit() (rune, error) {
	if p.at+4 > len(p.line) {
		return 0, errors.New("a string without an end")
	}
	n, err := strconv.ParseUint(string(p.line[p.at:p.at+4]), 16, 16)
	if err != nil {
		return 0, fmt.Errorf("a bad escape in a string, at byte %d", p.at+1)
	}
	p.at += 4
	return rune(n), nil
}

// clip shortens what stood in the input for a message.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

package ndjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func newReader(input string, encoding Encoding) *Reader {
	return NewReader(strings.NewReader(input), encoding, 64, 1024)
}

func TestOperations(t *testing.T) {
	type test struct {
		encoding Encoding
		line     string
		want     Operation
	}
	state, io := node.RootTypeState, node.RootTypeIO
	for _, c := range []test{
		{Base64, `{"version":7,"key":"YQ==","value":"Yg=="}`, Operation{7, state, []byte("a"), []byte("b")}},
		{Base64, `{"version":0,"key":"","value":""}`, Operation{0, state, []byte{}, []byte{}}},
		{Base64, ` { "delete" : true , "key" : "YQ==" , "version" : 7 } ` + "\r", Operation{7, state, []byte("a"), nil}},
		{Base64, `{"version":7,"key":"YQ==","value":"Yg==","delete":false}`, Operation{7, state, []byte("a"), []byte("b")}},
		{Base64, `{"version":7,"key":"YQ==","value":"Yg==","type":"io"}`, Operation{7, io, []byte("a"), []byte("b")}},
		{Base64, `{"version":7,"key":"YQ==","value":"Yg==","type":"state"}`, Operation{7, state, []byte("a"), []byte("b")}},
		{Base64, `{"version":18446744073709551615,"key":"\/\/8=","value":"+/\u0041="}`, Operation{1<<64 - 1, state, []byte{0xff, 0xff}, []byte{0xfb, 0xf0}}},
		{Hex, `{"version":1,"key":"00fF","value":""}`, Operation{1, state, []byte{0, 0xff}, []byte{}}},
		{UTF8, `{"version":1,"key":"é\n\"\\\/\b\f\r\t\u0000","value":"\ud83d\ude00😀"}`, Operation{1, state, []byte("é\n\"\\/\b\f\r\t\x00"), []byte("😀😀")}},
	} {
		got, err := newReader(c.line, c.encoding).Next()
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.line, diff)
		}
	}
}

func TestWrongLines(t *testing.T) {
	for _, c := range []struct {
		encoding Encoding
		line     string
		reason   string
	}{
		{Base64, `garbage`, `'g' at byte 1, where an object`},
		{Base64, `[]`, `'[' at byte 1, where an object`},
		{Base64, `{`, `ends where a string should come`},
		{Base64, `{}`, `no version`},
		{Base64, `{"version":1,"value":""}`, `no key`},
		{Base64, `{"version":1,"key":""}`, `neither a value nor delete`},
		{Base64, `{"version":1,"key":"","delete":false}`, `neither a value nor delete`},
		{Base64, `{"version":1,"key":"","value":"","delete":true}`, `both a value and delete`},
		{Base64, `{"version":1,"key":"","value":""} x`, `'x' at byte 35, where nothing after the object`},
		{Base64, `{"version":1,"key":"","value":""}{}`, `where nothing after the object`},
		{Base64, `{"version":1,"key":"","value":"",}`, `where a string should come`},
		{Base64, `{"version":1 "key":""}`, `where "," or "}" should come`},
		{Base64, `{"version" 1}`, `where ":" should come`},
		{Base64, `{"version":1,"version":1,"key":"","value":""}`, `"version" stands in it twice`},
		{Base64, `{"Version":1,"key":"","value":""}`, `unknown field "Version"`},
		{Base64, `{"version":1,"key":"","val":""}`, `unknown field "val"`},
		{Base64, `{"version":"1","key":"","value":""}`, `version: not a JSON object of an operation: '"'`},
		{Base64, `{"version":-1,"key":"","value":""}`, `version: -1 is no whole number`},
		{Base64, `{"version":+1,"key":"","value":""}`, `version: +1 is no whole number`},
		{Base64, `{"version":01,"key":"","value":""}`, `version: 01 is no whole number`},
		{Base64, `{"version":1.0,"key":"","value":""}`, `version: 1.0 is no whole number`},
		{Base64, `{"version":1e3,"key":"","value":""}`, `version: 1e3 is no whole number`},
		{Base64, `{"version":18446744073709551616,"key":"","value":""}`, `is no whole number`},
		{Base64, `{"version":null,"key":"","value":""}`, `version: null is no whole number`},
		{Base64, `{"version":1,"key":null,"value":""}`, `key: not a JSON object of an operation: 'n'`},
		{Base64, `{"version":1,"key":"","value":null}`, `value: not`},
		{Base64, `{"version":1,"key":"","delete":"true"}`, `where true or false should come`},
		{Base64, `{"version":1,"key":"","delete":True}`, `where true or false should come`},
		{Base64, `{"version":1,"key":"","value":"","type":"State"}`, `"State" is no root type`},
		{Base64, `{"version":1,"key":"","value":"","type":1}`, `type: not`},
		{Base64, `{"version":1,"key":"YQ","value":""}`, `key: not base64`},
		{Base64, `{"version":1,"key":"YR==","value":""}`, `key: not base64`},
		{Base64, `{"version":1,"key":"YQ==","value":"Y\ng=="}`, `value: not base64: a line break`},
		{Base64, `{"version":1,"key":"-_8=","value":""}`, `key: not base64`},
		{Hex, `{"version":1,"key":"0","value":""}`, `key: not hexadecimal`},
		{Hex, `{"version":1,"key":"0g","value":""}`, `key: not hexadecimal`},
		{UTF8, "{\"version\":1,\"key\":\"\xff\",\"value\":\"\"}", `not UTF-8`},
		{UTF8, `{"version":1,"key":"\ud83d","value":""}`, `half a surrogate pair`},
		{UTF8, `{"version":1,"key":"\ud83dx","value":""}`, `half a surrogate pair`},
		{UTF8, `{"version":1,"key":"\ude00\ud83d","value":""}`, `half a surrogate pair`},
		{UTF8, `{"version":1,"key":"\u12","value":""}`, `bad escape`},
		{UTF8, `{"version":1,"key":"\x41","value":""}`, `bad escape`},
		{UTF8, "{\"version\":1,\"key\":\"\x01\",\"value\":\"\"}", `control character`},
		{UTF8, "{\"version\":1,\"key\":\"\\n\x01\",\"value\":\"\"}", `control character`},
		{UTF8, `{"version":1,"key":"abc`, `without an end`},
		{UTF8, `{"version":1,"key":"abc\`, `without an end`},
		{UTF8, `{"version":1,"key":"abc\u00`, `without an end`},
		{UTF8, `{"version":1,"key":"\nabc`, `without an end`},
	} {
		op, err := newReader(c.line, c.encoding).Next()
		var line *LineError
		if !errors.As(err, &line) {
			t.Errorf("%s: got %+v, %v", c.line, op, err)
			continue
		}
		if line.Line != 1 || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: got %q, want %q in it", c.line, err, c.reason)
		}
	}
}

func TestReaderGoesOn(t *testing.T) {
	r := newReader("\n{\"version\":1,\"key\":\"\",\"value\":\"\"}\n \t\r\nbad {\"version\":9,\n{\"version\":2,\"key\":\"\",\"delete\":true}", Base64)
	op, err := r.Next()
	if err != nil || op.Version != 1 || r.Line() != 2 {
		t.Fatalf("first: %+v, %v, line %d", op, err, r.Line())
	}
	var line *LineError
	if _, err := r.Next(); !errors.As(err, &line) || line.Line != 4 || !line.Readable || line.Version != 9 {
		t.Fatalf("second: %v, %+v", err, line)
	}
	if op, err := r.Next(); err != nil || op.Version != 2 || r.Line() != 5 {
		t.Fatalf("third: %+v, %v", op, err)
	}
	for range 2 {
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("end: %v", err)
		}
	}
}

func TestLongLines(t *testing.T) {
	const keyBytes, valueBytes = 100, 200_000
	key, value := bytes.Repeat([]byte{0}, keyBytes), bytes.Repeat([]byte{0}, valueBytes)
	// The longest forms: every character escaped where that can be.
	for encoding, unit := range map[Encoding]string{UTF8: `\u0000`, Hex: "00"} {
		text := `{"version":1,"key":"` + strings.Repeat(unit, keyBytes) + `","value":"` + strings.Repeat(unit, valueBytes) + `"}` + "\n"
		op, err := NewReader(strings.NewReader(text), encoding, keyBytes, valueBytes).Next()
		if err != nil || !bytes.Equal(op.Key, key) || !bytes.Equal(op.Value, value) {
			t.Errorf("%v: %v", encoding, err)
		}
	}

	// A line without an end takes no more memory than the longest that is allowed.
	r := NewReader(io.MultiReader(strings.NewReader(`{"version":5,"key":"`), endless{}), Base64, keyBytes, valueBytes)
	for range 2 {
		_, err := r.Next()
		var line *LineError
		if !errors.As(err, &line) || !strings.Contains(err.Error(), "longer than") || !line.Readable || line.Version != 5 {
			t.Fatalf("got %v", err)
		}
	}
	if most := 2*r.maxLine + 1<<17; cap(r.line) > most {
		t.Errorf("%d bytes were taken, want at most %d", cap(r.line), most)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	r := NewReader(io.MultiReader(strings.NewReader("{"), brokenReader{broken}), Base64, 1, 1)
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// TestWriterIsReadBack writes entries and reads them: with this package as operations, and with the
// standard library's JSON.
func TestWriterIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		encoding := rapid.SampledFrom([]Encoding{Base64, Hex, UTF8}).Draw(t, "encoding")
		content := rapid.SliceOf(rapid.Byte())
		if encoding == UTF8 {
			content = rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })
		}
		key, value := content.Draw(t, "key"), content.Draw(t, "value")
		var out bytes.Buffer
		w := NewWriter(&out, encoding)
		if err := w.Write(key, value); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Fatalf("%d lines: %q", n, out.String())
		}
		var plain struct{ Key, Value string }
		if err := json.Unmarshal(out.Bytes(), &plain); err != nil {
			t.Fatalf("%q: %v", out.String(), err)
		}
		line := strings.Replace(out.String(), "{", `{"version":1,`, 1)
		op, err := NewReader(strings.NewReader(line), encoding, len(key), len(value)).Next()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(op.Key, key) || !bytes.Equal(op.Value, value) || op.Value == nil {
			t.Fatalf("wrote %x, %x, read %x, %x", key, value, op.Key, op.Value)
		}
	})
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(io.Discard, UTF8)
	for _, entry := range [][2]string{{"\xff", ""}, {"", "\xff"}} {
		if err := w.Write([]byte(entry[0]), []byte(entry[1])); !errors.Is(err, ErrNotUTF8) {
			t.Errorf("%q: %v", entry, err)
		}
	}
}

func TestParseEncoding(t *testing.T) {
	for _, e := range []Encoding{Base64, Hex, UTF8} {
		if got, err := ParseEncoding(e.String()); err != nil || got != e {
			t.Errorf("%v: %v, %v", e, got, err)
		}
	}
	if _, err := ParseEncoding("Base64"); err == nil {
		t.Error("Base64 was taken")
	}
}

// FuzzReader compares this package's JSON with the standard library's: what is taken here is JSON there,
// with the same strings.
func FuzzReader(f *testing.F) {
	f.Add(`{"version":1,"key":"a","value":"\ud83d\ude00"}`)
	f.Add(`{"version":1,"key":"a\u0000\"","delete":true,"type":"io"}`)
	f.Add(` {"version":01 ,"key":"é","value":""}`)
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "\n") {
			return
		}
		op, err := NewReader(strings.NewReader(line), UTF8, 1<<12, 1<<12).Next()
		if err != nil {
			return
		}
		var plain struct {
			Version uint64
			Key     string
			Value   *string
			Delete  bool
			Type    *string
		}
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&plain); err != nil {
			t.Fatalf("taken here, but no JSON: %v", err)
		}
		if plain.Version != op.Version || plain.Key != string(op.Key) || plain.Delete != (op.Value == nil) ||
			plain.Value != nil && *plain.Value != string(op.Value) {
			t.Fatalf("%+v, but the standard library reads %+v", op, plain)
		}
	})
}

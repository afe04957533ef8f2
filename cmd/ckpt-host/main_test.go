package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/leveldb"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/conformance/vectors"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// TestMain makes the test binary be ckpt-host, and the built-in backends that it launches.
func TestMain(m *testing.M) {
	if plugin.ServeBuiltin(os.Args, version(), memory.New(), bbolt.New(), leveldb.New()) {
		os.Exit(0)
	}
	if os.Getenv(mainVariable) != "" {
		c := console.New(os.Stdin, os.Stdout, os.Stderr)
		if text := os.Getenv(intervalVariable); text != "" {
			interval, err := time.ParseDuration(text)
			if err != nil {
				panic(err)
			}
			c.SetInterval(interval)
		}
		os.Exit(run(c))
	}
	testscript.Main(m, map[string]func(){"ckpt-host": main})
}

// TestScript runs the scripts that need no particular backend, or name the ones that they need.
func TestScript(t *testing.T) {
	testscript.Run(t, params("testdata/script", "bbolt", "leveldb"))
}

// TestBackends runs the scripts about the way of a state from one backend into another, with $FROM and
// $TO for all pairs of backends that outlast a command.
func TestBackends(t *testing.T) {
	for _, pair := range [][2]string{{"bbolt", "leveldb"}, {"leveldb", "bbolt"}, {"bbolt", "bbolt"}} {
		t.Run(pair[0]+"-"+pair[1], func(t *testing.T) {
			testscript.Run(t, params("testdata/backends", pair[0], pair[1]))
		})
	}
}

func params(dir, from, to string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("FROM", from)
			e.Setenv("TO", to)
			for name, text := range configurations(from, to) {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			old, err := os.ReadFile("../../framework/mkvs/db/kvdb/testdata/format1.txt.gz")
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "format1.txt.gz"), old, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":    code,
			"field":   field,
			"corrupt": corrupt,
			"flip":    flip,
			"format1": format1,
			"dataset": dataset,
			"mode":    mode,
			"private": private,
			"begin":   begin,
			"shorten": shorten,
		},
	}
}

// code runs a program and checks its exit code: code N PROGRAM ARGS...
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// field sets a variable to a field of the JSON object that the last command printed, which has to be all
// that it printed: field NAME PATH, the path's parts with dots between them, numbers for array elements.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field NAME PATH")
	}
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	decoder.UseNumber()
	var value any
	ts.Check(decoder.Decode(&value))
	if decoder.More() {
		ts.Fatalf("more than one JSON value on stdout")
	}
	for _, part := range strings.Split(args[1], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[part]
		case []any:
			if part == "length" {
				value = len(v)
				break
			}
			i, err := strconv.Atoi(part)
			ts.Check(err)
			if i >= len(v) {
				ts.Fatalf("%s: only %d elements", args[1], len(v))
			}
			value = v[i]
		}
	}
	if value == nil {
		ts.Fatalf("no field %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

// corrupt flips a bit in the middle of a file: corrupt FILE
func corrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: corrupt FILE")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	b[len(b)/2] ^= 0x10
	ts.Check(os.WriteFile(path, b, 0o600))
}

// flip flips a bit of a text wherever it stands in the files of a directory, which it has to: flip DIR TEXT
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip DIR TEXT")
	}
	text := []byte(args[1])
	flipped := slices.Clone(text)
	flipped[len(text)/2] ^= 0x10
	count := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, text) {
			return err
		}
		count += bytes.Count(b, text)
		return os.WriteFile(path, bytes.ReplaceAll(b, text, flipped), 0o600)
	}))
	if count == 0 {
		ts.Fatalf("%q stands nowhere in %s", text, args[0])
	}
}

// format1 makes a bbolt database of format 1 of what the program of that time has written: format1 DIR
func format1(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: format1 DIR")
	}
	packed, err := os.Open(ts.MkAbs("format1.txt.gz"))
	ts.Check(err)
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	ts.Check(err)
	text, err := io.ReadAll(unpacked)
	ts.Check(err)
	var batch kv.Batch
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		k, err := hex.DecodeString(key)
		ts.Check(err)
		v, err := hex.DecodeString(value)
		ts.Check(err)
		batch.Put(k, v)
	}
	store, err := bbolt.OpenStore(context.Background(), &db.Config{Dir: ts.MkAbs(args[0])})
	ts.Check(err)
	ts.Check(store.Apply(context.Background(), &batch, true))
	ts.Check(store.Close())
}

// shorten copies a checkpoint and leaves its last chunk out, of the metadata too: shorten FROM TO
func shorten(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shorten FROM TO")
	}
	to := ts.MkAbs(args[1])
	ts.Check(os.CopyFS(to, os.DirFS(ts.MkAbs(args[0]))))
	b, err := os.ReadFile(filepath.Join(to, "meta"))
	ts.Check(err)
	metadata, err := checkpoint.DecodeMetadata(b)
	ts.Check(err)
	metadata.Chunks = metadata.Chunks[:len(metadata.Chunks)-1]
	ts.Check(os.WriteFile(filepath.Join(to, "meta"), checkpoint.EncodeMetadata(metadata), 0o600))
}

// begin leaves an unfinished restore of the first N chunks of a checkpoint in a database, which may be there
// already, of the scripts' namespaces a and b; of all chunks, complete and not finalized:
// begin BACKEND DATABASE CHECKPOINT N
func begin(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: begin BACKEND DATABASE CHECKPOINT N")
	}
	count, err := strconv.ParseUint(args[3], 10, 32)
	ts.Check(err)
	ts.Check(beginRestore(args[0], ts.MkAbs(args[1]), ts.MkAbs(args[2]), count))
}

// beginRestore leaves an unfinished restore of the first count chunks of a checkpoint in a database.
func beginRestore(backend, database, dir string, count uint64) (err error) {
	ctx := context.Background()
	b, err := os.ReadFile(filepath.Join(dir, "meta"))
	if err != nil {
		return err
	}
	metadata, err := checkpoint.DecodeMetadata(b)
	if err != nil {
		return err
	}
	factories := map[string]db.Factory{"bbolt": bbolt.New(), "leveldb": leveldb.New()}
	ndb, err := factories[backend].New(ctx, &db.Config{Dir: database, Namespace: metadata.Root.Namespace})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ndb.Close(ctx)) }()
	restorer, err := checkpoint.NewRestorer(ndb)
	if err != nil {
		return err
	}
	if err := restorer.StartRestore(ctx, metadata); err != nil {
		return err
	}
	for i := range count {
		chunk, err := os.ReadFile(filepath.Join(dir, "chunks", fmt.Sprint(i)))
		if err != nil {
			return err
		}
		if _, err := restorer.RestoreChunk(ctx, i, bytes.NewReader(chunk)); err != nil {
			return err
		}
	}
	return nil
}

// dataset writes a data set of the known answers as operations of versions: dataset FILE KIND SEED N
// VERSIONS spreads N entries over so many versions, and writes the entries that remain, as a dump has
// them, to FILE.want.
func dataset(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: dataset FILE KIND SEED N VERSIONS")
	}
	var numbers [3]uint64
	for i := range numbers {
		n, err := strconv.ParseUint(args[2+i], 10, 32)
		ts.Check(err)
		numbers[i] = n
	}
	seed, count, versions := numbers[0], numbers[1], numbers[2]
	set := vectors.Vector{Kind: args[1], Seed: seed, N: count}
	var operations, want strings.Builder
	text := base64.StdEncoding.EncodeToString
	for i := range count {
		key, value := set.DataSet().Entry(i)
		fmt.Fprintf(&operations, `{"version":%d,"key":%q,"value":%q}`+"\n", 1+i*versions/count, text(key), text(value))
	}
	for _, entry := range set.Final() {
		fmt.Fprintf(&want, `{"key":%q,"value":%q}`+"\n", text(entry.Key), text(entry.Value))
	}
	path := ts.MkAbs(args[0])
	ts.Check(os.WriteFile(path, []byte(operations.String()), 0o600))
	ts.Check(os.WriteFile(path+".want", []byte(want.String()), 0o600))
}

// private checks that a directory and all that lies below it is for its owner alone: private DIR
func private(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: private DIR")
	}
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().IsRegular() {
			files++
		}
		if info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s has mode %s", path, info.Mode())
		}
		return nil
	}))
	if files == 0 {
		ts.Fatalf("%s holds no files", args[0])
	}
}

// mode checks a file's permissions: mode 0700 FILE
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode PERMISSIONS FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

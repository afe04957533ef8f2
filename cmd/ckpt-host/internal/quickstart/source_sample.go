package quickstart

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
	"github.com/ckpt-project/ckpt/framework/hash"
)

// sampleData is the members of the United Nations over time: sample/README.md.
//
//go:embed sample/un-members.ndjson
var sampleData []byte

// sampleSource is the sample that ships with the program.
type sampleSource struct {
	// versions holds each version's operations.
	versions [][]ndjson.Operation
	// ids holds, for each version, the start of a hash of all operations so far.
	ids []string
}

func openSample() (*sampleSource, error) {
	s := &sampleSource{}
	var sum hash.Hash
	reader := ndjson.NewReader(bytes.NewReader(sampleData), ndjson.UTF8, 1024, 1024)
	for {
		op, err := reader.Next()
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the sample: %w", err)
		}
		switch uint64(len(s.versions)) {
		case op.Version:
		case op.Version - 1:
			s.versions, s.ids = append(s.versions, nil), append(s.ids, "")
		default:
			return nil, fmt.Errorf("the sample: line %d: version %d comes after %d", reader.Line(), op.Version, len(s.versions))
		}
		last := op.Version - 1
		s.versions[last] = append(s.versions[last], op)
		sum.FromBytes(sum[:], binary.BigEndian.AppendUint64(nil, op.Version), []byte(fmt.Sprintf("%q %q", op.Key, op.Value)))
		s.ids[last] = sum.Hex()[:40]
	}
}

func (s *sampleSource) Origin() Origin { return Origin{Kind: "sample"} }

func (s *sampleSource) Versions() uint64 { return uint64(len(s.versions)) }

func (s *sampleSource) ID(version uint64) string { return s.ids[version-1] }

func (s *sampleSource) Replay(ctx context.Context, after uint64, _ limits, visit visitor) error {
	for i, ops := range s.versions[after:] {
		for _, op := range ops {
			var err error
			if op.Value == nil {
				err = visit.remove(ctx, op.Key)
			} else {
				err = visit.put(ctx, op.Key, op.Value)
			}
			if err != nil {
				return err
			}
		}
		if err := visit.end(ctx, after+uint64(i)+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *sampleSource) Expect(_ context.Context, version uint64, _ limits) iter.Seq2[expected, error] {
	state := map[string][]byte{}
	for _, ops := range s.versions[:version] {
		for _, op := range ops {
			if op.Value == nil {
				delete(state, string(op.Key))
			} else {
				state[string(op.Key)] = op.Value
			}
		}
	}
	return func(yield func(expected, error) bool) {
		for _, key := range slices.Sorted(maps.Keys(state)) {
			want := state[key]
			entry := expected{key: []byte(key), matches: func(value []byte) bool { return bytes.Equal(value, want) }}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

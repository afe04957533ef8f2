package cli

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// A problem is printed with what is known of its place.
func TestCheckProblem(t *testing.T) {
	p := node.RootPosition()
	for _, c := range []struct {
		err        error
		text, json string
	}{
		{&db.CorruptedError{Version: 0, Reason: "bad"}, "version 0: bad", `{"version":0,"reason":"bad"}`},
		{&db.CorruptedError{Version: 7, Position: p, Reason: "bad"}, "version 7, position " + p.String() + ": bad", fmt.Sprintf(`{"version":7,"position":%q,"reason":"bad"}`, p)},
		{&db.CorruptedError{Version: db.UnknownVersion, Reason: "bad"}, "bad", `{"reason":"bad"}`},
		{fmt.Errorf("%w: bad", db.ErrCorrupted), "mkvs: database is corrupted: bad", `{"reason":"mkvs: database is corrupted: bad"}`},
	} {
		var r checkResult
		r.add(c.err)
		out, err := json.Marshal(r.Problems[0])
		if err != nil || r.Problems[0].String() != c.text || string(out) != c.json {
			t.Errorf("%q, %s, %v; want %q, %s", r.Problems[0], out, err, c.text, c.json)
		}
	}
}

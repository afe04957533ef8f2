//go:build !unix

package kvtest

import (
	"context"
	"fmt"
	"io"

	"github.com/ckpt-project/ckpt/framework/mkvs/db/kvdb/kv"
)

// outOfSpace is not proved here: there is no limit that a process can set for itself alone. What can
// be is that a batch beyond the store's own limits leaves nothing.
func outOfSpace(e *env) { beyondLimits(e) }

func fillUp(context.Context, func() (kv.Store, error), io.Writer) error {
	return fmt.Errorf("no such limit here")
}

package kvdb

import (
	"context"
	"fmt"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func (d *DB) Check(ctx context.Context, opts db.CheckOptions) (*db.CheckReport, error) {
	return nil, fmt.Errorf("%w: check", db.ErrUnsupported)
}

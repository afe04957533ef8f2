package cli

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
	"github.com/ckpt-project/ckpt/framework/mkvs"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

func newDumpCommand(e *env) *cobra.Command {
	var (
		flags    namespaceFlags
		root     rootFlags
		encoding string
	)
	cmd := &cobra.Command{
		Use:   "dump --config FILE --namespace NAME",
		Short: "Print all entries of a version in key order, as NDJSON",
		Long: `Prints all entries of a version in the order of their keys, one JSON object a line:

  {"key":"a2V5","value":"dmFsdWU="}

An empty tree prints nothing. A version that is not there is an error.`,
		Example: `  ckpt-host dump --config ckpt.hcl --namespace demo
  ckpt-host dump --config ckpt.hcl --namespace demo --version 7 --root-type io --encoding utf8`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, err := parseEncoding(encoding)
			if err != nil {
				return err
			}
			if _, err := root.parseType(); err != nil {
				return err
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, ns, &flags, host.Read, func(ndb db.NodeDB) error {
				found, err := root.find(ctx, ndb, ns)
				if err != nil {
					return err
				}
				return e.dump(ctx, ndb, found, form)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	root.add(cmd, "the newest")
	addEncodingFlag(cmd, &encoding)
	return cmd
}

// dump writes all entries of a root to stdout.
func (e *env) dump(ctx context.Context, ndb db.NodeDB, root node.Root, form ndjson.Encoding) error {
	var entries atomic.Uint64
	telling := e.StartProgress
	if e.OutTerminal() {
		telling = e.NoProgress
	}
	progress := telling(func() string {
		return fmt.Sprintf("dumping %s root of version %d: %s", root.Type, root.Version, console.Counted(entries.Load(), "entry"))
	})
	defer progress.Stop()

	tree := mkvs.NewWithRoot(ndb, root)
	defer tree.Close()
	it := tree.NewIterator(ctx)
	defer it.Close()
	out := ndjson.NewWriter(e.Out(), form)
	for it.Rewind(); it.Valid(); it.Next() {
		if err := out.Write(it.Key(), it.Value()); err != nil {
			return dumpFailed(root, err)
		}
		entries.Add(1)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("reading %s root of version %d: %w", root.Type, root.Version, err)
	}
	if err := out.Flush(); err != nil {
		return dumpFailed(root, err)
	}
	return nil
}

func dumpFailed(root node.Root, err error) error {
	if errors.Is(err, ndjson.ErrNotUTF8) {
		return exit.Errorf(exit.Failed, "dumping %s root of version %d: %w", root.Type, root.Version, err).
			WithHint("dump it with --encoding base64 or hex")
	}
	return fmt.Errorf("writing the entries: %w", err)
}

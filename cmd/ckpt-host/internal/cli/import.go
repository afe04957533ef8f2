package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/importer"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/restore"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// importResult is what `import --json` prints.
type importResult struct {
	Namespace    string             `json:"namespace"`
	Versions     uint64             `json:"versions"`
	FirstVersion *uint64            `json:"first_version,omitempty"`
	LastVersion  *uint64            `json:"last_version,omitempty"`
	Operations   uint64             `json:"operations"`
	Roots        []node.Root        `json:"roots"`
	Checkpoints  []checkpointResult `json:"checkpoints"`
	Seconds      float64            `json:"seconds"`
}

func newImportCommand(e *env) *cobra.Command {
	var (
		flags    = namespaceFlags{restart: true}
		encoding string
		sorted   bool
		asJSON   bool
	)
	cmd := &cobra.Command{
		Use:   "import --config FILE --namespace NAME FILE|-",
		Short: "Read operations from NDJSON and commit them, version by version",
		Long: `Reads operations from a file, or from stdin where it is "-", one JSON object a line:

  {"version":7,"key":"a2V5","value":"dmFsdWU="}
  {"version":7,"key":"a2V5","delete":true}
  {"version":7,"key":"a2V5","value":"dmFsdWU=","type":"io"}

The operations of a version stand together; versions ascend by one, and the first follows the newest in
the database (in an empty one it can be any). Each version is committed and finalized. A line that is
wrong ends the import, and the versions before it are kept.

With --sorted, the state of the database's first version comes in the order of its keys, and is imported in
memory that does not grow with it.

Where the namespace has a checkpoints block, checkpoints are made meanwhile.`,
		Example: `  ckpt-host import --config ckpt.hcl --namespace demo changes.ndjson
  zcat changes.ndjson.gz | ckpt-host import --config ckpt.hcl --namespace demo --encoding hex -`,
		Args: takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			form, err := parseEncoding(encoding)
			if err != nil {
				return err
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			in, err := openInput(cmd.Context(), e, args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			return e.withDatabase(cmd.Context(), ns, &flags, host.Write, func(ndb db.NodeDB) error {
				return e.runImport(cmd.Context(), ns, ndb, in, form, sorted, asJSON)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	addEncodingFlag(cmd, &encoding)
	cmd.Flags().BoolVar(&sorted, "sorted", false, "the keys of the first version's state come in order, and the database is empty")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func addEncodingFlag(cmd *cobra.Command, encoding *string) {
	cmd.Flags().StringVar(encoding, "encoding", "base64", "how keys and values are written: base64, hex or utf8")
	_ = cmd.RegisterFlagCompletionFunc("encoding", cobra.FixedCompletions(
		[]cobra.Completion{"base64", "hex", "utf8"}, cobra.ShellCompDirectiveNoFileComp))
}

func parseEncoding(name string) (ndjson.Encoding, error) {
	form, err := ndjson.ParseEncoding(name)
	if err != nil {
		return 0, exit.Errorf(exit.Usage, "--encoding %s: want base64, hex or utf8", name)
	}
	return form, nil
}

// stdin is the program's own input; closing it ends the reading.
type stdin struct {
	io.Reader
	stop context.CancelFunc
}

func (s stdin) Close() error {
	s.stop()
	return nil
}

// input is what is imported.
type input struct {
	io.ReadCloser
	// name is what it is called in messages.
	name string
	// bytes is how long it is; 0 where that is not known.
	bytes int64
	// taken is how much of it was read.
	taken atomic.Int64
}

// Read counts what it reads.
func (i *input) Read(p []byte) (int, error) {
	n, err := i.ReadCloser.Read(p)
	i.taken.Add(int64(n))
	return n, err
}

// openInput opens the file that is to be imported.
func openInput(ctx context.Context, e *env, path string) (*input, error) {
	if path == "-" {
		ctx, cancel := context.WithCancel(ctx)
		return &input{ReadCloser: stdin{console.Interruptible(ctx, e.In()), cancel}, name: "stdin"}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the input can't be read: %w", err)
	}
	in := &input{ReadCloser: f, name: path}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		in.bytes = info.Size()
	}
	return in, nil
}

func (e *env) runImport(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, in *input, form ndjson.Encoding, sorted, asJSON bool) error {
	began := time.Now()
	if err := refuseBesideRestore(ctx, ns, ndb); err != nil {
		return err
	}
	maker, err := startCheckpointer(ctx, e, ns, ndb)
	if err != nil {
		return err
	}
	im, err := importer.New(ctx, ndb, maker.finalized)
	if err != nil {
		return errors.Join(err, maker.stop())
	}
	defer im.Close()
	if sorted {
		if err := im.Sorted(); err != nil {
			return errors.Join(exit.Errorf(exit.Usage, "--sorted: %w", err), maker.stop())
		}
	}
	progress := e.StartMeter(importMeter(in, im))
	defer progress.Stop()

	importErr := im.Run(ctx, ndjson.NewReader(in, form, ndb.Info().MaxKeyBytes, ndb.Info().MaxValueBytes))
	var made []checkpointResult
	var makerErr error
	if ctx.Err() != nil {
		makerErr = maker.stop()
	} else {
		progress.Stop()
		made, makerErr = e.finishCheckpoints(ctx, maker)
	}
	progress.Stop()
	done := im.Status()
	if importErr != nil {
		if makerErr != nil {
			e.Note("%s", makerErr)
		}
		return importFailed(importErr, in.name, done)
	}
	if makerErr != nil {
		return makerErr
	}
	result := newImportResult(ns, done, made, time.Since(began))
	if asJSON {
		return e.JSON(result)
	}
	return e.printImport(result)
}

// refuseBesideRestore says so where the database holds a restore that is not finished: finalizing its version
// would remove what it has restored, which may have taken hours, and a later one can't be finalized.
func refuseBesideRestore(ctx context.Context, ns *config.Namespace, ndb db.NodeDB) error {
	u, err := restore.Find(ctx, ndb)
	if u == nil || err != nil {
		return err
	}
	return exit.Errorf(exit.Failed, "importing into namespace %q: an unfinished restore is in the way: %s", ns.Name, u).
		WithHint("%s; nothing was imported", finishOrAbort)
}

// finishCheckpoints waits for the checkpoints that are due, and tells that it does.
func (e *env) finishCheckpoints(ctx context.Context, maker *maker) ([]checkpointResult, error) {
	began := time.Now()
	progress := e.StartProgress(func() string {
		return "making the checkpoints that are due: " + console.Duration(time.Since(began))
	})
	defer progress.Stop()
	return maker.finish(ctx)
}

// importMeter tells how much of the input was read, and what came of it: operations count when their version is
// finalized.
func importMeter(in *input, im *importer.Importer) *console.Meter {
	meter := console.NewMeter("importing", console.Amount{Bytes: in.bytes})
	meter.Noun = "operation"
	meter.Detail = func() string {
		done := im.Status()
		meter.Set(console.Amount{Bytes: in.taken.Load(), Entries: int64(done.Operations)})
		return console.Counted(done.Versions, "version")
	}
	return meter
}

// importFailed says what ended the import, where in the input, and what is kept.
func importFailed(err error, name string, done importer.Result) error {
	kept := "nothing was imported"
	switch {
	case done.Versions == 1:
		kept = fmt.Sprintf("version %d was imported and is kept", done.Last)
	case done.Versions > 1:
		kept = fmt.Sprintf("versions %d to %d were imported and are kept", done.First, done.Last)
	}
	var bad *ndjson.LineError
	if !errors.As(err, &bad) {
		return &exit.Error{Code: exitCode(err), Err: fmt.Errorf("%s: %w", name, err), Hint: kept}
	}
	if done.Versions > 0 {
		kept += fmt.Sprintf("; correct the line, and import what is there from version %d on", done.Last+1)
	}
	return exit.Errorf(exit.BadInput, "%s:%d: %w", name, bad.Line, bad.Err).WithHint("%s", kept)
}

func exitCode(err error) int {
	code, _ := exit.Of(err)
	return code
}

func newImportResult(ns *config.Namespace, done importer.Result, made []checkpointResult, took time.Duration) importResult {
	r := importResult{
		Namespace: ns.Name, Versions: done.Versions, Operations: done.Operations,
		Roots: done.Roots, Checkpoints: made, Seconds: took.Seconds(),
	}
	if r.Roots == nil {
		r.Roots = []node.Root{}
	}
	if r.Checkpoints == nil {
		r.Checkpoints = []checkpointResult{}
	}
	if done.Versions > 0 {
		r.FirstVersion, r.LastVersion = &done.First, &done.Last
	}
	return r
}

func (e *env) printImport(r importResult) error {
	if r.Versions == 0 {
		return e.Printf("nothing to import: the input holds no operation\n")
	}
	took := time.Duration(r.Seconds * float64(time.Second))
	var text strings.Builder
	if r.Versions == 1 {
		fmt.Fprintf(&text, "imported version %d", *r.LastVersion)
	} else {
		fmt.Fprintf(&text, "imported versions %d to %d", *r.FirstVersion, *r.LastVersion)
	}
	fmt.Fprintf(&text, ": %s in %s\n", console.Counted(r.Operations, "operation"), console.Duration(took))
	for _, root := range r.Roots {
		fmt.Fprintf(&text, "%-5s root of version %d: %s\n", root.Type, root.Version, root.Hash)
	}
	for _, c := range r.Checkpoints {
		fmt.Fprintf(&text, "checkpoint of version %d (%s): %s\n", c.Root.Version, c.Root.Type, c.Path)
	}
	return e.Printf("%s", text.String())
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/importer"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/ndjson"
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
			input, name, err := openInput(cmd.Context(), e, args[0])
			if err != nil {
				return err
			}
			defer input.Close()
			return e.withDatabase(cmd.Context(), ns, &flags, host.Write, func(ndb db.NodeDB) error {
				reader := ndjson.NewReader(input, form, ndb.Info().MaxKeyBytes, ndb.Info().MaxValueBytes)
				return e.runImport(cmd.Context(), ns, ndb, reader, importInput{name, sorted}, asJSON)
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

// importInput is what is known of the input: what it is called, and whether it is sorted.
type importInput struct {
	name   string
	sorted bool
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

// openInput opens the file that is to be imported, and returns what it is called in messages.
func openInput(ctx context.Context, e *env, path string) (io.ReadCloser, string, error) {
	if path == "-" {
		ctx, cancel := context.WithCancel(ctx)
		return stdin{console.Interruptible(ctx, e.In()), cancel}, "stdin", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("the input can't be read: %w", err)
	}
	return f, path, nil
}

func (e *env) runImport(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, reader *ndjson.Reader, input importInput, asJSON bool) error {
	began := time.Now()
	maker, err := startCheckpointer(ctx, e, ns, ndb)
	if err != nil {
		return err
	}
	im, err := importer.New(ctx, ndb, maker.finalized)
	if err != nil {
		return errors.Join(err, maker.stop())
	}
	defer im.Close()
	if input.sorted {
		if err := im.Sorted(); err != nil {
			return errors.Join(exit.Errorf(exit.Usage, "--sorted: %w", err), maker.stop())
		}
	}
	progress := e.StartProgress(func() string { return importProgress(im.Status(), time.Since(began)) })
	defer progress.Stop()

	importErr := im.Run(ctx, reader)
	var made []checkpointResult
	var makerErr error
	if ctx.Err() != nil {
		makerErr = maker.stop()
	} else {
		made, makerErr = maker.finish(ctx)
	}
	progress.Stop()
	done := im.Status()
	if importErr != nil {
		if makerErr != nil {
			e.Note("%s", makerErr)
		}
		return importFailed(importErr, input.name, done)
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

func importProgress(r importer.Result, since time.Duration) string {
	rate := float64(r.Operations) / max(since.Seconds(), 0.001)
	return fmt.Sprintf("importing: %s, %s, %s a second",
		console.Counted(r.Versions, "version"), console.Counted(r.Operations, "operation"), console.Count(int64(rate)))
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

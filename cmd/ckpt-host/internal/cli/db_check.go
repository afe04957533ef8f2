package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// checkResult is what `db check --json` prints.
type checkResult struct {
	Namespace string `json:"namespace"`
	// OK says that nothing is wrong.
	OK bool `json:"ok"`
	// Version is the version that was asked for, null where everything was.
	Version *uint64 `json:"version"`
	// Earliest and Latest are null where there is no version, or none could be asked for.
	Earliest    *uint64        `json:"earliest"`
	Latest      *uint64        `json:"latest"`
	Versions    uint64         `json:"versions"`
	Roots       uint64         `json:"roots"`
	Records     uint64         `json:"records"`
	Bytes       uint64         `json:"bytes"`
	Nodes       uint64         `json:"nodes"`
	Entries     uint64         `json:"entries"`
	Unreachable uint64         `json:"unreachable"`
	Damaged     uint64         `json:"damaged"`
	Problems    []checkProblem `json:"problems"`
	Seconds     float64        `json:"seconds"`
}

// checkProblem is one place where something is wrong.
type checkProblem struct {
	// Version wrote what is damaged; it is left out where nobody can tell.
	Version *uint64 `json:"version,omitempty"`
	// Position is left out where the damage is not in a node.
	Position string `json:"position,omitempty"`
	Reason   string `json:"reason"`
}

func (p checkProblem) String() string {
	switch {
	case p.Version == nil:
		return p.Reason
	case p.Position == "":
		return fmt.Sprintf("version %d: %s", *p.Version, p.Reason)
	default:
		return fmt.Sprintf("version %d, position %s: %s", *p.Version, p.Position, p.Reason)
	}
}

func newDBCheckCommand(e *env) *cobra.Command {
	var (
		flags   namespaceFlags
		version uint64
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "check --config FILE --namespace NAME",
		Short: "Check that a namespace's database is whole and undamaged",
		Long: `Reads all that a namespace's database has stored and compares it with itself: every record's checksum
and form, every node's hash with what its parent says, that no node is missing, and that none is stored
which nothing reaches. With --version, the trees of that version only, whole. It changes nothing and writes
to no file.

What is wrong is printed with version and position, all of it; then the exit code is 5.`,
		Example: `  ckpt-host db check --config ckpt.hcl --namespace demo
  ckpt-host db check --config ckpt.hcl --namespace demo --version 7 --json`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			began := time.Now()
			result := checkResult{Namespace: ns.Name, Problems: []checkProblem{}}
			if cmd.Flags().Changed("version") {
				result.Version = &version
			}
			err = e.withDatabase(ctx, ns, &flags, host.Read, func(ndb db.NodeDB) error {
				return e.check(ctx, ns, ndb, &result)
			})
			switch {
			case ctx.Err() == nil && errors.Is(err, db.ErrCorrupted):
				// So damaged that it can't be opened or asked.
				result.add(err)
			case err != nil:
				return err
			}
			result.OK = result.Damaged == 0 && result.Unreachable == 0
			result.Seconds = time.Since(began).Seconds()
			return e.printCheck(result, asJSON)
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().Uint64Var(&version, "version", 0, "check the trees of this `version` only (default: everything)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, also where something is wrong")
	return cmd
}

func (e *env) check(ctx context.Context, ns *config.Namespace, ndb db.NodeDB, r *checkResult) error {
	have, err := versionsOf(ctx, ndb)
	if err != nil {
		return err
	}
	if have.any {
		r.Earliest, r.Latest = &have.earliest, &have.latest
	}
	if r.Version != nil {
		if have, err = someVersions(ctx, ndb, ns); err != nil {
			return err
		}
		// A record of the version that is damaged is for the check to tell of.
		if _, err := rootsOf(ctx, ndb, ns, have, *r.Version); err != nil && !errors.Is(err, db.ErrCorrupted) {
			return err
		}
	}
	meter := console.NewMeter("checking", console.Amount{})
	progress := e.StartMeter(meter)
	defer progress.Stop()
	report, err := ndb.Check(ctx, db.CheckOptions{Version: r.Version, Progress: meter.SetSteps})
	if err != nil {
		return fmt.Errorf("checking: %w", err)
	}
	r.Versions, r.Roots, r.Records, r.Bytes = report.Versions, report.Roots, report.Records, report.Bytes
	r.Nodes, r.Entries, r.Unreachable = report.Nodes, report.Entries, report.Unreachable
	for _, p := range report.Problems {
		r.add(p)
	}
	r.Damaged = report.Damaged // with those that are not named
	return nil
}

// add notes what is wrong in one place.
func (r *checkResult) add(err error) {
	r.Damaged++
	var where *db.CorruptedError
	if !errors.As(err, &where) {
		r.Problems = append(r.Problems, checkProblem{Reason: err.Error()})
		return
	}
	p := checkProblem{Reason: where.Reason}
	if where.Version != db.UnknownVersion {
		p.Version = &where.Version
	}
	if where.Position != nil {
		p.Position = where.Position.String()
	}
	r.Problems = append(r.Problems, p)
}

// printCheck prints what a check has found, and returns the error that there is something wrong.
func (e *env) printCheck(r checkResult, asJSON bool) error {
	if asJSON {
		if err := e.JSON(r); err != nil {
			return err
		}
	} else if err := e.printCheckText(r); err != nil {
		return err
	}
	switch {
	case r.Damaged > 0:
		return exit.Errorf(exit.Invalid, "the database of namespace %q is damaged in %s", r.Namespace, console.Counted(r.Damaged, "place")).
			WithHint("restore the namespace from a checkpoint into a fresh data directory; a damaged version that is not needed can be pruned")
	case r.Unreachable > 0:
		return exit.Errorf(exit.Invalid, "the database of namespace %q stores %s that nothing reaches", r.Namespace, console.Counted(r.Unreachable, "node")).
			WithHint("no version is damaged; a restore into a fresh data directory gives that space back")
	default:
		return nil
	}
}

func (e *env) printCheckText(r checkResult) error {
	for _, p := range r.Problems {
		if err := e.Printf("%s\n", p); err != nil {
			return err
		}
	}
	if named := uint64(len(r.Problems)); named < r.Damaged {
		if err := e.Printf("… and %s\n", console.Counted(r.Damaged-named, "other place")); err != nil {
			return err
		}
	}
	if r.OK {
		if err := e.Printf("nothing is wrong with %s\n", r.what()); err != nil {
			return err
		}
	}
	return e.Table(nil, [][]string{
		{"versions", console.Count(r.Versions)},
		{"roots", console.Count(r.Roots)},
		{"records", fmt.Sprintf("%s (%s)", console.Count(r.Records), size.Format(int64(r.Bytes)))},
		{"nodes", console.Count(r.Nodes)},
		{"entries", console.Count(r.Entries)},
		{"unreachable", console.Count(r.Unreachable)},
		{"damaged", console.Count(r.Damaged)},
		{"took", console.Duration(seconds(r.Seconds))},
	})
}

// what names what was checked.
func (r *checkResult) what() string {
	switch {
	case r.Version != nil:
		return fmt.Sprintf("version %d of namespace %q", *r.Version, r.Namespace)
	case r.Latest == nil:
		return fmt.Sprintf("the database of namespace %q, which has no version yet", r.Namespace)
	default:
		return fmt.Sprintf("the database of namespace %q, %s", r.Namespace, versionRange(*r.Earliest, *r.Latest))
	}
}

package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

func newDBCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "db",
		Short: "Look after a namespace's database: its state, its soundness, its space",
		Args:  cobra.ArbitraryArgs,
		RunE:  needsCommand,
	}
	cmd.AddCommand(
		newDBStatsCommand(e),
		newDBCheckCommand(e),
		newDBPruneCommand(e),
		newDBCompactCommand(e),
		newDBMigrateCommand(e),
	)
	return cmd
}

// handWorked is a namespace whose database does no work in the background: the command that opens it does
// all of it, and tells how far it is.
func handWorked(ns *config.Namespace) *config.Namespace {
	own := *ns
	own.GarbageRate = -1
	return &own
}

// collect frees the space of the versions that were pruned, those of earlier commands included.
func (e *env) collect(ctx context.Context, ndb db.NodeDB) error {
	meter := console.NewMeter("freeing the space of pruned versions", console.Amount{})
	progress := e.StartMeter(meter)
	defer progress.Stop()
	if err := ndb.CollectGarbage(ctx, meter.SetSteps); err != nil {
		if ctx.Err() != nil {
			return exit.Errorf(exit.Interrupted, "freeing the space of pruned versions: %w", err).
				WithHint("it goes on with the next 'ckpt-host db prune', or when the database is next written to")
		}
		return fmt.Errorf("freeing the space of pruned versions: %w", err)
	}
	return nil
}

// spaceChange is the space that a database takes before and after a command's work, and how long that took.
type spaceChange struct {
	LiveBytesBefore int64   `json:"live_bytes_before"`
	FileBytesBefore int64   `json:"file_bytes_before"`
	LiveBytes       int64   `json:"live_bytes"`
	FileBytes       int64   `json:"file_bytes"`
	Seconds         float64 `json:"seconds"`
}

// measure does the work, and notes what changes.
func (c *spaceChange) measure(ctx context.Context, ndb db.NodeDB, work func() error) error {
	began := time.Now()
	before, err := sizeOf(ctx, ndb)
	if err != nil {
		return err
	}
	if err := work(); err != nil {
		return err
	}
	after, err := sizeOf(ctx, ndb)
	if err != nil {
		return err
	}
	*c = spaceChange{before.Live, before.File, after.Live, after.File, time.Since(began).Seconds()}
	return nil
}

// text tells the space that the database takes now.
func (c *spaceChange) text() string { return sizeText(db.Size{Live: c.LiveBytes, File: c.FileBytes}) }

// sizeOf asks for the space that a database takes.
func sizeOf(ctx context.Context, ndb db.NodeDB) (db.Size, error) {
	s, err := ndb.Size(ctx)
	if err != nil {
		return s, fmt.Errorf("asking for the size: %w", err)
	}
	return s, nil
}

// sizeText tells the space that a database takes.
func sizeText(s db.Size) string {
	if s.File == 0 {
		return size.Format(s.Live) + " of data, no files"
	}
	return fmt.Sprintf("%s of data in files of %s", size.Format(s.Live), size.Format(s.File))
}

// versionRange names versions from one to another.
func versionRange(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("version %d", from)
	}
	return fmt.Sprintf("versions %d to %d", from, to)
}

// multipartText tells of a restore that is not finished.
func multipartText(m *db.Multipart) string {
	var chunks, done uint64
	for _, r := range m.Roots {
		chunks += r.Chunks
		done += uint64(len(r.Done))
	}
	return fmt.Sprintf("a restore of version %d is not finished: %s of %s chunks", m.Version, console.Count(done), console.Count(chunks))
}

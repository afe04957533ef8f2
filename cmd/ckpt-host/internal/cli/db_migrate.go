package cli

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// migrateResult is what `db migrate --json` prints.
type migrateResult struct {
	Namespace string `json:"namespace"`
	// Migrated is false where the database was of the present format already.
	Migrated bool    `json:"migrated"`
	Seconds  float64 `json:"seconds"`
}

func newDBMigrateCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "migrate --config FILE --namespace NAME",
		Short: "Bring a database of an older format to the present one",
		Long: `Brings a namespace's database of an older format to the one that this program reads. Older programs can't
read it afterwards. A signal or a crash does no harm: the same command run again goes on. A database that
is of the present format is left alone.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			began := time.Now()
			result := migrateResult{Namespace: ns.Name}
			use := func(db.NodeDB) error { return nil }
			// Reading leaves alone what needs nothing.
			err = e.withDatabase(ctx, ns, &flags, host.Read, use)
			if errors.Is(err, db.ErrFormatVersion) {
				progress := e.StartProgress(func() string { return "migrating: " + console.Duration(time.Since(began)) })
				defer progress.Stop()
				result.Migrated = true
				err = e.withDatabase(ctx, ns, &flags, host.Migrate, use)
				progress.Stop()
			}
			if err != nil {
				return err
			}
			result.Seconds = time.Since(began).Seconds()
			switch {
			case asJSON:
				return e.JSON(result)
			case result.Migrated:
				return e.Printf("migrated the database of namespace %q (%s)\n", ns.Name, console.Duration(seconds(result.Seconds)))
			default:
				return e.Printf("the database of namespace %q is of the present format\n", ns.Name)
			}
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

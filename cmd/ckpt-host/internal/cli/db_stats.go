package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// statsResult is what `db stats --json` prints.
type statsResult struct {
	Namespace      string           `json:"namespace"`
	ID             common.Namespace `json:"id"`
	Backend        string           `json:"backend"`
	BackendVersion string           `json:"backend_version"`
	// Earliest and Latest are null where there is no version.
	Earliest *uint64 `json:"earliest"`
	Latest   *uint64 `json:"latest"`
	// Roots are those of the latest version.
	Roots     []node.Root `json:"roots"`
	LiveBytes int64       `json:"live_bytes"`
	FileBytes int64       `json:"file_bytes"`
	// Amplification is db.Info's.
	Amplification float64           `json:"amplification"`
	Capabilities  statsCapabilities `json:"capabilities"`
	Limits        statsLimits       `json:"limits"`
	Pins          []statsPin        `json:"pins"`
	// Multipart is the restore that is not finished, null where there is none.
	Multipart *statsMultipart `json:"multipart"`
}

type statsCapabilities struct {
	Durable   bool `json:"durable"`
	WriteLogs bool `json:"write_logs"`
	Compact   bool `json:"compact"`
}

type statsLimits struct {
	KeyBytes   int `json:"key_bytes"`
	ValueBytes int `json:"value_bytes"`
	EmbedBytes int `json:"embed_bytes"`
}

type statsPin struct {
	Version uint64    `json:"version"`
	Owner   string    `json:"owner"`
	Since   time.Time `json:"since"`
}

type statsMultipart struct {
	Version uint64               `json:"version"`
	Roots   []statsMultipartRoot `json:"roots"`
}

type statsMultipartRoot struct {
	Root     node.Root `json:"root"`
	Chunks   uint64    `json:"chunks"`
	Done     int       `json:"done"`
	Complete bool      `json:"complete"`
}

func newDBStatsCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "stats --config FILE --namespace NAME",
		Short: "Tell what a namespace's database holds, takes and can do",
		Long: `Tells which versions a namespace's database has, the space that it takes, what the backend can do and
which limits it keeps, who keeps versions from being pruned, and whether a restore is unfinished. It only
reads, and writes to no file.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ns, err := flags.load()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return e.withDatabase(ctx, ns, &flags, host.Read, func(ndb db.NodeDB) error {
				result, err := stats(ctx, ns, ndb)
				if err != nil {
					return err
				}
				if asJSON {
					return e.JSON(result)
				}
				return e.printStats(result)
			})
		},
	}
	flags.add(cmd)
	flags.addLockWait(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func stats(ctx context.Context, ns *config.Namespace, ndb db.NodeDB) (statsResult, error) {
	info := ndb.Info()
	r := statsResult{
		Namespace: ns.Name, ID: info.Namespace,
		Backend: info.Backend, BackendVersion: info.BackendVersion,
		Roots: []node.Root{}, Amplification: info.Amplification,
		Capabilities: statsCapabilities{info.Capabilities.Durable, info.Capabilities.WriteLogs, info.Capabilities.Compact},
		Limits:       statsLimits{info.MaxKeyBytes, info.MaxValueBytes, info.EmbedBytes},
		Pins:         []statsPin{},
	}
	have, err := versionsOf(ctx, ndb)
	if err != nil {
		return r, err
	}
	if have.any {
		r.Earliest, r.Latest = &have.earliest, &have.latest
		if r.Roots, err = rootsOf(ctx, ndb, ns, have, have.latest); err != nil {
			return r, err
		}
	}
	taken, err := sizeOf(ctx, ndb)
	if err != nil {
		return r, err
	}
	r.LiveBytes, r.FileBytes = taken.Live, taken.File
	pins, err := ndb.Pins(ctx)
	if err != nil {
		return r, fmt.Errorf("asking for the pins: %w", err)
	}
	for _, p := range pins {
		r.Pins = append(r.Pins, statsPin{p.Version, p.Owner, p.Since})
	}
	multipart, err := ndb.Multipart(ctx)
	if err != nil {
		return r, fmt.Errorf("asking for an unfinished restore: %w", err)
	}
	if multipart != nil {
		r.Multipart = &statsMultipart{multipart.Version, []statsMultipartRoot{}}
		for _, root := range multipart.Roots {
			r.Multipart.Roots = append(r.Multipart.Roots, statsMultipartRoot{root.Root, root.Chunks, len(root.Done), root.Complete})
		}
	}
	return r, nil
}

func (e *env) printStats(r statsResult) error {
	rows := [][]string{
		{"namespace", fmt.Sprintf("%s (%s)", r.Namespace, r.ID)},
		{"backend", r.Backend + " " + r.BackendVersion},
	}
	if r.Latest == nil {
		rows = append(rows, []string{"versions", "none yet"})
	} else {
		rows = append(rows, []string{"earliest version", fmt.Sprint(*r.Earliest)}, []string{"latest version", fmt.Sprint(*r.Latest)})
	}
	for _, root := range r.Roots {
		rows = append(rows, []string{"its " + root.Type.String() + " root", root.Hash.String()})
	}
	rows = append(rows, []string{"data", size.Exact(r.LiveBytes)}, []string{"files", size.Exact(r.FileBytes)})
	for _, m := range r.unfinished() {
		rows = append(rows, []string{"unfinished restore", m})
	}
	for _, p := range r.Pins {
		rows = append(rows, []string{"kept", fmt.Sprintf("version %d, for %s, since %s", p.Version, p.Owner, p.Since.Local().Format(time.DateTime))})
	}
	rows = append(rows,
		[]string{"longest key", size.Exact(int64(r.Limits.KeyBytes))},
		[]string{"longest value", size.Exact(int64(r.Limits.ValueBytes))},
		[]string{"write logs", yesNo(r.Capabilities.WriteLogs)},
		[]string{"survives a crash", yesNo(r.Capabilities.Durable)},
		[]string{"can be compacted", yesNo(r.Capabilities.Compact)},
	)
	return e.Table(nil, rows)
}

// unfinished tells of the roots whose restore is not finished.
func (r *statsResult) unfinished() (lines []string) {
	if r.Multipart == nil {
		return nil
	}
	if len(r.Multipart.Roots) == 0 {
		return []string{fmt.Sprintf("version %d", r.Multipart.Version)}
	}
	for _, root := range r.Multipart.Roots {
		lines = append(lines, fmt.Sprintf("version %d, %s root: %s of %s", root.Root.Version, root.Root.Type,
			console.Count(root.Done), console.Counted(root.Chunks, "chunk")))
	}
	return lines
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

package cli

import (
	"runtime"

	"github.com/spf13/cobra"
)

// versionResult is what `version --json` prints.
type versionResult struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func newVersionCommand(e *env) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the program's version",
		Args:  takes(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := versionResult{e.version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if asJSON {
				return e.JSON(v)
			}
			return e.Printf("ckpt-host %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

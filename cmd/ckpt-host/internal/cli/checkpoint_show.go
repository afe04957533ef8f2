package cli

import "github.com/spf13/cobra"

func newCheckpointShowCommand(e *env) *cobra.Command {
	var (
		flags  namespaceFlags
		root   rootFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "show --config FILE --namespace NAME",
		Short: "Show what is known of a checkpoint",
		Long:  `Shows what is known of a checkpoint: of the newest one, unless --version names another. It needs no database.`,
		Args:  takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := root.parseType(); err != nil {
				return err
			}
			ns, err := flags.load()
			if err != nil {
				return err
			}
			s, err := openStore(e, ns)
			if err != nil {
				return err
			}
			found, err := s.find(cmd.Context(), &root)
			if err != nil {
				return err
			}
			result, err := s.describe(cmd.Context(), found)
			if err != nil {
				return err
			}
			if asJSON {
				return e.JSON(result)
			}
			return e.printCheckpoint(result)
		},
	}
	flags.add(cmd)
	root.add(cmd, "the newest that has a checkpoint")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

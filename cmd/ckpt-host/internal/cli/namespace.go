package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/host"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// namespaceFlags say which namespace of which configuration a command is about.
type namespaceFlags struct {
	config    string
	namespace string
	lockWait  time.Duration

	// restart has the command go on where its backend's process dies and can be started again. It is for
	// commands that can run for as long as their input comes, which may not come again. Of the others, what
	// is under way ends with the process, which is most of what they do; they say so at once, and are run
	// again.
	restart bool
}

func (f *namespaceFlags) add(cmd *cobra.Command) {
	f.addConfig(cmd)
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "", "the `name` of the namespace")
	_ = cmd.RegisterFlagCompletionFunc("namespace", f.complete)
}

// addConfig adds the flag for the configuration alone.
func (f *namespaceFlags) addConfig(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "the configuration `file`")
	_ = cmd.MarkFlagFilename("config", "hcl")
}

// complete names the configuration's namespaces, for the shell.
func (f *namespaceFlags) complete(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	cfg, err := config.Load(f.config)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return namespaceNames(cfg), cobra.ShellCompDirectiveNoFileComp
}

func namespaceNames(cfg *config.Config) []string {
	names := make([]string, len(cfg.Namespaces))
	for i, n := range cfg.Namespaces {
		names[i] = n.Name
	}
	return names
}

// load reads the configuration and finds the namespace in it.
func (f *namespaceFlags) load() (*config.Namespace, error) {
	cfg, err := loadConfig(f.config)
	if err != nil {
		return nil, err
	}
	return findNamespace(cfg, f.config, "--namespace", f.namespace)
}

// loadConfig reads the configuration file that --config names.
func loadConfig(file string) (*config.Config, error) {
	if file == "" {
		return nil, exit.Errorf(exit.Usage, "--config is missing").WithHint("name the configuration file: --config FILE")
	}
	cfg, err := config.Load(file)
	if err != nil {
		return nil, &exit.Error{Code: exit.Config, Err: err}
	}
	return cfg, nil
}

// findNamespace returns the namespace of a configuration file that a flag names.
func findNamespace(cfg *config.Config, file, flag, name string) (*config.Namespace, error) {
	names := namespaceNames(cfg)
	switch {
	case len(names) == 0:
		return nil, exit.Errorf(exit.Config, "%s has no namespace block", file).
			WithHint("add one: namespace \"demo\" { id = \"...\", backend = \"...\" }")
	case name == "":
		return nil, exit.Errorf(exit.Usage, "%s is missing", flag).
			WithHint("%s has: %s", file, strings.Join(names, ", "))
	}
	ns := cfg.Namespace(name)
	if ns == nil {
		return nil, exit.Errorf(exit.Usage, "%s has no namespace %q", file, name).
			WithHint("it has: %s", strings.Join(names, ", "))
	}
	return ns, nil
}

// addLockWait adds the flag for commands that open the database.
func (f *namespaceFlags) addLockWait(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.lockWait, "lock-wait", db.DefaultLockWait, "how `long` to wait for a database that another process holds")
}

// withDatabase opens the namespace's database, calls use with it, and closes it and its process.
func (e *env) withDatabase(ctx context.Context, ns *config.Namespace, flags *namespaceFlags, mode host.Mode, use func(db.NodeDB) error) error {
	return e.withDatabases(ctx, flags, func(open openDatabase) error {
		ndb, err := open(ns, mode)
		if err != nil {
			return err
		}
		return use(ndb)
	})
}

// openDatabase opens a namespace's database.
type openDatabase func(ns *config.Namespace, mode host.Mode) (db.NodeDB, error)

// withDatabases calls use, and closes all databases that it has opened and their processes.
func (e *env) withDatabases(ctx context.Context, flags *namespaceFlags, use func(open openDatabase) error) (err error) {
	h := host.New(e.logger())
	h.LockWait = max(flags.lockWait, time.Nanosecond) // 0 would be the default
	h.Restart = flags.restart
	h.Tell = e.Note
	defer func() {
		// A process that has gone can't be closed either, which is no news.
		if closeErr := h.Close(ctx); !errors.Is(err, db.ErrUnavailable) {
			err = errors.Join(err, closeErr)
		}
	}()
	return use(func(ns *config.Namespace, mode host.Mode) (db.NodeDB, error) {
		ndb, err := h.Open(ctx, ns, mode)
		if errors.Is(err, host.ErrNoDatabase) {
			return nil, noDatabase(ns, err)
		}
		return ndb, err
	})
}

func noDatabase(ns *config.Namespace, err error) error {
	wrapped := &exit.Error{Code: exit.NotFound, Err: err}
	if ns.Backend.Builtin == "memory" {
		return wrapped.WithHint("the memory backend keeps nothing from one command to the next; choose bbolt or leveldb")
	}
	return wrapped.WithHint("fill it with 'ckpt-host import' or 'ckpt-host restore'")
}

// versions is which versions a database has.
type versions struct {
	earliest, latest uint64
	any              bool
}

// versionsOf asks for the versions of a database.
func versionsOf(ctx context.Context, ndb db.NodeDB) (v versions, err error) {
	if v.latest, v.any, err = ndb.GetLatestVersion(ctx); err != nil {
		return v, fmt.Errorf("asking for the latest version: %w", err)
	}
	if !v.any {
		return v, nil
	}
	if v.earliest, _, err = ndb.GetEarliestVersion(ctx); err != nil {
		return v, fmt.Errorf("asking for the earliest version: %w", err)
	}
	return v, nil
}

// rootFlags say which root of the namespace a command is about.
type rootFlags struct {
	version  uint64
	rootType string

	cmd *cobra.Command
}

func (f *rootFlags) add(cmd *cobra.Command, newest string) {
	f.cmd = cmd
	cmd.Flags().Uint64Var(&f.version, "version", 0, "the `version` (default: "+newest+")")
	cmd.Flags().StringVar(&f.rootType, "root-type", "state", "the root's `type`: state or io")
	_ = cmd.RegisterFlagCompletionFunc("root-type", cobra.FixedCompletions(
		[]cobra.Completion{"state", "io"}, cobra.ShellCompDirectiveNoFileComp))
}

// hasVersion says whether a version was named.
func (f *rootFlags) hasVersion() bool { return f.cmd.Flags().Changed("version") }

// hasType says whether a type was named.
func (f *rootFlags) hasType() bool { return f.cmd.Flags().Changed("root-type") }

// parseType returns the root type that was named, or state.
func (f *rootFlags) parseType() (node.RootType, error) {
	t, err := node.ParseRootType(f.rootType)
	if err != nil {
		return t, exit.Errorf(exit.Usage, "--root-type %s: want state or io", f.rootType)
	}
	return t, nil
}

// find returns the finalized root that the flags name: of the newest version unless one is named.
func (f *rootFlags) find(ctx context.Context, ndb db.NodeDB, ns *config.Namespace) (node.Root, error) {
	rootType, err := f.parseType()
	if err != nil {
		return node.Root{}, err
	}
	have, err := someVersions(ctx, ndb, ns)
	if err != nil {
		return node.Root{}, err
	}
	version := have.latest
	if f.hasVersion() {
		version = f.version
	}
	roots, err := rootsOf(ctx, ndb, ns, have, version)
	if err != nil {
		return node.Root{}, err
	}
	types := map[node.RootType]bool{}
	for _, root := range roots {
		if root.Type == rootType {
			return root, nil
		}
		types[root.Type] = true
	}
	return node.Root{}, exit.Errorf(exit.NotFound, "version %d of namespace %q has no %s root, only %s",
		version, ns.Name, rootType, joinTypes(types))
}

// someVersions asks for the versions of a database that has to have some.
func someVersions(ctx context.Context, ndb db.NodeDB, ns *config.Namespace) (versions, error) {
	have, err := versionsOf(ctx, ndb)
	if err != nil || have.any {
		return have, err
	}
	none := exit.Errorf(exit.NotFound, "namespace %q has no version yet", ns.Name)
	if !ndb.Info().Capabilities.Durable {
		return have, none.WithHint("the %s backend keeps nothing from one command to the next", ns.Backend.PluginName())
	}
	return have, none.WithHint("fill it with 'ckpt-host import' or 'ckpt-host restore'")
}

// rootsOf returns the finalized roots of a version that has to be there.
func rootsOf(ctx context.Context, ndb db.NodeDB, ns *config.Namespace, have versions, version uint64) ([]node.Root, error) {
	roots, err := ndb.GetRootsForVersion(ctx, version)
	switch {
	case version > have.latest || err == nil && len(roots) == 0:
		return nil, versionNotThere(ns, have, version, "was never finalized here")
	case errors.Is(err, db.ErrVersionPruned):
		return nil, versionNotThere(ns, have, version, "was pruned, or is older than the first one here was")
	case err != nil:
		return nil, fmt.Errorf("asking for the roots of version %d: %w", version, err)
	}
	return roots, nil
}

func versionNotThere(ns *config.Namespace, have versions, version uint64, why string) error {
	return exit.Errorf(exit.NotFound, "version %d of namespace %q is not there: it %s", version, ns.Name, why).
		WithHint("there are versions from %d to %d", have.earliest, have.latest)
}

func joinTypes(types map[node.RootType]bool) string {
	var names []string
	for _, t := range slices.Sorted(maps.Keys(types)) {
		names = append(names, t.String())
	}
	return strings.Join(names, " and ")
}

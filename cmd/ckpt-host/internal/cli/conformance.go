package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/report"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

const (
	// maxParallelCases bounds how many cases can be asked to run at once: each has processes of its own.
	maxParallelCases = 256
	// maxKills bounds how many kills can be asked for: these take hours.
	maxKills = 1_000_000
	// minCaseTimeout is the least time for a case: in less, a process is hardly there.
	minCaseTimeout = time.Second
)

// conformanceFlags are the command's flags, and what comes of them.
type conformanceFlags struct {
	settings, profile, run string
	reports                []string
	list, asJSON           bool

	opts conformance.Options
}

func newConformanceCommand(e *env) *cobra.Command {
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "conformance PLUGIN",
		Short: "Prove a backend: run the conformance suite against a plugin's program",
		Long: `Runs the conformance suite against a backend: a plugin's program, or a built-in backend by its name
(` + strings.Join(config.BuiltinPlugins, ", ") + `). Each case of the suite has a fresh database in a process of its own, and some kill it.

Profile core is what every backend has to pass, durable what one has to pass whose databases survive crashes.
What else the backend declares is tried with both. Profile crash is the crash cases alone, with many kills. What did not pass is printed with the reason and with the
command that runs it alone, then counts, then the verdict.

The exit code is 0 only when the whole profile is passed, 5 when it is not, 8 when all that was tried passed
and that was not the whole profile (--run), and 7 when the backend could not be run at all.`,
		Example: `  ckpt-host conformance bbolt --profile durable
  ckpt-host conformance ./my-backend --config settings.hcl --report report.html --report junit.xml
  ckpt-host conformance ./my-backend --run '^crash/'
  ckpt-host conformance --list`,
		Args: takes(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if f.list {
				cases := f.opts.Cases
				if cases == nil {
					cases = conformance.Cases()
				}
				return e.listCases(cases, f.asJSON)
			}
			if len(args) == 0 {
				return exit.Errorf(exit.Usage, "PLUGIN is missing: a program's file, or one of %s", strings.Join(config.BuiltinPlugins, ", ")).
					WithHint("see '%s --help'; --list needs none", cmd.CommandPath())
			}
			return e.conformance(cmd.Context(), args[0], &f)
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return config.BuiltinPlugins, cobra.ShellCompDirectiveDefault
		},
	}
	profiles := make([]string, len(conformance.Profiles))
	for i, p := range conformance.Profiles {
		profiles[i] = string(p)
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.settings, "config", "c", "", "the `file` with the backend's own settings: what stands in a configuration's config block")
	flags.StringVar(&f.profile, "profile", profiles[0], "what has to be passed: "+strings.Join(profiles, " or "))
	flags.StringVar(&f.run, "run", "", "try only the cases whose names match this `regexp`")
	flags.BoolVar(&f.list, "list", false, "print the cases, and try none")
	flags.StringArrayVar(&f.reports, "report", nil, "write a report to this `file`, which ends in .json, .xml (JUnit) or .html; can be given several times")
	flags.IntVar(&f.opts.Parallel, "parallel", 0, "the `number` of cases that run at once (default: two for each processor)")
	flags.DurationVar(&f.opts.Timeout, "timeout", conformance.DefaultTimeout, "how `long` a case may take")
	flags.IntVar(&f.opts.Kills, "kills", 0, "the `number` of kills in the crash cases (default 48, in profile crash 300)")
	flags.BoolVar(&f.opts.Benchmarks, "bench", false, "measure the backend, too, when the cases have ended")
	flags.StringVar(&f.opts.Keep, "keep", "", "keep the directories of cases that failed in this `directory`")
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object: the report, or the list")
	_ = cmd.MarkFlagFilename("config", "hcl")
	_ = cmd.MarkFlagFilename("report", "json", "xml", "html")
	_ = cmd.MarkFlagDirname("keep")
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions(profiles, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// check checks the flags, before anything is run for minutes.
func (f *conformanceFlags) check() error {
	f.opts.Profile = conformance.Profile(f.profile)
	if !slices.Contains(conformance.Profiles, f.opts.Profile) {
		return exit.Errorf(exit.Usage, "--profile %s: want %s, %s or %s", f.profile,
			conformance.ProfileCore, conformance.ProfileDurable, conformance.ProfileCrash)
	}
	if f.run != "" {
		names, err := regexp.Compile(f.run)
		if err != nil {
			return exit.Errorf(exit.Usage, "--run: %w", err)
		}
		if f.opts.Cases = conformance.Select(names); len(f.opts.Cases) == 0 {
			return exit.Errorf(exit.Usage, "--run %s: no case has such a name", f.run).WithHint("'ckpt-host conformance --list' prints the names")
		}
	}
	switch {
	case f.opts.Kills < 0 || f.opts.Kills > maxKills:
		return exit.Errorf(exit.Usage, "--kills %d: want 1 to %d, or 0 for the profile's own number", f.opts.Kills, maxKills)
	case f.opts.Parallel < 0 || f.opts.Parallel > maxParallelCases:
		return exit.Errorf(exit.Usage, "--parallel %d: want 1 to %d, or 0 for two for each processor", f.opts.Parallel, maxParallelCases)
	case f.opts.Timeout < minCaseTimeout:
		return exit.Errorf(exit.Usage, "--timeout %s: want at least %s", f.opts.Timeout, minCaseTimeout)
	}
	for _, path := range f.reports {
		if err := report.CheckName(path); err != nil {
			return exit.Errorf(exit.Usage, "--report %w", err)
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("--report %s: %w", path, err)
		} else if !info.IsDir() {
			return exit.Errorf(exit.NotFound, "--report %s: %s is no directory", path, filepath.Dir(path))
		}
	}
	return nil
}

// conformance proves a plugin, writes the reports, and prints what came of it.
func (e *env) conformance(ctx context.Context, name string, f *conformanceFlags) error {
	program, err := programOf(name)
	if err != nil {
		return err
	}
	if f.settings != "" {
		if program.Settings, err = config.LoadSettings(f.settings); err != nil {
			return &exit.Error{Code: exit.Config, Err: err}
		}
	}
	if f.opts.Keep != "" {
		if err := os.MkdirAll(f.opts.Keep, 0o700); err != nil {
			return fmt.Errorf("--keep: %w", err)
		}
	}
	program.Logger = e.logger().Named(filepath.Base(name))
	f.opts.Alone = func(c *conformance.Case) string { return f.alone(name, c) }

	status := &caseStatus{bench: f.opts.Benchmarks}
	f.opts.Chosen, f.opts.Began, f.opts.Ended = status.chosen, status.began, status.ended
	progress := e.StartProgress(status.String)
	defer progress.Stop()
	r, notBegun := conformance.Prove(ctx, program.Harness(), f.opts)
	progress.Stop()
	if r == nil {
		return notBegun
	}
	for _, path := range f.reports {
		if err := report.WriteFile(path, r); err != nil {
			return err
		}
	}
	if err := e.printConformance(r, f.asJSON); err != nil {
		return err
	}
	if notBegun != nil {
		return couldNotBegin(name, r, notBegun)
	}
	return verdictError(r)
}

// programOf is the program that PLUGIN names.
func programOf(name string) (conformance.Program, error) {
	if !slices.Contains(config.BuiltinPlugins, name) {
		return conformance.Program{Path: name}, nil
	}
	path, args, err := plugin.Builtin(name)
	return conformance.Program{Name: "ckpt-host, built-in " + name, Path: path, Args: args}, err
}

// alone is the command that runs a case alone.
func (f *conformanceFlags) alone(name string, c *conformance.Case) string {
	words := []string{"ckpt-host", "conformance", quoted(name)}
	if f.settings != "" {
		words = append(words, "--config", quoted(f.settings))
	}
	if f.opts.Profile != conformance.Profiles[0] {
		words = append(words, "--profile", string(f.opts.Profile))
	}
	return strings.Join(append(words, "--run", "'"+c.Alone()+"'"), " ")
}

// plainWord is what no shell reads anything into.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:=@%+,-]+$`)

// quoted is a word for the shell.
func quoted(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// couldNotBegin is the error where no case could be tried.
func couldNotBegin(name string, r *conformance.Report, err error) error {
	code, _ := exit.Of(err)
	if r.Verdict == conformance.Fail {
		code = exit.Unavailable
	}
	e := exit.Errorf(code, "%w", err)
	switch {
	case code == exit.Config:
		return e.WithHint("--config names a file with the backend's settings")
	case r.Verdict == conformance.Fail && errors.Is(err, plugin.ErrLaunchFailed):
		return e.WithHint("a plugin's main function calls plugin.Serve, and prints nothing to standard output before: docs/writing-a-backend.md")
	case errors.Is(err, plugin.ErrLaunchFailed):
		return e.WithHint("%s is neither a program nor a built-in backend (%s)", name, strings.Join(config.BuiltinPlugins, ", "))
	default:
		return e.WithHint("with --log-level debug, all that its process logs is shown")
	}
}

// verdictError is the error that a profile is not passed; nil where it is.
func verdictError(r *conformance.Report) error {
	code := exit.Failed
	switch r.Verdict {
	case conformance.Pass:
		return nil
	case conformance.Fail:
		code = exit.Invalid
	case conformance.Partial:
		code = exit.Partial
	}
	return exit.Errorf(code, "profile %s is not passed: %s", r.Profile, r.Reason)
}

// caseStatus is how far the suite has come. The suite tells it while another goroutine reads it.
type caseStatus struct {
	bench bool

	mu           sync.Mutex
	total        int
	done, failed int
	running      []string // in the order in which they began
}

func (s *caseStatus) chosen(total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total = total
}

func (s *caseStatus) began(c *conformance.Case) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, c.Name)
}

func (s *caseStatus) ended(r *conformance.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done++
	if r.Required && (r.Verdict == conformance.Fail || r.Verdict == conformance.Error) {
		s.failed++
	}
	if i := slices.Index(s.running, r.Name); i >= 0 {
		s.running = slices.Delete(s.running, i, i+1)
	}
}

// String tells it for people.
func (s *caseStatus) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := fmt.Sprintf("%d of %s", s.done, console.Counted(s.total, "case"))
	if s.failed > 0 {
		text += fmt.Sprintf(", %d failed", s.failed)
	}
	switch {
	case len(s.running) > 0:
		text += ": " + s.running[0]
	case s.done == 0:
		text = "starting"
	case s.done == s.total && s.bench:
		text += ": measuring"
	}
	return text
}

package conformance

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// Options say what Prove does, and how.
type Options struct {
	// Profile is what has to be passed; "" means ProfileCore.
	Profile Profile
	// Cases are those that are tried; nil means those of the profile, and those of capabilities that the
	// backend does not declare.
	Cases []Case
	// Dir is where databases are made, each case's in a directory that is removed afterwards; "" means the
	// system's for temporary files.
	Dir string
	// Parallel is how many cases run at once; 0 means two for each processor.
	Parallel int
	// Timeout is how long a case may take; 0 means DefaultTimeout. One that does not end even then is given
	// up, and its processes are killed.
	Timeout time.Duration
	// Kills is how often the crash histories kill a process at least, all of them together; 0 means
	// DefaultKills, and CrashProfileKills for ProfileCrash. With more they may take longer than Timeout, in
	// proportion.
	Kills int
	// Chosen is told how many cases will be tried, and may be nil.
	Chosen func(n int)
	// Began and Ended are told of each case, one call at a time, and may be nil.
	Began func(c *Case)
	Ended func(r *Result)
	// Alone says how a case is run alone, for reports; nil means that its name says it.
	Alone func(c *Case) string
	// Keep is where the directories of cases that failed are kept, each under its case's name; "" means
	// that they are removed.
	Keep string
	// Benchmarks says that the backend is measured, too, when the cases have ended.
	Benchmarks bool
}

const (
	// DefaultTimeout is how long a case may take where nothing else is said.
	DefaultTimeout = 2 * time.Minute
	// beginTimeout is how long the first database may take to open and close. It is an empty one: what
	// takes longer hangs.
	beginTimeout = 20 * time.Second
)

// DefaultKills is how often the crash histories kill a process where nothing else is said, and
// CrashProfileKills in profile crash.
const (
	DefaultKills      = 48
	CrashProfileKills = 300
)

// Prove runs cases against a harness's databases, and reports. How the backend did is in the report alone.
// Its error says that no case was tried because no database could be opened, which the report has as its
// verdict and reason: Fail where it is the backend's fault, Error where nothing is known of that. When ctx
// has ended, its error comes without a report.
func Prove(ctx context.Context, h Harness, opts Options) (r *Report, err error) {
	s := newSuite(h, opts)
	defer func() {
		if left := s.end(); left != nil && r != nil {
			r.Remarks = append(r.Remarks, fmt.Sprintf("the suite's directory could not be removed: %v", left))
		}
	}()
	began := time.Now()
	s.report.Started = began.UTC().Truncate(time.Second)
	if err := s.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.report.notBegun(err, time.Since(began))
		return s.report, err
	}
	if err := s.runAll(ctx); err != nil {
		return nil, err
	}
	s.report.Seconds = seconds(time.Since(began))
	s.finish()
	if s.opts.Benchmarks {
		if err := s.bench(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		} else if err != nil {
			s.report.Remarks = append(s.report.Remarks, fmt.Sprintf("the benchmarks did not end well: %v", err))
		}
	}
	return s.report, nil
}

// seconds is a time as reports have it.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// suite is a run of cases.
type suite struct {
	h        Harness
	opts     Options
	dir      string
	declared map[Level]bool
	report   *Report
}

func newSuite(h Harness, opts Options) *suite {
	if opts.Profile == "" {
		opts.Profile = ProfileCore
	}
	if opts.Parallel <= 0 {
		opts.Parallel = 2 * runtime.GOMAXPROCS(0)
	}
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	if opts.Kills <= 0 {
		opts.Kills = opts.Profile.kills()
	}
	return &suite{h: h, opts: opts, declared: make(map[Level]bool), report: &Report{
		Suite: Version, Platform: runtime.GOOS + "/" + runtime.GOARCH, Profile: opts.Profile,
		Capabilities: []Level{}, Cases: []Result{},
	}}
}

// begin makes the suite's directory, and opens a database in it to see what the backend is and declares.
func (s *suite) begin(ctx context.Context) error {
	where := s.opts.Dir
	if s.opts.Keep != "" {
		where = s.opts.Keep // so that what is kept can be renamed
	}
	var err error
	if s.dir, err = os.MkdirTemp(where, "ckpt-conformance-"); err != nil {
		return &brokenError{fmt.Errorf("conformance: %w", err)}
	}
	return s.look(ctx)
}

// end removes what the cases left.
func (s *suite) end() error {
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// brokenError is what says nothing about the backend.
type brokenError struct{ error }

func (e *brokenError) Unwrap() error { return e.error }

// look asks a database what the backend is.
func (s *suite) look(ctx context.Context) error {
	if p := s.h.Program; p != nil {
		s.report.Program = p.name()
		var err error
		switch s.report.SHA256, err = p.sha256(); {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
			return &brokenError{fmt.Errorf("conformance: there is no such program: %w: %w", plugin.ErrLaunchFailed, err)}
		case errors.Is(err, exec.ErrDot), errors.Is(err, fs.ErrPermission):
			// Launching it says what is wrong with it, if that is anything.
		case err != nil:
			return &brokenError{fmt.Errorf("conformance: the program can't be read: %w", err)}
		}
	}
	limit := min(s.opts.Timeout, beginTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ndb, err := s.h.Open(ctx, &db.Config{Dir: s.dir + "/look/db", Namespace: namespace, Settings: s.h.Settings})
	switch {
	case errors.Is(err, plugin.ErrLaunchFailed):
		return fmt.Errorf("conformance: the program is no plugin that can be launched: %w", err)
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("conformance: opening an empty database hangs: it took longer than %s: %w", limit, err)
	case errors.Is(err, db.ErrBadSettings):
		return &brokenError{fmt.Errorf("conformance: the backend refuses its settings: %w", err)}
	case err != nil:
		return fmt.Errorf("conformance: no database can be opened: %w", err)
	}
	info := ndb.Info()
	if err := ndb.Close(ctx); err != nil {
		return fmt.Errorf("conformance: closing the first database, an empty one: %w", err)
	}
	s.report.Backend, s.report.BackendVersion, s.report.Capabilities = info.Backend, info.BackendVersion, []Level{}
	for _, c := range capabilities {
		if s.declared[c.level] = c.declared(info.Capabilities); s.declared[c.level] {
			s.report.Capabilities = append(s.report.Capabilities, c.level)
		}
	}
	s.choose()
	if s.opts.Profile == ProfileCore && s.declared[Durable] {
		s.report.Remarks = append(s.report.Remarks, "the backend declares that it is durable: profile durable proves it")
	}
	return nil
}

// choose chooses the cases, where nobody has.
func (s *suite) choose() {
	if s.opts.Cases == nil {
		for _, c := range Cases() {
			if s.opts.Profile.tries(&c, s.declared) {
				s.opts.Cases = append(s.opts.Cases, c)
			}
		}
	}
	if s.opts.Chosen != nil {
		s.opts.Chosen(len(s.opts.Cases))
	}
}

// runAll runs the cases, some at once.
func (s *suite) runAll(ctx context.Context) error {
	results := make([]Result, len(s.opts.Cases))
	var workers errgroup.Group
	workers.SetLimit(s.opts.Parallel)
	tell := make(chan struct{}, 1)
	for i := range s.opts.Cases {
		if ctx.Err() != nil {
			break
		}
		workers.Go(func() error {
			c := &s.opts.Cases[i]
			if s.opts.Began != nil {
				tell <- struct{}{}
				s.opts.Began(c)
				<-tell
			}
			results[i] = s.run(ctx, c)
			if s.opts.Ended != nil {
				tell <- struct{}{}
				s.opts.Ended(&results[i])
				<-tell
			}
			return nil
		})
	}
	_ = workers.Wait() // none fails
	s.report.Cases = results
	return ctx.Err()
}

// run runs a case.
func (s *suite) run(ctx context.Context, c *Case) Result {
	r := Result{
		Name: c.Name, Area: c.Area(), Level: c.Level, Clauses: c.Clauses, Explanation: c.Explanation,
		Required: s.opts.Profile.requires(c, s.declared), Alone: c.Name,
	}
	if s.opts.Alone != nil {
		r.Alone = s.opts.Alone(c)
	}
	if reason := s.impossible(c); reason != "" {
		// In this process, what is between processes is nobody's to prove.
		r.Verdict, r.Reason, r.Required = NotSupported, reason, r.Required && c.Level != Process
		return r
	}
	began := time.Now()
	t := newTrial(ctx, s, c)
	t.run()
	r.Seconds = seconds(time.Since(began))
	r.Verdict, r.Reason, r.Log = t.result()
	if r.Verdict == Fail && !r.Required && isCapability(c.Level) && !s.declared[c.Level] { // nobody said that it works
		r.Verdict, r.Reason = NotSupported, fmt.Sprintf("the backend does not declare %s; tried all the same: %s", c.Level, r.Reason)
	}
	return r
}

// impossible says why a case can't be tried at all.
func (s *suite) impossible(c *Case) string {
	switch {
	case c.Level == Process && s.h.Program == nil:
		return "the database lives in the suite's process"
	case c.needsCrash && s.h.Crash == nil:
		return "the database lives in the suite's process, which can't be killed"
	}
	return ""
}

// finish sums up.
func (s *suite) finish() {
	all := 0
	for _, c := range Cases() {
		if s.opts.Profile.requires(&c, s.declared) && !(c.Level == Process && s.h.Program == nil) {
			all++
		}
	}
	s.report.sum(all)
	for _, c := range capabilities {
		s.remark(c.level)
	}
}

// remark notes where a capability that is not declared works.
func (s *suite) remark(l Level) {
	if s.declared[l] {
		return
	}
	tried, passed := 0, 0
	for i := range s.report.Cases {
		if r := &s.report.Cases[i]; r.Level == l && r.Verdict != NotSupported {
			tried++
			if r.Verdict == Pass {
				passed++
			}
		}
	}
	if tried > 0 && passed == tried {
		s.report.Remarks = append(s.report.Remarks, fmt.Sprintf("the backend does not declare %s, and passes all %d of its cases", l, tried))
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

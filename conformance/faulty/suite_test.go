//go:build unix

package faulty_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ckpt-project/ckpt/backends/bbolt"
	"github.com/ckpt-project/ckpt/backends/memory"
	"github.com/ckpt-project/ckpt/conformance"
	"github.com/ckpt-project/ckpt/conformance/faulty"
	"github.com/ckpt-project/ckpt/framework/common/errors"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// failsOn says for each case of the suite on which defects it has to fail. A case that fails on none says
// nothing, and a new one comes with a defect.
var failsOn = []struct {
	name    string
	defects []string
}{
	{"read-write/whole-tree", []string{"walk-unordered", "walk-skips", "walk-repeats", "rotten-record", "lost-write"}},
	{"read-write/root-address", []string{"root-address-wrong"}},
	{"read-write/single-nodes", []string{"node-by-position", "stale-read", "errors-flat", "panics"}},
	{"read-write/paths", []string{"path-short", "path-past-labels"}},
	{"read-write/paths-from-within", []string{"path-from-root"}},
	{"read-write/paths-at-once", []string{"paths-again"}},
	{"read-write/paths-end-at-labels", []string{"path-past-labels"}},
	{"read-write/runs", []string{"runs-ascend"}},
	{"read-write/large-records", []string{"large-refused"}},
	{"read-write/malformed-entries", []string{"entries-unchecked", "root-without-node"}},
	{"read-write/limits", []string{"limits-forgotten"}},
	{"read-write/removed-entries", []string{"removals-forgotten", "removals-by-position", "removals-unchecked", "prune-too-much"}},
	{"read-write/arguments-not-kept", []string{"arguments-kept", "log-arguments-kept"}},
	{"read-write/results-stay", []string{"memory-reused", "path-memory-reused"}},
	{"read-write/readers-beside-writer", []string{"walk-mixes", "pins-ignored", "path-panics"}},
	{"read-write/context-done", []string{"context-ignored", "context-error-lost", "chunk-context-ignored", "walk-uninterrupted"}},
	{"read-write/after-close", []string{"closed-unnoticed", "closed-answers", "closes-twice", "chunk-outlives-close"}},
	{"read-write/other-namespace", []string{"namespace-ignored", "errors-flat"}},
	{"read-write/database-of-other-namespace", []string{"namespace-cleared"}},

	{"versions/empty-root", []string{"empty-root-unknown"}},
	{"versions/unknown-root", []string{"unknown-root-empty", "unknown-root-ignored"}},
	{"versions/gap", []string{"gap-filled", "prune-into-gap"}},
	{"versions/one-root-a-type", []string{"roots-unsorted", "finalize-last"}},
	{"versions/io-roots-stand-alone", []string{"io-from-io"}},
	{"versions/batch-beginnings", []string{"batch-from-anything", "address-shared"}},
	{"versions/batch-versions", []string{"next-version-only"}},
	{"versions/invisible-before-commit", []string{"seen-before-commit"}},
	{"versions/same-root-again", []string{"same-root-refused", "same-root-moves"}},
	{"versions/roots-must-follow", []string{"any-root-committed", "root-without-node"}},
	{"versions/committed-and-reopened", []string{"candidates-lost"}},
	{"versions/abort", []string{"abort-commits"}},
	{"versions/batch-left-behind", []string{"close-commits"}},
	{"versions/finalize", []string{"finalize-one", "hangs", "deaf", "slow"}},
	{"versions/not-finalizable", []string{"finalize-says-yes", "finalize-known", "finalize-last"}},
	{"versions/parent-not-finalized", []string{"parent-unchecked"}},
	{"versions/other-candidates-go", []string{"losers-stay", "losers-descendants-stay"}},
	{"versions/committed-and-restored", []string{"restore-drops-candidates"}},
	{"versions/finalize-again", []string{"finalize-again-refused", "finalize-again-anything"}},

	{"walk/from-a-position", []string{"walk-begins-late", "walk-begins-early"}},
	{"walk/left-early", []string{"walk-keeps-reader"}},
	{"walk/deep-tree", []string{"long-positions-refused"}},
	{"walk/close-during-walk", []string{"close-waits", "walk-ends-quietly"}},
	{"walk/pruned-meanwhile", []string{"pruned-root-ignored"}},

	{"write-logs/read", []string{"log-unsorted", "log-short", "log-empty-is-gone"}},
	{"write-logs/discarded", []string{"log-kept"}},
	{"write-logs/not-given", []string{"log-invented"}},

	{"prune/versions", []string{"prune-too-much", "removals-at-once", "compact-loses"}},
	{"prune/refused", []string{"prune-below", "prune-latest", "prune-during-restore"}},
	{"prune/before", []string{"prune-one-by-one", "prune-miscounted", "pins-ignored"}},
	{"prune/pruned-version", []string{"pruned-not-found", "prune-too-little"}},
	{"prune/garbage", []string{"garbage-stays", "garbage-anew", "removals-forgotten"}},
	{"prune/pins", []string{"pins-ignored", "pins-by-version", "pins-counted", "pins-kept", "pins-unnamed"}},
	{"prune/not-pinnable", []string{"pins-anything"}},
	{"prune/pins-not-stored", []string{"pins-stored"}},

	{"multipart/start", []string{"insert-replaced", "insert-anywhere", "start-again-refused", "insert-lost"}},
	{"multipart/roots", []string{"tag-cut", "root-retold", "root-again-refused"}},
	{"multipart/any-order", []string{"chunks-in-order", "chunk-once"}},
	{"multipart/at-once", []string{"one-chunk-at-a-time", "same-chunk-refused"}},
	{"multipart/malformed-chunks", []string{"chunk-unchecked", "chunk-of-any-root"}},
	{"multipart/marks", []string{"mark-forgotten", "mark-before-nodes"}},
	{"multipart/marks-survive", []string{"marks-lost", "insert-lost"}},
	{"multipart/incomplete", []string{"complete-unchecked", "complete-by-marks"}},
	{"multipart/overlap", []string{"overlap-unseen"}},
	{"multipart/invisible-before-finalize", []string{"seen-before-finalize", "insert-hidden"}},
	{"multipart/two-roots", []string{"finalize-complete"}},
	{"multipart/versions-on-top", []string{"restored-elsewhere", "prune-into-gap"}},
	{"multipart/abort-root", []string{"abort-root-all", "abort-root-keeps-marks", "chunk-late"}},
	{"multipart/abort", []string{"abort-forgets-writers", "abort-keeps-insert"}},

	{"upkeep/size-compact-sync", []string{"size-unknown", "compact-loses"}},
	{"upkeep/close-and-open", []string{"earlier-forgotten", "lock-kept"}},
	{"upkeep/check", []string{"check-blind", "check-alarms", "check-alarms-restore", "removals-forgotten"}},

	{"read-only/open", []string{"read-only-writes", "read-only-touches", "candidates-lost"}},

	{"read-only/candidates", []string{"candidates-lost"}},
	{"read-only/open-insert", []string{"insert-lost", "marks-lost"}},
	{"read-only/garbage", []string{"read-only-writes", "read-only-touches"}},
	{"read-only/two-readers", []string{"read-only-touches"}},
	{"read-only/nothing-there", []string{"read-only-makes", "read-only-writes"}},

	{"creator/not-there", []string{"root-by-version", "errors-flat"}},
	{"creator/checkpoint-not-there", []string{"root-by-version"}},
	{"creator/not-to-be-made", []string{"errors-flat", "pruned-not-found", "pins-kept"}},
	{"creator/same-again", []string{"pins-kept"}},
	{"creator/empty-root", []string{"empty-root-unknown"}},
	{"creator/version-kept", []string{"pins-ignored", "pins-kept"}},
	{"creator/broken-off", []string{"pins-kept"}},
	{"creator/delete", []string{"release-prunes"}},
	{"creator/list", []string{"pins-kept"}},
	{"creator/process-killed", []string{"walk-cut"}},

	{"restorer/in-order", []string{"seen-before-finalize", "chunks-in-order"}},
	{"restorer/abort", []string{"abort-keeps-insert"}},
	{"restorer/bad-proofs", []string{"complete-unchecked", "complete-by-marks", "overlap-unseen"}},
	{"restorer/second-root-after-failure", []string{"abort-root-all", "finalize-one"}},
	{"restorer/other-version", []string{"insert-hidden"}},

	{"restorer/none-in-progress", []string{"abort-keeps-insert"}},
	{"restorer/bad-proof", []string{"abort-keeps-insert", "seen-before-finalize"}},
	{"restorer/version-not-above", []string{"insert-anywhere"}},
	{"restorer/empty-root", []string{"empty-root-unknown"}},
	{"restorer/any-order", []string{"chunks-in-order"}},
	{"restorer/abort-in-flight", []string{"abort-keeps-insert"}},
	{"restorer/taken-up", []string{"mark-forgotten", "tag-cut"}},
	{"restorer/already-in-progress", []string{"insert-untold"}},
	{"restorer/chunk-not-there", []string{"mark-wide"}},
	{"restorer/chunk-again", []string{"mark-forgotten"}},
	{"restorer/chunk-corrupted", []string{"mark-wide"}},
	{"restorer/limits", []string{"limits-unread"}},
	{"restorer/bad-metadata", []string{"insert-invented"}},
	{"restorer/at-once", []string{"chunk-commits-alone"}},
	{"restorer/same-chunk-at-once", []string{"chunk-commits-alone"}},

	{"format/vectors", []string{"rotten-record", "root-address-wrong"}},

	{"crash/after-commit", []string{"commit-unsafe"}},
	{"crash/after-chunks", []string{"insert-unsafe", "insert-torn"}},
	{"crash/during-restore", []string{"insert-unsafe", "insert-torn"}},
	{"crash/histories-1", []string{"commit-unsafe"}},
	{"crash/histories-2", []string{"insert-unsafe"}},
	{"crash/histories-3", []string{"insert-torn"}},
	{"crash/histories-4", []string{"commit-unsafe"}},

	{"corruption/flipped-bytes", []string{"damage-skipped", "check-blind"}},
	{"corruption/flipped-values", []string{"damage-skipped", "check-blind"}},
	{"corruption/truncated-files", []string{"damage-wiped"}},
	{"corruption/missing-file", []string{"damage-wiped"}},

	{"wire/records-around-frames", []string{"large-refused"}},
	{"wire/no-shared-memory", []string{"unshared-walk-cut"}},
	{"wire/largest-value", []string{"large-refused"}},
	{"wire/long-write-log", []string{"log-short"}},
	{"wire/long-path", []string{"path-short"}},
	{"wire/huge-tags", []string{"tag-cut"}},
	{"wire/cancelled-walk", []string{"walk-keeps-pin", "walk-cut"}},
	{"wire/cancelled-batch", []string{"root-before-nodes"}},
	{"wire/cancelled-chunk", []string{"mark-forgotten", "mark-before-nodes", "mark-interrupted"}},
	{"wire/cancelled-upkeep", []string{"upkeep-stays-busy"}},
	{"wire/rings-and-turns", []string{"turn-ignored", "ring-other"}},
	{"wire/stopped-process", []string{"pause-ends-session"}},
	{"wire/cancelled-open", []string{"open-uninterrupted"}},
	{"wire/two-processes", []string{"lock-missing", "lock-unnamed"}},
	{"wire/killed-holder", []string{"lock-stale"}},
	{"wire/two-databases", []string{"pins-shared"}},
	{"wire/closed-handle", []string{"pins-shared"}},
	{"wire/made-up-handle", []string{"handle-any", "session-any"}},
	{"wire/malformed-messages", []string{"nonsense-kills", "nonsense-taken"}},
	{"wire/killed-process", []string{"busy-is-absent", "walk-cut"}},
	{"wire/slow-close", []string{"close-unsafe"}},
	{"wire/error-identity", []string{"errors-flat", "pruned-not-found"}},

	{"leaks/after-close", []string{"leaks-process"}},
	{"leaks/after-kill", []string{"leaks-process"}},
	{"leaks/open-and-close", []string{"leaks-file"}},
	{"leaks/walks", []string{"leaks-walks"}},
	{"leaks/batches", []string{"leaks-batches"}},
	{"leaks/pins", []string{"leaks-pins", "pins-kept"}},
}

// says is what the reason of a failure matches, where something else of the case could fail on the defect
// before what the case claims to look at.
var says = map[string]string{
	"creator/not-there/root-by-version":            "CreateCheckpoint of an unknown root: error .*, want",
	"creator/checkpoint-not-there/root-by-version": "CreateCheckpoint of another root: error .*, want",
	"creator/delete/release-prunes":                "version was pruned",
	"creator/list/pins-kept":                       "version is pinned",
	"creator/process-killed/walk-cut":              "a checkpoint whose database has gone",

	"restorer/already-in-progress/insert-untold":      "another restore of another restorer",
	"restorer/chunk-not-there/mark-wide":              "have marks",
	"restorer/chunk-again/mark-forgotten":             "have marks",
	"restorer/chunk-corrupted/mark-wide":              `chunks \[0 1\] have marks, want \[0\]`,
	"restorer/limits/limits-unread":                   "a chunk beyond the database's Max",
	"restorer/bad-metadata/insert-invented":           "a multipart insert is open",
	"restorer/at-once/chunk-commits-alone":            "a chunk is being committed",
	"restorer/same-chunk-at-once/chunk-commits-alone": "a chunk is being committed",
	"format/vectors/rotten-record":                    "not those of the vector|does not verify|database is corrupted",
	"format/vectors/root-address-wrong":               "after a restore",
	"wire/cancelled-walk/walk-keeps-pin":              "version is pinned",
	"wire/cancelled-walk/walk-cut":                    "a walk that is cancelled at entry",
	"wire/cancelled-batch/root-before-nodes":          "root not found",
	"wire/cancelled-chunk/mark-forgotten":             "Commit gave no error, and there is no mark",
	"wire/cancelled-chunk/mark-before-nodes":          `want marks \[\]`,
	"wire/cancelled-chunk/mark-interrupted":           "not complete",
	"wire/cancelled-open/open-uninterrupted":          "in use by another process",
	"wire/cancelled-upkeep/upkeep-stays-busy":         "something else is being done",
	"wire/stopped-process/pause-ends-session":         "database is (closed|unavailable)",
	"wire/made-up-handle/handle-any":                  `with handle \d+, which nobody has: `,
	"wire/made-up-handle/session-any":                 "Open in a session of 0 bytes, which nobody has: <nil>",
	"wire/malformed-messages/nonsense-kills":          "nobody is left to refuse it",
	"wire/malformed-messages/nonsense-taken":          "want it refused",
	"wire/no-shared-memory/unshared-walk-cut":         "entries",
	"wire/rings-and-turns/turn-ignored":               "turn 0 after turn 6",
	"wire/rings-and-turns/ring-other":                 "two walks use a ring at once",
	"wire/killed-process/busy-is-absent":              "a root was said not to be there",
	"wire/killed-process/walk-cut":                    "a walk under way when the process was killed",
}

// timeouts are how long a case has with defects that take their time. All others fail at once.
var timeouts = map[string]time.Duration{
	"hangs":       time.Second,
	"deaf":        time.Second, // and is given up after a while
	"slow":        time.Second,
	"close-waits": 2 * time.Second,
}

// enoughKills is how often the crash histories kill until they see what is wrong, all together: they end when
// they do.
const enoughKills = 800

// inTime is what all others have: more than they ever need.
const inTime = 2 * time.Minute

// TestEachCaseFails shows of each case that there is a way to fail it, by what it claims to look at.
func TestEachCaseFails(t *testing.T) {
	t.Parallel()
	for _, row := range failsOn {
		for _, name := range row.defects {
			t.Run(row.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				c, d := theCase(t, row.name), theDefect(t, name)
				r := prove(t, c, d)
				if r.Verdict != conformance.Fail {
					t.Fatalf("%s: verdict %s %s on a database in which this is wrong: %s", c.Name, r.Verdict, r.Reason, d.Wrong)
				}
				_, hangs := timeouts[name]
				if late := strings.Contains(strings.Join(r.Log, "\n"), "did not end within"); late != hangs {
					t.Errorf("that its time was up: %t, want %t; %q", late, hangs, r.Log)
				}
				if want := says[row.name+"/"+name]; !regexp.MustCompile(want).MatchString(r.Reason) {
					t.Errorf("it fails for another reason than %q: %s", want, r.Reason)
				}
				t.Logf("%s\nsays: %s", d.Wrong, r.Reason)
			})
		}
	}
}

// TestEachCaseHasADefect holds the table to the suite's: no case and no defect is left out.
func TestEachCaseHasADefect(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	rows := map[string]bool{}
	for _, row := range failsOn {
		if rows[row.name] || len(row.defects) == 0 {
			t.Errorf("%s has two rows, or one without a defect", row.name)
		}
		rows[row.name] = true
		theCase(t, row.name)
		for _, name := range row.defects {
			theDefect(t, name)
			used[name] = true
		}
	}
	for _, c := range conformance.Cases() {
		if !rows[c.Name] {
			t.Errorf("there is no defect that %s fails on", c.Name)
		}
	}
	for tried := range says {
		area, rest, _ := strings.Cut(tried, "/")
		name, defect, _ := strings.Cut(rest, "/")
		if !slices.ContainsFunc(failsOn, func(row struct {
			name    string
			defects []string
		},
		) bool {
			return row.name == area+"/"+name && slices.Contains(row.defects, defect)
		}) {
			t.Errorf("%s is not tried, and is said to end in words", tried)
		}
	}
	names := map[string]bool{}
	for _, d := range plantedDefects() {
		if names[d.Name] || d.Name == "" || d.Wrong == "" || len(d.Clauses) == 0 && d.Name != "slow" {
			t.Errorf("defect %q: a second one, or it does not say what is wrong and by which clause", d.Name)
		}
		names[d.Name] = true
		if !used[d.Name] {
			t.Errorf("no case fails on %q: %s", d.Name, d.Wrong)
		}
	}
	t.Logf("%d cases, %d defects", len(rows), len(names))
}

// TestSoundPasses shows that it is the defects that cases fail on, and not how databases are wrapped.
func TestSoundPasses(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]struct {
		conformance.Harness
		profile conformance.Profile
		levels  []conformance.Level // nil means those of the profile
	}{
		"memory": {Harness: conformance.Harness{Open: faulty.New(memory.New()).New}},
		"bbolt": {
			conformance.Harness{Open: faulty.New(bbolt.New()).New},
			conformance.ProfileDurable,
			[]conformance.Level{conformance.Durable},
		},
		"bbolt's process": {
			program(t, "").Harness(), conformance.ProfileDurable,
			[]conformance.Level{conformance.Durable, conformance.Process},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h.Settings = faulty.Settings("")
			var cases []conformance.Case
			for _, c := range conformance.Cases() {
				if h.levels == nil && c.Level != conformance.Durable || slices.Contains(h.levels, c.Level) {
					cases = append(cases, c)
				}
			}
			report, err := conformance.Prove(t.Context(), h.Harness, conformance.Options{Profile: h.profile, Cases: cases, Dir: t.TempDir(), Kills: 12})
			if err != nil {
				t.Fatal(err)
			}
			passed := 0
			for _, r := range report.Cases {
				switch {
				case r.Verdict == conformance.Pass:
					passed++
				case r.Verdict != conformance.NotSupported || r.Required && h.levels == nil:
					t.Errorf("%s: %s: %s", r.Name, r.Verdict, r.Reason)
				}
			}
			if passed == 0 {
				t.Error("nothing was tried")
			}
			t.Logf("%d cases pass", passed)
		})
	}
}

// TestProgramsThatDoNotServe shows that what is no plugin is found out, soon and in words.
func TestProgramsThatDoNotServe(t *testing.T) {
	t.Parallel()
	for _, d := range faulty.ProgramDefects() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			p := program(t, d.Name)
			p.StartTimeout = 2 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			report, err := conformance.Prove(ctx, p.Harness(), conformance.Options{Dir: t.TempDir()})
			if ctx.Err() != nil {
				t.Errorf("that took a minute")
			}
			switch {
			case err != nil:
				t.Log(err)
			case report.Verdict == conformance.Pass || report.Reason == "":
				t.Errorf("%s: verdict %s, %q", d.Wrong, report.Verdict, report.Reason)
			default:
				t.Log(report.Reason)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{`{"defect":"none of these"}`, `{"defects":"walk-skips"}`, `{`, `{"backend":{"size":1}}`} {
		if _, err := faulty.New(memory.New()).New(t.Context(), &db.Config{Settings: []byte(bad)}); !errors.Is(err, db.ErrBadSettings) {
			t.Errorf("%s: %v, want %v", bad, err, db.ErrBadSettings)
		}
	}
}

// prove tries a case on a database with a defect: in memory where that is enough.
func prove(t *testing.T, c conformance.Case, d planted) conformance.Result {
	t.Helper()
	h := conformance.Harness{Open: faulty.New(memory.New()).New}
	opts := conformance.Options{Cases: []conformance.Case{c}, Dir: t.TempDir(), Timeout: inTime, Kills: enoughKills}
	h.Settings = faulty.Settings(d.Name)
	switch {
	case d.wire:
		h, opts.Profile = program(t, d.Name).Harness(), conformance.ProfileDurable
	case d.Killed || c.Level == conformance.Process || strings.HasPrefix(c.Name, "crash/"):
		h, opts.Profile = program(t, "").Harness(), conformance.ProfileDurable
		h.Settings = faulty.Settings(d.Name)
	case d.Stored || c.Level == conformance.Durable || c.Level == conformance.Integrity:
		h.Open, opts.Profile = faulty.New(bbolt.New()).New, conformance.ProfileDurable
	}
	if timeout, ok := timeouts[d.Name]; ok {
		opts.Timeout = timeout
	}
	report, err := conformance.Prove(t.Context(), h, opts)
	if err != nil {
		t.Fatal(err)
	}
	return report.Cases[0]
}

// program is the test binary as a plugin's program, which has a defect itself or none.
func program(t *testing.T, defect string) conformance.Program {
	t.Helper()
	runDir, err := os.MkdirTemp("", "ckpt-f") // a short name: sockets go there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := os.ReadDir(runDir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		os.RemoveAll(runDir)
	})
	// The race detector is not to hold each process for a second at its end.
	env := []string{faulty.ProgramVariable + "=" + defect, "GORACE=atexit_sleep_ms=0"}
	return conformance.Program{Path: os.Args[0], Env: env, RunDir: runDir}
}

func theCase(t *testing.T, name string) conformance.Case {
	t.Helper()
	cases := conformance.Select(regexp.MustCompile("^" + regexp.QuoteMeta(name) + "$"))
	if len(cases) != 1 {
		t.Fatalf("%d cases are named %q", len(cases), name)
	}
	return cases[0]
}

// planted is a defect of databases, or of a program that speaks the wire.
type planted struct {
	faulty.Defect
	wire bool
}

func plantedDefects() (all []planted) {
	for _, d := range faulty.Defects() {
		all = append(all, planted{Defect: d})
	}
	for _, d := range faulty.WireDefects() {
		all = append(all, planted{Defect: faulty.Defect{Name: d.Name, Wrong: d.Wrong, Clauses: d.Clauses}, wire: true})
	}
	return all
}

func theDefect(t *testing.T, name string) planted {
	t.Helper()
	all := plantedDefects()
	i := slices.IndexFunc(all, func(d planted) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("there is no defect %q", name)
	}
	return all[i]
}

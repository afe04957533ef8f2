package quickstart

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
)

// Summarize writes a result to stdout, for people. command is how this program is called.
func Summarize(c *console.Console, result *Result, command string) error {
	if err := c.Printf("%s\n\n", headline(result)); err != nil {
		return err
	}
	if err := c.Table(nil, facts(result)); err != nil {
		return err
	}
	if err := c.Printf("\nWhat to try next:\n"); err != nil {
		return err
	}
	for _, next := range nextSteps(result, command) {
		if err := c.Printf("\n  # %s\n  %s\n", next.what, next.command); err != nil {
			return err
		}
	}
	return nil
}

func headline(r *Result) string {
	against := "git ls-tree"
	if r.Source.Kind == "sample" {
		against = "the sample"
	}
	return fmt.Sprintf("Restored, and checked against %s one by one: all %s entries are right, and there is no other (%.1f s).",
		against, console.Count(r.Verified), r.Seconds)
}

// facts are the summary's lines: what, how much, where and how long.
func facts(r *Result) [][]string {
	source := "the members of the United Nations over time (the sample)"
	if r.Source.Kind == "git" {
		source = fmt.Sprintf("%s, commit %.12s of %s", r.Source.Path, r.Source.Commit, r.Source.Time)
	}
	versions := console.Count(r.Versions)
	if r.Added < r.Versions {
		versions += fmt.Sprintf(" (%s of them new)", console.Count(r.Added))
	}
	rows := [][]string{
		{"  history", source},
		{"  versions", versions},
		{"  entries", fmt.Sprintf("%s, %s", console.Count(r.Entries), size.Format(r.Bytes))},
	}
	if left := r.LeftOut.String(); left != "" {
		rows = append(rows, []string{"  left out", left})
	}
	return append(rows,
		[]string{"  root", r.Root.Hash.Hex()},
		[]string{"  checkpoints", fmt.Sprintf("%s, %s (the checkpointer made %s in this run)",
			console.Count(r.Checkpoints), size.Format(r.Sizes.Checkpoints), console.Count(r.Automatic))},
		[]string{"  the last one", fmt.Sprintf("%s, %s, metadata hash %s", console.Counted(r.Checkpoint.Chunks, "chunk"),
			size.Format(r.Checkpoint.Bytes), r.Checkpoint.MetadataHash.Hex())},
		[]string{"  databases", fmt.Sprintf("%s %s, %s %s", r.FromBackend, size.Format(r.Sizes.From), r.ToBackend, size.Format(r.Sizes.To))},
		[]string{"  times", fmt.Sprintf("commit %.1f s, checkpoint %.1f s, restore %.1f s, check %.1f s",
			r.Times.Committing, r.Times.Checkpointing, r.Times.Restoring, r.Times.Checking)},
		[]string{"  all of it is in", r.Dir},
	)
}

// String names what was left out, and nothing where that is nothing.
func (l LeftOut) String() string {
	var parts []string
	for _, part := range []struct {
		count     uint64
		one, more string
	}{
		{l.Submodules, "submodule", "submodules"},
		{l.LargeFiles, "file larger than the largest value allowed", "files larger than the largest value allowed"},
		{l.LongPaths, "path longer than the longest key allowed", "paths longer than the longest key allowed"},
	} {
		switch part.count {
		case 0:
		case 1:
			parts = append(parts, "1 "+part.one)
		default:
			parts = append(parts, console.Count(part.count)+" "+part.more)
		}
	}
	return strings.Join(parts, ", ")
}

// nextStep is a command that works on what this run left.
type nextStep struct{ what, command string }

func nextSteps(r *Result, command string) []nextStep {
	on := func(namespace string) string {
		return fmt.Sprintf("--config %s --namespace %s", shellQuote(r.Config), namespace)
	}
	encoding := ""
	if r.Source.Kind == "sample" {
		encoding = " --encoding utf8"
	}
	steps := []nextStep{
		{"check the checkpoint by itself, with no database", fmt.Sprintf("%s checkpoint verify %s", command, shellQuote(r.Checkpoint.Path))},
	}
	if persists(r.FromBackend) {
		steps = append(steps,
			nextStep{"the checkpoints that were made", fmt.Sprintf("%s checkpoint list %s", command, on(sourceNamespace))},
			nextStep{
				"the state as it was in the middle of the history",
				fmt.Sprintf("%s dump %s --version %d%s | head -n 3", command, on(sourceNamespace), (r.Versions+1)/2, encoding),
			})
	}
	if persists(r.ToBackend) {
		steps = append(steps, nextStep{
			"a checkpoint of the restored state, from another backend: its metadata hash is the same",
			fmt.Sprintf("%s checkpoint create %s --chunk-size %s", command, on(restoredNamespace), writtenChunkSize),
		})
	}
	again := fmt.Sprintf("%s quickstart --dir %s", command, shellQuote(r.Dir))
	if r.Source.Kind == "git" {
		return append(steps, nextStep{
			"after the next commits: only what is new is put in",
			again + " --git " + shellQuote(r.Source.Path),
		})
	}
	return append(steps, nextStep{"once more, on what is there", again + " --sample"})
}

// persists says whether a backend's data outlives its process.
func persists(backend string) bool { return backend != "memory" }

// ProgramCommand is how a person calls this program again from where they are: under `go run` the program
// itself is gone when it ends.
func ProgramCommand(args0 string) string {
	const inModule = "cmd/ckpt-host"
	if strings.Contains(filepath.ToSlash(args0), "/go-build") {
		if _, err := os.Stat(filepath.FromSlash(inModule)); err == nil {
			return "go run ./" + inModule
		}
		return "ckpt-host"
	}
	return shellQuote(args0)
}

// shellQuote writes a word so that a shell reads it back.
func shellQuote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%=", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

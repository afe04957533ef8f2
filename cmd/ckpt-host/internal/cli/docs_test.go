package cli

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/config"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/exit"
)

func readDocs(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocsNameEveryCommandAndFlag keeps docs/commands.md complete.
func TestDocsNameEveryCommandAndFlag(t *testing.T) {
	docs := readDocs(t)
	e := &env{Console: console.New(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() && !cmd.Hidden && !strings.Contains(docs, cmd.CommandPath()) {
			t.Errorf("docs/commands.md does not name %q", cmd.CommandPath())
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			if !strings.Contains(docs, "--"+flag.Name) {
				t.Errorf("docs/commands.md does not name --%s of %q", flag.Name, cmd.CommandPath())
			}
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRootCommand(e))
}

func TestDocsNameEveryExitCode(t *testing.T) {
	docs := readDocs(t)
	for _, code := range []int{
		exit.OK, exit.Failed, exit.Usage, exit.Config, exit.NotFound, exit.Invalid, exit.BadInput,
		exit.Unavailable, exit.Partial, exit.Interrupted, exit.BrokenPipe,
	} {
		if !strings.Contains(docs, fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("docs/commands.md does not name exit code %d", code)
		}
	}
}

// TestDocsConfigurations reads the configurations in docs/commands.md.
func TestDocsConfigurations(t *testing.T) {
	blocks := strings.Split(readDocs(t), "```hcl\n")[1:]
	if len(blocks) < 2 {
		t.Fatalf("%d configurations", len(blocks))
	}
	for i, block := range blocks {
		source, _, _ := strings.Cut(block, "```")
		if _, err := config.Parse([]byte(source), fmt.Sprintf("block %d", i+1), "/etc/ckpt.hcl"); err != nil {
			t.Error(err)
		}
	}
}

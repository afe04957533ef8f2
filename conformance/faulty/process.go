package faulty

import (
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
	"github.com/ckpt-project/ckpt/framework/plugin"
)

// ProgramVariable names, in the environment, the part that Play plays: the defect of a program, or "".
const ProgramVariable = "CKPT_FAULTY_PROGRAM"

// ProgramDefect is a way in which a plugin's program can be wrong while its databases are not.
type ProgramDefect struct {
	Name string
	// Wrong says what goes wrong, in a sentence.
	Wrong string
	// Clauses are those of package framework/mkvs/db that a program which serves breaks.
	Clauses []string

	// play is the program that does not serve; grpc are the options that spoil one which does.
	play func(sound db.Factory)
	grpc func() []grpc.ServerOption
}

// ProgramDefects are all defects of programs that do not serve; for those that do see WireDefects.
func ProgramDefects() []ProgramDefect { return programDefects }

var programDefects = []ProgramDefect{
	{
		Name: "dies-at-start", Wrong: "The program ends with an error before it serves anything.",
		play: func(db.Factory) {
			fmt.Fprintln(os.Stderr, "error while loading shared libraries")
			os.Exit(127)
		},
	},
	{
		Name: "not-a-plugin", Wrong: "The program is something else: it prints a greeting and is content.",
		play: func(db.Factory) {
			fmt.Println("hello")
			os.Exit(0)
		},
	},
	{
		Name: "hangs-at-start", Wrong: "The program waits for something, and never says that it serves.",
		play: func(db.Factory) { time.Sleep(tooLong) },
	},
}

// Play makes the running program a plugin, or what it should not be, if the environment asks for it. It
// returns only where it does not. A test that launches its own binary calls it first thing in TestMain.
func Play(sound db.Factory) {
	part, asked := os.LookupEnv(ProgramVariable)
	if !asked {
		return
	}
	options := plugin.ServeOptions{Factory: New(sound), Version: "1.0-test"}
	for _, d := range slices.Concat(programDefects, wireDefects) {
		switch {
		case d.Name != part:
		case d.play != nil:
			d.play(sound)
		default:
			options.GRPC = d.grpc()
		}
	}
	plugin.Serve(options)
}

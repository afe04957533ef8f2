// Command lanesgen writes the assembly of package framework/hash/lanes: SHA-512/256 of several messages
// at once, one in each lane of the vector registers. Run it through tools/generate.sh.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// directory is where the code goes, relative to the repository's root.
const directory = "framework/hash/lanes"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lanesgen OUTPUT")
		os.Exit(2)
	}
	if err := run(filepath.Join(os.Args[1], directory)); err != nil {
		fmt.Fprintln(os.Stderr, "lanesgen:", err)
		os.Exit(1)
	}
}

// run writes the assembly and its declarations into dir.
func run(dir string) error {
	g := &generator{Context: build.NewContext()}
	g.ConstraintExpr("!purego")
	g.tables()
	g.sum("sum8", &avx512{generator: g})
	g.sum("sum4", &avx2{generator: g})
	file, err := g.Result()
	if err != nil {
		return err
	}
	if err := pass.Compile.Execute(file); err != nil {
		return err
	}
	cfg := printer.Config{Name: "tools/lanesgen", Pkg: "lanes"}
	assembly, err := printer.NewGoAsm(cfg).Print(file)
	if err != nil {
		return err
	}
	declarations, err := printer.NewStubs(cfg).Print(file)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "sum_amd64.s"), assembly, 0o644),
		os.WriteFile(filepath.Join(dir, "sum_amd64.go"), declarations, 0o644),
	)
}

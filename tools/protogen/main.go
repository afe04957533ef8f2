// Command protogen compiles the project's .proto files and writes the Go code for them, with nothing
// but Go: the .proto files are parsed by a library, and the two generators are tools of this module,
// pinned in its go.mod. Run it through tools/generate.sh.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// goModule is what generated files' paths begin with; the rest is where they are written.
const goModule = "github.com/ckpt-project/ckpt"

// sources are the .proto files, relative to the repository's root.
var sources = []string{"framework/plugin/proto/nodedb.proto"}

// generators are the tools that write Go code.
var generators = []string{"protoc-gen-go", "protoc-gen-go-grpc"}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: protogen REPOSITORY OUTPUT")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

// run compiles the sources in the repository and writes the code below output.
func run(ctx context.Context, repository, output string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{repository}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return err
	}
	module := "module=" + goModule
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: sources, Parameter: &module, ProtoFile: descriptors(files)}
	input, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	for _, generator := range generators {
		if err := generate(ctx, generator, input, output); err != nil {
			return fmt.Errorf("%s: %w", generator, err)
		}
	}
	return nil
}

// descriptors returns the compiled files' descriptors. The project's .proto files import nothing.
func descriptors(files linker.Files) []*descriptorpb.FileDescriptorProto {
	var all []*descriptorpb.FileDescriptorProto
	for _, file := range files {
		all = append(all, protodesc.ToFileDescriptorProto(file))
	}
	return all
}

// generate runs one generator and writes the files that it answers with.
func generate(ctx context.Context, generator string, input []byte, output string) error {
	cmd := exec.CommandContext(ctx, "go", "tool", generator)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	answer, err := cmd.Output()
	if err != nil {
		return err
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return err
	}
	if response.Error != nil {
		return fmt.Errorf("%s", response.GetError())
	}
	for _, file := range response.GetFile() {
		path := filepath.Join(output, filepath.FromSlash(file.GetName()))
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

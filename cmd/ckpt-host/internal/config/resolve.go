package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// resolver makes a Config of the file's blocks, and collects what is wrong with them.
type resolver struct {
	file  string
	diags hcl.Diagnostics
	// unnamed says that a block was left out because of its name: references to it are not wrong, too.
	unnamed bool
}

// fail reports what is wrong at a place of the file.
func (r *resolver) fail(at hcl.Range, summary, detail string, args ...any) {
	r.diags = append(r.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(detail, args...),
		Subject:  &at,
	})
}

// path makes a path of the file absolute.
func (r *resolver) path(p string) string {
	if !filepath.IsAbs(p) {
		p = filepath.Join(filepath.Dir(r.file), p)
	}
	return filepath.Clean(p)
}

// require reports an argument that its block must have and does not; at is where the block is.
func (r *resolver) require(a *hcl.Attribute, name string, at hcl.Range) {
	if a == nil {
		r.fail(at, "Missing required argument", "The argument %q is required, but no definition was found.", name)
	}
}

func (r *resolver) config(block *fileBlock, missing hcl.Range) *Config {
	cfg := &Config{File: r.file}
	if block.DataDir == nil {
		r.fail(missing, "Missing required argument",
			"The argument \"data_dir\" is required outside of all blocks; it names the directory for all that is kept.")
	}
	if dir, ok := r.text(block.DataDir); ok {
		cfg.DataDir = r.path(dir)
	}

	plugins := map[string]*Plugin{}
	for _, b := range block.Plugins {
		if named(r, "plugin", b.Name, b.NameRange, plugins) {
			plugins[b.Name] = r.plugin(b)
			cfg.Plugins = append(cfg.Plugins, plugins[b.Name])
		}
	}
	backends := map[string]*Backend{}
	for _, b := range block.Backends {
		if named(r, "backend", b.Name, b.NameRange, backends) {
			backends[b.Name] = r.backend(b, plugins)
			cfg.Backends = append(cfg.Backends, backends[b.Name])
		}
	}
	namespaces := map[string]*Namespace{}
	for _, b := range block.Namespaces {
		if named(r, "namespace", b.Name, b.NameRange, namespaces) {
			namespaces[b.Name] = r.namespace(b, backends, cfg.DataDir)
			cfg.Namespaces = append(cfg.Namespaces, namespaces[b.Name])
		}
	}
	r.unlikeInCase(block.Namespaces)
	return cfg
}

// named checks a block's name: that it is one, and that no other block of its kind has it.
func named[T any](r *resolver, kind, name string, at hcl.Range, taken map[string]T) bool {
	if !isName(name) {
		r.fail(at, "Bad name",
			"The name of a %s is 1 to %d letters, digits, dots, dashes and underscores, and begins with a letter or digit.",
			kind, maxNameBytes)
		r.unnamed = true
		return false
	}
	if _, duplicate := taken[name]; duplicate {
		r.fail(at, "Duplicate "+kind, "Another %s block has the name %q already.", kind, name)
		return false
	}
	return true
}

const maxNameBytes = 64

// isName says whether a name can stand for a directory, on every file system.
func isName(name string) bool {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return name != "" && len(name) <= maxNameBytes && !strings.HasSuffix(name, ".")
}

// unlikeInCase refuses namespaces whose directories are one where file names have no case.
func (r *resolver) unlikeInCase(blocks []*namespaceBlock) {
	seen := map[string]string{}
	for _, b := range blocks {
		lower := strings.ToLower(b.Name)
		if other, found := seen[lower]; found && other != b.Name {
			r.fail(b.NameRange, "Duplicate namespace",
				"The names %q and %q differ in case only; their directories would be the same on some file systems.", other, b.Name)
		}
		seen[lower] = b.Name
	}
}

func (r *resolver) plugin(b *pluginBlock) *Plugin {
	p := &Plugin{Name: b.Name, Args: b.Args}
	r.require(b.Path, "path", b.DefRange)
	if slices.Contains(BuiltinPlugins, b.Name) {
		r.fail(b.NameRange, "Name of a built-in plugin",
			"%q is built in, and needs no plugin block. Give your own plugin another name.", b.Name)
	}
	if path, ok := r.text(b.Path); ok {
		p.Path = r.path(path)
	}
	if b.SHA256 != nil {
		p.SHA256 = r.digest(b.SHA256)
	}
	return p
}

func (r *resolver) backend(b *backendBlock, plugins map[string]*Plugin) *Backend {
	backend := &Backend{Name: b.Name}
	r.require(b.Plugin, "plugin", b.DefRange)
	if name, ok := r.text(b.Plugin); ok {
		switch p, declared := plugins[name]; {
		case declared:
			backend.Plugin = p
		case slices.Contains(BuiltinPlugins, name):
			backend.Builtin = name
		case !r.unnamed:
			known := append(slices.Sorted(maps.Keys(plugins)), BuiltinPlugins...)
			r.fail(b.Plugin.Expr.Range(), "Unknown plugin",
				"There is no plugin %q.%s Built in are %s; others need a block like plugin %q { path = \"...\" }.",
				name, didYouMean(name, known), strings.Join(BuiltinPlugins, ", "), name)
		}
	}
	if b.Config != nil {
		backend.Settings = r.settings(b.Config)
	}
	return backend
}

// settings makes a JSON object of a config block.
func (r *resolver) settings(b *settingsBlock) []byte {
	object := map[string]json.RawMessage{}
	for name, attribute := range b.Settings {
		value, diags := attribute.Expr.Value(nil)
		if diags.HasErrors() {
			r.diags = append(r.diags, diags...)
			continue
		}
		encoded, err := ctyjson.Marshal(value, value.Type())
		if err != nil {
			r.fail(attribute.Expr.Range(), "Bad value", "The value has no form in JSON: %s.", err)
			continue
		}
		object[name] = encoded
	}
	encoded, err := json.Marshal(object)
	if err != nil { // each value has been encoded already
		r.diags = append(r.diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Bad settings", Detail: err.Error()})
	}
	return encoded
}

func (r *resolver) namespace(b *namespaceBlock, backends map[string]*Backend, dataDir string) *Namespace {
	n := &Namespace{
		Name:       b.Name,
		KeyBytes:   db.DefaultMaxKeyBytes,
		ValueBytes: db.DefaultMaxValueBytes,
		WriteLogs:  b.WriteLogs == nil || *b.WriteLogs,
		Dir:        filepath.Join(dataDir, b.Name),

		GarbageRate: r.rate(b.GarbageRate, db.DefaultGarbageRate),
		MemoryBytes: int64(r.size(b.MemoryBytes, db.DefaultMemoryBytes, db.MinMemoryBytes, MaxMemoryBytes)),
	}
	r.require(b.ID, "id", b.DefRange)
	r.require(b.Backend, "backend", b.DefRange)
	if text, ok := r.text(b.ID); ok {
		if err := n.ID.UnmarshalHex(text); err != nil {
			r.fail(b.ID.Expr.Range(), "Bad namespace id",
				"An id is 64 hexadecimal digits: 16 of flags (8000000000000000 marks a test) and 48 that tell it apart. This is none: %s.",
				strings.TrimPrefix(err.Error(), common.ErrMalformedNamespace.Error()+": "))
		}
	}
	if name, ok := r.text(b.Backend); ok {
		if n.Backend = backends[name]; n.Backend == nil && !r.unnamed {
			known := slices.Sorted(maps.Keys(backends))
			r.fail(b.Backend.Expr.Range(), "Unknown backend", "There is no backend %q.%s It needs a block like backend %q { plugin = \"bbolt\" }.",
				name, didYouMean(name, known), name)
		}
	}
	if c := b.Checkpoints; c != nil {
		r.require(c.Interval, "interval", c.DefRange)
		n.Checkpoints = &Checkpoints{
			Interval:  r.number(c.Interval, 0, 1, 1<<62, "versions"),
			Keep:      r.number(c.Keep, DefaultKeep, 1, 1<<32, "versions"),
			ChunkSize: r.size(c.ChunkSize, DefaultChunkSize, 0, MaxChunkSize),
			Threads:   int(r.number(c.Threads, 0, 0, MaxThreads, "subtrees")),
			Jitter:    r.duration(c.Jitter, 0, MaxJitter),
			Verification: choice(r, c.Verification, checkpoint.VerifyUnlessIntegrity, map[string]checkpoint.Verification{
				"always":           checkpoint.VerifyAlways,
				"unless_integrity": checkpoint.VerifyUnlessIntegrity,
				"never":            checkpoint.VerifyNever,
			}),
		}
		if c.InitialVersion != nil {
			initial := r.number(c.InitialVersion, 0, 0, 1<<62, "versions")
			n.Checkpoints.InitialVersion = &initial
		}
	}
	if l := b.Limits; l != nil {
		r.limits(n, l)
	}
	return n
}

// value evaluates an attribute; it reports what is wrong with it.
func (r *resolver) value(a *hcl.Attribute) (cty.Value, bool) {
	if a == nil {
		return cty.NilVal, false // required, and reported as missing; or optional
	}
	v, diags := a.Expr.Value(nil)
	r.diags = append(r.diags, diags...)
	return v, !diags.HasErrors()
}

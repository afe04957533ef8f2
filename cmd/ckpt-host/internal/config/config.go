// Package config reads the host's configuration file: HCL that names a data directory, plugins, backends
// and namespaces. Whatever is wrong with it is said with file, line and the line itself, all of it at
// once, before anything is opened.
package config

import (
	"path/filepath"
	"time"

	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/common"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// Defaults and bounds of the settings.
const (
	// DefaultKeep is the number of versions whose checkpoints are kept.
	DefaultKeep = 2
	// DefaultChunkSize is the size that a checkpoint's chunks are cut at, in bytes.
	DefaultChunkSize = 8 << 20
	// MaxChunkSize bounds the chunk size: a chunk is held in memory as a whole when it is restored, with
	// all its nodes, and several are at once.
	MaxChunkSize = 64 << 20
	// MaxThreads bounds the layout parameter of the checkpoint format: it is a 16-bit number of subtrees in
	// all known software, and more of them than this serve nobody.
	MaxThreads = 1024
	// MaxValueBytes bounds limits.value_bytes: a value is held in memory as a whole, several times.
	MaxValueBytes = 1 << 30
	// MinGarbageRate and MaxGarbageRate bound garbage_rate, where it is not 0: less is a number that lacks
	// its unit.
	MinGarbageRate = 64 << 10
	MaxGarbageRate = 1 << 40
	// MaxMemoryBytes bounds memory_bytes.
	MaxMemoryBytes = 1 << 30
	// MaxJitter bounds jitter.
	MaxJitter = 24 * time.Hour

	// maxFileBytes bounds the configuration file.
	maxFileBytes = 1 << 20
)

// BuiltinPlugins are the plugins that need no plugin block: they are part of the program.
var BuiltinPlugins = []string{"memory", "bbolt", "leveldb"}

// Config is a configuration. All paths are absolute, all references resolved.
type Config struct {
	// File is the file that it was read from.
	File string
	// DataDir is the directory that namespaces keep their files under.
	DataDir string

	Plugins    []*Plugin
	Backends   []*Backend
	Namespaces []*Namespace
}

// Plugin is a program that serves a storage backend.
type Plugin struct {
	Name string
	// Path is the program's file.
	Path string
	// Args are its arguments.
	Args []string
	// SHA256 is the digest, in lower-case hexadecimal digits, that the file must have; empty: any.
	SHA256 string
}

// Backend is one process of a plugin, serving all namespaces that name it.
type Backend struct {
	Name string
	// Builtin names the built-in plugin; empty where Plugin is set.
	Builtin string
	// Plugin is the plugin block that is meant; nil for a built-in.
	Plugin *Plugin
	// Settings is the config block as a JSON object; nil where there is none.
	Settings []byte
}

// PluginName is the name of the backend's plugin, built-in or not.
func (b *Backend) PluginName() string {
	if b.Plugin != nil {
		return b.Plugin.Name
	}
	return b.Builtin
}

// Namespace is a state that the host keeps.
type Namespace struct {
	Name string
	// ID stands in all its roots.
	ID common.Namespace
	// Backend keeps its database.
	Backend *Backend
	// Checkpoints says when checkpoints are made by themselves; nil: never.
	Checkpoints *Checkpoints
	// KeyBytes and ValueBytes are the lengths of the longest key and value.
	KeyBytes   int
	ValueBytes int
	// Limits are the bounds of checkpoints that are set; 0 where one is not. CheckpointLimits has them all.
	Limits checkpoint.Limits
	// WriteLogs says that the changes of each version are kept.
	WriteLogs bool
	// GarbageRate and MemoryBytes are db.Config's.
	GarbageRate int64
	MemoryBytes int64

	// Dir is the directory with all its files.
	Dir string
}

// DatabaseDir is the directory of the namespace's database.
func (n *Namespace) DatabaseDir() string { return filepath.Join(n.Dir, "db") }

// CheckpointsDir is the directory of the namespace's checkpoints.
func (n *Namespace) CheckpointsDir() string { return filepath.Join(n.Dir, "checkpoints") }

// DatabaseConfig is what the namespace's backend is asked to open.
func (n *Namespace) DatabaseConfig() *db.Config {
	return &db.Config{
		Dir:              n.DatabaseDir(),
		Namespace:        n.ID,
		MaxKeyBytes:      n.KeyBytes,
		MaxValueBytes:    n.ValueBytes,
		DiscardWriteLogs: !n.WriteLogs,
		GarbageRate:      n.GarbageRate,
		MemoryBytes:      n.MemoryBytes,
		Settings:         n.Backend.Settings,
	}
}

// Checkpoints says when checkpoints are made by themselves, and how they are cut.
type Checkpoints struct {
	// Interval is the number of versions from one checkpoint to the next.
	Interval uint64
	// Keep is the number of versions whose checkpoints are kept.
	Keep uint64
	// ChunkSize is the size that chunks are cut at, in bytes.
	ChunkSize uint64
	// Threads is the layout parameter of that name; 0 and 1 mean one sequence of chunks.
	Threads int
	// InitialVersion is the version that intervals are counted from, and whose checkpoint is kept for ever; nil:
	// intervals are counted from 0, and no version is special.
	InitialVersion *uint64
	// Jitter is the longest time that a checkpoint waits before it is made.
	Jitter time.Duration
	// Verification says which checkpoints are verified when they are made, also those that a command makes.
	Verification checkpoint.Verification
}

// Namespace returns the namespace of this name, nil where there is none.
func (c *Config) Namespace(name string) *Namespace {
	for _, n := range c.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return nil
}

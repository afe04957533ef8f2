package config

import "github.com/hashicorp/hcl/v2"

// The file's blocks as HCL has them. What needs more than a type to be right is taken as an attribute,
// so that what is said about it can show where it stands; gohcl never misses such a one, so that those
// that are required are looked for by the resolver.

type fileBlock struct {
	DataDir    *hcl.Attribute    `hcl:"data_dir,optional"`
	Plugins    []*pluginBlock    `hcl:"plugin,block"`
	Backends   []*backendBlock   `hcl:"backend,block"`
	Namespaces []*namespaceBlock `hcl:"namespace,block"`
}

type pluginBlock struct {
	Name      string    `hcl:"name,label"`
	NameRange hcl.Range `hcl:"name,label_range"`
	DefRange  hcl.Range `hcl:",def_range"`

	Path   *hcl.Attribute `hcl:"path,optional"`
	Args   []string       `hcl:"args,optional"`
	SHA256 *hcl.Attribute `hcl:"sha256,optional"`
}

type backendBlock struct {
	Name      string    `hcl:"name,label"`
	NameRange hcl.Range `hcl:"name,label_range"`
	DefRange  hcl.Range `hcl:",def_range"`

	Plugin *hcl.Attribute `hcl:"plugin,optional"`
	Config *settingsBlock `hcl:"config,block"`
}

// settingsBlock holds the settings of a plugin, whose names the host does not know.
type settingsBlock struct {
	Settings hcl.Attributes `hcl:",remain"`
}

type namespaceBlock struct {
	Name      string    `hcl:"name,label"`
	NameRange hcl.Range `hcl:"name,label_range"`
	DefRange  hcl.Range `hcl:",def_range"`

	ID          *hcl.Attribute    `hcl:"id,optional"`
	Backend     *hcl.Attribute    `hcl:"backend,optional"`
	WriteLogs   *bool             `hcl:"write_logs,optional"`
	GarbageRate *hcl.Attribute    `hcl:"garbage_rate,optional"`
	MemoryBytes *hcl.Attribute    `hcl:"memory_bytes,optional"`
	Checkpoints *checkpointsBlock `hcl:"checkpoints,block"`
	Limits      *limitsBlock      `hcl:"limits,block"`
}

type checkpointsBlock struct {
	DefRange hcl.Range `hcl:",def_range"`

	Interval       *hcl.Attribute `hcl:"interval,optional"`
	Keep           *hcl.Attribute `hcl:"keep,optional"`
	ChunkSize      *hcl.Attribute `hcl:"chunk_size,optional"`
	Threads        *hcl.Attribute `hcl:"threads,optional"`
	InitialVersion *hcl.Attribute `hcl:"initial_version,optional"`
	Jitter         *hcl.Attribute `hcl:"jitter,optional"`
	Verification   *hcl.Attribute `hcl:"verification,optional"`
}

type limitsBlock struct {
	KeyBytes      *hcl.Attribute `hcl:"key_bytes,optional"`
	ValueBytes    *hcl.Attribute `hcl:"value_bytes,optional"`
	Chunks        *hcl.Attribute `hcl:"chunks,optional"`
	MetadataBytes *hcl.Attribute `hcl:"metadata_bytes,optional"`
	ChunkBytes    *hcl.Attribute `hcl:"chunk_bytes,optional"`
	ChunkRawBytes *hcl.Attribute `hcl:"chunk_raw_bytes,optional"`
	ChunkEntries  *hcl.Attribute `hcl:"chunk_entries,optional"`
}

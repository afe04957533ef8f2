package quickstart

import (
	"github.com/ckpt-project/ckpt/framework/hash"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// Result is what a quickstart did, and found.
type Result struct {
	Source Origin `json:"source"`
	// Versions is the number of versions that the state has, Added how many of them this run put in.
	Versions uint64 `json:"versions"`
	Added    uint64 `json:"versions_added"`
	// Entries is the number of entries of the last version, Bytes what their values have.
	Entries uint64 `json:"entries"`
	Bytes   int64  `json:"entry_bytes"`
	// Root is the last version's.
	Root node.Root `json:"root"`
	// Checkpoints is the number of checkpoints that there are, Automatic how many the checkpointer made in
	// this run (it keeps the last few only), Checkpoint the one that was restored.
	Checkpoints int        `json:"checkpoints"`
	Automatic   uint64     `json:"checkpoints_by_checkpointer"`
	Checkpoint  Checkpoint `json:"checkpoint"`
	// Verified is the number of restored entries that were compared with the source and found right: all.
	Verified uint64  `json:"verified_blobs"`
	LeftOut  LeftOut `json:"left_out"`
	// FromBackend and ToBackend are the backends, Sizes what their files take.
	FromBackend string `json:"from_backend"`
	ToBackend   string `json:"to_backend"`
	Sizes       Sizes  `json:"sizes"`
	// Dir holds everything, Config is the configuration in it.
	Dir    string `json:"dir"`
	Config string `json:"config"`
	Times  Times  `json:"times"`
	// Seconds is how long all of it took.
	Seconds float64 `json:"seconds"`
}

// Checkpoint is the checkpoint that was restored.
type Checkpoint struct {
	Root         node.Root `json:"root"`
	MetadataHash hash.Hash `json:"metadata_hash"`
	Chunks       int       `json:"chunks"`
	Path         string    `json:"path"`
	Bytes        int64     `json:"bytes"`
}

// Sizes are in bytes.
type Sizes struct {
	From        int64 `json:"from_database"`
	To          int64 `json:"to_database"`
	Checkpoints int64 `json:"checkpoints"`
}

// Times are in seconds.
type Times struct {
	Reading       float64 `json:"reading_history"`
	Committing    float64 `json:"committing"`
	Checkpointing float64 `json:"checkpointing"`
	Restoring     float64 `json:"restoring"`
	Checking      float64 `json:"checking"`
}

package bench

import (
	"math"
	"slices"
	"time"
)

// StorageResult is what Storage has measured. Its names in JSON are documented in docs/commands.md, and
// stay.
type StorageResult struct {
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	// CPUs is how many the process may use.
	CPUs    int     `json:"cpus"`
	Machine Machine `json:"machine"`

	Entries  int `json:"entries"`
	Versions int `json:"versions"`
	Keep     int `json:"keep"`

	Runs   []Run       `json:"runs"`
	Prunes []PruneCost `json:"prunes"`
	// Seconds is how long all of it took.
	Seconds float64 `json:"seconds"`
}

// Machine is what the machine does at most: what the rest is to be compared with.
type Machine struct {
	// HashesPerSecond is how many SHA-512/256 hashes of 128 bytes one core makes: a tree takes one a node.
	HashesPerSecond float64 `json:"hashes_per_second"`
	// Fsync is what it takes to write 4 KiB to the end of a file and make them safe from a loss of power.
	// Such a write is the least that a durable commit can cost.
	Fsync Times `json:"fsync"`
}

// Run is a backend measured on a data set.
type Run struct {
	Backend string    `json:"backend"`
	Data    string    `json:"data"`
	Load    Load      `json:"load"`
	Disk    Disk      `json:"disk"`
	Scan    Scan      `json:"scan"`
	Reads   Reads     `json:"reads"`
	Commits []Commits `json:"commits"`
	Steady  Steady    `json:"steady"`
}

// Usage is what a step took of the machine; what the operating system does not tell is left out.
type Usage struct {
	// CPUSeconds is user and system time of the whole process.
	CPUSeconds *float64 `json:"cpu_seconds,omitempty"`
	// PeakRSSBytes is the most memory that the process had in use during the step. It has the data set in
	// it, and of files that are mapped what was looked at.
	PeakRSSBytes *int64 `json:"peak_rss_bytes,omitempty"`
}

// Load is all entries inserted, committed and finalized as one version.
type Load struct {
	Entries          int     `json:"entries"`
	Seconds          float64 `json:"seconds"`
	InsertSeconds    float64 `json:"insert_seconds"`
	CommitSeconds    float64 `json:"commit_seconds"`
	FinalizeSeconds  float64 `json:"finalize_seconds"`
	EntriesPerSecond float64 `json:"entries_per_second"`
	Usage
}

// Disk is the space taken after the load.
type Disk struct {
	// KeyValueBytes is what the keys and values are long.
	KeyValueBytes int64 `json:"key_value_bytes"`
	FileBytes     int64 `json:"file_bytes"`
	LiveBytes     int64 `json:"live_bytes"`
	// Amplification is the file's bytes for one of keys and values; 0 where there is no file.
	Amplification float64 `json:"amplification"`
}

// Scan is walks through the whole tree, each record taken apart.
type Scan struct {
	Passes int `json:"passes"`
	// Records and Nodes are of one pass. Nodes are all leaves and internal nodes; a small leaf is in its
	// parent's record.
	Records          int     `json:"records"`
	Nodes            int     `json:"nodes"`
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	NodesPerSecond   float64 `json:"nodes_per_second"`
	Usage
}

// Reads is random keys read, each by a tree that has nothing in memory.
type Reads struct {
	Reads int `json:"reads"`
	Times
	Usage
}

// Commits is versions of some random updates, each by a tree that has nothing in memory: from its first
// insert until Finalize has returned.
type Commits struct {
	Updates int `json:"updates"`
	Rounds  int `json:"rounds"`
	Times
	Usage
}

// Steady is versions committed one after the other by one tree, with the earliest pruned so that as many
// are kept, always.
type Steady struct {
	Updates  int `json:"updates"`
	Keep     int `json:"keep"`
	Versions int `json:"versions"`
	// Seconds has CollectSeconds in it: what it took at the end to free all that had not been yet.
	Seconds           float64 `json:"seconds"`
	CollectSeconds    float64 `json:"collect_seconds"`
	VersionsPerSecond float64 `json:"versions_per_second"`
	// FileBytesFirst and FileBytesLast are of the first segment and of the last.
	FileBytesFirst int64     `json:"file_bytes_first"`
	FileBytesLast  int64     `json:"file_bytes_last"`
	Segments       []Segment `json:"segments"`
	Usage
}

// Segment is a part of the versions of a steady state.
type Segment struct {
	Versions          int     `json:"versions"`
	VersionsPerSecond float64 `json:"versions_per_second"`
	Commit            Times   `json:"commit"`
	Prune             Times   `json:"prune"`
	FileBytes         int64   `json:"file_bytes"`
	LiveBytes         int64   `json:"live_bytes"`
}

// PruneCost is what it costs to prune versions of one change, one by one.
type PruneCost struct {
	Backend string `json:"backend"`
	// Kept is the number of versions that are there at the end.
	Kept   int `json:"kept"`
	Pruned int `json:"pruned"`
	// Prune is what it took to prune one.
	Prune Times `json:"prune"`
	// CollectMS is what it took afterwards to free the space, for one version, in milliseconds.
	CollectMS float64 `json:"collect_ms"`
	Usage
}

// Times sums up how long something took each time, in milliseconds.
type Times struct {
	MedianMS float64 `json:"median_ms"`
	P95MS    float64 `json:"p95_ms"`
	MaxMS    float64 `json:"max_ms"`
}

// sumUp sums up at least one time. It sorts them.
func sumUp(times []time.Duration) Times {
	slices.Sort(times)
	return Times{MedianMS: quantile(times, 0.5), P95MS: quantile(times, 0.95), MaxMS: quantile(times, 1)}
}

// quantile returns the least of the sorted times that is not below a share q of them, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return milliseconds(sorted[max(i, 0)])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Package checkpoint makes, checks, serves and restores checkpoints of trees.
//
// A checkpoint is a tree cut into chunks, each a file that proves by itself that what it holds belongs
// to the tree of a known root, and a metadata that names the root and the chunks' digests. Its bytes are
// a function of the tree and of two layout parameters, chunk size and threads: whoever makes a
// checkpoint of the same tree with the same parameters, on whatever backend, makes the same bytes.
//
// # Parts
//
//   - Creator makes checkpoints of what is in a node database, and keeps them: NewFileCreator.
//   - ChunkProvider gives them to others: a Creator is one, OpenDirectory makes one of files.
//   - Restorer restores a checkpoint into a node database, chunk by chunk: NewRestorer.
//   - Checkpointer makes checkpoints by itself as versions are finalized: NewCheckpointer.
//   - Verify checks a checkpoint with no database.
//   - WriteArchive and ImportArchive bring one through a single file or a pipe.
//   - Cut makes chunks that nobody keeps, to bring a tree from one database into another.
//
// # A directory of checkpoints
//
//	<version>/<root hash>/meta            the metadata's encoding
//	<version>/<root hash>/chunks/<index>  a chunk
//	<version>/<root hash>/manifest.json   sizes, counts and times: ours, and never needed
//	<version>/<root hash>/keep            a mark, empty: it is to be kept, see Keeper
//	index.json                            what is there: see Index; never needed either
//
// It is the same on disk, behind any web server and in an object store. Nothing in a checkpoint's directory
// changes once it is there, but for the mark, and the metadata is what makes it one: whoever copies a checkpoint
// copies that last. Only the index changes, and is replaced as a whole.
//
// Whoever reads a checkpoint's chunks through this package holds a shared lock on its metadata file, until a minute
// after the last one; Verify and WriteArchive hold it until they end. A checkpointer deletes none that is locked, in
// whatever process; a web server's reading it does not know of. A person's DeleteCheckpoint does not ask: files that
// are open can be read to their end.
//
// Where two roots of a version share a hash, the second one's directory is <root hash>-<root type>. A
// checkpoint appears with one rename, when everything in it is safe from a loss of power. Names that
// begin with a dot are checkpoints in the making, or what a crash left of them.
//
// # An archive
//
// A checkpoint in one file is a tar file with the metadata, the manifest where there is one, and the chunks
// in order, under the names that they have in a directory of checkpoints.
package checkpoint

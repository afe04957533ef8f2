// Package db is the storage contract: what a node database (a backend) does for the trees, checkpoints
// and hosts above it, whether it lives in the same process or in another one.
//
// The clauses are numbered; tests and the conformance suite name them. The caller is the framework,
// the database is the implementation.
//
// # Clauses for all methods
//
//	DB1  Any number of goroutines and of connected processes call the database at once. A Batch, a
//	     ChunkWriter and a running walk belong to one goroutine.
//	DB2  A context that is done ends a call soon, with an error that is context.Canceled or
//	     context.DeadlineExceeded. The call has then done nothing or all of what it promises.
//	DB3  An error that the caller is meant to tell apart is one of this package's, wrapped or not, and
//	     stays so across processes: errors.Is finds it. A failure of the machine below wraps its cause.
//	     ErrUnavailable says that the database can't be asked (its process has gone); it is never
//	     reported as an answer like "no such root".
//	DB4  After Close every method returns ErrClosed.
//	DB5  A database opened for reading only returns ErrReadOnly from every method that would change it,
//	     and changes no file.
//	DB6  A root of another namespace is refused with ErrBadNamespace.
//	DB7  Damage found while reading is an error that is ErrCorrupted and names version and position. It
//	     is never a wrong answer and never a panic.
//	DB8  The caller does not change what it passed until the call returned; the database does not keep
//	     it longer. What the database returns may not be changed, and is valid as long as the method
//	     says; where it says nothing, for ever.
//
// # Versions, roots, candidates
//
// A version is a number. A root names one tree of a version: a type and a hash. Trees of one version
// and type that were committed and of which none is finalized yet are candidates; they are numbered in
// the order of NewBatch. The finalized versions are those from the earliest to the latest. After a
// restore into a database with older versions there is a gap: versions between that are not there.
//
//	DB10 The empty root (of any version at or above the earliest) needs no commit, is always there and
//	     holds nothing. Nothing else about a root that was not committed can be asked: ErrRootNotFound.
//	DB11 What belongs to a version below the earliest is answered with ErrVersionPruned; what belongs to
//	     a version that is not there with ErrVersionNotFound, or ErrRootNotFound where a root is asked
//	     for.
//	DB12 A version has at most one finalized root of each type.
//	DB13 State roots have descendants: the next version's state is made by changing them, and shares
//	     their nodes. IO roots have none: their batches begin with an empty root, and everything they
//	     hold goes when their version is pruned.
//
// # Nodes
//
// A node is addressed by the version and candidate that wrote it (node.Address), the root type, and its
// position. Which address a child has stands in its parent's record; the root node's is asked for with
// RootAddress. What is stored of a node is its record (see package node).
//
//	DB20 RootAddress returns the address of a root's node, ErrRootNotFound where it isn't known.
//	     For the empty root it returns the zero address: there is no node.
//	DB21 GetNode returns one record, ErrNodeNotFound where there is none.
//	DB22 GetPath returns the records on the way to a key from a given node on, in order, that node's
//	     first: each one that the key's bits lead to. One whose label does not agree with the key is
//	     the last; below it nothing is looked for. A leaf that is embedded is part of its parent's
//	     record and no entry of its own.
//	DB23 Walk yields a tree's records in pre-order: first those on the way to the position that it
//	     starts from (positions before it), then all at that position or after it. What it yields is
//	     valid until the next step. It may be left at any time. It does not hold the store's resources
//	     while it goes on for long: a walk through a finalized version can take hours. It reads ahead
//	     within bounds.
//	DB24 The four take the root that the caller reads from, and so can tell it that its version was
//	     pruned (DB11), even where the node itself was written by another version.
//	DB25 A database may read many paths in one call (PathsReader), which costs a process of its own far
//	     less than a call for each. GetPaths yields what GetPath would return for each start in turn,
//	     and leaves out what the start before it has led to. Starts come in the order of their keys, and
//	     no start but one that is the same node lies on another's path. One that fails fails the call:
//	     its error is the last that is yielded. What is yielded stays valid. It may be left at any time,
//	     and reads ahead within bounds, one path or more, as the values of a call's paths can be more
//	     than fits in memory.
//
// # Batches
//
//	DB30 NewBatch begins a candidate root of a version and type, made by changing oldRoot. oldRoot is
//	     empty or a root of the version before, of the same type, committed but not necessarily
//	     finalized, and in version's namespace; anything else is ErrRootMustFollowOld (a root of the
//	     same version that is not empty is refused, too). A version that is finalized already:
//	     ErrAlreadyFinalized. A version above the next one is taken where the database is empty, or as a
//	     descendant of a candidate; an IO batch or one from an empty root may be of any version above
//	     the latest.
//	DB31 Put adds entries: runs of records in pre-order, stored under the batch's address. Within a run
//	     positions ascend; EndRun ends a run; the spans (first to last position) of runs don't overlap.
//	     A subtree can thus be sent as soon as it is hashed. A leaf that is embedded in its parent is no
//	     entry. Only leaves of up to Info's EmbedBytes (length of encoding) are embedded, and one that
//	     is, or is not, stays so while it is not written anew.
//	DB32 Remove names an entry that was reachable from oldRoot and is not from the new root. Each is
//	     named once. An embedded leaf is no entry and never named. (The list is what Prune frees.)
//	DB33 PutWriteLog gives the changes that lead from oldRoot to the new root, sorted by key. A value in
//	     it is the one that the new root has for its key: a database may keep the keys alone.
//	DB34 Commit makes the batch count as root: atomically, after everything it needs. rootAddress is
//	     where the root's node is: the batch's own address, or an older one where the tree is unchanged.
//	     When it returns, the root can be read and survives kill -9 of every process (for databases that
//	     are Durable); it is safe from a loss of power after Finalize or Sync.
//	     A root that is there already is no error and changes nothing. The empty root is no error.
//	     It refuses a root that does not follow oldRoot: ErrRootMustFollowOld.
//	DB35 Abort, a process that goes, or a stream that breaks leave nothing that can be seen; what takes
//	     space is removed at the latest when the database is opened next. Abort after Commit does
//	     nothing.
//
// # Finalize
//
//	DB40 Finalize makes the given roots, all of one version, that version's only ones, atomically, and
//	     with it everything they need safe from a loss of power when it returns. The version is the one
//	     after the latest (ErrVersionNotNext), or any in an empty database, or that of the multipart
//	     insert in progress. Each root was committed (ErrRootNotFound), of a multipart insert completed
//	     (ErrNotComplete), or is empty; two of a type are refused.
//	DB41 A state root that was made from a root that is not finalized is refused with ErrNotFinalized.
//	DB42 The other candidates of the version go, and candidates of later versions that descend from one
//	     of these. Of a root that was both committed and restored the committed one counts; where DB41
//	     refuses that one, the restored one does, and the committed one is another candidate.
//	DB43 Finalize again with the same roots, while they are the latest, is no error. With others:
//	     ErrAlreadyFinalized.
//
// # Pins and pruning
//
//	DB50 Pin keeps a version from being pruned until the pin is released, or its owner's connection or
//	     process ends. A version below the earliest is refused with ErrVersionPruned, one that is not
//	     finalized with ErrNotFinalized or ErrVersionNotFound. Pins are seen by Pins and not stored. A
//	     connection's pins hold until its calls have ended. A database removes no version by itself, so that
//	     after a restart a host pins anew before it lets any call through.
//	DB51 Prune removes the earliest version: another is ErrNotEarliest, the latest
//	     ErrCannotPruneLatestVersion, a pinned one ErrVersionPinned; while a multipart insert is open,
//	     ErrMultipartInProgress. When it returns the version can't be asked for any more, for good, also
//	     after a loss of power. Its space is freed later, and costs what is freed, however many versions
//	     are kept. A version that is damaged can be pruned like any other.
//	DB52 PruneBefore removes all versions below one, in one atomic step: the first finalized version that
//	     is not below it becomes the earliest. It is refused as Prune is, and then has removed nothing: a
//	     version above the latest is ErrCannotPruneLatestVersion. It says how many finalized versions have
//	     gone; where there are none to remove, that is no error.
//	DB53 A database frees the space of pruned versions by itself, in the background, at no more than
//	     Config's GarbageRate as long as that keeps up. CollectGarbage frees all that is due, and returns
//	     when it is done. Broken off anywhere, either goes on where it was, also in another process.
//
// # Multipart inserts
//
// A restore writes a version's roots chunk by chunk. One multipart insert serves all roots of its
// version. It is stored: after a crash of either process it is there as it was, with the chunks that are
// durable.
//
//	DB60 StartMultipart opens an insert of a version above the latest. While one is open: nothing to do
//	     for the same version, ErrMultipartInProgress for another. For a version that is not above the
//	     latest: ErrInvalidMultipartVersion.
//	DB61 AddMultipartRoot tells of a root that will be restored: with the number of its chunks, and a
//	     tag, bytes that mean nothing to the database and come back from Multipart. The same again is no
//	     error; the same root with another number or tag is ErrMultipartInProgress. The empty root is
//	     taken like any other.
//	DB62 NewChunk begins a chunk of a root. Entries come as one run in pre-order. A node is whole where
//	     nothing below it was left out of the chunk, otherwise partial. A partial node's record embeds
//	     no leaf; a leaf whose parent is partial is an entry whatever its size; a whole node's small
//	     leaves are embedded. Chunks may come in any order, at the same time, and twice.
//	DB63 A chunk's Commit makes its mark, in the last of its atomic writes, safe after all of them. A
//	     chunk without a mark counts as not there. With sync set the mark is safe from a loss of power
//	     when it returns; without, it is at the next such Commit, Sync, CompleteRoot or Finalize.
//	DB64 CompleteRoot says that a root is whole: every chunk has its mark, no two chunks claim the same
//	     whole nodes (ErrChunksOverlap), and no node is missing from the root down (ErrNotComplete),
//	     counting only nodes of this insert. Only then can it be finalized, and a completed root stays
//	     so across a crash. It can be called again.
//	DB65 Nothing of a multipart insert can be read before Finalize, which ends the insert.
//	DB66 AbortRoot removes one root of the insert: first its marks, then what they stood for; going on
//	     with that after a crash is the database's business. AbortMultipart removes the whole insert.
//	     Neither is an error where there is nothing to abort. Both wait for the chunks being written, or
//	     make them fail with ErrNoMultipart.
//
// # Upkeep
//
//	DB70 GetWriteLog returns the changes that lead from one root to the next, sorted by key;
//	     ErrWriteLogNotFound where they were not kept, or not given for a root that differs from the one
//	     it was made from.
//	DB71 Size, Compact and Sync do what kv.Store's do. Close makes everything safe and gives up all
//	     files and locks before it returns; pins, batches and walks end.
//	DB72 Check reads what is stored and compares it with itself: every record's checksum and form, every
//	     node's hash with what its parent says, that no node is missing, and that none is stored which
//	     nothing reaches. What it finds is in its report; its error says only that it could not look. It
//	     changes nothing, and memory does not grow with what is stored (Config's MemoryBytes).
//	DB73 Info's Amplification is how many bytes the files take at the most, on the way too and beside a few
//	     MiB, for each byte of positions and records that a restore writes. Who has files and does not know says
//	     0. It is an estimate that restores are refused by, not a promise that is kept to the byte.
package db

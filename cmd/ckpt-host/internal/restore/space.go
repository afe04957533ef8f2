package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/size"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// ErrNoSpace is returned where a restore would fill the disk.
var ErrNoSpace = errors.New("not enough free space")

// What a database stores of a chunk is the chunk before compression and so many bytes an entry, which are the hashes
// and addresses that chunks don't hold. Measured with data sets of 33 to 105,000 bytes an entry and chunks of 64 KiB to
// 8 MiB, it was 35 to 51 bytes, and less than two per cent of what is stored where that is not so.
const entryBytes = 52

// unknownAmplification is what is reckoned with for a database that does not know its own: no engine that was
// measured takes so much.
const unknownAmplification = 2

// CheckSpace says whether dir, where the database keeps its files, has the space for what is left to be
// restored of a plan: ErrNoSpace where it has not. It goes by the manifests, and where a checkpoint has none
// it says nothing. Otherwise what is to be stored is taken times the database's amplification. free tells the
// free bytes of a directory's file system, and whether that is known.
func CheckSpace(ctx context.Context, ndb db.NodeDB, plan *Plan, dir string, free func(dir string) (int64, bool)) error {
	if !ndb.Info().Capabilities.Durable {
		return nil // it keeps nothing on a disk
	}
	there, err := AlreadyThere(ctx, ndb, plan.Version, plan.Roots())
	if there || err != nil {
		return err
	}
	if err := refuseOther(ctx, ndb, plan); err != nil {
		return err
	}
	need, known, err := need(ctx, ndb, plan)
	if err != nil || !known {
		return err
	}
	available, known := free(dir)
	if !known || available >= need {
		return nil
	}
	return fmt.Errorf("%w in %s: it has %s, and what is to be restored takes about %s", ErrNoSpace, dir, size.Format(available), size.Format(need))
}

// need estimates what is left to be restored of a plan, in bytes on disk.
func need(ctx context.Context, ndb db.NodeDB, plan *Plan) (bytes int64, known bool, err error) {
	open, err := ndb.Multipart(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("asking for an unfinished restore: %w", err)
	}
	for i := range plan.Sources {
		s := &plan.Sources[i]
		manifest, err := s.manifest()
		if manifest == nil || err != nil {
			return 0, false, err
		}
		var done []uint64 // ascending
		if open != nil {
			for _, r := range open.Roots {
				if r.Root == s.Metadata.Root && r.Chunks == uint64(len(s.Metadata.Chunks)) {
					done = r.Done
				}
			}
		}
		for index, c := range manifest.Chunks {
			if _, is := slices.BinarySearch(done, uint64(index)); !is {
				bytes += c.RawBytes + entryBytes*int64(c.Entries)
			}
		}
	}
	amplification := cmp.Or(ndb.Info().Amplification, unknownAmplification)
	return int64(amplification * float64(bytes)), true, nil
}

// manifest returns the checkpoint's manifest, nil where it has none that can be used.
func (s *Source) manifest() (*checkpoint.Manifest, error) {
	if s.tree != nil {
		return s.tree.manifest, nil
	}
	manifest, err := checkpoint.ReadManifest(s.Path, s.Metadata)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, checkpoint.ErrDamaged) {
		return nil, nil
	}
	return manifest, err
}

// ErrAudit is returned where a database does not hold what the manifests of a restored version tell.
var ErrAudit = errors.New("the restored version is not what the checkpoint's manifest tells")

// Audit reads a restored version back, hash by hash, and compares how many entries and nodes it has with
// what the manifests tell. It returns the number of entries. Where a checkpoint has no manifest, it compares
// nothing and returns false.
func Audit(ctx context.Context, ndb db.NodeDB, plan *Plan, progress func(done, total int64)) (entries uint64, audited bool, err error) {
	var nodes uint64
	for i := range plan.Sources {
		manifest, err := plan.Sources[i].manifest()
		if manifest == nil || err != nil {
			return 0, false, err
		}
		entries += manifest.Entries
		nodes += manifest.Nodes
	}
	report, err := ndb.Check(ctx, db.CheckOptions{Version: &plan.Version, Progress: progress})
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("reading version %d back: %w", plan.Version, err)
	case report.Damaged > 0:
		return 0, false, fmt.Errorf("reading version %d back: %w", plan.Version, report.Problems[0])
	case report.Entries != entries || report.Nodes != nodes:
		return 0, false, fmt.Errorf("%w: version %d has %d entries and %d nodes, and should have %d and %d", ErrAudit,
			plan.Version, report.Entries, report.Nodes, entries, nodes)
	}
	return entries, true, nil
}

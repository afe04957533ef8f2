package restore

import (
	"github.com/ckpt-project/ckpt/cmd/ckpt-host/internal/console"
	"github.com/ckpt-project/ckpt/framework/checkpoint"
)

// amounts tell how much work each chunk of a checkpoint is: its bytes, and where there is a manifest its entries.
type amounts struct {
	sizes    []int64
	manifest *checkpoint.Manifest
}

func (s *Source) amounts() (amounts, error) {
	manifest, err := s.manifest()
	return amounts{s.sizes, manifest}, err
}

// of is the work that a chunk is.
func (a amounts) of(index uint64) console.Amount {
	amount := console.Amount{Bytes: a.sizes[index], Chunks: 1}
	if a.manifest != nil {
		amount.Entries = int64(a.manifest.Chunks[index].Entries)
	}
	return amount
}

// sum is the work of all chunks.
func (a amounts) sum() (sum console.Amount) {
	for index := range uint64(len(a.sizes)) {
		sum = sum.Plus(a.of(index))
	}
	return sum
}

// Amount is the work that the plan is. Entries are told where all checkpoints have manifests.
func (p *Plan) Amount() (sum console.Amount, err error) {
	known := true
	for i := range p.Sources {
		a, err := p.Sources[i].amounts()
		if err != nil {
			return sum, err
		}
		known = known && a.manifest != nil
		sum = sum.Plus(a.sum())
	}
	if !known {
		sum.Entries = 0
	}
	return sum, nil
}

package plugin

import (
	"errors"
	"math"
	"testing"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

// TestAmplificationIsChecked checks that no number comes from a plugin that an estimate would stumble over. One of
// an older program says nothing, which is 0.
func TestAmplificationIsChecked(t *testing.T) {
	response := toInfo(db.Info{})
	for _, bad := range []float64{-1, math.NaN(), math.Inf(1), math.Inf(-1), 1e7} {
		response.Amplification = bad
		if info, err := fromInfo(response); !errors.Is(err, ErrProtocol) {
			t.Errorf("%g is taken as %g, %v", bad, info.Amplification, err)
		}
	}
	for _, good := range []float64{0, 0.5, 3} {
		response.Amplification = good
		if info, err := fromInfo(response); err != nil || info.Amplification != good {
			t.Errorf("%g is taken as %g, %v", good, info.Amplification, err)
		}
	}
}

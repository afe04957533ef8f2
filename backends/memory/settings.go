package memory

import "github.com/ckpt-project/ckpt/backends/internal/settings"

// checkSettings refuses every setting: there are none.
func checkSettings(raw []byte) error {
	return settings.Decode(Name, raw, &struct{}{})
}

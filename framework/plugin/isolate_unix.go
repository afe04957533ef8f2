//go:build unix && !linux

package plugin

import (
	"os/exec"
	"syscall"
)

// isolate puts a plugin's process into a group of its own, so that a terminal's signals reach the host
// alone, which then ends its plugins in order. The host's death is seen by the end of the session.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

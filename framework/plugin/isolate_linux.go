package plugin

import (
	"os/exec"
	"syscall"
)

// isolate puts a plugin's process into a group of its own, so that a terminal's signals reach the host
// alone, which then ends its plugins in order; and has it told when the host dies without a word.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

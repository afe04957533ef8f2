//go:build unix

package git

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps a Ctrl-C at the terminal from reaching git before its owner has decided what to do: the
// owner's context ends the process. It ends by itself, with its pipes, when its owner is killed.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

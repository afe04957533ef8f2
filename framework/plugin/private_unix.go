//go:build unix

package plugin

import "syscall"

// keepPrivate has all files that this process makes from now on be for its owner alone, whatever mode a
// storage engine asks for: goleveldb makes its files readable for all. It holds for the whole process, so
// only a process that does nothing but serve calls it.
func keepPrivate() { syscall.Umask(0o077) }

//go:build !linux && !darwin && !freebsd

package restore

// FreeSpace returns the bytes that the file system of a directory has for this user, and whether that is
// known, which it is not here.
func FreeSpace(string) (int64, bool) { return 0, false }

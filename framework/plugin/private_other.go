//go:build !unix

package plugin

// keepPrivate does nothing here: files have no such permissions.
func keepPrivate() {}

// Package reference builds trees by their definition: of sorted keys, recursively, at once. It shares
// nothing with the framework's own trees but the encodings and hashes of package node, so that tests can
// hold the two against each other. It is made to be plain, not fast.
package reference

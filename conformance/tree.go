package conformance

import (
	"github.com/ckpt-project/ckpt/conformance/reference"
	"github.com/ckpt-project/ckpt/framework/mkvs/node"
)

// content is what a tree holds.
type content = reference.Content

// tree is a tree of a version as it should be, and where its nodes are stored.
type tree struct {
	root    node.Root
	content content
	top     *reference.Node // nil where the tree is empty
}

package plugin

import (
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	"github.com/ckpt-project/ckpt/framework/mkvs/db"
)

const (
	// protocolVersion is the version of the wire that the handshake agrees on; protocolMinor counts what
	// was added to it since.
	protocolVersion = 1
	protocolMinor   = 3
	// minorPaths is the minor version that GetPaths came with.
	minorPaths = 2

	// maxMessageBytes bounds a message in either direction. Data goes in frames of at most 1 MiB; the
	// largest control message is AddMultipartRoot or Multipart with a checkpoint's metadata as the tag: 32
	// bytes a chunk, so this is room for two million chunks. gRPC's own limit for what a plugin receives
	// is 4 MiB, and go-plugin lets the host receive 2 GiB; an error is better than either surprise.
	maxMessageBytes = 64 << 20

	// abortTimeout bounds the giving up of a batch or chunk whose host is gone.
	abortTimeout = 10 * time.Second
)

// ServeOptions say what a plugin serves.
type ServeOptions struct {
	// Factory opens the databases.
	Factory db.Factory
	// Version is the plugin's own version, for people and logs.
	Version string
	// Logger takes the messages of the plugin and of its databases. The default writes to standard error
	// in the form that the host takes into its own log.
	Logger hclog.Logger
	// GRPC are further options of the gRPC server that Serve makes, such as interceptors that count or trace
	// calls. A Server that is registered with somebody else's gRPC server does not look at them.
	GRPC []grpc.ServerOption
}

func (o ServeOptions) logger() hclog.Logger {
	if o.Logger == nil {
		return hclog.NewNullLogger()
	}
	return o.Logger
}

// hostName is what a host calls itself to the other side.
func hostName() string { return filepath.Base(os.Args[0]) }

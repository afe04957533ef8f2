package plugin

import (
	"context"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
)

// What go-plugin needs to know: how host and plugin recognise each other, and how to get at the service.
// It only launches; the service itself knows nothing of it.

// handshake tells programs that are plugins of this kind from others; it keeps no secret.
var handshake = goplugin.HandshakeConfig{
	ProtocolVersion:  protocolVersion,
	MagicCookieKey:   "CKPT_BACKEND_PLUGIN",
	MagicCookieValue: "b3f1d6c2-storage-backend",
}

const (
	// pluginName is the service's name within go-plugin.
	pluginName = "nodedb"
	// levelVariable tells the plugin the level of the host's log.
	levelVariable = "CKPT_BACKEND_LOG_LEVEL"
)

// glue is a goplugin.GRPCPlugin: at the plugin's side it registers a server, at the host's it hands out
// the connection.
type glue struct {
	goplugin.NetRPCUnsupportedPlugin
	server *Server
}

var _ goplugin.GRPCPlugin = glue{}

func (g glue) GRPCServer(_ *goplugin.GRPCBroker, r *grpc.Server) error {
	g.server.Register(r)
	return nil
}

func (g glue) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}

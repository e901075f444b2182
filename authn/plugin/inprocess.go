// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"reflect"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// For package authntest.
func init() {
	inprocess.Decode = func(p inprocess.Provider, c *wire.Config) (any, error) {
		config := reflect.New(p.Config)
		return config.Interface(), decodeConfig(c, config.Interface())
	}
	inprocess.Open = func(p inprocess.Provider, c *wire.Config, log *slog.Logger) (authn.Authenticator, error) {
		return serverOf(p).open(c, log)
	}
	inprocess.Serve = func(ctx context.Context, p inprocess.Provider) (authn.Authenticator, func(), error) {
		remote, stop, err := serveHere(ctx, serverOf(p))
		return remote, stop, err
	}
}

// serveHere is a provider's Main and the worker's Start and Connect in one
// process. Only the peer is another one: both ends are this process.
func serveHere(ctx context.Context, s wire.ProviderServer) (*Remote, func(), error) {
	peer := peerProcess(os.Getpid(), uint32(os.Geteuid())) //nolint:gosec // a uid
	ctx, cancel := context.WithCancel(ctx)
	ready, closed := make(chan *goplugin.ReattachConfig, 1), make(chan struct{})
	go goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: plugins(s),
		GRPCServer:       grpcServer(peer),
		Logger:           hclog.NewNullLogger(),
		Test:             &goplugin.ServeTestConfig{Context: ctx, ReattachConfigCh: ready, CloseCh: closed},
	})
	var reattach *goplugin.ReattachConfig
	select {
	case reattach = <-ready:
	case <-closed:
		cancel()
		return nil, nil, errors.New("go-plugin does not serve")
	}
	gone := make(chan struct{})
	reattach.ReattachFunc = func() (runner.AttachedRunner, error) { return thisProcess{gone: gone}, nil }
	remote, hangUp, err := connectHere(ctx, reattach, peer)
	stop := func() {
		hangUp()
		cancel()
		<-closed
		close(gone)
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return remote, stop, nil
}

func connectHere(ctx context.Context, reattach *goplugin.ReattachConfig, peer peerCheck) (*Remote, func(), error) {
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  Handshake,
		Plugins:          plugins(nil)[ProtocolVersion],
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		Reattach:         reattach,
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  []grpc.DialOption{grpc.WithTransportCredentials(peerCredentials{check: peer}), limits()},
	})
	conn, err := client.Client()
	if err != nil {
		return nil, func() {}, err
	}
	// Not conn.Close, which also asks the server to stop: go-plugin's Stop
	// cannot bear being called twice at once.
	hangUp := func() { _ = conn.(*goplugin.GRPCClient).Conn.Close() }
	rpc, err := dispense(conn)
	if err != nil {
		return nil, hangUp, err
	}
	desc, err := describe(ctx, rpc)
	return &Remote{rpc: rpc, desc: desc}, hangUp, err
}

// thisProcess is what go-plugin attaches to instead of a child.
type thisProcess struct{ gone chan struct{} }

func (p thisProcess) Wait(context.Context) error { <-p.gone; return nil }
func (thisProcess) Kill(context.Context) error   { return nil }
func (thisProcess) ID() string                   { return "" }

func (thisProcess) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

func (thisProcess) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

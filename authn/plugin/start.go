// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// A Process is a provider that was started.
type Process struct {
	Remote
	client *goplugin.Client
	cmd    *exec.Cmd
	uid    uint32
	dir    string

	// stranger says who was found behind the provider's socket instead.
	stranger atomic.Pointer[string]
}

// Options are what [Start] needs.
type Options struct {
	// Cmd is the provider, not started: path, environment and SysProcAttr
	// are the caller's. Start adds go-plugin's own variables.
	Cmd *exec.Cmd

	// UID is the user id that the provider runs under.
	UID uint32

	// Dir is the private folder in which the provider makes its socket.
	Dir string

	// Timeout bounds the start. Defaults to 10 s.
	Timeout time.Duration

	// Secure, if set, is the checksum that the program must have.
	Secure *goplugin.SecureConfig

	// Stderr gets what the provider writes outside the protocol, which may
	// be anything. Defaults to nowhere.
	Stderr io.Writer
}

// Start starts a provider through go-plugin, in the calling OS thread. It
// returns once the provider has said where it listens; Connect does the rest.
func Start(o Options) (p *Process, err error) {
	defer func() { // a certificate in the handshake line does that to go-plugin
		if recover() != nil {
			err = startError(errHandshake)
		}
	}()
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Stderr == nil {
		o.Stderr = io.Discard
	}
	o.Cmd.Env = append(o.Cmd.Env, goplugin.EnvUnixSocketDir+"="+o.Dir)
	p = &Process{cmd: o.Cmd, uid: o.UID, dir: o.Dir}
	p.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  Handshake,
		VersionedPlugins: plugins(nil),
		Cmd:              o.Cmd,
		SecureConfig:     o.Secure,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SkipHostEnv:      true,
		StartTimeout:     o.Timeout,
		Stderr:           o.Stderr,
		SyncStderr:       o.Stderr, // go-plugin takes os.Stderr away from providers in Go
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  []grpc.DialOption{p.credentials(), limits(), grpc.WithStreamInterceptor(noBroker)},
	})
	addr, err := p.client.Start()
	if err != nil {
		return p, startError(err)
	}
	if err := p.inside(addr); err != nil {
		return p, err
	}
	return p, nil
}

// credentials ask for the pid only when the connection is made: before Start
// there is none.
func (p *Process) credentials() grpc.DialOption {
	return grpc.WithTransportCredentials(peerCredentials{check: func(c *syscall.Ucred) error {
		err := peerProcess(p.Pid(), p.uid)(c)
		if err != nil {
			who := err.Error()
			p.stranger.Store(&who)
		}
		return err
	}})
}

func limits() grpc.DialOption {
	return grpc.WithDefaultCallOptions(
		grpc.MaxCallRecvMsgSize(authn.MaxMessage), grpc.MaxCallSendMsgSize(authn.MaxMessage))
}

// noBroker keeps go-plugin from opening its broker: nobody wants it, it costs
// every call, and each message of the provider's there is a goroutine of ours
// for five seconds.
func noBroker(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if strings.HasPrefix(method, "/plugin.GRPCBroker/") {
		return nil, status.Error(codes.Unimplemented, "not used")
	}
	return open(ctx, desc, conn, method, opts...)
}

// Pid is the provider's process id, or 0 if there is no process.
func (p *Process) Pid() int {
	if p == nil || p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// inside refuses a provider that sends us elsewhere than to its own socket.
func (p *Process) inside(addr net.Addr) error {
	u, ok := addr.(*net.UnixAddr)
	if !ok || filepath.Dir(filepath.Clean(u.Name)) != filepath.Clean(p.dir) {
		return violation(fmt.Sprintf("it listens on %s %.100q, not on a unix socket in its own folder", addr.Network(), addr.String()))
	}
	return nil
}

// Connect opens the connection and asks the provider what it is.
func (p *Process) Connect(ctx context.Context) error {
	type dialed struct {
		rpc wire.ProviderClient
		err error
	}
	ch := make(chan dialed, 1)
	go func() { // go-plugin's dial knows no context
		rpc, err := p.dispense()
		ch <- dialed{rpc, err}
	}()
	select {
	case <-ctx.Done():
		return fmt.Errorf("the provider did not answer on its socket: %w", authn.ErrSystem)
	case d := <-ch:
		if status.Code(d.err) == codes.Canceled { // by go-plugin, since the process has ended
			return fmt.Errorf("the provider's socket: %w: %w", ErrHungUp, authn.ErrSystem)
		}
		if d.err != nil {
			return fmt.Errorf("the provider's socket: %s: %w", firstLine(d.err), authn.ErrSystem)
		}
		desc, err := describe(ctx, d.rpc)
		if who := p.stranger.Load(); who != nil {
			return violation(*who)
		}
		p.rpc, p.desc = d.rpc, desc
		return err
	}
}

func (p *Process) dispense() (wire.ProviderClient, error) {
	conn, err := p.client.Client()
	if err != nil {
		return nil, err
	}
	return dispense(conn)
}

func dispense(conn goplugin.ClientProtocol) (wire.ProviderClient, error) {
	raw, err := conn.Dispense(pluginName)
	if err != nil {
		return nil, err
	}
	rpc, ok := raw.(wire.ProviderClient)
	if !ok {
		return nil, errors.New("not a provider of ours")
	}
	return rpc, nil
}

// Kill ends the provider at once. What it left behind is the waiter's.
func (p *Process) Kill() {
	if p != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill() // by pidfd; an error means that it is gone
	}
}

// Ended says how the provider's process ended ("signal: killed"), or "" if it
// runs or that is not known. It waits up to half a second for a process that is
// ending; after that, all that it wrote to standard error has come.
func (p *Process) Ended() string {
	if p == nil || p.cmd.Process == nil {
		return ""
	}
	for range 250 {
		if p.client.Exited() {
			return p.cmd.ProcessState.String()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return ""
}

// errHandshake is worded like go-plugin's own.
var errHandshake = errors.New("unrecognized remote plugin message")

// startError puts go-plugin's errors, which are texts, into an
// administrator's words.
func startError(err error) error {
	text := strings.ToLower(err.Error())
	why := firstLine(err)
	switch {
	case strings.Contains(text, "incompatible api version"):
		why = fmt.Sprintf("it speaks another version of the protocol than %d: install a provider built for this version", ProtocolVersion)
	case strings.Contains(text, "exited before we could connect"), strings.Contains(text, "failed to read any lines"):
		why = "it exited at once, without go-plugin's handshake line: run it by hand and read its journal"
	case strings.Contains(text, "unrecognized remote plugin message"), strings.Contains(text, "error parsing"),
		strings.Contains(text, "incompatible core api"), strings.Contains(text, "unknown address type"):
		why = "it is not a provider: it did not begin with go-plugin's handshake line"
	case strings.Contains(text, "permission denied"):
		why += ": its user must be able to reach and execute it (chmod a+x, its folders too), and a script's interpreter must lie in /usr"
	case strings.Contains(text, "timeout while waiting"):
		why = "it did not start in time"
	case strings.Contains(text, "unsupported plugin protocol"):
		why = "it does not speak gRPC"
	case errors.Is(err, goplugin.ErrChecksumsDoNotMatch):
		why = "its SHA-256 is not the one of authn.sha256: if it was upgraded, write there what sha256sum says of it"
	}
	return fmt.Errorf("the provider did not start: %s: %w", why, authn.ErrSystem)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return clean(wireText(line, 200))
}

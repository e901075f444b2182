// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
	"github.com/pam-authn/pam-authn/authn/internal/limit"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// grpcPlugin is what go-plugin serves and dispenses.
type grpcPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	server wire.ProviderServer
}

func (p *grpcPlugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	wire.RegisterProviderServer(s, p.server)
	return nil
}

func (p *grpcPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return wire.NewProviderClient(conn), nil
}

// server is the provider's end of the wire.
type server struct {
	wire.UnimplementedProviderServer

	// zero is a provider never used but for its method set.
	zero    authn.Authenticator
	secrets []string
	open    func(*wire.Config, *slog.Logger) (authn.Authenticator, error)
}

// service wraps a provider's constructor, whose types only generics know.
func service[C any, P authn.Authenticator](newProvider func(C, *slog.Logger) (P, error)) *server {
	return serverOf(inprocess.Of(newProvider))
}

func serverOf(p inprocess.Provider) *server {
	return &server{
		zero:    p.Zero,
		secrets: secretKeys(p.Config),
		open: func(c *wire.Config, log *slog.Logger) (authn.Authenticator, error) {
			config := reflect.New(p.Config).Interface()
			if err := decodeConfig(c, config); err != nil {
				return nil, err
			}
			a, err := p.New(config, log)
			if err != nil {
				return nil, inFile(c, err)
			}
			return a, nil
		},
	}
}

// inFile puts the configuration file in front of every problem that was joined
// into err, with the line of the key that the problem begins with.
func inFile(c *wire.Config, err error) error {
	many, ok := err.(interface{ Unwrap() []error })
	if ok && err.Error() == errors.Join(many.Unwrap()...).Error() {
		var all []error
		for _, e := range many.Unwrap() {
			all = append(all, inFile(c, e))
		}
		return errors.Join(all...)
	}
	key, _, _ := strings.Cut(err.Error(), ": ")
	if line, ok := c.GetLines()[pointerOf(key)]; ok {
		return fmt.Errorf("%s:%d: %w", c.GetFile(), line, err)
	}
	return fmt.Errorf("%s: %w", c.GetFile(), err)
}

// pointerOf is the JSON pointer of a key as messages write it:
// "oidc[0].issuer".
func pointerOf(key string) string {
	return "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(key)
}

// Describe answers without a configuration. The capabilities are those of the
// constructor's result type. Where that is an interface (a constructor that
// returns what authn.WithStep wrapped), they are only known once there is a
// provider: then each is announced, and a call that the provider does not
// have after all is answered as if it had not been.
func (s *server) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeReply, error) {
	return &wire.DescribeReply{
		Version:      buildVersion(),
		Capabilities: s.capabilities(),
		SecretKeys:   s.secrets,
	}, nil
}

func (s *server) capabilities() (have []wire.Capability) {
	all := []wire.Capability{
		wire.Capability_CAPABILITY_ACCOUNT, wire.Capability_CAPABILITY_SETCRED,
		wire.Capability_CAPABILITY_SESSION, wire.Capability_CAPABILITY_PASSWORD,
	}
	if s.zero == nil {
		return all
	}
	defer func() {
		if recover() != nil { // an As that cannot do without its fields
			have = all
		}
	}()
	for _, c := range all {
		if hasCapability(s.zero, c) {
			have = append(have, c)
		}
	}
	return have
}

func hasCapability(a authn.Authenticator, c wire.Capability) (ok bool) {
	switch c {
	case wire.Capability_CAPABILITY_ACCOUNT:
		_, ok = authn.As[authn.AccountManager](a)
	case wire.Capability_CAPABILITY_SETCRED:
		_, ok = authn.As[authn.CredentialSetter](a)
	case wire.Capability_CAPABILITY_SESSION:
		_, ok = authn.As[authn.SessionManager](a)
	case wire.Capability_CAPABILITY_PASSWORD:
		_, ok = authn.As[authn.PasswordChanger](a)
	}
	return ok
}

// Call serves one call of PAM.
func (s *server) Call(stream grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return errors.New("the first message is not Start")
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	c := newConversation(ctx, stream, cancel)
	go c.receive()
	ctx = limit.With(ctx, c.allow)

	id, err := s.serve(ctx, start, c)
	return c.send(&wire.FromProvider{Message: &wire.FromProvider_Result{Result: result(id, err)}})
}

// serve runs the provider, and turns a panic into an error that says where it
// happened but not what the panic said: that might be a password.
func (s *server) serve(ctx context.Context, start *wire.Start, c *conversation) (id authn.Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			id, err = authn.Identity{}, fmt.Errorf("panic (%T) in %s: %w", p, panicSite(), authn.ErrSystem)
		}
	}()
	a, err := s.open(start.GetConfig(), slog.New(c.logHandler()))
	if err != nil {
		return authn.Identity{}, fault(err)
	}
	step, err := stepOf(a)
	if err != nil {
		return authn.Identity{}, err
	}
	if err := c.started(step, stepIsDefault(a)); err != nil {
		return authn.Identity{}, err
	}
	return dispatch(ctx, a, start, c)
}

// fault makes err a system_err whatever it wraps: a constructor has no
// business choosing PAM's result.
func fault(err error) error {
	return fmt.Errorf("%s: %w", err.Error(), authn.ErrSystem)
}

func stepOf(a authn.Authenticator) (time.Duration, error) {
	s, ok := a.(interface{ Step() time.Duration })
	if !ok {
		return 0, nil
	}
	if step := s.Step(); step >= 0 {
		return step, nil
	}
	return 0, fmt.Errorf("a negative time step: %w", authn.ErrSystem)
}

func stepIsDefault(a authn.Authenticator) bool {
	s, ok := a.(interface{ DefaultStep() bool })
	return ok && s.DefaultStep()
}

// panicSite finds the function that panicked.
func panicSite() string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if f.Function != "runtime.gopanic" && !isRuntime(f.Function) {
			return fmt.Sprintf("%s:%d", f.Function, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

func isRuntime(function string) bool {
	return len(function) > 8 && function[:8] == "runtime."
}

// dispatch makes the call that start asks for.
func dispatch(ctx context.Context, a authn.Authenticator, start *wire.Start, c *conversation) (id authn.Identity, err error) {
	req := requestFrom(start.GetRequest())
	switch start.GetCall() {
	case wire.CallType_CALL_CHECK:
		return authn.Identity{}, nil
	case wire.CallType_CALL_AUTHENTICATE:
		if id, err = a.Authenticate(ctx, req, c); err == nil {
			err = id.Check()
		}
		return id, err
	case wire.CallType_CALL_ACCOUNT:
		if m, ok := authn.As[authn.AccountManager](a); ok {
			return id, m.CheckAccount(ctx, req, c)
		}
		return id, authn.ErrIgnore
	case wire.CallType_CALL_SETCRED:
		if m, ok := authn.As[authn.CredentialSetter](a); ok {
			return id, m.SetCredentials(ctx, req, authn.CredentialOp(start.GetCredentialOp()))
		}
		return id, nil
	case wire.CallType_CALL_OPEN_SESSION, wire.CallType_CALL_CLOSE_SESSION:
		return id, session(ctx, a, start.GetCall(), req, c)
	case wire.CallType_CALL_PASSWORD:
		return id, password(ctx, a, start.GetPreliminary(), req, c)
	}
	return id, fmt.Errorf("call %d is unknown to this provider: %w", start.GetCall(), authn.ErrSystem)
}

func session(ctx context.Context, a authn.Authenticator, call wire.CallType, req *authn.Request, c *conversation) error {
	m, ok := authn.As[authn.SessionManager](a)
	if !ok {
		return authn.ErrIgnore
	}
	if call == wire.CallType_CALL_OPEN_SESSION {
		return m.OpenSession(ctx, req, c)
	}
	return m.CloseSession(ctx, req)
}

func password(ctx context.Context, a authn.Authenticator, preliminary bool, req *authn.Request, c *conversation) error {
	m, ok := authn.As[authn.PasswordChanger](a)
	if !ok {
		return authn.ErrIgnore
	}
	if preliminary {
		return m.CanChangePassword(ctx, req)
	}
	return m.ChangePassword(ctx, req, c)
}

func requestFrom(r *wire.Request) *authn.Request {
	args := make([]string, 0, len(r.GetArgs()))
	for _, a := range r.GetArgs() {
		args = append(args, string(a))
	}
	return &authn.Request{
		Service: string(r.GetService()), User: string(r.GetUser()), RHost: string(r.GetRhost()),
		TTY: string(r.GetTty()), RUser: string(r.GetRuser()),
		Args:    args,
		Subject: r.GetSubject(), ClaimedSubject: r.GetClaimedSubject(), Ticket: r.GetTicket(),
		Files:  r.GetFiles(),
		Silent: r.GetSilent(), Expired: r.GetExpired(),
		Timeout: millis(r.GetTimeoutMs()),
	}
}

// result puts a call's outcome on the wire. Identity and error never travel
// together.
func result(id authn.Identity, err error) *wire.Result {
	code := int32(authn.ResultOf(err)) //nolint:gosec // a Result is at most 31
	if err != nil {
		return &wire.Result{Code: &code, Reason: wireText(err.Error(), maxReason)}
	}
	return &wire.Result{Code: &code, Subject: id.Subject, Env: id.Env, Ticket: id.Ticket}
}

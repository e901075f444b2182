// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/limit"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// Bounds on what a provider may send besides prompts.
const (
	maxLogLines = 64 // per call
	maxAllows   = 8  // unanswered at the same time
	maxWaits    = 64 // times Waiting per call
	maxCounted  = 64 // answers to Allow per call: all providers share the store
)

// A Description is what a provider says of itself.
type Description struct {
	Version      string
	SecretKeys   []string // as in authn.proto
	capabilities map[wire.Capability]bool
}

// A Remote is a provider in another process, as its worker sees it. It is an
// [authn.Authenticator], and with [authn.As] whatever else the provider is.
//
// Nothing that the provider sends is taken on trust: what breaks the protocol
// or its limits ends the call with an error wrapping [authn.ErrSystem].
type Remote struct {
	rpc  wire.ProviderClient
	desc Description

	// Config is the provider's part of its configuration, sent with each call.
	Config *wire.Config

	// Started, if set, is called once the provider has accepted its
	// configuration, with the time step that this asks for, or that the
	// provider has by default. An error ends the call.
	Started func(step time.Duration, byDefault bool) error

	// Log, if set, gets the provider's log lines.
	Log func(level wire.Level, text string)
}

var _ authn.Authenticator = (*Remote)(nil)

// describe asks the provider what it is.
func describe(ctx context.Context, rpc wire.ProviderClient) (Description, error) {
	reply, err := rpc.Describe(ctx, &wire.DescribeRequest{})
	if err != nil {
		return Description{}, broken("Describe", err)
	}
	d := Description{Version: clean(wireText(reply.GetVersion(), 64)), capabilities: map[wire.Capability]bool{}}
	for _, c := range reply.GetCapabilities() {
		d.capabilities[c] = true
	}
	d.SecretKeys = reply.GetSecretKeys()
	return d, nil
}

// Description says what the provider said of itself.
func (r *Remote) Description() Description { return r.desc }

// As reports the capabilities that the provider process announced.
func (r *Remote) As(target any) bool {
	switch t := target.(type) {
	case *authn.AccountManager:
		*t = r
		return r.desc.capabilities[wire.Capability_CAPABILITY_ACCOUNT]
	case *authn.CredentialSetter:
		*t = r
		return r.desc.capabilities[wire.Capability_CAPABILITY_SETCRED]
	case *authn.SessionManager:
		*t = r
		return r.desc.capabilities[wire.Capability_CAPABILITY_SESSION]
	case *authn.PasswordChanger:
		*t = r
		return r.desc.capabilities[wire.Capability_CAPABILITY_PASSWORD]
	}
	return false
}

// Check has the provider judge its configuration.
func (r *Remote) Check(ctx context.Context) error {
	_, err := r.call(ctx, &wire.Start{Call: wire.CallType_CALL_CHECK}, &authn.Request{}, mute{})
	return err
}

// Authenticate implements [authn.Authenticator].
func (r *Remote) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	id, err := r.call(ctx, &wire.Start{Call: wire.CallType_CALL_AUTHENTICATE}, req, conv)
	if err != nil {
		return authn.Identity{}, err
	}
	if err := id.Check(); err != nil {
		return authn.Identity{}, err
	}
	return id, nil
}

// CheckAccount implements [authn.AccountManager].
func (r *Remote) CheckAccount(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return r.simple(ctx, &wire.Start{Call: wire.CallType_CALL_ACCOUNT}, req, conv)
}

// SetCredentials implements [authn.CredentialSetter].
func (r *Remote) SetCredentials(ctx context.Context, req *authn.Request, op authn.CredentialOp) error {
	start := &wire.Start{Call: wire.CallType_CALL_SETCRED, CredentialOp: wire.CredentialOp(op)} //nolint:gosec // one of four
	return r.simple(ctx, start, req, mute{})
}

// OpenSession implements [authn.SessionManager].
func (r *Remote) OpenSession(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return r.simple(ctx, &wire.Start{Call: wire.CallType_CALL_OPEN_SESSION}, req, conv)
}

// CloseSession implements [authn.SessionManager].
func (r *Remote) CloseSession(ctx context.Context, req *authn.Request) error {
	return r.simple(ctx, &wire.Start{Call: wire.CallType_CALL_CLOSE_SESSION}, req, mute{})
}

// CanChangePassword implements [authn.PasswordChanger].
func (r *Remote) CanChangePassword(ctx context.Context, req *authn.Request) error {
	return r.simple(ctx, &wire.Start{Call: wire.CallType_CALL_PASSWORD, Preliminary: true}, req, mute{})
}

// ChangePassword implements [authn.PasswordChanger].
func (r *Remote) ChangePassword(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return r.simple(ctx, &wire.Start{Call: wire.CallType_CALL_PASSWORD}, req, conv)
}

func (r *Remote) simple(ctx context.Context, start *wire.Start, req *authn.Request, conv authn.Conversation) error {
	_, err := r.call(ctx, start, req, conv)
	return err
}

// call runs one call of PAM over one stream.
func (r *Remote) call(ctx context.Context, start *wire.Start, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := r.rpc.Call(ctx)
	if err != nil {
		return authn.Identity{}, broken("Call", err)
	}
	start.Config, start.Request = r.Config, requestTo(req)
	e := &exchange{remote: r, ctx: ctx, stream: stream, conv: conv}
	if err := e.send(&wire.FromWorker{Message: &wire.FromWorker_Start{Start: start}}); err != nil {
		return authn.Identity{}, broken("Start", err)
	}
	res, err := e.run()
	if err != nil {
		cancel() // an open prompt must not keep such a provider alive
	}
	e.prompts.Wait()
	if err != nil {
		return authn.Identity{}, err
	}
	id, err := e.outcome(authn.Call(start.GetCall()), res)
	if err == nil && ctx.Err() != nil { // success after the end is none
		return authn.Identity{}, broken("after the result", status.FromContextError(ctx.Err()).Err())
	}
	return id, err
}

// exchange is the worker's side of one stream.
type exchange struct {
	remote *Remote
	ctx    context.Context
	stream grpc.BidiStreamingClient[wire.FromWorker, wire.FromProvider]
	conv   authn.Conversation

	sending sync.Mutex
	prompts sync.WaitGroup // the prompt that is open

	mu      sync.Mutex
	open    bool // a prompt is open
	failed  bool // a prompt could not be answered
	started bool
	asked   int
	lines   int
	allows  int // unanswered
	counted int
	waits   int
}

func (e *exchange) send(m *wire.FromWorker) error {
	e.sending.Lock()
	defer e.sending.Unlock()
	return e.stream.Send(m)
}

// run serves the provider until its Result. Success is complete only with
// the stream's proper end behind it: a provider that says more, or dies,
// has not succeeded.
func (e *exchange) run() (*wire.Result, error) {
	for {
		m, err := e.stream.Recv()
		if err != nil {
			return nil, e.broken("the provider ended the call without a result", err)
		}
		if res := m.GetResult(); res != nil {
			return res, e.end()
		}
		if err := e.handle(m); err != nil {
			return nil, err
		}
	}
}

// broken is broken, but blames our own end of the call where there was one:
// gRPC then says this or that.
func (e *exchange) broken(what string, err error) error {
	if ours := e.ctx.Err(); ours != nil {
		err = status.FromContextError(ours).Err()
	}
	return broken(what, err)
}

func (e *exchange) end() error {
	e.sending.Lock()
	_ = e.stream.CloseSend() // the provider may be gone already
	e.sending.Unlock()
	switch _, err := e.stream.Recv(); {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return violation("a message after the result")
	default:
		return e.broken("after the result", err)
	}
}

func (e *exchange) handle(m *wire.FromProvider) error {
	switch m := m.GetMessage().(type) {
	case *wire.FromProvider_Started:
		return e.start(m.Started)
	case *wire.FromProvider_Log:
		return e.log(m.Log)
	case *wire.FromProvider_Prompt:
		return e.prompt(m.Prompt)
	case *wire.FromProvider_Waiting:
		return e.wait(m.Waiting)
	case *wire.FromProvider_Allow:
		return e.allow(m.Allow)
	}
	return violation("an unknown message")
}

func (e *exchange) wait(w *wire.Waiting) error {
	e.mu.Lock()
	e.waits++
	started, many := e.started, e.waits > maxWaits
	e.mu.Unlock()
	switch {
	case !started:
		return violation("Waiting before Started")
	case many:
		return violation(fmt.Sprintf("more than %d times Waiting", maxWaits))
	}
	e.conv.Waiting(millis(w.GetLimitMs()))
	return nil
}

func (e *exchange) start(s *wire.Started) error {
	e.mu.Lock()
	again := e.started
	e.started = true
	e.mu.Unlock()
	if again {
		return violation("Started twice")
	}
	if e.remote.Started != nil {
		return e.remote.Started(millis(s.GetStepMs()), s.GetDefaultStep())
	}
	return nil
}

func (e *exchange) log(l *wire.Log) error {
	e.mu.Lock()
	e.lines++
	keep := e.lines <= maxLogLines
	e.mu.Unlock()
	if keep && e.remote.Log != nil {
		e.remote.Log(l.GetLevel(), clean(wireText(l.GetText(), maxLogText)))
	}
	return nil
}

// prompt opens a prompt. It is answered from a goroutine, since the provider
// may send other messages while the user thinks.
func (e *exchange) prompt(p *wire.Prompt) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	switch {
	case !e.started:
		return violation("Prompt before Started")
	case e.open:
		return violation("a second prompt while one is open")
	case e.asked > authn.MaxPrompts:
		return violation(fmt.Sprintf("more than %d prompts", authn.MaxPrompts))
	case len(p.GetText()) > authn.MaxPrompt:
		return violation(fmt.Sprintf("a prompt of %d bytes", len(p.GetText())))
	case strings.ContainsRune(p.GetText(), 0):
		return violation("a NUL in a prompt")
	case p.GetStyle() < wire.Style_STYLE_PROMPT || p.GetStyle() > wire.Style_STYLE_ERROR:
		return violation("a prompt of unknown style")
	}
	e.open = true
	e.prompts.Add(1)
	go e.answer(p)
	return nil
}

func (e *exchange) answer(p *wire.Prompt) {
	defer e.prompts.Done()
	text, err := e.show(p)
	a := &wire.Answer{Id: p.GetId(), Text: []byte(text)}
	if err != nil {
		a.Text, a.Failure = nil, int32(authn.ErrConv)
		if errors.Is(err, authn.ErrAuth) {
			a.Failure = int32(authn.ErrAuth)
		}
	}
	e.mu.Lock()
	e.open = false
	e.failed = e.failed || err != nil
	e.mu.Unlock()
	// A provider that is gone is noticed by run.
	_ = e.send(&wire.FromWorker{Message: &wire.FromWorker_Answer{Answer: a}})
}

func (e *exchange) show(p *wire.Prompt) (string, error) {
	text := clean(p.GetText())
	switch p.GetStyle() {
	case wire.Style_STYLE_PROMPT:
		return e.conv.Prompt(text)
	case wire.Style_STYLE_PROMPT_SECRET:
		secret, err := e.conv.PromptSecret(text)
		return secret.Reveal(), err
	case wire.Style_STYLE_ERROR:
		return "", e.conv.Error(text)
	default:
		return "", e.conv.Info(text)
	}
}

func (e *exchange) allow(a *wire.Allow) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.allows++
	e.counted++
	n, window := int64(a.GetN()), millis(a.GetWindowMs())
	switch {
	case !e.started:
		return violation("Allow before Started")
	case e.allows > maxAllows:
		return violation(fmt.Sprintf("more than %d questions of Allow at once", maxAllows))
	case e.counted > maxCounted:
		return violation(fmt.Sprintf("more than %d questions of Allow", maxCounted))
	case a.GetKey() == "" || len(a.GetKey()) > authn.MaxAllowKey || n < 1 || n > authn.MaxAllowCount ||
		window <= 0 || window > authn.MaxAllowWindow:
		return violation("an Allow out of bounds")
	}
	go e.count(a, int(n), window)
	return nil
}

func (e *exchange) count(a *wire.Allow, n int, window time.Duration) {
	reply, err := &wire.AllowReply{Id: a.GetId()}, errNoStore
	if count := limit.From(e.ctx); count != nil {
		reply.Allowed, err = count(e.ctx, a.GetKey(), n, window)
	}
	if err != nil {
		reply.Allowed, reply.Error = false, wireText(err.Error(), maxReason)
	}
	e.mu.Lock()
	e.allows--
	e.mu.Unlock()
	// A provider that is gone is noticed by run.
	_ = e.send(&wire.FromWorker{Message: &wire.FromWorker_AllowReply{AllowReply: reply}})
}

var errNoStore = errors.New("no store that counts is at hand here")

// outcome judges the provider's result.
func (e *exchange) outcome(call authn.Call, res *wire.Result) (authn.Identity, error) {
	reason := clean(wireText(res.GetReason(), maxReason))
	if res.Code == nil {
		return authn.Identity{}, violation("a result without a code")
	}
	r := authn.Result(res.GetCode())
	checking := call == authn.Call(wire.CallType_CALL_CHECK)
	if !r.Allowed(call) && (!checking || r != authn.Success && r != authn.ErrSystem) {
		return authn.Identity{}, fmt.Errorf("%s, which this call cannot have (%s): %w", r.Error(), reason, authn.ErrSystem)
	}
	if r != authn.Success {
		return authn.Identity{}, refusal(reason, r)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !e.started:
		return authn.Identity{}, violation("success before Started")
	case e.failed:
		return authn.Identity{}, violation("success after the user could not be asked")
	}
	return authn.Identity{Subject: res.GetSubject(), Env: res.GetEnv(), Ticket: res.GetTicket()}, nil
}

// refusal is the provider's own word, with its reason.
func refusal(reason string, r authn.Result) error {
	reason = strings.TrimSuffix(reason, ": "+r.Error())
	if reason == "" || reason == r.Error() {
		return r
	}
	return fmt.Errorf("%s: %w", reason, r)
}

// violation is what a provider did against the protocol.
func violation(what string) error {
	return fmt.Errorf("the provider broke the protocol: %s: %w", what, authn.ErrSystem)
}

// ErrHungUp is in the error of a call whose connection the provider broke, by
// its own end or otherwise.
var ErrHungUp = errors.New("the connection broke")

// broken turns a transport's error into a system_err without the provider's
// own text: gRPC's statuses carry whatever the other side likes.
func broken(what string, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", what, authn.ErrSystem)
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: timed out: %w", what, authn.ErrSystem)
	case codes.Canceled:
		return fmt.Errorf("%s: cancelled: %w", what, authn.ErrSystem)
	case codes.ResourceExhausted:
		return fmt.Errorf("%s: a message of more than %d bytes: %w", what, authn.MaxMessage, authn.ErrSystem)
	case codes.Unimplemented:
		return fmt.Errorf("%s: not implemented by this provider: %w", what, authn.ErrSystem)
	case codes.Unknown:
		return fmt.Errorf("%s: an error of the provider's own: %w", what, authn.ErrSystem)
	case codes.Internal, codes.InvalidArgument:
		return fmt.Errorf("%s: garbage on the wire: %w", what, authn.ErrSystem)
	}
	return fmt.Errorf("%s: %w (%s): %w", what, ErrHungUp, status.Code(err), authn.ErrSystem)
}

// clean takes from text what could act on a terminal or forge a line there:
// control characters but newline and tab, and what turns the direction of
// writing.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), r == utf8.RuneError,
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0x200e, r == 0x200f, r == 0x061c:
			return '?'
		}
		return r
	}, text)
}

func requestTo(r *authn.Request) *wire.Request {
	w := &wire.Request{
		Service: []byte(r.Service), User: []byte(r.User), Rhost: []byte(r.RHost),
		Tty: []byte(r.TTY), Ruser: []byte(r.RUser),
		Subject: wireText(r.Subject, authn.MaxSubject), Ticket: r.Ticket,
		ClaimedSubject: wireText(r.ClaimedSubject, authn.MaxSubject), // a user's, and may be anything

		Files:  r.Files,
		Silent: r.Silent, Expired: r.Expired,
		TimeoutMs: toMillis(r.Timeout),
	}
	for _, a := range r.Args {
		w.Args = append(w.Args, []byte(a))
	}
	return w
}

// mute is the conversation of calls that have none.
type mute struct{}

var errMute = fmt.Errorf("this call cannot talk to the user: %w", authn.ErrConv)

func (mute) Prompt(string) (string, error)             { return "", errMute }
func (mute) PromptSecret(string) (authn.Secret, error) { return authn.Secret{}, errMute }
func (mute) Info(string) error                         { return errMute }
func (mute) Error(string) error                        { return errMute }
func (mute) Waiting(time.Duration)                     {}

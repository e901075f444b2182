// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/limit"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// A script is the provider's side of a call.
type script func(p *peer) error

// A peer is a provider that says what it likes.
type peer struct {
	grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]
}

func (p *peer) started() {
	p.send(&wire.FromProvider{Message: &wire.FromProvider_Started{Started: &wire.Started{}}})
}
func (p *peer) send(m *wire.FromProvider) { _ = p.Send(m) } // a worker that hung up is what we want

func (p *peer) prompt(id int, style wire.Style, text string) {
	p.send(&wire.FromProvider{Message: &wire.FromProvider_Prompt{
		Prompt: &wire.Prompt{Id: uint32(id), Style: style, Text: text}, //nolint:gosec // a test's small number
	}})
}

func (p *peer) allow(id int, key string, n uint32, ms uint64) {
	p.send(&wire.FromProvider{Message: &wire.FromProvider_Allow{
		Allow: &wire.Allow{Id: uint32(id), Key: key, N: n, WindowMs: ms}, //nolint:gosec // as above
	}})
}

func (p *peer) log(text string) {
	p.send(&wire.FromProvider{Message: &wire.FromProvider_Log{Log: &wire.Log{Level: wire.Level_LEVEL_INFO, Text: text}}})
}

func (p *peer) result(r *wire.Result) {
	p.send(&wire.FromProvider{Message: &wire.FromProvider_Result{Result: r}})
}

func (p *peer) end(code authn.Result, subject string) {
	n := int32(code) //nolint:gosec // a Result
	p.result(&wire.Result{Code: &n, Subject: subject, Reason: "reason"})
}

// raw sends bytes that no generated code would send.
func (p *peer) raw(b []byte) {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(b)
	_ = p.SendMsg(m)
}

// field is a field of a message, with bytes in it.
func field(number protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
}

// fake serves a script as a provider.
type fake struct {
	wire.UnimplementedProviderServer
	script script
}

func (f fake) Call(s grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return f.script(&peer{s})
}

// remoteOf connects to a provider without any limits of its own.
func remoteOf(t *testing.T, s wire.ProviderServer) *Remote {
	t.Helper()
	socket := filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	wire.RegisterProviderServer(server, s)
	go func() { _ = server.Serve(l) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), limits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
	})
	return &Remote{rpc: wire.NewProviderClient(conn), Config: &wire.Config{File: "x.yaml", Json: "{}"}}
}

// shortDir is a folder whose name leaves room for a socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "authn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func authenticate(t *testing.T, s script, conv authn.Conversation) (authn.Identity, error) {
	t.Helper()
	return remoteOf(t, fake{script: s}).Authenticate(t.Context(), &authn.Request{User: "mittens"}, conv)
}

func TestRemoteAuthenticates(t *testing.T) {
	user := types("open sesame")
	id, err := authenticate(t, func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_PROMPT_SECRET, "Code: ")
		m, _ := p.Recv()
		if string(m.GetAnswer().GetText()) == "open sesame" {
			p.end(authn.Success, "mittens@example.com")
		}
		return nil
	}, user)
	if err != nil || id.Subject != "mittens@example.com" || !slices.Equal(user.shown, []string{"Code: "}) {
		t.Errorf("got %+v, %v, shown %q", id, err, user.shown)
	}
}

// Whatever a provider does wrong, PAM hears system_err, and the log what it
// was.
func TestMisbehaviourIsRefused(t *testing.T) {
	wait := func(p *peer) { _, _ = p.Recv() } // for an answer, or the worker's end
	tests := []struct {
		name   string
		script script
		user   *person
		want   string
	}{
		{"a_result_without_a_code", func(p *peer) error {
			p.started()
			p.result(&wire.Result{Subject: "mittens"})
			return nil
		}, nil, "a result without a code"},
		{"an_unknown_code", func(p *peer) error { p.started(); p.end(99, "mittens"); return nil }, nil, "Result(99), which this call cannot have"},
		{"a_negative_code", func(p *peer) error { p.started(); p.end(-1, "mittens"); return nil }, nil, "Result(-1), which this call cannot have"},
		{"new_authtok_reqd_from_authenticate", func(p *peer) error {
			p.started()
			p.end(authn.ErrNewAuthtokRequired, "mittens")
			return nil
		}, nil, "new_authtok_reqd, which this call cannot have (reason)"},
		{"success_without_started", func(p *peer) error { p.end(authn.Success, "mittens"); return nil }, nil, "success before Started"},
		{"success_without_a_subject", func(p *peer) error { p.started(); p.end(authn.Success, ""); return nil }, nil, "success without saying who"},
		{"a_subject_with_a_newline", func(p *peer) error { p.started(); p.end(authn.Success, "a\nb"); return nil }, nil, "the subject is not printable"},
		{"a_variable_of_another_prefix", func(p *peer) error {
			p.started()
			zero := int32(0)
			p.result(&wire.Result{Code: &zero, Subject: "mittens", Env: map[string]string{"LD_PRELOAD": "x"}})
			return nil
		}, nil, `environment variable "LD_PRELOAD"`},
		{"a_message_after_the_result", func(p *peer) error {
			p.started()
			p.end(authn.Success, "mittens")
			p.log("one more thing")
			return nil
		}, nil, "a message after the result"},
		{"two_results", func(p *peer) error {
			p.started()
			p.end(authn.ErrAuth, "")
			p.end(authn.Success, "mittens")
			return nil
		}, nil, "a message after the result"},
		{"an_error_after_success", func(p *peer) error {
			p.started()
			p.end(authn.Success, "mittens")
			return errors.New("no, wait")
		}, nil, "after the result: an error of the provider's own"},
		{"success_after_a_failed_prompt", func(p *peer) error {
			p.started()
			p.prompt(1, wire.Style_STYLE_PROMPT, "Code: ")
			wait(p)
			p.end(authn.Success, "mittens")
			return nil
		}, gone(), "success after the user could not be asked"},
		{"success_while_the_failing_prompt_is_open", func(p *peer) error {
			p.started()
			p.prompt(1, wire.Style_STYLE_PROMPT, "Code: ")
			p.end(authn.Success, "mittens")
			return nil
		}, gone(), "success after the user could not be asked"},
		{"two_prompts_at_once", func(p *peer) error {
			p.started()
			p.prompt(1, wire.Style_STYLE_PROMPT, "Name: ")
			p.prompt(2, wire.Style_STYLE_PROMPT, "Code: ")
			wait(p)
			return nil
		}, slow(), "a second prompt while one is open"},
		{"65_prompts", func(p *peer) error {
			p.started()
			for i := range authn.MaxPrompts + 1 {
				p.prompt(i, wire.Style_STYLE_INFO, "again")
				wait(p)
			}
			p.end(authn.Success, "mittens")
			return nil
		}, nil, "more than 64 prompts"},
		{"a_huge_prompt", func(p *peer) error {
			p.started()
			p.prompt(1, wire.Style_STYLE_PROMPT, strings.Repeat("x", authn.MaxPrompt+1))
			wait(p)
			return nil
		}, nil, "a prompt of 8193 bytes"},
		{"a_nul_in_a_prompt", func(p *peer) error {
			p.started()
			p.prompt(1, wire.Style_STYLE_PROMPT, "a\x00b")
			wait(p)
			return nil
		}, nil, "a NUL in a prompt"},
		{"invalid_utf8_in_a_prompt", func(p *peer) error {
			p.started()
			p.raw(field(2, field(3, []byte("a\xffb"))))
			wait(p)
			return nil
		}, nil, "garbage on the wire"},
		{"bytes_that_are_no_message", func(p *peer) error { p.started(); p.raw([]byte("\xff\xff\xff")); wait(p); return nil }, nil, "garbage on the wire"},
		{"a_prompt_of_no_style", func(p *peer) error { p.started(); p.prompt(1, 0, "Code: "); wait(p); return nil }, nil, "a prompt of unknown style"},
		{"a_prompt_of_a_new_style", func(p *peer) error { p.started(); p.prompt(1, 5, "Code: "); wait(p); return nil }, nil, "a prompt of unknown style"},
		{"a_prompt_before_started", func(p *peer) error { p.prompt(1, wire.Style_STYLE_PROMPT, "Code: "); wait(p); return nil }, nil, "Prompt before Started"},
		{"waiting_before_started", func(p *peer) error {
			p.send(&wire.FromProvider{Message: &wire.FromProvider_Waiting{Waiting: &wire.Waiting{LimitMs: 1}}})
			wait(p)
			return nil
		}, nil, "Waiting before Started"},
		{"allow_before_started", func(p *peer) error { p.allow(1, "k", 1, 1); wait(p); return nil }, nil, "Allow before Started"},
		{"started_twice", func(p *peer) error { p.started(); p.started(); wait(p); return nil }, nil, "Started twice"},
		{"a_message_of_an_unknown_kind", func(p *peer) error { p.started(); p.raw(field(99, nil)); wait(p); return nil }, nil, "an unknown message"},
		{"an_empty_message", func(p *peer) error { p.started(); p.send(&wire.FromProvider{}); wait(p); return nil }, nil, "an unknown message"},
		{"9_allows_at_once", func(p *peer) error {
			p.started()
			for i := range maxAllows + 1 {
				p.allow(i, "k", 1, 1000)
			}
			<-p.Context().Done()
			return nil
		}, nil, "more than 8 questions of Allow at once"},
		{"an_allow_without_a_key", func(p *peer) error { p.started(); p.allow(1, "", 1, 1); wait(p); return nil }, nil, "an Allow out of bounds"},
		{"an_allow_with_a_huge_key", func(p *peer) error {
			p.started()
			p.allow(1, strings.Repeat("k", authn.MaxAllowKey+1), 1, 1)
			wait(p)
			return nil
		}, nil, "an Allow out of bounds"},
		{"an_allow_of_no_uses", func(p *peer) error { p.started(); p.allow(1, "k", 0, 1); wait(p); return nil }, nil, "an Allow out of bounds"},
		{"an_allow_of_many_uses", func(p *peer) error { p.started(); p.allow(1, "k", 1<<32-1, 1); wait(p); return nil }, nil, "an Allow out of bounds"},
		{"an_allow_of_no_window", func(p *peer) error { p.started(); p.allow(1, "k", 1, 0); wait(p); return nil }, nil, "an Allow out of bounds"},
		{"an_allow_of_all_time", func(p *peer) error { p.started(); p.allow(1, "k", 1, 1<<64-1); wait(p); return nil }, nil, "an Allow out of bounds"},
		{"a_huge_message", func(p *peer) error {
			p.started()
			p.log(strings.Repeat("x", authn.MaxMessage))
			wait(p)
			return nil
		}, nil, "a message of more than 262144 bytes"},
		{"an_end_without_a_result", func(p *peer) error { p.started(); return nil }, nil, "the provider ended the call without a result"},
		{"an_end_without_anything", func(*peer) error { return nil }, nil, "the provider ended the call without a result"},
		{"an_error_instead_of_a_result", func(*peer) error { return errors.New("open sesame") }, nil, "an error of the provider's own"},
		{"a_status_of_success_and_no_result", func(*peer) error { return status.Error(codes.OK, "fine") }, nil, "without a result"},
		{"unimplemented", func(*peer) error { return status.Error(codes.Unimplemented, "open sesame") }, nil, "not implemented by this provider"},
		{"a_status_that_looks_like_a_time_out", func(*peer) error { return status.Error(codes.DeadlineExceeded, "open sesame") }, nil, "timed out"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			user := tt.user
			if user == nil {
				user = types("open sesame")
			}
			ctx := limit.With(t.Context(), func(ctx context.Context, _ string, _ int, _ time.Duration) (bool, error) {
				<-ctx.Done() // as long as the call lasts
				return false, ctx.Err()
			})
			remote := remoteOf(t, fake{script: tt.script})
			id, err := remote.Authenticate(ctx, &authn.Request{User: "mittens"}, user)
			if authn.ResultOf(err) != authn.ErrSystem || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want system_err about %q", err, tt.want)
			}
			if id.Subject != "" || id.Env != nil || id.Ticket != nil {
				t.Errorf("and yet an identity: %+v", id)
			}
			if err != nil && strings.Contains(err.Error(), "open sesame") {
				t.Errorf("%v repeats the provider's own words", err)
			}
		})
	}
}

// slow is a user who answers only once nobody waits for it any more.
func slow() *person {
	n := 0
	return &person{answer: func(string) (string, error) {
		for range 100 {
			runtime.Gosched()
		}
		n++
		return fmt.Sprint(n), nil
	}}
}

func TestRefusalsKeepTheirResult(t *testing.T) {
	for _, r := range []authn.Result{authn.ErrAuth, authn.ErrMaxTries, authn.ErrIgnore, authn.ErrAuthInfoUnavail, authn.ErrSystem} {
		_, err := authenticate(t, func(p *peer) error { p.started(); p.end(r, "mittens"); return nil }, types(""))
		if authn.ResultOf(err) != r || err.Error() != "reason: "+r.Error() {
			t.Errorf("%s became %v", r.Error(), err)
		}
	}
}

func TestUseFirstPassReachesTheProvider(t *testing.T) {
	_, err := authenticate(t, func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_PROMPT, "Code: ")
		m, _ := p.Recv()
		p.end(authn.Result(m.GetAnswer().GetFailure()), "")
		return nil
	}, &person{answer: func(string) (string, error) { return "typed", authn.ErrAuth }})
	if authn.ResultOf(err) != authn.ErrAuth {
		t.Errorf("got %v, want auth_err", err)
	}
}

func TestTextsAreCleaned(t *testing.T) {
	user := types("x")
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.log("\x1b[2J\u202elog\nline")
		p.started()
		p.prompt(1, wire.Style_STYLE_INFO, "\x1b]0;title\a\u2066text\r\n\tend\u009b")
		_, _ = p.Recv()
		n := int32(authn.ErrAuth)
		p.result(&wire.Result{Code: &n, Reason: "\x1b[31mreason\x7f"})
		return nil
	}})
	var logged []string
	remote.Log = func(_ wire.Level, text string) { logged = append(logged, text) }
	_, err := remote.Authenticate(t.Context(), &authn.Request{}, user)
	if err == nil || err.Error() != "?[31mreason?: auth_err" {
		t.Errorf("the reason is %q", err)
	}
	if want := []string{"?]0;title??text?\n\tend?"}; !slices.Equal(user.shown, want) {
		t.Errorf("shown: %q, want %q", user.shown, want)
	}
	if want := []string{"?[2J?log\nline"}; !slices.Equal(logged, want) {
		t.Errorf("logged: %q, want %q", logged, want)
	}
}

func TestAFloodOfLogLinesIsCutAndTheCallGoesOn(t *testing.T) {
	remote := remoteOf(t, fake{script: func(p *peer) error {
		for range 5000 {
			p.log(strings.Repeat("ü", maxLogText))
		}
		p.started()
		p.end(authn.Success, "mittens")
		return nil
	}})
	lines, longest := 0, 0
	remote.Log = func(_ wire.Level, text string) { lines, longest = lines+1, max(longest, len(text)) }
	id, err := remote.Authenticate(t.Context(), &authn.Request{}, types(""))
	if err != nil || id.Subject != "mittens" || lines != maxLogLines || longest != maxLogText {
		t.Errorf("%v, %v: %d lines of at most %d bytes", id, err, lines, longest)
	}
}

func TestAllowIsCountedByTheWorker(t *testing.T) {
	_, err := authenticateWith(t, limit.With(t.Context(), func(_ context.Context, key string, n int, window time.Duration) (bool, error) {
		if n > 2 {
			return true, errors.New("disk full")
		}
		return key == "k" && n == 2 && window == time.Second, nil
	}), func(p *peer) error {
		p.started()
		p.allow(7, "k", 2, 1000)
		yes, _ := p.Recv()
		p.allow(8, "k", 1, 1000)
		no, _ := p.Recv()
		p.allow(9, "k", 3, 1000)
		broken, _ := p.Recv()
		if r := yes.GetAllowReply(); r.GetId() != 7 || !r.GetAllowed() || r.GetError() != "" {
			return fmt.Errorf("want yes: %v", r)
		}
		if r := no.GetAllowReply(); r.GetId() != 8 || r.GetAllowed() || r.GetError() != "" {
			return fmt.Errorf("want no: %v", r)
		}
		if r := broken.GetAllowReply(); r.GetId() != 9 || r.GetAllowed() || r.GetError() != "disk full" {
			return fmt.Errorf("want an error: %v", r)
		}
		p.end(authn.Success, "mittens")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAllowWithoutAStoreErrs(t *testing.T) {
	_, err := authenticateWith(t, t.Context(), func(p *peer) error {
		p.started()
		p.allow(1, "k", 1, 1000)
		if m, _ := p.Recv(); m.GetAllowReply().GetError() != "" && !m.GetAllowReply().GetAllowed() {
			p.end(authn.Success, "mittens")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func authenticateWith(t *testing.T, ctx context.Context, s script) (authn.Identity, error) {
	t.Helper()
	return remoteOf(t, fake{script: s}).Authenticate(ctx, &authn.Request{}, types(""))
}

func TestStartedCanEndTheCall(t *testing.T) {
	both := errors.New("both steps given")
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.send(&wire.FromProvider{Message: &wire.FromProvider_Started{Started: &wire.Started{StepMs: 1500}}})
		p.end(authn.Success, "mittens")
		return nil
	}})
	remote.Started = func(step time.Duration, _ bool) error {
		if step != 1500*time.Millisecond {
			t.Errorf("the step is %s", step)
		}
		return both
	}
	if _, err := remote.Authenticate(t.Context(), &authn.Request{}, types("")); !errors.Is(err, both) {
		t.Errorf("got %v", err)
	}
}

func TestOtherCallsHaveTheirOwnResults(t *testing.T) {
	var code authn.Result
	remote := remoteOf(t, fake{script: func(p *peer) error { p.started(); p.end(code, ""); return nil }})
	calls := map[string]struct {
		call func() error
		can  authn.Result
		not  authn.Result
	}{
		"account": {func() error { return remote.CheckAccount(t.Context(), &authn.Request{}, types("")) },
			authn.ErrNewAuthtokRequired, authn.ErrSession},
		"setcred": {func() error { return remote.SetCredentials(t.Context(), &authn.Request{}, authn.Establish) },
			authn.ErrCred, authn.ErrAuth},
		"open_session": {func() error { return remote.OpenSession(t.Context(), &authn.Request{}, types("")) },
			authn.ErrSession, authn.ErrAuth},
		"close_session": {func() error { return remote.CloseSession(t.Context(), &authn.Request{}) },
			authn.ErrSession, authn.ErrCred},
		"first_pass": {func() error { return remote.CanChangePassword(t.Context(), &authn.Request{}) },
			authn.ErrTryAgain, authn.ErrAuth},
		"second_pass": {func() error { return remote.ChangePassword(t.Context(), &authn.Request{}, types("")) },
			authn.ErrAuthtok, authn.ErrNewAuthtokRequired},
		"check": {func() error { return remote.Check(t.Context()) }, authn.ErrSystem, authn.ErrIgnore},
	}
	for name, tt := range calls {
		t.Run(name, func(t *testing.T) {
			for result, want := range map[authn.Result]authn.Result{authn.Success: authn.Success, tt.can: tt.can, tt.not: authn.ErrSystem} {
				code = result
				if err := tt.call(); authn.ResultOf(err) != want {
					t.Errorf("%s became %v", result.Error(), err)
				}
			}
		})
	}
}

func TestCallsWithoutAConversationCannotAsk(t *testing.T) {
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_INFO, "hello")
		m, _ := p.Recv()
		p.end(authn.Result(m.GetAnswer().GetFailure()), "")
		return nil
	}})
	if err := remote.CloseSession(t.Context(), &authn.Request{}); authn.ResultOf(err) != authn.ErrConv {
		t.Errorf("got %v, want conv_err", err)
	}
}

func TestARequestOfAnyBytesGetsThrough(t *testing.T) {
	odd := "\xff\xfe\n'\""
	want := &authn.Request{
		Service: odd, User: odd, RHost: odd, TTY: odd, RUser: odd, Args: []string{odd, ""},
		Ticket: []byte{0, 1, 255}, Files: map[string][]byte{"f": {0, 255}},
		Silent: true, Expired: true, Timeout: 90 * time.Second, Subject: "mittens", ClaimedSubject: odd,
	}
	var got *authn.Request
	remote := remoteOf(t, starts{see: func(s *wire.Start) { got = requestFrom(s.GetRequest()) }})
	_, _ = remote.Authenticate(t.Context(), want, types(""))
	want.ClaimedSubject = "?\n'\""
	if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
		t.Errorf("got\n%#v, want\n%#v", got, want)
	}
}

// starts hands out the first message of each call.
type starts struct {
	wire.UnimplementedProviderServer
	see func(*wire.Start)
}

func (s starts) Call(stream grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]) error {
	m, err := stream.Recv()
	if err == nil {
		s.see(m.GetStart())
	}
	return err
}

// The worker's context is the provider's.
func TestCancellingEndsBothSides(t *testing.T) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_PROMPT, "Code: ")
		<-p.Context().Done()
		close(ended)
		return nil
	}})
	user := &person{answer: func(string) (string, error) {
		cancel()
		<-ctx.Done()
		return "", authn.ErrConv
	}}
	_, err := remote.Authenticate(ctx, &authn.Request{}, user)
	<-ended
	if authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("got %v, want system_err about the cancelling", err)
	}
}

// An open prompt keeps the call, but not the provider that broke the rules.
func TestAViolationEndsTheProviderWhileThePromptIsStillOpen(t *testing.T) {
	ended := make(chan struct{})
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_PROMPT, "Name: ")
		p.prompt(2, wire.Style_STYLE_PROMPT, "Code: ")
		<-p.Context().Done()
		close(ended)
		return nil
	}})
	user := &person{answer: func(string) (string, error) {
		<-ended
		return "mittens", nil
	}}
	if _, err := remote.Authenticate(t.Context(), &authn.Request{}, user); authn.ResultOf(err) != authn.ErrSystem {
		t.Errorf("got %v, want system_err", err)
	}
}

func TestAProviderThatStaysAfterItsResultIsLeftAtTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	forever := make(chan struct{})
	defer close(forever)
	_, err := authenticateWith(t, ctx, func(p *peer) error {
		p.started()
		p.end(authn.Success, "mittens")
		<-forever
		return nil
	})
	if authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), "after the result: timed out") {
		t.Errorf("got %v", err)
	}
}

func TestSuccessAfterTheEndOfTheCallIsNone(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.started()
		p.prompt(1, wire.Style_STYLE_PROMPT, "Press Enter: ")
		p.end(authn.Success, "mittens")
		return nil
	}})
	_, err := remote.Authenticate(ctx, &authn.Request{}, &person{answer: func(string) (string, error) {
		cancel()
		return "", nil
	}})
	if authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), "cancelled") {
		t.Errorf("got %v", err)
	}
}

func TestCallsLeaveNoGoroutine(t *testing.T) {
	remote := remoteOf(t, fake{script: func(p *peer) error {
		p.started()
		p.allow(1, "k", 1, 1000)
		p.prompt(1, wire.Style_STYLE_PROMPT, "Code: ")
		p.end(authn.ErrAuth, "")
		return nil
	}})
	call := func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ctx = limit.With(ctx, func(ctx context.Context, _ string, _ int, _ time.Duration) (bool, error) {
			<-ctx.Done()
			return false, ctx.Err()
		})
		_, _ = remote.Authenticate(ctx, &authn.Request{}, slow())
	}
	call()
	before := runtime.NumGoroutine()
	for range 20 {
		call()
	}
	deadline := time.After(10 * time.Second)
	for runtime.NumGoroutine() > before {
		select {
		case <-deadline:
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		case <-time.After(time.Millisecond):
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// A stub does what its function says.
type stub func(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error)

func (s stub) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	return s(ctx, req, conv)
}

// serve serves s, and gets its logger to it.
func serve(t *testing.T, s func(log *slog.Logger) stub) *plugin.Remote {
	t.Helper()
	return authntest.Serve(t, func(_ struct{}, log *slog.Logger) (stub, error) { return s(log), nil }, "")
}

func always(s stub) func(*slog.Logger) stub { return func(*slog.Logger) stub { return s } }

var mittens = authn.Identity{Subject: "mittens"}

func TestOutcomesOfAuthenticate(t *testing.T) {
	tests := []struct {
		name   string
		stub   stub
		result authn.Result
		reason string
	}{
		{"a_subject_is_success", returns(mittens, nil), authn.Success, ""},
		{"an_identity_beside_an_error_is_no_success", returns(mittens, authn.ErrAuth), authn.ErrAuth, "auth_err"},
		{"a_reason_arrives", returns(mittens, fmt.Errorf("no such cat: %w", authn.ErrAuth)), authn.ErrAuth, "no such cat: auth_err"},
		{"a_bare_error_is_system_err", returns(mittens, errors.New("broken")), authn.ErrSystem, "broken: system_err"},
		{"success_as_an_error_is_system_err", returns(mittens, authn.Success), authn.ErrSystem, "success: system_err"},
		{"nobody_is_system_err", returns(authn.Identity{}, nil), authn.ErrSystem, "success without saying who"},
		{"a_result_of_another_call_is_system_err", returns(mittens, authn.ErrSession), authn.ErrSystem, "session_err, which this call cannot have"},
		{"a_bad_variable_is_system_err", returns(authn.Identity{Subject: "m", Env: map[string]string{"PATH": "/tmp"}}, nil), authn.ErrSystem, `"PATH"`},
		{"a_panic_is_system_err", func(context.Context, *authn.Request, authn.Conversation) (authn.Identity, error) {
			panic("swordfish")
		}, authn.ErrSystem, "panic (string) in "},
		{"a_nil_map_is_system_err", func(_ context.Context, req *authn.Request, _ authn.Conversation) (authn.Identity, error) {
			var m map[string]int
			m[req.User]++ //nolint:govet,staticcheck // the panic is the point
			return mittens, nil
		}, authn.ErrSystem, "panic (runtime.plainError) in "},
		{"a_long_reason_is_cut", returns(mittens, fmt.Errorf("%s: %w", strings.Repeat("ü", 1<<16), authn.ErrAuth)), authn.ErrAuth, "üüü"},
		{"invalid_utf8_in_a_reason_is_replaced", returns(mittens, fmt.Errorf("a\xffb: %w", authn.ErrAuth)), authn.ErrAuth, "a?b: auth_err"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := serve(t, always(tt.stub)).Authenticate(t.Context(), &authn.Request{User: "mittens"}, authntest.Conversation(t))
			if authn.ResultOf(err) != tt.result || err != nil && !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want %s about %q", err, tt.result.Error(), tt.reason)
			}
			if (id.Subject != "") != (tt.result == authn.Success) {
				t.Errorf("the subject is %q", id.Subject)
			}
			if err != nil && (strings.Contains(err.Error(), "swordfish") || len(err.Error()) > 17<<10) {
				t.Errorf("%.200s says too much", err)
			}
		})
	}
}

func returns(id authn.Identity, err error) stub {
	return func(context.Context, *authn.Request, authn.Conversation) (authn.Identity, error) { return id, err }
}

func TestAConstructorCannotChooseTheResult(t *testing.T) {
	for name, newStub := range map[string]func(struct{}, *slog.Logger) (stub, error){
		"an_error":             func(struct{}, *slog.Logger) (stub, error) { return nil, errors.New("no") },
		"an_error_of_a_result": func(struct{}, *slog.Logger) (stub, error) { return nil, authn.ErrIgnore },
		"an_error_of_success":  func(struct{}, *slog.Logger) (stub, error) { return nil, authn.Success },
		"a_panic":              func(struct{}, *slog.Logger) (stub, error) { panic("swordfish") },
		"nothing":              func(struct{}, *slog.Logger) (stub, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			remote := authntest.Serve(t, newStub, "")
			_, err := remote.Authenticate(t.Context(), &authn.Request{}, authntest.Conversation(t))
			if authn.ResultOf(err) != authn.ErrSystem {
				t.Errorf("got %v, want system_err", err)
			}
		})
	}
}

// all has every capability and says what was called.
type all struct {
	stub
	mu    *sync.Mutex
	heard *[]string
}

func (a all) hear(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*a.heard = append(*a.heard, fmt.Sprintf(format, args...))
}

func (a all) CheckAccount(_ context.Context, req *authn.Request, conv authn.Conversation) error {
	a.hear("CheckAccount %s", req.User)
	return conv.Info("expires soon")
}

func (a all) SetCredentials(_ context.Context, req *authn.Request, op authn.CredentialOp) error {
	a.hear("SetCredentials %s %s", req.User, op)
	return nil
}

func (a all) OpenSession(_ context.Context, req *authn.Request, conv authn.Conversation) error {
	a.hear("OpenSession %s %s", req.Subject, req.ClaimedSubject)
	return conv.Info("welcome")
}

func (a all) CloseSession(_ context.Context, req *authn.Request) error {
	a.hear("CloseSession %s", req.User)
	return nil
}

func (a all) CanChangePassword(_ context.Context, req *authn.Request) error {
	a.hear("CanChangePassword %v", req.Expired)
	return authn.ErrTryAgain
}

func (a all) ChangePassword(_ context.Context, req *authn.Request, conv authn.Conversation) error {
	word, err := conv.PromptSecret("New: ")
	a.hear("ChangePassword %v %s", req.Silent, word.Reveal())
	return err
}

func TestEveryCallReachesItsMethod(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	remote := authntest.Serve(t, func(struct{}, *slog.Logger) (all, error) { return all{nil, &mu, &heard}, nil }, "")
	ctx := t.Context()
	user := authntest.Expect(t, authntest.Info("expires soon"), authntest.Info("welcome"), authntest.PromptSecret("New", "word"))
	errs := []error{
		remote.CheckAccount(ctx, &authn.Request{User: "a"}, user),
		remote.SetCredentials(ctx, &authn.Request{User: "b"}, authn.Refresh),
		remote.OpenSession(ctx, &authn.Request{Subject: "c", ClaimedSubject: "d"}, user),
		remote.CloseSession(ctx, &authn.Request{User: "e"}),
		remote.CanChangePassword(ctx, &authn.Request{Expired: true}),
		remote.ChangePassword(ctx, &authn.Request{Silent: true}, user),
	}
	want := []string{"CheckAccount a", "SetCredentials b refresh", "OpenSession c d", "CloseSession e",
		"CanChangePassword true", "ChangePassword true word"}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
	for i, err := range errs {
		if want := i == 4; want != errors.Is(err, authn.ErrTryAgain) || !want && err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if capabilities(remote) != 4 {
		t.Errorf("%d capabilities are announced", capabilities(remote))
	}
}

func capabilities(a authn.Authenticator) (n int) {
	for _, ok := range []bool{is[authn.AccountManager](a), is[authn.CredentialSetter](a), is[authn.SessionManager](a), is[authn.PasswordChanger](a)} {
		if ok {
			n++
		}
	}
	return n
}

func is[T any](a authn.Authenticator) bool {
	_, ok := authn.As[T](a)
	return ok
}

// A constructor that returns an interface announces everything; what is not
// there is answered as if it had not been announced.
func TestCapabilitiesBehindAnInterface(t *testing.T) {
	remote := authntest.Serve(t, func(struct{}, *slog.Logger) (authn.Authenticator, error) {
		return authn.WithStep(returns(mittens, nil), 1500*time.Millisecond), nil
	}, "")
	var step time.Duration
	remote.Started = func(s time.Duration, byDefault bool) error {
		if step = s; byDefault {
			t.Error("a step of the configuration is taken for a default")
		}
		return nil
	}
	if capabilities(remote) != 4 {
		t.Errorf("%d capabilities are announced", capabilities(remote))
	}
	ctx, req, user := t.Context(), &authn.Request{}, authntest.Conversation(t)
	for name, err := range map[string]error{
		"account": remote.CheckAccount(ctx, req, user), "open_session": remote.OpenSession(ctx, req, user),
		"close_session": remote.CloseSession(ctx, req), "first_pass": remote.CanChangePassword(ctx, req),
		"second_pass": remote.ChangePassword(ctx, req, user),
	} {
		if authn.ResultOf(err) != authn.ErrIgnore {
			t.Errorf("%s: %v, want ignore", name, err)
		}
	}
	if err := remote.SetCredentials(ctx, req, authn.Establish); err != nil {
		t.Errorf("setcred: %v, want success", err)
	}
	if step != 1500*time.Millisecond {
		t.Errorf("the step is %s", step)
	}
}

func TestADefaultStepIsToldAsOne(t *testing.T) {
	remote := authntest.Serve(t, func(struct{}, *slog.Logger) (authn.Authenticator, error) {
		return authn.WithDefaultStep(returns(mittens, nil), time.Second), nil
	}, "")
	told := false
	remote.Started = func(step time.Duration, byDefault bool) error {
		told = step == time.Second && byDefault
		return nil
	}
	if err := remote.Check(t.Context()); err != nil || !told {
		t.Errorf("told %v, error %v", told, err)
	}
}

func TestANegativeStepIsRefused(t *testing.T) {
	remote := authntest.Serve(t, func(struct{}, *slog.Logger) (authn.Authenticator, error) {
		return authn.WithStep(returns(mittens, nil), -1), nil
	}, "")
	if err := remote.Check(t.Context()); authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), "negative time step") {
		t.Errorf("got %v", err)
	}
}

func TestConversationOverTheWire(t *testing.T) {
	remote := serve(t, always(func(_ context.Context, _ *authn.Request, conv authn.Conversation) (authn.Identity, error) {
		for _, bad := range []string{strings.Repeat("x", authn.MaxPrompt+1), "a\x00b"} {
			if err := conv.Info(bad); authn.ResultOf(err) != authn.ErrSystem {
				return authn.Identity{}, fmt.Errorf("a bad text: %w", authn.ErrAbort)
			}
		}
		_ = conv.Info("a\xffb")
		name, _ := conv.Prompt("Name: ")
		code, _ := conv.PromptSecret(strings.Repeat("x", authn.MaxPrompt))
		conv.Waiting(1500 * time.Microsecond)
		return authn.Identity{Subject: name + " " + code.Reveal()}, conv.Error("bye")
	}))
	user := authntest.Expect(t, authntest.Info("a?b"), authntest.Prompt("Name: ", "m\xfc"), authntest.PromptSecret("xxx", "word"),
		authntest.Waiting(2*time.Millisecond), authntest.Error("bye"))
	_, err := remote.Authenticate(t.Context(), &authn.Request{}, user)
	if err == nil || !strings.Contains(err.Error(), "the subject is not printable") {
		t.Errorf("got %v; an answer's bytes should arrive as they are", err)
	}
}

// Goroutines of a provider may ask at the same time; the user hears one after
// the other.
func TestQuestionsOfSeveralGoroutinesWaitForEachOther(t *testing.T) {
	remote := serve(t, always(func(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() { _, _ = conv.Prompt(fmt.Sprint(i)) })
			group.Go(func() { conv.Waiting(time.Second) })
			group.Go(func() { _, _ = req.Allow(ctx, "k", 1, time.Second) })
		}
		group.Wait()
		return mittens, nil
	}))
	var limits authntest.Limits
	user := authntest.Conversation(t, slices.Repeat([]string{"x"}, 10)...)
	if _, err := remote.Authenticate(limits.Context(t.Context()), &authn.Request{}, user); err != nil {
		t.Error(err)
	}
}

func TestLogLinesKeepTheirLevel(t *testing.T) {
	remote := serve(t, func(log *slog.Logger) stub {
		log.Warn("made", "time", "noon")
		return func(context.Context, *authn.Request, authn.Conversation) (authn.Identity, error) {
			log.Debug("one", "secret", authn.NewSecret("swordfish"))
			log.With("a", 1).WithGroup("g").Error("two\nlines", "b", "c d")
			log.Log(context.Background(), slog.LevelInfo+1, "three")
			return mittens, nil
		}
	})
	var b bytes.Buffer
	remote.Log = func(level wire.Level, text string) { fmt.Fprintf(&b, "%s %s\n", level, text) }
	if _, err := remote.Authenticate(t.Context(), &authn.Request{}, authntest.Conversation(t)); err != nil {
		t.Fatal(err)
	}
	const want = `LEVEL_WARN msg=made time=noon
LEVEL_DEBUG msg=one secret=<hidden>
LEVEL_ERROR msg="two\nlines" a=1 g.b="c d"
LEVEL_INFO msg=three
`
	if got := b.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The end of the worker's context is the end of the provider's, and of the
// question that it has open.
func TestTheProvidersContextEndsWithTheWorkers(t *testing.T) {
	ended := make(chan error, 1)
	remote := serve(t, always(func(ctx context.Context, _ *authn.Request, conv authn.Conversation) (authn.Identity, error) {
		_, err := conv.Prompt("Name: ")
		<-ctx.Done()
		ended <- err
		return mittens, nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	user := authntest.Expect(t, authntest.NoAnswer(ctx, cancel))
	if _, err := remote.Authenticate(ctx, &authn.Request{}, user); authn.ResultOf(err) != authn.ErrSystem {
		t.Errorf("the worker got %v, want system_err", err)
	}
	if err := <-ended; authn.ResultOf(err) != authn.ErrConv {
		t.Errorf("the provider got %v, want conv_err", err)
	}
}

func TestADeadlineEndsACall(t *testing.T) {
	remote := serve(t, always(func(ctx context.Context, _ *authn.Request, _ authn.Conversation) (authn.Identity, error) {
		<-ctx.Done()
		return mittens, nil
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := remote.Authenticate(ctx, &authn.Request{}, authntest.Conversation(t))
	if authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("got %v", err)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package python_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// startEverything starts a provider that uses all of authn_provider.py; the
// account's name says what it does.
func startEverything(t *testing.T) process {
	t.Helper()
	p := startAs(t, uint32(os.Geteuid()), absolute(t, "testdata/authn-everything")) //nolint:gosec // a uid
	p.Config = &wire.Config{}
	return p
}

func TestTheWholeConversation(t *testing.T) {
	p := startEverything(t)
	p.Config.Json = `{"step": 2}`
	var steps []time.Duration
	p.Started = func(step time.Duration, _ bool) error { steps = append(steps, step); return nil }
	lines := logLines(p)
	script := &transcript{answer: "mittens"}
	id, err := p.Authenticate(t.Context(), &authn.Request{User: "talks", RHost: "\xff"}, script)
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "mittens" || id.Env["AUTHN_X"] != "y" || string(id.Ticket) != "\x00\xff" {
		t.Errorf("the identity is %q", id)
	}
	if want := []string{"info an info", "error an error", "prompt Name: ", "waiting 1.5s"}; !slices.Equal(script.seen, want) {
		t.Errorf("the user saw %q, want %q", script.seen, want)
	}
	if want := []time.Duration{2 * time.Second}; !slices.Equal(steps, want) {
		t.Errorf("the time steps are %v, want %v", steps, want)
	}
	want := []string{"LEVEL_DEBUG d", "LEVEL_INFO " + strings.Repeat("i", 1024), "LEVEL_WARN not text: ?", "LEVEL_ERROR e"}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("the log is %q, want %q", got, want)
	}
}

func TestFaultsSayWhereButNotWhat(t *testing.T) {
	p := startEverything(t)
	for account, want := range map[string]string{
		"faults":     "ValueError at authn-everything:",
		"exits":      "SystemExit at authn-everything:",
		"nosuch":     "AttributeError at authn-everything:",
		"forgets":    "success without saying who",
		"longwinded": "more than 8192 bytes",
	} {
		t.Run(account, func(t *testing.T) {
			_, err := p.Authenticate(t.Context(), &authn.Request{User: account}, &transcript{answer: "hunter2"})
			wantResult(t, err, authn.ErrSystem)
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error is %q, want %q in it and no secret", err, want)
			}
		})
	}
}

func TestEveryCapabilityIsCalled(t *testing.T) {
	p := startEverything(t)
	lines := logLines(p)
	ctx := t.Context()
	if _, ok := authn.As[authn.AccountManager](p); ok {
		t.Error("an AccountManager that nobody wrote")
	}
	creds, okCreds := authn.As[authn.CredentialSetter](p)
	sessions, okSessions := authn.As[authn.SessionManager](p)
	passwords, okPasswords := authn.As[authn.PasswordChanger](p)
	if !okCreds || !okSessions || !okPasswords {
		t.Fatal("a capability is missing")
	}
	req := &authn.Request{
		Subject: "mittens", ClaimedSubject: "mallory", Ticket: []byte("t\x00"), Args: []string{"a=b"},
		Files: map[string][]byte{"f": []byte("\xff")}, Expired: true, Timeout: 1500 * time.Millisecond,
	}
	if err := creds.SetCredentials(ctx, req, authn.Delete); err != nil {
		t.Error(err)
	}
	if err := sessions.OpenSession(ctx, req, &transcript{}); err != nil {
		t.Error(err)
	}
	wantResult(t, sessions.CloseSession(ctx, req), authn.ErrSession)
	wantResult(t, passwords.CanChangePassword(ctx, req), authn.ErrTryAgain)
	if err := passwords.ChangePassword(ctx, req, &transcript{}); err != nil {
		t.Error(err)
	}
	want := []string{
		`LEVEL_INFO setcred 2 b't\x00' mittens ['a=b']`,
		`LEVEL_INFO open mallory {'f': b'\xff'}`,
		`LEVEL_INFO change True False 1.5`,
	}
	if got := lines(); !slices.Equal(got, want) {
		t.Errorf("the log is %q, want %q", got, want)
	}
}

// Where nothing counts, as here, Allow must not come back with a yes.
func TestAllowWithoutAStoreEndsTheCall(t *testing.T) {
	p := startEverything(t)
	_, err := p.Authenticate(t.Context(), &authn.Request{User: "allows"}, &transcript{})
	wantResult(t, err, authn.ErrSystem)
}

// The worker's side by hand, to say what plugin.Remote never would.
func TestAnswersToAllow(t *testing.T) {
	p := startEverything(t)
	conn, err := grpc.NewClient("unix:"+filepath.Join(p.dir, "provider.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	reply := func(id uint32, allowed bool) *wire.FromWorker {
		return &wire.FromWorker{Message: &wire.FromWorker_AllowReply{AllowReply: &wire.AllowReply{Id: id, Allowed: allowed}}}
	}
	for name, c := range map[string]struct {
		answer *wire.FromWorker
		code   authn.Result
		want   string
	}{
		"yes":              {reply(1, true), authn.Success, "yes"},
		"no":               {reply(1, false), authn.Success, "no"},
		"another_question": {reply(7, true), authn.ErrSystem, "the worker answered another question"},
		"another_kind": {
			&wire.FromWorker{Message: &wire.FromWorker_Answer{Answer: &wire.Answer{Id: 1}}},
			authn.ErrSystem, "the worker answered another question",
		},
		"nothing": {nil, authn.ErrConv, "the worker has ended the call"},
	} {
		t.Run(name, func(t *testing.T) {
			res := exchange(t, wire.NewProviderClient(conn), c.answer)
			if code := authn.Result(res.GetCode()); res.Code == nil || code != c.code || res.GetSubject()+res.GetReason() != c.want {
				t.Errorf("the result is %v, want %s %q", res, c.code.Error(), c.want)
			}
		})
	}
}

// exchange makes one call in which the provider asks Allow, and answers it.
func exchange(t *testing.T, rpc wire.ProviderClient, answer *wire.FromWorker) *wire.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := rpc.Call(ctx)
	if err != nil {
		t.Fatal(err)
	}
	start := &wire.Start{Call: wire.CallType_CALL_AUTHENTICATE, Request: &wire.Request{User: []byte("allows")}}
	if err := stream.Send(&wire.FromWorker{Message: &wire.FromWorker_Start{Start: start}}); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetResult() != nil:
			return m.GetResult()
		case m.GetAllow() != nil && answer == nil:
			err = stream.CloseSend()
		case m.GetAllow() != nil:
			err = stream.Send(answer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// logLines collects the provider's log lines.
func logLines(p process) func() []string {
	var mu sync.Mutex
	var lines []string
	p.Log = func(level wire.Level, text string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, fmt.Sprintf("%s %s", level, text))
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return lines
	}
}

// transcript answers every question and remembers what it was shown.
type transcript struct {
	answer string
	seen   []string
}

func (c *transcript) note(kind, text string) { c.seen = append(c.seen, kind+" "+text) }

func (c *transcript) Prompt(text string) (string, error) {
	c.note("prompt", text)
	return c.answer, nil
}

func (c *transcript) PromptSecret(text string) (authn.Secret, error) {
	c.note("secret", text)
	return authn.NewSecret(c.answer), nil
}

func (c *transcript) Info(text string) error      { c.note("info", text); return nil }
func (c *transcript) Error(text string) error     { c.note("error", text); return nil }
func (c *transcript) Waiting(limit time.Duration) { c.note("waiting", limit.String()) }

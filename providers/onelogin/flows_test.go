// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// sequence of a known person is that of an unknown one, up to the first request
// that needs a device, and as long.
func TestTheSameIsAskedForEverybody(t *testing.T) {
	want := sequence(t, "nobody")
	if len(want) != 7 {
		t.Fatalf("%d requests: %q", len(want), want)
	}
	if want[5] != "POST /api/2/mfa/users/*/verifications" {
		t.Errorf("nobody's code is not checked: %q", want)
	}
	for name, u := range map[string]onelogintest.User{
		"locked": {Username: "felix", Status: onelogintest.Locked, Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator}}},
		"bare":   {Username: "felix", Roles: []int64{admins}},
	} {
		s := serve(t)
		s.AddUser(u)
		_, err := login{}.try(t, s, as("felix", "123456")...)
		wantOut(t, err, authn.ErrAuth, "felix (id ")
		if got := sorted(s); !slices.Equal(got, want) {
			t.Errorf("%s: asked\n%q, want\n%q", name, got, want)
		}
	}
	for _, code := range []string{"000000", ""} {
		s := serve(t)
		c := code
		if c == "" {
			c = s.TOTP("mittens")
		}
		_, _ = login{}.try(t, s, as("mittens", c)...)
		got := sorted(s)
		if !slices.Equal(got, want) {
			t.Errorf("a known person: asked\n%q, want\n%q", got, want)
		}
	}
}

// posts counts what was submitted or sent to a person.
func posts(s *onelogintest.Server, name string) int {
	u, _ := s.User(name)
	return s.Count("POST", fmt.Sprintf("/api/2/mfa/users/%d/verifications", u.ID))
}

func TestCodesThatAreSent(t *testing.T) {
	const factors = "factors: [totp, push, sms, voice, email]\npush: {interval: 100ms, timeout: 2s}"
	const askBoth = "OTP (leave empty for push or a code): "
	for _, factor := range []string{onelogintest.SMS, onelogintest.Email, onelogintest.Voice} {
		for _, v := range []onelogintest.Variants{{}, {NumericCodes: true}, {SingleObjects: true}, {NumericDeviceIDs: true}} {
			s := serve(t, onelogintest.With(v))
			s.Update("mittens", func(u *onelogintest.User) {
				u.Devices = []onelogintest.Device{{Factor: onelogintest.Protect}, {Factor: factor, Default: true}}
			})
			right := authntest.PromptSecretFunc(askCode, func(string) string { return s.Code("mittens", factor) })
			id, err := login{config: []string{factors}}.try(t, s, authntest.Prompt(askName, "mittens"), authntest.PromptSecret(askBoth, ""), right)
			wantIn(t, id, err, "mittens")
			s.Reset()
			_, err = login{config: []string{factors}}.try(t, s, authntest.Prompt(askName, "mittens"),
				authntest.PromptSecret(askBoth, ""), authntest.PromptSecret(askCode, "x00000"))
			wantOut(t, err, authn.ErrAuth, "wrong code")
			if n := s.Count("", "/api/2/mfa/users/*/verifications/*") + s.Count("", "/api/2/mfa/users/*/verifications"); n != 2 {
				t.Errorf("%s: %d requests about the code: %q", factor, n, s.Sequence())
			}
			if n := len(s.Requests()); n > 8 {
				t.Errorf("%d requests: %q", n, s.Sequence())
			}
		}
	}
}

func TestEnterOnceApproved(t *testing.T) {
	const factors = "factors: [totp, push, sms]\npush: {interval: 100ms, timeout: 2s}"
	s := serve(t)
	steps := func(after func()) []authntest.Step {
		return []authntest.Step{
			authntest.Prompt(askName, "mittens"), authntest.PromptSecret("OTP", ""),
			authntest.PromptSecretFunc(askCode, func(string) string { after(); return "" }),
			authntest.Waiting(2 * time.Second),
		}
	}
	id, err := login{config: []string{factors}}.try(t, s, steps(func() { s.Accept("mittens") })...)
	wantIn(t, id, err, "mittens")
	_, err = login{config: []string{factors}}.try(t, s, steps(func() { s.Reject("mittens") })...)
	wantOut(t, err, authn.ErrAuth, "rejected on the phone")
	for _, name := range []string{"nobody", "!"} { // the same prompts, and nothing to wait for
		_, err = login{config: []string{factors}}.try(t, s, authntest.Prompt(askName, name), authntest.PromptSecret("OTP", ""),
			authntest.PromptSecret(askCode, ""), authntest.Waiting(2*time.Second))
		wantOut(t, err, authn.ErrAuth, "")
		_, err = login{config: []string{factors}}.try(t, s, authntest.Prompt(askName, name), authntest.PromptSecret("OTP", ""),
			authntest.PromptSecret(askCode, "B41832"))
		wantOut(t, err, authn.ErrAuth, "")
	}
}

// Protect's own code is taken where the push it got was not approved.
func TestACodeInsteadOfThePush(t *testing.T) {
	s := serve(t)
	s.Update("mittens", func(u *onelogintest.User) { u.Devices = u.Devices[1:] })
	id, err := login{config: []string{"factors: [totp, push, email]"}}.try(t, s, authntest.Prompt(askName, "mittens"),
		authntest.PromptSecret("OTP", ""), authntest.PromptSecretFunc(askCode, func(string) string { return s.TOTP("mittens") }))
	wantIn(t, id, err, "mittens")
}

func TestAText(t *testing.T) {
	// A text message has nothing to approve: Enter alone is a refusal, at the limit.
	s := serve(t)
	s.Update("mittens", func(u *onelogintest.User) { u.Devices = []onelogintest.Device{{Factor: onelogintest.SMS}} })
	l := login{config: []string{"factors: [sms]", "push: {timeout: 2s}"}, limits: &authntest.Limits{}}
	for range 3 {
		_, err := l.try(t, s, as("mittens", "123456")...)
		wantOut(t, err, authn.ErrAuth, "wrong code")
	}
	// OneLogin might take a code nobody was sent for a wish to send one.
	_, err := l.try(t, s, as("mittens", "123456")...)
	wantOut(t, err, authn.ErrAuth, "3 pushes or codes in 10 minutes")
	if n := posts(s, "mittens"); n != 3 {
		t.Errorf("%d codes were submitted to a telephone that got none", n)
	}
	_, err = login{config: []string{"factors: [sms]", "push: {timeout: 2s}"}}.try(t, s, authntest.Prompt(askName, "mittens"),
		authntest.PromptSecret("Press Enter for a code: ", ""), authntest.PromptSecret(askCode, ""), authntest.Waiting(2*time.Second))
	wantOut(t, err, authn.ErrAuth, "nothing was sent that could be approved")
}

func TestWithTOTPAlone(t *testing.T) {
	s := serve(t)
	_, err := login{config: []string{"factors: [totp]"}}.try(t, s, authntest.Prompt(askName, "mittens"), authntest.PromptSecret("OTP: ", ""))
	wantOut(t, err, authn.ErrAuth, "an empty code")
	if n := posts(s, "mittens"); n != 0 {
		t.Errorf("an empty code was submitted %d times: that would send a push", n)
	}
	for _, odd := range []string{" ", "12 34\x01", "a;b", strings.Repeat("1", 65)} {
		_, err := login{config: []string{"factors: [totp]"}}.try(t, s, as("mittens", odd)...)
		wantOut(t, err, authn.ErrAuth, "what was typed cannot be a code")
	}
	if n := posts(s, "mittens"); n != 0 {
		t.Errorf("what cannot be a code was submitted")
	}
	code := s.TOTP("mittens")
	id, err := login{config: []string{"factors: [totp]"}}.try(t, s, as("mittens", code[:3]+" "+code[3:])...)
	wantIn(t, id, err, "mittens")
}

func TestMenu(t *testing.T) {
	s := serve(t)
	s.OnPush(func(string, string) onelogintest.PushDecision {
		return onelogintest.PushDecision{Outcome: onelogintest.Accepted}
	})
	const menu = "Factor (1 totp, 2 push, 3 sms; Enter for your default): "
	conf := []string{"factors: [totp, push, sms]", "ask_factor: true", "push: {interval: 100ms, timeout: 2s}"}
	choose := func(name, choice string, more ...authntest.Step) (authn.Identity, error) {
		return login{config: conf}.try(t, s, append([]authntest.Step{authntest.Prompt(askName, name), authntest.Prompt(menu, choice)}, more...)...)
	}
	code := authntest.PromptSecretFunc("OTP: ", func(string) string { return s.TOTP("mittens") })
	id, err := choose("mittens", "1", code)
	wantIn(t, id, err, "mittens")
	id, err = choose("mittens", " TOTP ", code)
	wantIn(t, id, err, "mittens")
	id, err = choose("mittens", "push", authntest.PromptSecret("Press Enter for push: ", ""))
	wantIn(t, id, err, "mittens")
	_, err = choose("mittens", "3", authntest.PromptSecret("Press Enter for a code: ", ""), authntest.PromptSecret(askCode, "1"))
	wantOut(t, err, authn.ErrAuth, "no factor")
	_, err = choose("nobody", "3", authntest.PromptSecret("Press Enter for a code: ", ""), authntest.PromptSecret(askCode, "1"))
	wantOut(t, err, authn.ErrAuth, "nobody answers")
	_, err = choose("mittens", "yubikey", authntest.PromptSecretFunc("OTP (leave empty for push or a code): ", func(string) string { return s.TOTP("mittens") }))
	wantOut(t, err, authn.ErrAuth, "answered the menu with what is not on it")
	id, err = choose("mittens", "", authntest.PromptSecretFunc("OTP (leave empty for push or a code): ", func(string) string { return s.TOTP("mittens") }))
	wantIn(t, id, err, "mittens")
}

// The user's default comes first, whatever the order; else the first that fits.
func TestWhichFactor(t *testing.T) {
	app, protect, sms := onelogintest.Authenticator, onelogintest.Protect, onelogintest.SMS
	for name, c := range map[string]struct {
		devices []onelogintest.Device
		factors string
		empty   string // what an empty answer sends
		code    string // whose code is right
	}{
		"first":          {[]onelogintest.Device{{Factor: app}, {Factor: protect}}, "[totp, push]", "push", app},
		"default":        {[]onelogintest.Device{{Factor: app}, {Factor: protect, Default: true}}, "[totp, push]", "push", protect},
		"not_allowed":    {[]onelogintest.Device{{Factor: sms, Default: true}, {Factor: app}, {Factor: protect}}, "[totp, push]", "push", app},
		"default_text":   {[]onelogintest.Device{{Factor: app}, {Factor: sms, Default: true}, {Factor: protect}}, "[totp, push, sms]", "sms", app},
		"push_only":      {[]onelogintest.Device{{Factor: app, Default: true}, {Factor: protect}}, "[push]", "push", ""},
		"default_cannot": {[]onelogintest.Device{{Factor: protect}, {Factor: app, Default: true}}, "[totp, push]", "push", app},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			s.Update("mittens", func(u *onelogintest.User) { u.Devices = c.devices })
			l := login{config: []string{"factors: " + c.factors, "push: {interval: 100ms, timeout: 1s}"}}
			code := authntest.PromptSecretFunc("", func(string) string { return s.Code("mittens", cmp.Or(c.code, protect)) })
			id, err := l.try(t, s, authntest.Prompt(askName, "mittens"), code)
			if c.code == "" {
				wantOut(t, err, authn.ErrAuth, "no factor")
			} else {
				wantIn(t, id, err, "mittens")
			}
			steps := as("mittens", "")
			if strings.Contains(c.factors, "sms") {
				steps = append(steps, authntest.PromptSecret(askCode, "none"))
			}
			_, err = l.try(t, s, steps...)
			wantOut(t, err, authn.ErrAuth, "")
			if got := s.Sent("mittens"); !slices.Equal(got, []string{c.empty}) {
				t.Errorf("sent %q, want %q", got, c.empty)
			}
		})
	}
}

func TestPassword(t *testing.T) {
	conf := []string{"require_password: true", "subdomain: example", "push: {interval: 100ms, timeout: 1s}"}
	for _, mfa := range []bool{false, true} {
		s := serve(t)
		s.Update("mittens", func(u *onelogintest.User) { u.LoginMFA = mfa })
		try := func(name, password string, more ...authntest.Step) (authn.Identity, error) {
			return login{config: conf}.try(t, s, append([]authntest.Step{
				authntest.Prompt(askName, name), authntest.PromptSecret("OneLogin password: ", password),
			}, more...)...)
		}
		id, err := try("mittens", "wool-and-string", totp(s, "mittens"))
		wantIn(t, id, err, "mittens")
		s.Reset()
		_, err = try("mittens", "wool", totp(s, "mittens"))
		wantOut(t, err, authn.ErrAuth, "wrong password")
		_, err = try("mittens", "wool", authntest.PromptSecret(askOTP, ""))
		wantOut(t, err, authn.ErrAuth, "wrong password")
		if posts(s, "mittens") != 0 || len(s.Sent("mittens")) != 0 {
			t.Errorf("something was submitted or sent behind a wrong password: %q", s.Sequence())
		}
		if n := s.Count("POST", "/api/1/login/auth"); n != 2 {
			t.Errorf("2 passwords were submitted %d times", n)
		}
		_, err = try("nobody", "wool", authntest.PromptSecret(askOTP, "123456"))
		wantOut(t, err, authn.ErrAuth, "nobody answers")
		if n := s.Count("POST", "/api/1/login/auth"); n != 3 {
			t.Error("for an unknown person, no password was asked about")
		}
	}
}

func TestRequestsAndConnections(t *testing.T) {
	s := serve(t, onelogintest.TLS())
	s.OnPush(func(string, string) onelogintest.PushDecision {
		return onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 1}
	})
	conf := login{config: []string{"ca: |\n  " + strings.ReplaceAll(string(s.CAPEM), "\n", "\n  "), "push: {interval: 100ms, timeout: 2s}"}}
	id, err := conf.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
	wantIn(t, id, err, "mittens")
	if n := len(s.Requests()); n > 7 {
		t.Errorf("%d requests with a code: %q", n, s.Sequence())
	}
	if s.Connections() > 2 || s.Tokens() != 1 {
		t.Errorf("%d connections and %d tokens", s.Connections(), s.Tokens())
	}
	s.Reset()
	id, err = conf.try(t, s, as("mittens", "")...)
	wantIn(t, id, err, "mittens")
	if n := len(s.Requests()) - s.Count("GET", "/api/2/mfa/users/*/verifications/*"); n > 8 {
		t.Errorf("%d requests with a push: %q", n, s.Sequence())
	}
	if s.Connections() > 4 {
		t.Errorf("%d connections for 2 logins", s.Connections())
	}
}

func TestCheckAccount(t *testing.T) {
	s := serve(t)
	id, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
	wantIn(t, id, err, "mittens")
	p := provider(t, config(s))
	check := func(account string, ticket []byte) error {
		return p.CheckAccount(t.Context(), &authn.Request{User: account, Subject: "mittens", Ticket: ticket}, authntest.Conversation(t))
	}
	if err := check("admin", id.Ticket); err != nil {
		t.Errorf("with a ticket: %v", err)
	}
	wantOut(t, check("admin", nil), authn.ErrIgnore, "")
	wantOut(t, check("root", id.Ticket), authn.ErrPermDenied, "mittens: user_roles has no such account")
	wantOut(t, check("admin", []byte("{}")), authn.ErrPermDenied, "ticket")
	wantOut(t, check("admin", []byte(`{"id": 5}`)), authn.ErrPermDenied, "not found")
	s.Update("mittens", func(u *onelogintest.User) { u.Roles = []int64{users} })
	wantOut(t, check("admin", id.Ticket), authn.ErrPermDenied, "mittens: without a role")
	for reason, change := range map[string]func(*onelogintest.User){
		"mittens: status 2 (suspended)":  func(u *onelogintest.User) { u.Status = onelogintest.Suspended },
		"mittens: state 3 (unlicensed)":  func(u *onelogintest.User) { u.State = onelogintest.Unlicensed },
		"mittens: locked until 2099-01-": func(u *onelogintest.User) { u.LockedUntil = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		s.Update("mittens", func(u *onelogintest.User) {
			u.Roles, u.Status, u.State, u.LockedUntil = []int64{admins}, onelogintest.Active, onelogintest.Approved, time.Time{}
			change(u)
		})
		wantOut(t, check("admin", id.Ticket), authn.ErrPermDenied, reason)
	}
	defer s.Fail("", onelogintest.Status(http.StatusBadGateway))()
	wantOut(t, check("admin", id.Ticket), authn.ErrSystem, "502")
	if strings.Contains(string(id.Ticket), "token") || len(id.Ticket) > 64 {
		t.Errorf("the ticket is %s", id.Ticket)
	}
}

func TestOnlyAnOutageIsAnOutage(t *testing.T) {
	down := func(t *testing.T, s *onelogintest.Server) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return strings.Replace(config(s), s.URL, "http://"+l.Addr().String(), 1)
	}
	s := serve(t)
	p := provider(t, down(t, s))
	_, err := p.Authenticate(t.Context(), &authn.Request{User: "admin"}, authntest.Expect(t, authntest.Prompt(askName, "mittens")))
	wantOut(t, err, authn.ErrAuthInfoUnavail, "nobody reached")
	if err := p.CheckAccount(t.Context(), &authn.Request{User: "admin", Ticket: []byte(`{"id": 5}`)}, authntest.Conversation(t)); authn.ResultOf(err) != authn.ErrAuthInfoUnavail {
		t.Errorf("account: %v", err)
	}
	secure := serve(t, onelogintest.TLS())
	_, err = login{}.try(t, secure, authntest.Prompt(askName, "mittens"))
	wantOut(t, err, authn.ErrSystem, "certificate")
	for name, fault := range map[string]onelogintest.Fault{
		"half": onelogintest.Truncate(), "none": onelogintest.Drop(), "page": onelogintest.HTML(), "huge": onelogintest.Huge(1 << 20),
		"envelope": onelogintest.EnvelopeError(), "text": onelogintest.WrongType(), "500": onelogintest.Status(500), "503": onelogintest.Status(503),
		"elsewhere": onelogintest.Redirect(s.URL + "/other"),
	} {
		for _, at := range []string{"/auth/**", "GET /api/2/users", "GET /api/2/users/*", "GET /api/2/mfa/users/*/devices"} {
			heal := s.Fail(at, fault)
			for _, who := range []string{"mittens", "nobody"} {
				steps := as(who, "123456")
				if at == "/auth/**" {
					steps = steps[:1]
				}
				_, err := login{}.try(t, s, steps...)
				// An answer that is one, with a status that may be about the
				// person, is a refusal: "huge" and "text" have the status that
				// there would be without them, "envelope" says 400.
				refusal := authn.ResultOf(err) == authn.ErrAuth && strings.HasPrefix(at, "GET") && at != "GET /api/2/users" &&
					slices.Contains([]string{"huge", "text", "envelope"}, name)
				if authn.ResultOf(err) != authn.ErrSystem && !refusal {
					t.Errorf("%s at %s, %s: %v", name, at, who, err)
				}
			}
			heal()
		}
	}
}

// What was submitted or sent is never submitted or sent again.
func TestNothingIsSentTwice(t *testing.T) {
	for name, fault := range map[string]onelogintest.Fault{
		"lost": onelogintest.DropAfterEffect(), "half": onelogintest.Truncate(), "none": onelogintest.Drop(), "502": onelogintest.Status(502),
		"401": onelogintest.Status(401), "429": onelogintest.RateLimit(0), "page": onelogintest.HTML(),
	} {
		for _, otp := range []string{"code", ""} {
			s := serve(t)
			s.Fail("POST /api/2/**", fault)
			s.Fail("PUT /api/2/**", fault)
			steps := as("mittens", otp)
			if otp != "" {
				steps = []authntest.Step{authntest.Prompt(askName, "mittens"), totp(s, "mittens")}
			}
			_, err := login{config: []string{"push: {interval: 100ms, timeout: 1s}"}}.try(t, s, steps...)
			wantOut(t, err, authn.ErrAuth, "")
			if n := s.Count("POST", "/api/2/**") + s.Count("PUT", "/api/2/**"); n != 1 {
				t.Errorf("%s: %d times", name, n)
			}
		}
		s := serve(t)
		s.Fail("POST /api/1/login/auth", fault)
		_, err := login{config: []string{"require_password: true", "subdomain: example"}}.try(t, s,
			authntest.Prompt(askName, "mittens"), authntest.PromptSecret("password", "wool-and-string"), totp(s, "mittens"))
		if err == nil || s.Count("POST", "/api/1/login/auth") != 1 {
			t.Errorf("%s: password submitted %d times: %v", name, s.Count("POST", "/api/1/login/auth"), err)
		}
	}
}

func TestTokens(t *testing.T) {
	in := func(t *testing.T, s *onelogintest.Server, before func()) {
		t.Helper()
		id, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"), authntest.PromptSecretFunc(askOTP, func(string) string {
			awaitDevices(t, s)
			before()
			return s.TOTP("mittens")
		}))
		wantIn(t, id, err, "mittens")
	}
	t.Run("renewed_before_it_ends", func(t *testing.T) {
		s := serve(t, onelogintest.With(onelogintest.Variants{RemainingLife: true}))
		s.TokenLife(40 * time.Second)
		in(t, s, func() {})
		if n := s.Count("POST", "/api/2/**"); n != 1 {
			t.Errorf("the code was submitted %d times", n)
		}
	})
	t.Run("revoked_for_a_read", func(t *testing.T) {
		s := serve(t)
		revoked := false
		s.OnPush(func(string, string) onelogintest.PushDecision {
			revoked = true
			s.RevokeTokens()
			return onelogintest.PushDecision{Outcome: onelogintest.Accepted}
		})
		id, err := login{config: []string{"push: {interval: 100ms, timeout: 5s}"}}.try(t, s, as("mittens", "")...)
		wantIn(t, id, err, "mittens")
		if !revoked || s.Tokens() != 2 {
			t.Errorf("%d tokens", s.Tokens())
		}
	})
	t.Run("expired_in_the_middle", func(t *testing.T) {
		s := serve(t)
		s.OnPush(func(string, string) onelogintest.PushDecision {
			s.ExpireTokens()
			return onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 3}
		})
		id, err := login{config: []string{"push: {interval: 100ms, timeout: 5s}"}}.try(t, s, as("mittens", "")...)
		wantIn(t, id, err, "mittens")
	})
}

func TestCredentials(t *testing.T) {
	s := serve(t)
	s.SetCredential("other", "secret")
	_, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"))
	wantOut(t, err, authn.ErrSystem, "the access token: refused with status 401: the credential (client_id, client_secret) needs to be that of this tenant, and enabled")
	for scope, want := range map[onelogintest.Scope]string{
		onelogintest.AuthenticationOnly: `needs scope "Read users"`,
		onelogintest.ReadUsers:          `the user's factors: refused with status 401: the credential (client_id, client_secret) needs scope "Manage all"`,
		onelogintest.ReadAll:            `needs scope "Manage all"`,
	} {
		result := authn.ErrAuth // the same for a person as for nobody
		if scope == onelogintest.AuthenticationOnly {
			result = authn.ErrSystem
		}
		for _, who := range []string{"mittens", "nobody"} {
			s := serve(t)
			s.Scope(scope)
			_, err := login{}.try(t, s, as(who, "123456")...)
			if who == "nobody" && result == authn.ErrAuth {
				want = "nobody answers"
			}
			wantOut(t, err, result, want)
		}
	}
}

func TestRateLimits(t *testing.T) {
	s := serve(t, onelogintest.With(onelogintest.Variants{Wait: onelogintest.WaitReset}))
	defer s.Fail("GET /api/2/users", onelogintest.RateLimit(time.Second), onelogintest.Times(2))()
	id, err := login{timeout: time.Minute}.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
	wantIn(t, id, err, "mittens")
	for _, at := range []string{"GET /api/2/users", "/auth/**"} {
		s := serve(t)
		s.Fail(at, onelogintest.RateLimit(time.Hour))
		steps := as("mittens", "123456")
		if strings.HasPrefix(at, "/auth") {
			steps = steps[:1]
		}
		_, err := login{timeout: time.Minute}.try(t, s, steps...)
		wantOut(t, err, authn.ErrSystem, "rate limit")
	}
}

// A person who gets in must not wait for a hiccup of the poll's.
func TestAPollThatFailsIsAskedAgain(t *testing.T) {
	for _, fault := range []onelogintest.Fault{onelogintest.Status(502), onelogintest.Drop(), onelogintest.HTML(), onelogintest.Truncate()} {
		s := serve(t)
		s.OnPush(func(string, string) onelogintest.PushDecision {
			return onelogintest.PushDecision{Outcome: onelogintest.Accepted}
		})
		s.Fail("GET /api/2/mfa/users/*/verifications/*", fault, onelogintest.Times(2))
		id, err := login{config: []string{"push: {interval: 100ms, timeout: 5s}"}}.try(t, s, as("mittens", "")...)
		wantIn(t, id, err, "mittens")
	}
}

// A fault that only what is about a person's factor can meet is the same
// refusal for everybody, in the same steps.
func TestFaultsBehindTheOTPPrompt(t *testing.T) {
	for name, fault := range map[string]onelogintest.Fault{
		"500": onelogintest.Status(500), "429": onelogintest.RateLimit(time.Hour), "400": onelogintest.Status(400),
		"422": onelogintest.Status(422), "drop": onelogintest.Drop(), "page": onelogintest.HTML(),
	} {
		for _, factors := range []string{"[totp, push]", "[totp, sms]"} {
			for _, otp := range []string{"123456", ""} {
				if otp == "" && factors == "[totp, push]" {
					continue // the worker holds those to the limit
				}
				var asked [2][]string
				for i, who := range []string{"mittens", "nobody"} {
					s := serve(t)
					s.Update("mittens", func(u *onelogintest.User) {
						u.Devices = append(u.Devices, onelogintest.Device{Factor: onelogintest.SMS})
					})
					s.Fail("POST /api/2/**", fault)
					steps := as(who, otp)
					if otp == "" {
						steps = append(steps, authntest.PromptSecret(askCode, "123456"))
					}
					_, err := login{config: []string{"factors: " + factors}}.try(t, s, steps...)
					wantOut(t, err, authn.ErrAuth, "")
					asked[i] = sorted(s)
				}
				if !slices.Equal(asked[0], asked[1]) {
					t.Errorf("%s, %s, %q: asked for a person\n%q, for nobody\n%q", name, factors, otp, asked[0], asked[1])
				}
			}
		}
	}
}

// What a tenant says of an id that nobody has is up to it.
func TestWhateverIsSaidOfNobody(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 410, 422} {
		s := serve(t)
		s.Fail(fmt.Sprintf("GET /api/2/users/%d", nobodysID), onelogintest.Status(status))
		s.Fail(fmt.Sprintf("GET /api/2/mfa/users/%d/devices", nobodysID), onelogintest.Status(status))
		_, err := login{}.try(t, s, as("nobody", "123456")...)
		wantOut(t, err, authn.ErrAuth, "nobody answers to the typed name")
		if got, want := sorted(s), sequence(t, "mittens"); !slices.Equal(got, want) {
			t.Errorf("%d: asked\n%q, want\n%q", status, got, want)
		}
	}
}

// What takes the tenant longer than the wait is over with the wait, for a
// person as for nobody.
func TestTheWaitBoundsAll(t *testing.T) {
	for _, at := range []string{"POST /api/2/**", "GET /api/2/users"} {
		s := serve(t)
		s.Fail(at, onelogintest.Hang())
		start := time.Now()
		_, err := login{config: []string{"push: {interval: 100ms, timeout: 1s}"}}.try(t, s, as("mittens", "")...)
		wantOut(t, err, authn.ErrAuth, "nobody approved in time")
		if d := time.Since(start); d < 700*time.Millisecond || d > 9*time.Second {
			t.Errorf("%s: after %s", at, d)
		}
	}
}

func TestAMissingScopeIsNotAWrongCode(t *testing.T) {
	s := serve(t)
	s.Fail("POST /api/2/**", onelogintest.Body("application/json",
		`{"status": {"error": true, "code": 401, "type": "Unauthorized", "message": "Insufficient Permission"}}`))
	_, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
	wantOut(t, err, authn.ErrAuth, "checking a code: refused with status 401: the credential (client_id, client_secret) needs")
}

func TestALockThatCannotBeReadIsALock(t *testing.T) {
	for _, until := range []string{`"2099-01-01T00:00:00+0000"`, `"2099-01-01 00:00:00 UTC"`, `4070908800`} {
		s := serve(t)
		u, _ := s.User("mittens")
		body := fmt.Sprintf(`{"id": %d, "username": "mittens", "status": 1, "state": 1, "role_ids": [%d], "locked_until": %s}`, u.ID, admins, until)
		s.Fail("GET /api/2/users/*", onelogintest.Body("application/json", body))
		_, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
		wantOut(t, err, authn.ErrAuth, "locked until a time that cannot be read")
	}
	s := serve(t)
	u, _ := s.User("mittens")
	for _, roles := range []string{"77777", `"77777"`, `[["77777"]]`, "[77777.0]", "{}", "null"} {
		body := fmt.Sprintf(`{"id": "%d", "username": "mittens", "status": "1", "state": 1, "locked_until": null, "role_ids": %s}`, u.ID, roles)
		heal := s.Fail("GET /api/2/users/*", onelogintest.Body("application/json", body))
		id, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
		if strings.Contains(roles, "77777") && !strings.Contains(roles, ".0") {
			wantIn(t, id, err, "mittens")
		} else {
			wantOut(t, err, authn.ErrAuth, "without a role")
		}
		heal()
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// A login is one call of Authenticate against s.
type login struct {
	account string   // defaults to admin
	config  []string // more lines of the configuration
	limits  *authntest.Limits
	timeout time.Duration
}

func (l login) try(t *testing.T, s *onelogintest.Server, steps ...authntest.Step) (authn.Identity, error) {
	t.Helper()
	p := provider(t, config(s, l.config...))
	if l.account == "" {
		l.account = "admin"
	}
	if l.limits == nil {
		l.limits = &authntest.Limits{}
	}
	req := &authn.Request{Service: "sshd", User: l.account, Timeout: l.timeout}
	return p.Authenticate(l.limits.Context(t.Context()), req, authntest.Expect(t, steps...))
}

func provider(t *testing.T, text string) *Provider {
	t.Helper()
	var c Config
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	p, err := New(c, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// as are the steps of somebody who answers name and OTP.
func as(name, otp string) []authntest.Step {
	return []authntest.Step{authntest.Prompt(askName, name), authntest.PromptSecret("", otp)}
}

func wantIn(t *testing.T, id authn.Identity, err error, subject string) {
	t.Helper()
	if err != nil || id.Subject != subject {
		t.Errorf("got %q, %v; want %q in", id.Subject, err, subject)
	}
}

// wantOut wants a refusal with this result and a reason that has these words.
func wantOut(t *testing.T, err error, result authn.Result, reason string) {
	t.Helper()
	if authn.ResultOf(err) != result || !strings.Contains(fmt.Sprint(err), reason) {
		t.Errorf("got %v; want %v because %q", err, result, reason)
	}
}

func TestWhoGetsIn(t *testing.T) {
	for _, v := range onelogintest.AllVariants() {
		t.Run(v.Name, func(t *testing.T) {
			s := serve(t, onelogintest.With(v))
			s.OnPush(func(string, string) onelogintest.PushDecision {
				return onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 2}
			})
			quick := login{config: []string{"push: {interval: 100ms, timeout: 5s}"}}
			id, err := quick.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
			wantIn(t, id, err, "mittens")
			id, err = quick.try(t, s, as("Mittens@example.com", "")...)
			wantIn(t, id, err, "mittens")
			_, err = quick.try(t, s, as("mittens", "000000")...)
			wantOut(t, err, authn.ErrAuth, "wrong code")
			if v.FoldCase {
				id, err = quick.try(t, s, authntest.Prompt(askName, "MITTENS@example.COM"), totp(s, "mittens"))
				wantIn(t, id, err, "mittens")
			}
		})
	}
}

func TestWhoStaysOut(t *testing.T) {
	app := []onelogintest.Device{{Factor: onelogintest.Authenticator}}
	role := []int64{admins}
	for name, c := range map[string]struct {
		user   onelogintest.User
		reason string
	}{
		"suspended":            {onelogintest.User{Status: onelogintest.Suspended, Roles: role, Devices: app}, "status 2 (suspended)"},
		"locked":               {onelogintest.User{Status: onelogintest.Locked, Roles: role, Devices: app}, "status 3 (locked)"},
		"password_expired":     {onelogintest.User{Status: onelogintest.PasswordExpired, Roles: role, Devices: app}, "status 4"},
		"unactivated":          {onelogintest.User{Status: onelogintest.Unactivated, Roles: role, Devices: app}, "status 0"},
		"status_not_known":     {onelogintest.User{Status: 17, Roles: role, Devices: app}, "status 17"},
		"unlicensed":           {onelogintest.User{State: onelogintest.Unlicensed, Roles: role, Devices: app}, "state 3 (unlicensed)"},
		"unapproved":           {onelogintest.User{State: onelogintest.Unapproved, Roles: role, Devices: app}, "state 0"},
		"locked_for_a_while":   {onelogintest.User{LockedUntil: time.Now().Add(time.Hour), Roles: role, Devices: app}, "locked until"},
		"without_factor":       {onelogintest.User{Roles: role}, "no factor"},
		"with_inactive_factor": {onelogintest.User{Roles: role, Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator, Inactive: true}}}, "no factor"},
		"with_odd_factor":      {onelogintest.User{Roles: role, Devices: []onelogintest.Device{{Factor: "Duo"}}}, "no factor"},
		"without_role":         {onelogintest.User{Roles: []int64{users}, Devices: app}, "without a role"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			c.user.Username = "felix"
			s.AddUser(c.user)
			_, err := login{}.try(t, s, authntest.Prompt(askName, "felix"),
				authntest.PromptSecretFunc(askOTP, func(string) string { return cmp.Or(s.TOTP("felix"), "123456") }))
			wantOut(t, err, authn.ErrAuth, "felix (id ")
			wantOut(t, err, authn.ErrAuth, c.reason)
		})
	}
}

func TestALockDuringTheLoginCounts(t *testing.T) {
	s := serve(t)
	_, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"),
		authntest.PromptSecretFunc(askOTP, func(string) string {
			awaitDevices(t, s)
			s.Update("mittens", func(u *onelogintest.User) { u.Status = onelogintest.Locked })
			return s.TOTP("mittens")
		}))
	wantOut(t, err, authn.ErrAuth, "status 3 (locked)")
	if s.Count("POST", "/api/2/mfa/users/*/verifications") != 1 {
		t.Error("the code was not submitted, so this tested the first look and not the second")
	}
}

func TestARoleThatIsTakenDuringTheLoginCounts(t *testing.T) {
	s := serve(t)
	_, err := login{}.try(t, s, authntest.Prompt(askName, "mittens"),
		authntest.PromptSecretFunc(askOTP, func(string) string {
			awaitDevices(t, s)
			s.Update("mittens", func(u *onelogintest.User) { u.Roles = nil })
			return s.TOTP("mittens")
		}))
	wantOut(t, err, authn.ErrAuth, "without a role for this account (role 77777)")
}

// awaitDevices waits until the person's factors were asked for: what changes
// now is only seen by the second look.
func awaitDevices(t *testing.T, s *onelogintest.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Await(ctx, func() bool {
		return answered(s, "/devices") && answeredUser(s)
	}); err != nil {
		t.Fatal(err)
	}
}

func answered(s *onelogintest.Server, suffix string) bool {
	return slices.ContainsFunc(s.Requests(), func(r onelogintest.Request) bool {
		return strings.HasSuffix(r.Path, suffix) && r.Took > 0
	})
}

func answeredUser(s *onelogintest.Server) bool {
	return slices.ContainsFunc(s.Requests(), func(r onelogintest.Request) bool {
		return strings.HasPrefix(r.Path, "/api/2/users/") && r.Took > 0
	})
}

func TestAccounts(t *testing.T) {
	s := serve(t)
	s.AddUser(onelogintest.User{Username: "tom", Roles: []int64{424242}, Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator}}})
	for _, c := range []struct {
		account, person string
		in              bool
	}{
		{"admin", "mittens", true}, {"user", "mittens", true}, {"root", "mittens", false}, {"", "mittens", true},
		{"admin", "tom", false}, {"user", "tom", true},
	} {
		id, err := login{account: c.account}.try(t, s, authntest.Prompt(askName, c.person), totp(s, c.person))
		if c.in {
			wantIn(t, id, err, c.person)
		} else {
			wantOut(t, err, authn.ErrAuth, c.person+" (id ")
		}
	}
}

func TestSubject(t *testing.T) {
	s := serve(t)
	app := []onelogintest.Device{{Factor: onelogintest.Authenticator}}
	s.AddUser(onelogintest.User{Email: "tabby@example.com", Roles: []int64{admins}, Devices: app})
	id, err := login{}.try(t, s, authntest.Prompt(askName, " tabby@example.com "), totp(s, "tabby@example.com"))
	wantIn(t, id, err, "tabby@example.com")
	u := s.AddUser(onelogintest.User{Username: "gone", Roles: []int64{admins}, Devices: app})
	s.Reset()
	id, err = login{}.try(t, s, authntest.Prompt(askName, "gone"),
		authntest.PromptSecretFunc(askOTP, func(string) string {
			awaitDevices(t, s)
			code := s.TOTP("gone")
			s.Update("gone", func(u *onelogintest.User) { u.Username = "" })
			return code
		}))
	wantIn(t, id, err, fmt.Sprintf("id:%d", u.ID))
}

func TestNamesThatNobodyCanHave(t *testing.T) {
	for _, name := range []string{"*", "mitt*", "*@example.com", "!zzz", "!mittens", "", " ", "mit\x00tens", "mit\ttens", "\xff\xfe", strings.Repeat("x", 255)} {
		s := serve(t)
		_, err := login{}.try(t, s, as(name, "123456")...)
		wantOut(t, err, authn.ErrAuth, "a name that nobody can have")
		for _, r := range s.Requests() {
			if got := r.Query.Get("email") + r.Query.Get("username"); strings.ContainsAny(got, "*!") || (name != "" && name != " " && strings.Contains(got, name)) {
				t.Errorf("%q: asked for %q", name, got)
			}
		}
		if got, want := sorted(s), sequence(t, "nobody"); !slices.Equal(got, want) {
			t.Errorf("%q: asked\n%q\nfor a name that nobody has\n%q", name, got, want)
		}
	}
}

// sequence is what is asked of the tenant for a person who types a code.
func sequence(t *testing.T, name string) []string {
	t.Helper()
	s := serve(t)
	_, _ = login{}.try(t, s, as(name, "123456")...)
	return sorted(s)
}

// sorted is what was asked, with what was asked at the same time in one order.
func sorted(s *onelogintest.Server) []string {
	all := s.Sequence()
	if len(all) >= 5 {
		slices.Sort(all[1:3])
		slices.Sort(all[3:5])
	}
	return all
}

func TestTwoPeopleOfOneName(t *testing.T) {
	s := serve(t)
	app := []onelogintest.Device{{Factor: onelogintest.Authenticator}}
	s.AddUser(onelogintest.User{Username: "Mittens@example.com", Roles: []int64{admins}, Devices: app})
	_, err := login{}.try(t, s, authntest.Prompt(askName, "Mittens@example.com"), totp(s, "mittens"))
	wantOut(t, err, authn.ErrAuth, "more than one person answers to the typed name")
}

// A tenant that takes a filter for a wider one must not open the door to the
// first of the list.
func TestAnAnswerIsCompared(t *testing.T) {
	s := serve(t)
	all := `[{"id": 9, "email": "x@example.com", "username": "x"}]`
	defer s.Fail("GET /api/2/users", onelogintest.Body("application/json", all))()
	_, err := login{}.try(t, s, as("mittens", "123456")...)
	wantOut(t, err, authn.ErrAuth, "nobody answers to the typed name")
}

func TestPushes(t *testing.T) {
	for name, c := range map[string]struct {
		decision onelogintest.PushDecision
		reason   string // empty: in
	}{
		"accepted_after_a_while": {onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 5}, ""},
		"rejected":               {onelogintest.PushDecision{Outcome: onelogintest.Refused, Polls: 2}, "rejected on the phone"},
		"ignored":                {onelogintest.PushDecision{}, "nobody approved in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t)
			s.OnPush(func(string, string) onelogintest.PushDecision { return c.decision })
			id, err := login{config: []string{"push: {interval: 100ms, timeout: 2s}"}}.try(t, s,
				append(as("mittens", ""), authntest.Waiting(2*time.Second))...)
			if c.reason == "" {
				wantIn(t, id, err, "mittens")
			} else {
				wantOut(t, err, authn.ErrAuth, c.reason)
			}
			if got := s.Sent("mittens"); !slices.Equal(got, []string{"push"}) {
				t.Errorf("sent %q", got)
			}
		})
	}
}

func TestAnExpiredPush(t *testing.T) {
	for _, lost := range []onelogintest.LostPush{onelogintest.LostNotFound, onelogintest.LostExpired} {
		s := serve(t, onelogintest.With(onelogintest.Variants{LostPush: lost}))
		s.OnPush(func(string, string) onelogintest.PushDecision {
			s.Advance(5 * time.Minute)
			return onelogintest.PushDecision{}
		})
		_, err := login{config: []string{"push: {interval: 100ms, timeout: 5s}"}}.try(t, s, as("mittens", "")...)
		wantOut(t, err, authn.ErrAuth, "expired before anybody approved")
	}
}

// A person elsewhere is waited for, for everybody, before it is known whether
// there is somebody to wait for.
func TestEverybodyIsWaitedFor(t *testing.T) {
	s := serve(t)
	s.AddUser(onelogintest.User{Username: "smokey", Roles: []int64{admins}})
	for _, name := range []string{"nobody", "*", "smokey"} {
		_, err := login{config: []string{"push: {timeout: 3s}"}}.try(t, s, append(as(name, ""), authntest.Waiting(3*time.Second))...)
		wantOut(t, err, authn.ErrAuth, "")
	}
	if sent := s.Sent("smokey"); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
}

func TestTheLineBoundsTheWait(t *testing.T) {
	s := serve(t)
	_, err := login{timeout: 6 * time.Second, config: []string{"push: {interval: 100ms}"}}.try(t, s,
		append(as("nobody", ""), authntest.Waiting(3*time.Second))...)
	wantOut(t, err, authn.ErrAuth, "")
}

func TestPushesAreLimited(t *testing.T) {
	s := serve(t)
	limits := &authntest.Limits{}
	l := login{limits: limits, config: []string{"push: {interval: 100ms, timeout: 1s}"}}
	for range 3 {
		_, err := l.try(t, s, as("mittens", "")...)
		wantOut(t, err, authn.ErrAuth, "nobody approved in time")
	}
	s.Reset()
	// Under another name of the same person, too.
	_, err := l.try(t, s, append(as("Mittens@example.com", ""), authntest.Waiting(time.Second))...)
	wantOut(t, err, authn.ErrAuth, "3 pushes or codes in 10 minutes: nothing was sent")
	if sent := s.Sent("mittens"); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
	id, err := l.try(t, s, authntest.Prompt(askName, "mittens"), totp(s, "mittens"))
	wantIn(t, id, err, "mittens")
	limits.Advance(10*time.Minute + time.Second)
	_, err = l.try(t, s, as("mittens", "")...)
	wantOut(t, err, authn.ErrAuth, "nobody approved in time")
	limits.Fail(errors.New("the store is gone"))
	s.Reset()
	_, err = l.try(t, s, as("mittens", "")...)
	wantOut(t, err, authn.ErrAuth, "nothing was sent: ")
	if sent := s.Sent("mittens"); len(sent) != 0 {
		t.Errorf("without a store, sent %q", sent)
	}
}

func TestNothingIsSentForATypedName(t *testing.T) {
	s := serve(t)
	s.Update("mittens", func(u *onelogintest.User) {
		u.Devices = []onelogintest.Device{{Factor: onelogintest.SMS, Default: true}, {Factor: onelogintest.Protect}, {Factor: onelogintest.Email}}
	})
	_, err := login{config: []string{"factors: [totp, push, sms, voice, email]"}}.try(t, s, as("mittens", "123456")...)
	wantOut(t, err, authn.ErrAuth, "wrong code")
	if sent := s.Sent("mittens"); len(sent) != 0 {
		t.Errorf("sent %q", sent)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// What a login asks before anything needs a real device: lookups in pairs, at
// the same time.
var lookups = []string{
	"POST /auth/oauth2/v2/token",
	"GET /api/2/users?email", "GET /api/2/users?username",
	"GET /api/2/mfa/users/*/devices", "GET /api/2/users/*",
}

// asked is what was asked on connections after the first so many, requests of a
// pair in the order of lookups. A poll that a login gave up may arrive in the
// next one, but on a connection of its own login.
func asked(h *host, after int) []string {
	var all []string
	for _, r := range h.tenant.Requests() {
		if r.Conn > after {
			all = append(all, r.Call())
		}
	}
	for _, pair := range [][2]int{{1, 3}, {3, 5}} {
		if len(all) >= pair[1] {
			slices.SortStableFunc(all[pair[0]:pair[1]], func(a, b string) int {
				return slices.Index(lookups, a) - slices.Index(lookups, b)
			})
		}
	}
	return all
}

// Whoever sees the traffic, or waits for it, counts requests: there are as many
// for everybody, and the same up to the first that needs a real device.
func TestEverybodyIsAskedForAlike(t *testing.T) {
	t.Parallel()
	for _, v := range onelogintest.AllVariants() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			wantAlike(t, v)
		})
	}
}

func wantAlike(t *testing.T, v onelogintest.Variants) {
	t.Helper()
	h := newHost(t, "request_duration_secs: 0", onelogintest.With(v))
	populate(h.tenant)
	for p, l := range h.everybody(wrong) {
		last := []string{"POST /api/2/mfa/users/*/verifications", "GET /api/2/users/*"}
		if len(l.asked) == 7 && p.what != "known" && p.what != "wrong_role" {
			last[0] = l.asked[5] // what stands in for it, if nothing else does
		}
		if want := slices.Concat(lookups, last); !slices.Equal(l.asked, want) {
			t.Errorf("%s: asked\n%s\nwant\n%s", p.what, strings.Join(l.asked, "\n"), strings.Join(want, "\n"))
		}
		if l.shown != l.wanted {
			t.Errorf("%s sees\n%s\nthe known one\n%s", p.what, l.shown, l.wanted)
		}
	}
}

// Prompts, words and PAM's result depend on the configuration alone.
func TestEverybodySeesTheSame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config  string
		answers []string // after the name
		asked   []string // before anything needs a real device, after the lookups
	}{
		"push":             {"push: {interval: 100ms, timeout: 1s}", []string{""}, nil},
		"no_push":          {"factors: [totp]", []string{""}, nil},
		"code_by_sms":      {"factors: [totp, sms]", []string{"", wrong}, nil},
		"code_by_mail":     {"factors: [push, email]\npush: {interval: 100ms, timeout: 1s}", []string{"", ""}, nil},
		"odd_code":         {"", []string{"wrong code!"}, nil},
		"password":         {"require_password: true\nsubdomain: example", []string{"hunter2", wrong}, []string{"POST /api/1/login/auth"}},
		"menu":             {"ask_factor: true", []string{"1", wrong}, nil},
		"menu_wrong":       {"ask_factor: true", []string{"7", wrong}, nil},
		"words_of_our_own": {"prompts: {name: 'Who? ', otp: 'Code? '}", []string{wrong}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "request_duration_secs: 0\n"+c.config)
			populate(h.tenant)
			for p, l := range h.everybody(c.answers...) {
				if want := slices.Concat(lookups, c.asked); len(l.asked) < len(want) || !slices.Equal(l.asked[:len(want)], want) {
					t.Errorf("%s: asked\n%s\nwant first\n%s", p.what, strings.Join(l.asked, "\n"), strings.Join(want, "\n"))
				}
				if l.shown != l.wanted {
					t.Errorf("%s sees\n%s\nthe known one\n%s", p.what, l.shown, l.wanted)
				}
			}
		})
	}
}

// A seen login is one with what OneLogin was asked for it.
type seen struct {
	login
	asked  []string
	wanted string // what the first person was shown
}

// everybody has all people try, one after the other, who type the same after
// their names.
func (h *host) everybody(answers ...string) iter.Seq2[person, seen] {
	return func(yield func(person, seen) bool) {
		first := ""
		for _, p := range people {
			before := h.tenant.Connections()
			l, err := h.try(p.account, append([]string{p.name}, answers...)...)
			if err != nil || !strings.Contains(l.shown, "Authentication failure") && p.what == "known" {
				h.t.Fatalf("%s: %v, shown\n%s", p.what, err, l.shown)
			}
			if p.what == "known" {
				first = l.shown
			}
			if !yield(p, seen{l, asked(h, before), first}) {
				return
			}
		}
	}
}

// What a login costs: see the bench for why each request is there.
func TestRequestsOfALogin(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		factor string
		otp    func(*onelogintest.Server) string
		last   []string
	}{
		"totp": {onelogintest.Authenticator, func(s *onelogintest.Server) string { return s.TOTP("mo") }, []string{
			"POST /api/2/mfa/users/*/verifications", "GET /api/2/users/*",
		}},
		"push": {onelogintest.Protect, func(*onelogintest.Server) string { return "" }, []string{
			"POST /api/2/mfa/users/*/verifications",
			"GET /api/2/mfa/users/*/verifications/*", "GET /api/2/mfa/users/*/verifications/*", "GET /api/2/mfa/users/*/verifications/*",
			"GET /api/2/users/*",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "request_duration_secs: 0\npush: {interval: 100ms}")
			h.tenant.AddUser(onelogintest.User{
				Username: "mo", Roles: []int64{admins}, Devices: []onelogintest.Device{{Factor: c.factor}},
			})
			h.tenant.OnPush(func(string, string) onelogintest.PushDecision {
				return onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 2}
			})
			l, err := h.try(mapped, "mo", c.otp(h.tenant))
			if err != nil || !strings.HasSuffix(l.shown, "<nil>\n") {
				t.Fatalf("not let in: %v\n%s", err, l.shown)
			}
			if want, got := slices.Concat(lookups, c.last), asked(h, 0); !slices.Equal(got, want) {
				t.Errorf("asked\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if n := h.tenant.Connections(); n < 1 || n > 2 {
				t.Errorf("%d connections, want 1 or 2", n)
			}
			if n := h.tenant.Tokens(); n != 1 {
				t.Errorf("%d tokens, want 1", n)
			}
		})
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// predecessor is the old module with answers at hand.
func predecessor(s *Server, name string, otp func() string) (*Predecessor, *[]string) {
	var asked []string
	p := &Predecessor{
		URL: s.URL, ClientID: ClientID, ClientSecret: ClientSecret,
		Roles: map[string]int64{"admin": 77777, "user": 5},
		Ask: func(prompt string) string {
			asked = append(asked, fmt.Sprintf("%s after %d", prompt, len(s.Requests())))
			if prompt == "OTP: " {
				return otp()
			}
			return name
		},
	}
	if len(s.CAPEM) > 0 {
		p.CAs = x509.NewCertPool()
		p.CAs.AppendCertsFromPEM(s.CAPEM)
	}
	return p, &asked
}

func TestThePredecessorLogsInAsItDid(t *testing.T) {
	s := New(t, TLS())
	mittens(s)
	p, asked := predecessor(s, "mittens", func() string { return s.TOTP("mittens") })
	if err := p.Login(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	want := "POST /auth/oauth2/v2/token|GET /api/1/users?email|GET /api/1/users?username|GET /api/1/users/*/otp_devices|POST /api/1/users/*/otp_devices/*/verify"
	if got := strings.Join(s.Sequence(), "|"); got != want {
		t.Error(got)
	}
	if s.Connections() != 5 || s.Handshakes() != 5 {
		t.Errorf("%d connections, %d handshakes", s.Connections(), s.Handshakes())
	}
	if got := strings.Join(*asked, "|"); got != "OneLogin email or user:  after 1|OTP:  after 4" {
		t.Error(got)
	}
	if err := p.Login(t.Context(), "user"); !errors.Is(err, ErrDenied) || !strings.HasPrefix(err.Error(), "role") {
		t.Errorf("without the role: %v", err)
	}
	if err := p.Login(t.Context(), "root"); !errors.Is(err, ErrDenied) {
		t.Errorf("an account without a role: %v", err)
	}
}

func TestThePredecessorTriggersWhatNeedsIt(t *testing.T) {
	s := New(t)
	s.AddUser(User{Email: "tom@example.com", Roles: []int64{77777}, Devices: []Device{{Factor: Authenticator, Default: true, Inactive: true}, {Factor: SMS}}})
	p, _ := predecessor(s, "tom@example.com", func() string { return s.Code("tom@example.com", SMS) })
	if err := p.Login(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	if n := s.Count("POST", "/api/1/users/*/otp_devices/*/trigger"); n != 1 || len(s.Requests()) != 6 {
		t.Errorf("%d triggers of %d requests", n, len(s.Requests()))
	}
}

// TestThePredecessorHasItsFlaws: it would be no measure without them.
func TestThePredecessorHasItsFlaws(t *testing.T) {
	for name, test := range map[string]struct {
		user    string
		prepare func(*Server)
		otp     func(*Server) string
		step    string // "" lets in
	}{
		"a_locked_user_logs_in": {"mittens", func(s *Server) {
			s.Update("mittens", func(u *User) { u.Status = Locked })
		}, nil, ""},
		"a_push_accepted_early_works": {"mittens", onlyProtect, func(s *Server) string { s.Accept("mittens"); return "" }, ""},
		"a_push_accepted_late_fails":  {"mittens", onlyProtect, func(*Server) string { return "" }, "verify"},
		"other_letter_case_fails":     {"mittens@example.com", func(s *Server) { s.SetVariants(Variants{FoldCase: true}) }, nil, "user"},
		"an_error_is_nobody":          {"mittens", func(s *Server) { s.Fail("GET /api/1/users", Status(500)) }, nil, "user"},
		"a_wildcard_is_refused":       {"mitt*", nil, nil, "name"},
		"no_factor_is_refused":        {"mittens", func(s *Server) { s.Update("mittens", func(u *User) { u.Devices = nil }) }, nil, "factor"},
		"no_token_no_prompt":          {"mittens", func(s *Server) { s.SetCredential("a", "b") }, nil, "token"},
		"a_wrong_code_is_refused":     {"mittens", nil, func(*Server) string { return "000000" }, "verify"},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t)
			mittens(s)
			if test.prepare != nil {
				test.prepare(s)
			}
			p, _ := predecessor(s, test.user, func() string {
				if test.otp != nil {
					return test.otp(s)
				}
				return s.TOTP("mittens")
			})
			err := p.Login(t.Context(), "admin")
			if test.step == "" && err != nil || test.step != "" && (!errors.Is(err, ErrDenied) || !strings.HasPrefix(err.Error(), test.step+":")) {
				t.Errorf("got %v, want %q", err, test.step)
			}
		})
	}
}

func onlyProtect(s *Server) {
	s.Update("mittens", func(u *User) { u.Devices = u.Devices[1:2] })
}

func TestThePredecessorPadsItsStages(t *testing.T) {
	s := New(t)
	mittens(s)
	p, _ := predecessor(s, "mittens", func() string { return s.TOTP("mittens") })
	p.Pad = 50 * time.Millisecond
	start := time.Now()
	if err := p.Login(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 4*p.Pad {
		t.Errorf("four stages took %s", d)
	}
}

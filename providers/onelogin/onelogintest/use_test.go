// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestATolerantClientGetsThroughEveryVariant logs in with a code and with a
// push, as a client does that takes either form of everything.
func TestATolerantClientGetsThroughEveryVariant(t *testing.T) {
	for _, v := range AllVariants() {
		t.Run(v.Name, func(t *testing.T) {
			s := New(t, With(v))
			mittens(s)
			c := newClient(t, s)
			u := one(at[any](t, c.get("/api/2/users?email=Mittens@example.com").want(t, 200).value))
			id := fmt.Sprint(u["id"])
			full := one(c.get("/api/2/users/"+id).want(t, 200).value)
			if !strings.Contains(fmt.Sprint(full["role_ids"]), "77777") {
				t.Errorf("roles %v", full["role_ids"])
			}
			base := "/api/2/mfa/users/" + id
			if n := len(at[[]any](t, c.get(base+"/devices").want(t, 200).value)); n != 6 {
				t.Errorf("%d devices", n)
			}
			c.post(base+"/verifications", body(1, s.TOTP("mittens"))).want(t, 200)
			if r := c.post(base+"/verifications", body(1, "000000")); r.status != 401 && r.status != 403 {
				t.Errorf("a wrong code: %d %s", r.status, r.raw)
			}
			pushed := one(c.post(base+"/verifications", body(2, "")).want(t, 201).value)
			poll := base + "/verifications/" + fmt.Sprint(pushed["id"])
			if got := one(c.get(poll).want(t, 200).value)["status"]; got != "pending" {
				t.Errorf("status %v", got)
			}
			s.Accept("mittens")
			if got := one(c.get(poll).want(t, 200).value)["status"]; got != "accepted" {
				t.Errorf("status %v", got)
			}
			c.post(base+"/verifications", body(3, "")).want(t, 201)
			c.post(base+"/verifications", body(3, s.Code("mittens", SMS))).want(t, 200)
		})
	}
}

// one is an object, or the only one of a list.
func one(v any) map[string]any {
	if l, ok := v.([]any); ok && len(l) == 1 {
		v = l[0]
	}
	m, _ := v.(map[string]any)
	return m
}

func TestVariantsAreNamedAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	all := AllVariants()
	for i, v := range all {
		if v.Name == "" || strings.ContainsAny(v.Name, " /") || seen[v.Name] {
			t.Errorf("name %q", v.Name)
		}
		seen[v.Name] = true
		v.Name = ""
		if reflect.ValueOf(v).IsZero() != (i == 0) {
			t.Errorf("variant %d: the documented one is the first, and only that", i)
		}
	}
	// Every point differs alone in one set, and in the last one.
	last := reflect.ValueOf(all[len(all)-1])
	for i := 1; i < last.NumField(); i++ {
		alone := slices.ContainsFunc(all[1:len(all)-1], func(v Variants) bool { return !reflect.ValueOf(v).Field(i).IsZero() })
		if !alone || last.Field(i).IsZero() {
			t.Errorf("%s is missing", last.Type().Field(i).Name)
		}
	}
	all[0].Name = "changed"
	if AllVariants()[0].Name == "changed" {
		t.Error("the list can be changed from outside")
	}
}

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

func TestAPersonPlaysThePhones(t *testing.T) {
	s, err := Start(Demo(), WithControl())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := newClient(t, s)
	c.get("/control/").says(t, 200, "POST /control/push/accept?user=U")
	var users []User
	if err := json.Unmarshal([]byte(c.get("/control/users").want(t, 200).raw), &users); err != nil || len(users) != 4 {
		t.Fatalf("%d users, %v", len(users), err)
	}
	phone, base := users[0].Devices[1], "/api/2/mfa/users/"+itoa(users[0].ID)+"/verifications"
	code := strings.TrimSpace(c.get("/control/code?user=mittens").want(t, 200).raw)
	c.post(base, map[string]any{"device_id": users[0].Devices[0].ID, "otp": code}).want(t, 200)

	c.post("/control/push/accept?user=mittens", nil).says(t, 400, "no push is waiting")
	c.post("/control/push/accept?user=nobody", nil).says(t, 404, "no such user")
	c.post(base, map[string]any{"device_id": phone.ID}).want(t, 201)
	c.post("/control/push/accept?user=mittens", nil).says(t, 200, "pushes: 1")
	c.post(base, map[string]any{"device_id": phone.ID}).want(t, 201)
	c.post("/control/push/reject?user=mittens", nil).says(t, 200, "pushes: 1")
	c.get("/control/sent?user=mittens").says(t, 200, "push\npush\n")
	c.get("/control/sent?user=nobody").want(t, 404)
	c.get("/control/code?user=tom&factor=SMS").says(t, 400, "nothing was sent")
	c.get("/control/code?user=nobody").want(t, 404)

	c.post("/control/user?user=felix&status=1&roles=5,6", nil).says(t, 200, `"status": 1`)
	c.post("/control/user?user=felix&state=0", nil).want(t, 200)
	if u, _ := s.User("felix"); u.Status != Active || u.State != 0 || !slices.Equal(u.Roles, []int64{5, 6}) {
		t.Errorf("%+v", u)
	}
	for _, query := range []string{"user=felix&status=x", "user=felix&roles=x"} {
		c.post("/control/user?"+query, nil).want(t, 400)
	}
	c.post("/control/user?user=nobody", nil).want(t, 404)
	c.post("/control/users", map[string]any{"username": "sylvester", "devices": []any{map[string]any{"factor": "SMS"}}}).says(t, 200, `"secret"`)
	c.post("/control/users", map[string]any{"usernmae": "x"}).want(t, 400)
	c.post("/control/users", map[string]any{"devices": []any{map[string]any{"secret": "1"}}}).says(t, 400, "base32")
	if _, ok := s.User("sylvester"); !ok {
		t.Error("nobody was added")
	}
}

func TestAPersonBreaksThings(t *testing.T) {
	s := New(t, WithControl())
	c := newClient(t, s)
	c.post("/control/fail?fault=status:500&pattern=GET+/api/2/**&times=1", nil).want(t, 200)
	c.get("/api/2/users").want(t, 500)
	c.get("/api/2/users").want(t, 200)
	c.post("/control/fail?fault=status:500", nil).want(t, 200)
	c.get("/api/1/users").want(t, 500)
	c.post("/control/heal", nil).want(t, 200)
	c.get("/api/1/users").want(t, 200)
	for _, query := range []string{"", "fault=fire", "fault=hang&times=0"} {
		c.post("/control/fail?"+query, nil).want(t, 400)
	}
	c.post("/control/latency?d=1ms", nil).want(t, 200)
	c.post("/control/latency?d=soon", nil).want(t, 400)
	log := c.get("/control/requests").says(t, 200, `"call": "GET /api/1/users"`)
	if strings.Contains(log.raw, "/control/") || strings.Contains(log.raw, c.token) {
		t.Error(log.raw)
	}
	c.post("/control/reset", nil).want(t, 200)
	c.get("/control/requests").says(t, 200, "[]")
	c.post("/control/tokens/expire", nil).want(t, 200)
	c.get("/api/2/users").want(t, 401)
	c.mint(ClientID, ClientSecret)
	c.post("/control/tokens/revoke", nil).want(t, 200)
	c.get("/control/tokens/revoke").want(t, 405)
}

func TestTheControlAPIIsForThisMachine(t *testing.T) {
	s := New(t, WithControl())
	c := newClient(t, s)
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:5": 200, "evil.example": 403, "127.0.0.1.evil.example:80": 403, "192.0.2.1": 403} {
		req := c.request("GET", "/control/", nil)
		req.Host = host
		c.do(req).want(t, want)
	}
	plain := newClient(t, New(t))
	plain.get("/control/").want(t, 404)
}

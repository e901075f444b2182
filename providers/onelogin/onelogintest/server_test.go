// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := Start(Demo(), TLS())
	if err != nil {
		t.Fatal(err)
	}
	ca := s.CAFile
	c := bareClient(t, s)
	s.Fail("GET /api/2/users", Hang())
	s.Fail("POST /auth/**", Delay(time.Hour))
	s.Fail("GET /api/1/users", Trickle(time.Hour))
	var calls sync.WaitGroup
	for _, req := range []*http.Request{
		c.request("GET", "/api/2/users", nil), c.request("POST", "/auth/oauth2/v2/token", nil), c.request("GET", "/api/1/users", nil),
	} {
		calls.Go(func() {
			if _, err := c.try(req); err == nil {
				t.Errorf("%s was answered", req.URL.Path)
			}
		})
	}
	if err := s.Await(soon(t), func() bool { return len(s.Requests()) == 3 }); err != nil {
		t.Fatal(err)
	}
	idle, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	s.Close()
	s.Close() // does no harm
	calls.Wait()
	c.http.CloseIdleConnections()
	if _, err := os.Stat(ca); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CA's file is still there: %v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<16)
			t.Fatalf("goroutines are left:\n%s", b[:runtime.Stack(b, true)])
		}
	}
}

func TestOnlyLoopbackIsListenedOn(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		if s, err := Start(World{}, Listen(addr)); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%s: %v, %v", addr, s, err)
		}
	}
}

func TestATestIsToldWhyAServerDidNotStart(t *testing.T) {
	f := &failing{}
	if New(f, Listen("192.0.2.1:0")) != nil || f.failed != 1 {
		t.Errorf("failed %d times", f.failed)
	}
}

type failing struct{ failed int }

func (f *failing) Helper()               {}
func (f *failing) Cleanup(func())        {}
func (f *failing) Fatalf(string, ...any) { f.failed++ }

func TestHTTPSIsTrustedThroughItsCAOnly(t *testing.T) {
	s := New(t, TLS("mice.onelogin.com"))
	newClient(t, s)
	pem, err := os.ReadFile(s.CAFile)
	if err != nil || string(pem) != string(s.CAPEM) {
		t.Errorf("the CA's file: %v", err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(s.URL)
	var unknown *tls.CertificateVerificationError
	if err == nil {
		resp.Body.Close()
	}
	if !errors.As(err, &unknown) {
		t.Errorf("without the CA: %v", err)
	}
	c := bareClient(t, s)
	c.http.Transport.(*http.Transport).TLSClientConfig.ServerName = "mice.onelogin.com"
	c.mint(ClientID, ClientSecret).want(t, 200)
	if got := s.Handshakes(); got != 2 {
		t.Errorf("%d handshakes succeeded, want 2", got)
	}
	if got := s.Connections(); got != 3 {
		t.Errorf("%d connections, want 3", got)
	}
}

func TestTheCAIsWrittenWhereItIsWanted(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ca.pem")
	s := New(t, TLS(), CAFile(name))
	s.Close()
	if pem, err := os.ReadFile(name); s.CAFile != name || err != nil || string(pem) != string(s.CAPEM) {
		t.Errorf("%s: %v", s.CAFile, err)
	}
}

func TestHTTP2IsSpokenOnDemand(t *testing.T) {
	for want, opts := range map[string][]Option{"HTTP/1.1": {TLS()}, "HTTP/2.0": {TLS(), HTTP2()}} {
		s := New(t, opts...)
		c := bareClient(t, s)
		resp, err := c.http.Do(c.request("GET", "/", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Proto != want {
			t.Errorf("%s, want %s", resp.Proto, want)
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	c.get("/api/2/users")
	if s.Connections() != 1 || s.Handshakes() != 0 {
		t.Errorf("%d connections, %d handshakes; one connection was kept", s.Connections(), s.Handshakes())
	}
	c.http.CloseIdleConnections()
	c.get("/api/2/users")
	log := s.Requests()
	if s.Connections() != 2 || log[1].Conn != 1 || log[2].Conn != 2 || log[1].Remote == log[2].Remote {
		t.Errorf("%d connections, want 2: %+v", s.Connections(), log)
	}
}

func TestLatencyIsPaidByRequestAndByConnection(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	s.Latency(60 * time.Millisecond)
	s.ConnectLatency(100 * time.Millisecond)
	took := func() time.Duration {
		start := time.Now()
		c.get("/api/2/users")
		return time.Since(start)
	}
	if d := took(); d < 60*time.Millisecond {
		t.Errorf("a request took %s", d)
	}
	c.http.CloseIdleConnections()
	if d := took(); d < 160*time.Millisecond {
		t.Errorf("a request on a new connection took %s", d)
	}
	if log := s.Requests(); log[1].Took < 60*time.Millisecond {
		t.Errorf("the log says %s", log[1].Took)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	s := New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Await(ctx, func() bool { return false }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestUsersAreCopies(t *testing.T) {
	s := New(t)
	given := User{Username: "tom", Roles: []int64{1}, Devices: []Device{{Factor: SMS}}}
	added := s.AddUser(given)
	given.Roles[0], added.Roles[0], added.Devices[0].Factor = 2, 3, Voice
	got, _ := s.User("tom")
	got.Roles[0] = 4
	got, _ = s.User("tom")
	if got.Roles[0] != 1 || got.Devices[0].Factor != SMS {
		t.Errorf("%+v", got)
	}
}

func TestUsersAreActiveUnlessSaidOtherwise(t *testing.T) {
	s := New(t)
	u := s.AddUser(User{Email: "a@example.com", Devices: []Device{{Factor: SMS}}})
	if u.Status != Active || u.State != Approved || u.ID == 0 || u.Devices[0].ID == 0 || u.Devices[0].ID == u.ID || u.Devices[0].Secret == "" {
		t.Errorf("%+v", u)
	}
	if u = s.AddUser(User{Username: "b", Status: Unactivated, State: Unapproved}); u.Status != 0 || u.State != 0 {
		t.Errorf("%+v", u)
	}
	if !s.Update("a@example.com", func(u *User) { u.Status, u.State = 0, Zero }) {
		t.Error("no such user")
	}
	if u, _ = s.User("a@example.com"); u.Status != 0 || u.State != 0 {
		t.Errorf("%+v", u)
	}
	for range 2 { // an empty list is no list, and no reason to try for ever
		s.Update("b", func(u *User) { u.Roles, u.Devices = []int64{}, []Device{} })
	}
	if s.Update("nobody", func(*User) { t.Error("called for nobody") }) || !s.RemoveUser("b") || s.RemoveUser("b") {
		t.Error("nobody was changed")
	}
}

func TestUpdateMayCallTheServerAndLosesNothing(t *testing.T) {
	s := New(t)
	s.AddUser(User{Username: "tom"})
	tries := 0
	s.Update("tom", func(u *User) {
		if tries++; tries == 1 {
			s.Update("tom", func(u *User) { u.Roles = []int64{5} })
		}
		u.LockedUntil = s.Now()
	})
	if u, _ := s.User("tom"); tries != 2 || len(u.Roles) != 1 || u.LockedUntil.IsZero() {
		t.Errorf("%d tries: %+v", tries, u)
	}
}

func TestManyUseOneServer(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	s.OnPush(func(user, _ string) PushDecision {
		s.Update(user, func(u *User) { u.Roles = append(u.Roles, 1) })
		return PushDecision{Outcome: Accepted}
	})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			u := s.AddUser(User{Username: strings.Repeat("x", i+1), Devices: []Device{{Factor: Protect}}})
			s.Fail("GET /nowhere", Drop())()
			path := "/api/2/mfa/users/" + itoa(u.ID) + "/verifications"
			r, err := c.try(c.request("POST", path, map[string]any{"device_id": u.Devices[0].ID}))
			if err != nil || r.status != 201 {
				t.Errorf("%d %v", r.status, err)
			}
			s.Requests()
			s.Sequence()
			s.Count("POST", path)
			s.Advance(time.Millisecond)
		})
	}
	all.Wait()
	if n := s.Count("POST", "/api/2/mfa/users/*/verifications"); n != 20 {
		t.Errorf("%d requests", n)
	}
}

func TestTheReadmesWorldIsOne(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "```json\n")
	text, _, _ = strings.Cut(text, "```")
	w, err := ReadWorld(strings.NewReader(text))
	if err != nil || len(w.Users) != 1 || len(w.Users[0].Devices) != 2 {
		t.Errorf("%+v, %v", w, err)
	}
}

func TestAWorldIsReadStrictly(t *testing.T) {
	w, err := ReadWorld(strings.NewReader(`{"client_id": "a", "client_secret": "b", "scope": "Read All", "lock_after": 3,
		"users": [{"id": 7, "username": "tom", "status": 3, "roles": [1],
		"devices": [{"id": 8, "factor": "SMS", "default": true}]}]}`))
	if err != nil || w.Users[0].Status != Locked || w.Scope != ReadAll || !w.Users[0].Devices[0].Default {
		t.Errorf("%+v, %v", w, err)
	}
	for text, word := range map[string]string{
		`{"users": [{"nmae": "tom"}]}`:                                    "nmae",
		`{"users": []} {}`:                                                "end",
		`{"scope": "Everything"}`:                                         "Manage All",
		`{"users": [{"id": 1}, {"id": 1}]}`:                               "users[1]: id 1",
		`{"users": [{"devices": [{"id": 1}, {"id": 1}]}]}`:                "devices[1]: id 1",
		`{"users": [{"devices": [{"factor": "SMS", "secret": "0189"}]}]}`: "base32",
		`users:`: "JSON",
	} {
		if _, err := ReadWorld(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

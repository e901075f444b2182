// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestFaultsAnswerInPlaceOfTheWork(t *testing.T) {
	for name, test := range map[string]struct {
		fault  Fault
		status int
		text   string
	}{
		"status":     {Status(500), 500, `"name":"InternalServerError","statusCode":500`},
		"html":       {HTML(), 200, "<!DOCTYPE html>"},
		"envelope":   {EnvelopeError(), 200, `"error":true`},
		"rate limit": {RateLimit(time.Second), 429, `"name":"TooManyRequestsError"`},
		"redirect":   {Redirect("https://elsewhere.example/"), 302, "302"},
	} {
		s := New(t)
		mittens(s)
		c := newClient(t, s)
		s.Fail("POST "+verifications, test.fault)
		r := c.post(verifications, body(3, "")).says(t, test.status, test.text)
		if s.Sent("mittens") != nil {
			t.Errorf("%s: a code was sent", name)
		}
		if got := s.Requests()[1].Status; got != test.status {
			t.Errorf("%s: the log says %d", name, got)
		}
		if name == "redirect" && r.header.Get("Location") != "https://elsewhere.example/" {
			t.Error(r.header)
		}
	}
}

func TestErrorsLookLikeTheAPIThatWasCalled(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	s.Fail("", Status(503))
	c.get("/api/2/users").says(t, 503, `{"message":"Service Unavailable","name":"ServiceUnavailableError","statusCode":503}`)
	c.get("/api/1/users").says(t, 503, `{"status":{"code":503,"error":true`)
	c.mint(ClientID, ClientSecret).says(t, 503, `{"status":{`)
}

func TestFaultsSpoilTheAnswerOfTheWork(t *testing.T) {
	for name, test := range map[string]struct {
		fault Fault
		check func(t *testing.T, r reply, err error)
	}{
		"drop after effect": {DropAfterEffect(), func(t *testing.T, r reply, err error) {
			if !errors.Is(err, io.EOF) {
				t.Errorf("%v %v", r, err)
			}
		}},
		"truncate": {Truncate(), func(t *testing.T, r reply, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) || r.status != 201 || r.raw == "" || r.header.Get("Content-Length") == "" {
				t.Errorf("%v %v", r, err)
			}
		}},
		"huge": {Huge(1 << 20), func(t *testing.T, r reply, err error) {
			if err != nil || len(r.raw) != 1<<20 || r.value == nil {
				t.Errorf("%d bytes, %v", len(r.raw), err)
			}
		}},
		"wrong type": {WrongType(), func(t *testing.T, r reply, err error) {
			if err != nil || r.value != "unexpected" || r.status != 201 {
				t.Errorf("%v %v", r, err)
			}
		}},
		"trickle": {Trickle(100 * time.Microsecond), func(t *testing.T, r reply, err error) {
			if err != nil || at[string](t, r.value, 0, "id") == "" {
				t.Errorf("%v %v", r, err)
			}
		}},
		"late answer": {DelayAnswer(time.Millisecond), func(t *testing.T, r reply, err error) {
			if err != nil || r.status != 201 {
				t.Errorf("%v %v", r, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t)
			mittens(s)
			c := newClient(t, s)
			s.Fail("POST /api/2/mfa/users/*/verifications", test.fault)
			r, err := c.try(c.request("POST", verifications, body(3, "")))
			test.check(t, r, err)
			if len(s.Sent("mittens")) != 1 || s.Count("POST", verifications) != 1 {
				t.Errorf("sent %v with %d requests", s.Sent("mittens"), s.Count("POST", verifications))
			}
		})
	}
}

func TestADroppedRequestDoesNothing(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	s.Fail("POST "+verifications, Drop())
	if r, err := c.try(c.request("POST", verifications, body(3, ""))); !errors.Is(err, io.EOF) {
		t.Errorf("%v %v", r, err)
	}
	if log := s.Requests(); len(log) != 2 || log[1].Status != 0 || log[1].Took == 0 || s.Sent("mittens") != nil {
		t.Errorf("%+v", log)
	}
}

func TestAHangLastsAsLongAsTheClient(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	s.Fail("GET /api/2/users", Hang())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	req := c.request("GET", "/api/2/users", nil).WithContext(ctx)
	go func() {
		_, err := c.try(req)
		ended <- err
	}()
	if err := s.Await(soon(t), func() bool { return s.Count("GET", "/api/2/users") == 1 }); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Errorf("answered: %v", err)
	default:
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Await(soon(t), func() bool { return s.Requests()[1].Took > 0 }); err != nil {
		t.Error(err)
	}
}

func TestDelaysAndOtherFaultsApplyTogether(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	s.Fail("GET /api/2/**", Delay(50*time.Millisecond), Status(500), Times(1))
	start := time.Now()
	c.get("/api/2/users").want(t, 500)
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("answered after %s", d)
	}
	c.get("/api/2/users").want(t, 200)
}

func TestRulesCountAndCanBeRemoved(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	statuses := func(n int) (list []int) {
		for range n {
			list = append(list, c.get("/api/2/users").status)
		}
		return list
	}
	remove := s.Fail("", Status(500), After(1), Times(2))
	if got := statuses(4); got[0] != 200 || got[1] != 500 || got[2] != 500 || got[3] != 200 {
		t.Error(got)
	}
	remove()
	s.Fail("GET /api/2/users", Status(501), Times(1)) // the first rule that fits counts
	remove = s.Fail("GET /api/2/users", Status(502))
	s.Fail("/api/**", Status(503))
	if got := statuses(2); got[0] != 501 || got[1] != 502 {
		t.Error(got)
	}
	remove()
	remove()
	if got := statuses(1); got[0] != 503 {
		t.Error(got)
	}
	s.Heal()
	if got := statuses(1); got[0] != 200 {
		t.Error(got)
	}
	s.FailIf(func(r *http.Request) bool { return r.URL.Query().Get("email") != "" }, Status(504))
	c.get("/api/2/users").want(t, 200)
	c.get("/api/2/users?email=a").want(t, 504)
}

func TestPatternsFitWholePaths(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	c.get("/api/2/users/1/x?email=a")
	for pattern, want := range map[string]int{
		"/api/2/users/1/x": 1, "/api/2/users/1/x/": 1, "/api/2/users/*/x": 1, "/api/2/**": 1, "**": 1,
		"/api/2/users/*": 0, "/api/2/users": 0, "/api/2/users/1/x/y": 0, "/api/**/x": 0, "": 0,
	} {
		if got := s.Count("GET", pattern); got != want {
			t.Errorf("%q: %d", pattern, got)
		}
	}
	if s.Count("POST", "/api/2/**") != 0 || s.Count("", "**") != 2 || s.Count("*", "/api/**") != 1 {
		t.Error("methods do not count")
	}
}

func TestA429SaysWhenToComeBackOrNot(t *testing.T) {
	for wait, want := range map[Wait][2]string{
		WaitRetryAfter: {"2", ""}, WaitReset: {"", "2"}, WaitBoth: {"2", "2"}, WaitNeither: {"", ""},
	} {
		s := New(t, With(Variants{Wait: wait}))
		c := newClient(t, s)
		s.Fail("GET /**", RateLimit(1500*time.Millisecond))
		r := c.get("/api/2/users").want(t, 429)
		if got := [2]string{r.header.Get("Retry-After"), r.header.Get("X-RateLimit-Reset")}; got != want {
			t.Errorf("%v: %v", wait, got)
		}
	}
}

func TestA429HasAnyBody(t *testing.T) {
	for kind, want := range map[WaitBody]string{WaitJSON: `{"message":"Too Many Requests","name":"TooManyRequestsError","statusCode":429}`, WaitText: "Rate limit exceeded\n", WaitEmpty: ""} {
		s := New(t, With(Variants{WaitBody: kind}))
		c := newClient(t, s)
		s.Fail("GET /**", RateLimit(time.Second))
		if r := c.get("/api/2/users").want(t, 429); r.raw != want || r.header.Get("Retry-After") != "1" {
			t.Errorf("%q %v", r.raw, r.header)
		}
	}
}

func TestFaultsCanBeWritten(t *testing.T) {
	for text, want := range map[string]int{"status:418": 418, "html": 200, "ratelimit:1s": 429, "redirect:http://x/": 302, "huge:1000": 200, "wrong-type": 200, "envelope": 200} {
		f, err := ParseFault(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		s := New(t)
		c := newClient(t, s)
		s.Fail("GET /**", f)
		c.get("/api/2/users").want(t, want)
	}
	for _, text := range []string{"hang", "drop", "drop-after", "truncate", "delay:1ms", "delay-answer:1s", "trickle:1ms"} {
		if _, err := ParseFault(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{"", "status", "status:x", "status:99", "delay:5", "delay:-1s", "hang:1", "fire"} {
		if _, err := ParseFault(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestTheLogHoldsNoSecrets(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	code := s.TOTP("mittens")
	c.post(verifications, body(1, code))
	c.post(verifications, body(1, code))
	c.post(verifications, body(1, "000000"))
	login(c, "mittens", "yarn-ball-9")
	log := s.Requests()
	b, err := json.Marshal(log)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{code, "yarn-ball-9", ClientSecret, c.token, "Basic"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
	if log[1].Digest != log[2].Digest || log[1].Digest == log[3].Digest || strings.Join(log[1].Fields, " ") != "device_id otp" {
		t.Errorf("%+v", log)
	}
	if s.Reset(); len(s.Requests()) != 0 || len(s.RequestsFrom(5)) != 0 {
		t.Error("the log is not empty")
	}
}

func TestTheLogKeepsBodiesOnDemand(t *testing.T) {
	s := New(t, KeepBodies())
	c := newClient(t, s)
	login(c, "mittens", "yarn-ball-9")
	log := s.Requests()
	if !strings.Contains(string(log[1].Body), "yarn-ball-9") || log[1].Header.Get("Authorization") != "bearer "+c.token {
		t.Errorf("%+v", log[1])
	}
	log[1].Body[0], log[1].Header["Authorization"][0], log[1].Fields[0] = 'x', "x", "x"
	if again := s.Requests()[1]; again.Body[0] == 'x' || again.Header.Get("Authorization") == "x" || again.Fields[0] == "x" {
		t.Error("the log can be changed from outside")
	}
}

func TestSequencesLeaveIDsOut(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	c.get("/api/2/users?username=a&email=b")
	c.get(devices2)
	c.get(verifications + "/x")
	c.get("/elsewhere")
	want := "POST /auth/oauth2/v2/token|GET /api/2/users?email&username|GET /api/2/mfa/users/*/devices|GET /api/2/mfa/users/*/verifications/*|GET /elsewhere"
	if got := strings.Join(s.Sequence(), "|"); got != want {
		t.Error(got)
	}
}

func TestATooLongBodyIsNotRead(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	r, err := c.try(c.request("POST", "/api/1/login/auth", strings.Repeat("x", 2<<20)))
	var reset *net.OpError
	if err == nil && r.status == 200 && r.raw != "" || err != nil && !errors.As(err, &reset) && !errors.Is(err, io.EOF) {
		t.Errorf("%v %v", r, err)
	}
	if s.Count("POST", "/api/1/login/auth") != 0 {
		t.Error("it is in the log")
	}
}

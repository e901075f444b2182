// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

func serve(t *testing.T, opts ...onelogintest.Option) *onelogintest.Server {
	t.Helper()
	s := onelogintest.New(t, opts...)
	s.AddUser(onelogintest.User{Username: "mittens", Email: "mittens@example.com", Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator}}})
	return s
}

func open(t *testing.T, s *onelogintest.Server, change func(*Options)) *Tenant {
	t.Helper()
	o := Options{Base: s.URL, ClientID: onelogintest.ClientID, ClientSecret: authn.NewSecret(onelogintest.ClientSecret)}
	if change != nil {
		change(&o)
	}
	tn := New(o)
	t.Cleanup(tn.Close)
	return tn
}

func TestEveryRequestIsBoundedInTime(t *testing.T) {
	for name, fault := range map[string]onelogintest.Fault{
		"hangs": onelogintest.Hang(), "trickles": onelogintest.Trickle(50 * time.Millisecond), "is_slow": onelogintest.Delay(time.Minute),
	} {
		s := serve(t)
		tn := open(t, s, func(o *Options) { o.RequestTimeout = 300 * time.Millisecond })
		if err := tn.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Fail("", fault)
		_, err := tn.UsersByEmail(t.Context(), "mittens@example.com")
		if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") {
			t.Errorf("%s: %v", name, err)
		}
		if got := tn.Fault(err); authn.ResultOf(got) != authn.ErrSystem {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	s := serve(t)
	tn := open(t, s, nil)
	if err := tn.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Fail("", onelogintest.Hang())
	calls := map[string]func(context.Context) error{
		"UsersByEmail": func(ctx context.Context) error { _, err := tn.UsersByEmail(ctx, "a"); return err },
		"User":         func(ctx context.Context) error { _, err := tn.User(ctx, 1); return err },
		"Devices":      func(ctx context.Context) error { _, err := tn.Devices(ctx, 1); return err },
		"Trigger":      func(ctx context.Context) error { _, err := tn.Trigger(ctx, 1, Device{ID: 2}); return err },
		"Poll": func(ctx context.Context) error {
			_, err := tn.Poll(ctx, 1, Device{ID: 2}, Verification{ID: "a"})
			return err
		},
		"VerifyCode": func(ctx context.Context) error { return tn.VerifyCode(ctx, 1, Device{ID: 2}, Verification{}, "1") },
		"VerifyCodeOf": func(ctx context.Context) error {
			return tn.VerifyCode(ctx, 1, Device{ID: 2}, Verification{ID: "a"}, "1")
		},
		"Password": func(ctx context.Context) error { return tn.VerifyPassword(ctx, "sub", "a", "b") },
	}
	for name, call := range calls {
		before := len(s.Requests())
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_ = s.Await(ctx, func() bool { return len(s.Requests()) > before })
			cancel()
		}()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneTokenForAll(t *testing.T) {
	s := serve(t)
	tn := open(t, s, nil)
	lookup := func() {
		if _, err := tn.UsersByUsername(t.Context(), "mittens"); err != nil {
			t.Errorf("got %v", err)
		}
	}
	var wg sync.WaitGroup
	for want := 1; want <= 2; want++ {
		for range 8 {
			wg.Go(lookup)
		}
		wg.Wait()
		if n := s.Count("POST", "/auth/**"); n != want {
			t.Errorf("%d tokens were asked for in all, want %d", n, want)
		}
		s.RevokeTokens()
	}
}

// A 401 that may be about the person brings no requests that others have not.
func TestNoTokenIsTriedForAPerson(t *testing.T) {
	s := serve(t)
	tn := open(t, s, nil)
	s.Fail("GET /api/2/users/*", onelogintest.Status(401))
	s.Fail("GET /api/2/mfa/**", onelogintest.Status(401))
	_, userErr := tn.User(t.Context(), 7)
	_, devicesErr := tn.Devices(t.Context(), 7)
	if !Is(userErr, Unauthorized) || !Is(devicesErr, Unauthorized) || s.Count("POST", "/auth/**") != 1 {
		t.Errorf("%d tokens: %v, %v", s.Count("POST", "/auth/**"), userErr, devicesErr)
	}
}

func TestATokenThatIsGoodSurvivesAFailedRenewal(t *testing.T) {
	s := serve(t)
	s.TokenLife(50 * time.Second)
	tn := open(t, s, nil)
	if err := tn.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Fail("/auth/**", onelogintest.Status(503))
	for range 2 {
		if _, err := tn.UsersByUsername(t.Context(), "mittens"); err != nil {
			t.Error(err)
		}
	}
}

// OneLogin gives the same token until it ends: asking for a better one again
// and again would only cost time.
func TestATokenThatEndsSoonIsRenewedOnce(t *testing.T) {
	s := serve(t)
	s.TokenLife(30 * time.Second)
	tn := open(t, s, nil)
	for range 5 {
		_, _ = tn.User(t.Context(), 12345)
	}
	if n := s.Count("POST", "/auth/**"); n != 2 {
		t.Errorf("%d tokens were asked for", n)
	}
}

// What is left of a token's life is not what expires_in says, if it is old.
func TestTheAgeOfATokenCounts(t *testing.T) {
	for _, v := range []onelogintest.Variants{{}, {RemainingLife: true}} {
		s := serve(t, onelogintest.With(v))
		s.TokenLife(time.Hour)
		if err := open(t, s, nil).Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Advance(time.Hour - 30*time.Second)
		tn := open(t, s, nil)
		if err := tn.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(tn.tokens.expires); left < 20*time.Second || left > 31*time.Second {
			t.Errorf("%+v: %s are left", v, left)
		}
	}
}

func TestAFailedTokenIsNotAskedForAgain(t *testing.T) {
	s := serve(t)
	s.SetCredential("x", "y")
	tn := open(t, s, nil)
	for range 3 {
		if _, err := tn.User(t.Context(), 12345); !Is(err, Unauthorized) {
			t.Errorf("got %v", err)
		}
	}
	if n := s.Count("POST", "/auth/**"); n != 1 {
		t.Errorf("%d tokens were asked for", n)
	}
}

// What the other side sends is in no error, whatever it makes of HTTP.
func TestErrorsHoldNothingOfTheAnswer(t *testing.T) {
	for _, answer := range []string{
		"swordfish\r\n\r\n", "HTTP/1.1 swordfish OK\r\n\r\n", "HTTP/1.1 200 OK\r\nswordfish \r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: swordfish\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: swordfish\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://[swordfish\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 401 swordfish\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n{\"message\": \"swordfish!\"}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nswordfish\r\n",
	} {
		l := answering(t, answer)
		direct := New(Options{Base: "http://" + l})
		proxied := New(Options{Base: "https://example.invalid", Proxy: &url.URL{Scheme: "http", Host: l}})
		for _, tn := range []*Tenant{direct, proxied} {
			if err := tn.Fault(tn.Open(t.Context())); authn.ResultOf(err) != authn.ErrSystem || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("%q: %v", answer, err)
			}
			tn.Close()
		}
	}
}

// answering is the address of a server that says the same to everybody.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, answer)
			}()
		}
	}()
	return l.Addr().String()
}

// A 101 hands the connection over, and with it what ends a request.
func TestSwitchingProtocolsIsRefused(t *testing.T) {
	stay := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
		<-stay
		_ = c.Close()
	}))
	defer s.Close()
	defer close(stay)
	tn := New(Options{Base: s.URL, RequestTimeout: time.Minute})
	defer tn.Close()
	if err := tn.Open(t.Context()); !Is(err, Failed) {
		t.Errorf("got %v", err)
	}
}

func TestErrorsAndLogsHoldNoNames(t *testing.T) {
	var own bytes.Buffer
	s := serve(t)
	tn := open(t, s, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&own, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, fault := range []onelogintest.Fault{onelogintest.Drop(), onelogintest.Status(500), onelogintest.HTML(), onelogintest.Body("application/json", `"swordfish"`)} {
		heal := s.Fail("GET /api/2/users", fault)
		_, err := tn.UsersByEmail(t.Context(), "swordfish@example.com")
		if err == nil || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("got %v", err)
		}
		heal()
	}
	if strings.Contains(own.String(), "swordfish") || strings.Contains(own.String(), onelogintest.ClientSecret) {
		t.Errorf("logged %s", own.String())
	}
	if !strings.Contains(own.String(), "asked") {
		t.Errorf("no debug lines: %s", own.String())
	}
}

func TestTheSDKIsSilent(t *testing.T) {
	silence = sync.OnceFunc(func() { log.SetOutput(io.Discard) })
	var global bytes.Buffer
	log.SetOutput(&global)
	tn := open(t, serve(t), nil)
	_, _ = tn.UsersByEmail(t.Context(), "swordfish@example.com")
	if global.Len() > 0 {
		t.Errorf("logged %s", global.String())
	}
}

func TestARedirectIsNotFollowed(t *testing.T) {
	followed := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer other.Close()
	s := serve(t)
	s.Fail("", onelogintest.Redirect(other.URL))
	if err := open(t, s, nil).Open(t.Context()); !Is(err, Failed) || followed {
		t.Errorf("followed %v, %v", followed, err)
	}
}

func TestUnreachable(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	proxy := &url.URL{Scheme: "http", Host: gone.Addr().String()}
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }))
	defer refusing.Close()
	refuses, err := url.Parse(refusing.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		base  string
		proxy *url.URL
		want  authn.Result
	}{
		"nobody_listens":    {"https://" + gone.Addr().String(), nil, authn.ErrAuthInfoUnavail},
		"no_such_host":      {"https://nowhere.invalid", nil, authn.ErrAuthInfoUnavail},
		"no_proxy":          {"https://example.invalid", proxy, authn.ErrAuthInfoUnavail},
		"the_proxy_refuses": {"https://example.invalid", refuses, authn.ErrSystem},
	} {
		tn := New(Options{Base: c.base, Proxy: c.proxy})
		err := tn.Open(t.Context())
		if got := authn.ResultOf(tn.Fault(err)); got != c.want {
			t.Errorf("%s: %v: %v", name, got, err)
		}
		tn.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tn := New(Options{Base: "https://" + gone.Addr().String()})
	if err := tn.Fault(tn.Open(ctx)); authn.ResultOf(err) != authn.ErrSystem {
		t.Errorf("cancelled: %v", err)
	}
}

func TestThroughAProxy(t *testing.T) {
	s := serve(t)
	through := 0
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through++
		out, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), r.Body)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		out.Header = r.Header
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		_, _ = w.Write(body.Bytes())
	}))
	defer p.Close()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	tn := open(t, s, func(o *Options) { o.Proxy = u })
	if err := tn.Open(t.Context()); err != nil || through != 1 {
		t.Errorf("%d requests through the proxy: %v", through, err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestAnswersThatAreNotMeant(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		call func(*Tenant) error
	}{
		"another_user":     {`{"id": 8}`, func(tn *Tenant) error { _, err := tn.User(t.Context(), 7); return err }},
		"two_users":        {`[{"id": 7}, {"id": 7}]`, func(tn *Tenant) error { _, err := tn.User(t.Context(), 7); return err }},
		"half_an_id":       {`{"id": 7.5}`, func(tn *Tenant) error { _, err := tn.User(t.Context(), 7); return err }},
		"another_letter":   {`{"ID": 7, "status": 1}`, func(tn *Tenant) error { _, err := tn.User(t.Context(), 7); return err }},
		"shouted_success":  {`{"status": {"type": "error", "TYPE": "success", "code": 200, "error": false}}`, verify7},
		"no_ids":           {`[{"email": "a"}]`, func(tn *Tenant) error { _, err := tn.UsersByEmail(t.Context(), "a"); return err }},
		"another_device":   {`[{"id": "a-1", "device_id": "9"}]`, trigger7},
		"another_person":   {`[{"id": "a-1", "user_id": 9}]`, trigger7},
		"a_path":           {`[{"id": "../../users/1"}]`, trigger7},
		"no_verification":  {`[]`, trigger7},
		"another_push":     {`[{"id": "b-2", "status": "accepted"}]`, poll7},
		"no_push":          {`[{"status": "accepted"}]`, poll7},
		"two_pushes":       {`[{"id": "a-1", "status": "accepted"}, {"id": "a-1", "status": "rejected"}]`, poll7},
		"an_unknown_word":  {`[{"id": "a-1", "status": "approved?"}]`, poll7},
		"no_word":          {`[{"id": "a-1"}]`, poll7},
		"a_code_triggers":  {`[{"id": "a-1", "device_id": "2"}]`, verify7},
		"a_code_is_queued": {`{"status": {"type": "pending", "code": 200, "error": false}}`, verify7},
		"no_error_field":   {`{"status": {"type": "success", "code": 200}}`, verify7},
		"an_empty_object":  {`{}`, verify7},
		"another_code":     {`{"status": {"type": "success", "code": 100, "error": false}}`, verify7},
	} {
		if err := c.call(parrot(t, "application/json", c.body)); !Is(err, Garbage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	const right = `{"status": {"type": "success", "code": 200, "error": false}}`
	if err := verify7(parrot(t, "text/html", right)); !Is(err, Garbage) {
		t.Errorf("a page: %v", err)
	}
	if err := verify7(parrot(t, "application/json; charset=utf-8", right)); err != nil {
		t.Errorf("the right answer: %v", err)
	}
}

// parrot is a tenant that answers body to everything but a token request.
func parrot(t *testing.T, contentType, body string) *Tenant {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/auth/") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"access_token": "t", "expires_in": 36000}`)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	tn := New(Options{Base: s.URL})
	t.Cleanup(tn.Close)
	return tn
}

func trigger7(tn *Tenant) error {
	_, err := tn.Trigger(context.Background(), 7, Device{ID: 2})
	return err
}

func poll7(tn *Tenant) error {
	o, err := tn.Poll(context.Background(), 7, Device{ID: 2}, Verification{ID: "a-1"})
	if o == Accepted {
		return nil
	}
	return err
}

func verify7(tn *Tenant) error {
	return tn.VerifyCode(context.Background(), 7, Device{ID: 2}, Verification{}, "123456")
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"Retry-After: 7": 7 * time.Second, "X-RateLimit-Reset: 30": 30 * time.Second, "Retry-After: soon": time.Second,
		"Retry-After: -1": time.Second, "Retry-After: 0": 100 * time.Millisecond, "Retry-After: Mon, 02 Jan 2006 15:04:05 GMT": 100 * time.Millisecond,
	} {
		name, value, _ := strings.Cut(header, ": ")
		h := http.Header{}
		h.Set(name, value)
		if got := retryAfter(h); got != want {
			t.Errorf("%s: %s", header, got)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for want, e := range map[string]*Error{
		`x: refused with status 401: the credential (client_id, client_secret) needs scope "Manage all"`: {Op: "x", Kind: Unauthorized, Status: 401, need: operation{scope: "Manage all"}.needs()},
		"x: not found": {Op: "x", Kind: NotFound}, "x: answered with status 500": {Op: "x", Kind: Failed, Status: 500},
		"x: the tenant's rate limit is used up": {Op: "x", Kind: RateLimited}, "x: the answer (status 200) is not one of the API": {Op: "x", Kind: Garbage, Status: 200},
	} {
		if e.Error() != want || !Is(fmt.Errorf("y: %w", e), e.Kind) {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

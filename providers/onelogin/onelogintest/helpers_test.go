// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client is a client of a server with a token.
type client struct {
	t     *testing.T
	s     *Server
	http  *http.Client
	token string
}

// reply is what a client got.
type reply struct {
	status int
	header http.Header
	raw    string
	value  any // of the JSON; nil if it is none
}

// newClient takes a token at once.
func newClient(t *testing.T, s *Server) *client {
	t.Helper()
	c := bareClient(t, s)
	c.token = at[string](t, c.mint(ClientID, ClientSecret).value, "access_token")
	return c
}

func bareClient(t *testing.T, s *Server) *client {
	t.Helper()
	tr := &http.Transport{}
	if len(s.CAPEM) > 0 {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(s.CAPEM)
		tr.TLSClientConfig = &tls.Config{RootCAs: pool}
		tr.ForceAttemptHTTP2 = true
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &client{t: t, s: s, http: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// mint asks for a token as the Go SDK does.
func (c *client) mint(id, secret string) reply {
	c.t.Helper()
	req := c.request(http.MethodPost, "/auth/oauth2/v2/token", map[string]any{"grant_type": "client_credentials"})
	req.SetBasicAuth(id, secret)
	return c.do(req)
}

func (c *client) request(method, path string, body any) *http.Request {
	c.t.Helper()
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			c.t.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.s.URL+path, bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "bearer "+c.token)
	return req
}

func (c *client) do(req *http.Request) reply {
	c.t.Helper()
	r, err := c.try(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return r
}

func (c *client) try(req *http.Request) (reply, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	r := reply{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&r.value) != nil {
		r.value = nil
	}
	return r, err
}

func (c *client) get(path string) reply {
	c.t.Helper()
	return c.do(c.request(http.MethodGet, path, nil))
}

func (c *client) post(path string, body any) reply {
	c.t.Helper()
	return c.do(c.request(http.MethodPost, path, body))
}

func (c *client) put(path string, body any) reply {
	c.t.Helper()
	return c.do(c.request(http.MethodPut, path, body))
}

// want fails the test unless the reply has this status.
func (r reply) want(t *testing.T, status int) reply {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %.300s", r.status, status, r.raw)
	}
	return r
}

// says fails the test unless the reply has this status and contains text.
func (r reply) says(t *testing.T, status int, text string) reply {
	t.Helper()
	if r.want(t, status); !strings.Contains(r.raw, text) {
		t.Fatalf("%.300s, want %q in it", r.raw, text)
	}
	return r
}

// at walks into JSON: names of fields and numbers of elements.
func at[T any](t *testing.T, v any, path ...any) T {
	t.Helper()
	for _, step := range path {
		var next any
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			next = m[step]
		case int:
			if l, _ := v.([]any); step < len(l) {
				next = l[step]
			}
		}
		if next == nil {
			t.Fatalf("no %v in %v", step, v)
		}
		v = next
	}
	got, ok := v.(T)
	if !ok {
		t.Fatalf("%v is a %T, want a %T", v, v, got)
	}
	return got
}

// mittens is a user with one device of every factor.
func mittens(s *Server) User {
	return s.AddUser(User{
		ID: 987654321, Email: "Mittens@example.com", Username: "mittens", Password: "yarn-ball-9",
		Roles: []int64{77777, 111111},
		Devices: []Device{
			{ID: 1, Factor: Authenticator, Default: true},
			{ID: 2, Factor: Protect},
			{ID: 3, Factor: SMS},
			{ID: 4, Factor: Email},
			{ID: 5, Factor: Voice},
			{ID: 6, Factor: "Yubico YubiKey"},
			{ID: 7, Factor: Authenticator, Inactive: true},
		},
	})
}

// soon is a context for what must not take long.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

const (
	devices2      = "/api/2/mfa/users/987654321/devices"
	verifications = "/api/2/mfa/users/987654321/verifications"
	devices1      = "/api/1/users/987654321/otp_devices"
)

// body is the body of a v2 verification.
func body(device int, otp string) map[string]any {
	b := map[string]any{"device_id": fmt.Sprint(device)}
	if otp != "" {
		b["otp"] = otp
	}
	return b
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package tenant asks one OneLogin tenant, for the length of one PAM call.
//
// Paths and request models are those of OneLogin's Go SDK. Connections, the
// access token, retries and the reading of answers are ours, because the SDK's
// own repeat a refused code, never end a request that hangs, and read answers
// of any size. What is promised here instead:
//
//   - no request and no answer outlives its context, nor [Options.RequestTimeout]
//   - no answer of more than 256 KiB is read, and none that is not JSON
//   - what submits a code or a password, or sends something to somebody, is
//     sent once: not again after a 401, a 5xx or a lost answer
//   - no error repeats what a server said, since it may echo what it was told
package tenant

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/onelogin/onelogin-go-sdk/v4/pkg/onelogin"
	"github.com/onelogin/onelogin-go-sdk/v4/pkg/onelogin/api"
	"github.com/onelogin/onelogin-go-sdk/v4/pkg/onelogin/authentication"

	"github.com/pam-authn/pam-authn/authn"
)

// Options say how to reach a tenant.
type Options struct {
	Base         string // "https://example.onelogin.com", without a final slash
	ClientID     string
	ClientSecret authn.Secret
	Roots        *x509.CertPool // nil: the system's
	Proxy        *url.URL       // nil: none; the environment is not asked

	// RequestTimeout bounds one request with its answer. Defaults to 10 s.
	RequestTimeout time.Duration

	// Patience bounds what all requests together wait because the tenant
	// answered 429. Defaults to 20 s.
	Patience time.Duration

	// Log gets a debug line for each request. Nil: none.
	Log *slog.Logger
}

// A Tenant is the connection to one. It is safe for use by several goroutines.
type Tenant struct {
	opts      Options
	transport *http.Transport
	dials     *dials
	tokens    tokens

	mu     sync.Mutex
	waited time.Duration // because of 429
}

// silence keeps the SDK's log lines, which hold names, from standard error.
var silence = sync.OnceFunc(func() { log.SetOutput(io.Discard) })

// New returns a Tenant. It asks nothing yet.
func New(o Options) *Tenant {
	silence()
	if o.RequestTimeout <= 0 {
		o.RequestTimeout = 10 * time.Second
	}
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &dials{}
	t := &Tenant{opts: o, dials: d, tokens: newTokens()}
	// No http.Client: a redirect could lead the credential or a code elsewhere.
	t.transport = &http.Transport{
		DialContext:         d.dial,
		Proxy:               http.ProxyURL(o.Proxy),
		TLSClientConfig:     &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 5 * time.Second,
		// Two lookups run at a time, so two connections serve a login.
		MaxConnsPerHost:        2,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        30 * time.Second, // before a balancer drops them
		MaxResponseHeaderBytes: 64 << 10,
		// HTTP/1.1 only: one protocol's rules of when a request may be sent
		// again are enough to know.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return t
}

// Close closes the connections. Requests that run are ended by their contexts.
func (t *Tenant) Close() { t.transport.CloseIdleConnections() }

// Open gets the access token, so that the requests that follow need not.
func (t *Tenant) Open(ctx context.Context) error {
	_, err := t.token(ctx, "")
	return err
}

// Fault is what PAM hears of err, an error of this tenant that decided nothing:
// authinfo_unavail if no connection of this call came about, for reasons that
// say that nobody is there, and system_err otherwise.
func (t *Tenant) Fault(err error) error {
	if failed := t.dials.onlyFailures(); failed != nil {
		return fmt.Errorf("OneLogin: %w", authn.Unreachable(failed))
	}
	return fmt.Errorf("OneLogin: %w: %w", err, authn.ErrSystem)
}

// sdk returns the SDK bound to one request: its answer is left in out.
func (t *Tenant) sdk(ctx context.Context, op operation, out *answer) *onelogin.OneloginSDK {
	return &onelogin.OneloginSDK{Client: &api.Client{
		OLdomain:   t.opts.Base,
		Auth:       authentication.NewAuthenticator(""),
		HttpClient: &doer{t, ctx, op, out},
	}}
}

// dials keeps what became of each connection.
type dials struct {
	mu      sync.Mutex
	failed  []error
	reached bool
}

const dialTimeout = 5 * time.Second

func (d *dials) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failed = append(d.failed, err)
		return nil, err
	}
	d.reached = true
	return conn, nil
}

// onlyFailures returns why no connection came about, or nil if one did or none
// was tried.
func (d *dials) onlyFailures() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reached {
		return nil
	}
	return errors.Join(d.failed...)
}

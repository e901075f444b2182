// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An operation is one kind of request.
type operation struct {
	name  string // for errors: "the user's factors"
	scope string // the least one that the credential needs for it

	// about says that a 401 may be about the person asked for: no fresh token
	// is tried then, which would be more requests for some than for others.
	about bool
}

// maxBody bounds an answer.
const maxBody = 256 << 10

// A Kind says what went wrong with a request that was answered.
type Kind int

// The kinds of an [Error].
const (
	Garbage      Kind = iota // an answer that is none: HTML, half of one, too long, of another shape
	Unauthorized             // 401 or 403: credential, scope or, where one was submitted, code or password
	Unscoped                 // a 401 or 403 that says that the credential lacks a scope
	NotFound                 // 404
	RateLimited              // 429, for longer than there is patience
	Failed                   // any other status
	Pending                  // a 401 that says that nobody has answered a push yet
)

// An Error is an answer that is not what was asked for.
type Error struct {
	Op     string
	Kind   Kind
	Status int // of HTTP, or what the body says in its stead
	need   string
}

// Error says what was asked, what came, and what may mend it. It has nothing of
// the server's text.
func (e *Error) Error() string {
	switch e.Kind {
	case Unauthorized, Unscoped:
		if e.need != "" {
			return fmt.Sprintf("%s: refused with status %d: the credential (client_id, client_secret) needs %s", e.Op, e.Status, e.need)
		}
		return fmt.Sprintf("%s: refused with status %d", e.Op, e.Status)
	case NotFound:
		return e.Op + ": not found"
	case RateLimited:
		return e.Op + ": the tenant's rate limit is used up"
	case Failed:
		return fmt.Sprintf("%s: answered with status %d", e.Op, e.Status)
	case Pending:
		return e.Op + ": pending"
	default:
		return fmt.Sprintf("%s: the answer (status %d) is not one of the API", e.Op, e.Status)
	}
}

// Is reports whether err is an [Error] of this kind.
func Is(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

// An answer is the body of a successful one.
type answer struct {
	status int
	date   time.Time // the tenant's; zero: not said
	body   []byte
}

func (a *answer) decode(out any) error { return json.Unmarshal(a.body, out) }

// A doer is the SDK's HTTP client for one request.
type doer struct {
	t   *Tenant
	ctx context.Context //nolint:containedctx // many of the SDK's methods take none
	op  operation
	out *answer
}

// Do sends the SDK's request by our rules. The SDK gets an empty answer: what
// came is in d.out, and is decoded from there.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	var err error
	if req.Method == http.MethodGet {
		err = d.read(req)
	} else {
		err = d.submit(req)
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: req,
	}, nil
}

// submit sends what must not be sent twice.
func (d *doer) submit(req *http.Request) error {
	token, err := d.t.token(d.ctx, "")
	if err != nil {
		return err
	}
	return d.t.send(d.ctx, d.op, authorized(req, token), d.out)
}

// read sends what may be sent again: once with a fresh token, unless a 401 may
// be about the person, and as often as there is patience where the tenant asks
// to wait.
func (d *doer) read(req *http.Request) error {
	token, err := d.t.token(d.ctx, "")
	if err != nil {
		return err
	}
	try := func() error {
		return d.t.patiently(d.ctx, d.op, func() (*http.Request, error) { return authorized(req, token), nil }, d.out)
	}
	refusal := try()
	if !Is(refusal, Unauthorized) || d.op.about {
		return refusal
	}
	fresh, err := d.t.token(d.ctx, token)
	if err != nil {
		return err
	}
	if fresh == token { // it is good: what is missing is a scope
		return refusal
	}
	token = fresh
	return try()
}

// authorized is a copy of req with the token. The header replaces the SDK's.
func authorized(req *http.Request, token string) *http.Request {
	c := req.Clone(req.Context())
	c.Header.Set("Authorization", "bearer "+token)
	return c
}

// patiently sends a request again where the tenant says when to come back.
func (t *Tenant) patiently(ctx context.Context, op operation, build func() (*http.Request, error), out *answer) error {
	for {
		req, err := build()
		if err != nil {
			return err
		}
		err = t.send(ctx, op, req, out)
		var limited *rateLimit
		if !errors.As(err, &limited) {
			return err
		}
		if !t.mayWait(limited.wait) {
			return limited.err
		}
		select {
		case <-time.After(limited.wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayWait takes d from the patience of this call.
func (t *Tenant) mayWait(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waited+d > t.opts.Patience {
		return false
	}
	t.waited += d
	return true
}

// A rateLimit is an [Error] with the time to wait.
type rateLimit struct {
	err  *Error
	wait time.Duration
}

func (r *rateLimit) Error() string { return r.err.Error() }
func (r *rateLimit) Unwrap() error { return r.err }

// send sends req once and reads the answer into out.
func (t *Tenant) send(ctx context.Context, op operation, req *http.Request, out *answer) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.opts.RequestTimeout, fmt.Errorf("%s: no answer within %s", op.name, t.opts.RequestTimeout))
	defer cancel()
	start := time.Now()
	defer func() {
		t.opts.Log.Debug("OneLogin", "asked", op.name, "method", req.Method, "status", out.status, "ms", time.Since(start).Milliseconds())
	}()
	req = req.WithContext(ctx)
	req.Header.Set("Accept", "application/json")
	resp, err := t.transport.RoundTrip(req)
	if err != nil {
		return broken(ctx, op, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or worthless
	out.status = resp.StatusCode
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body would outlive the context
		return &Error{Op: op.name, Kind: Failed, Status: out.status}
	}
	out.date, _ = http.ParseTime(resp.Header.Get("Date"))
	if out.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		return broken(ctx, op, err)
	}
	return t.judge(op, resp, out)
}

// broken says why there is no answer.
func broken(ctx context.Context, op operation, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("%s: %w", op.name, cause(err))
}

// cause returns what is known to hold nothing of what the other side sent:
// net/http's own errors quote that, and it may be an echo of a secret.
func cause(err error) error {
	var (
		op    *net.OpError
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		alert tls.AlertError
		errno syscall.Errno
		late  net.Error
	)
	switch {
	case errors.As(err, &cert):
		return cert
	case errors.As(err, &dns):
		return dns
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &op) && op.Op == "dial":
		return op
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &late) && late.Timeout():
		return errors.New("timed out")
	}
	return errors.New("the answer is not HTTP, or a proxy refused")
}

// judge turns everything but an answer of the API that reports success into an
// error.
func (t *Tenant) judge(op operation, resp *http.Response, out *answer) error {
	e := &Error{Op: op.name, Status: out.status, need: op.needs()}
	mediaType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	isJSON := err == nil && (mediaType == "application/json" || strings.HasSuffix(mediaType, "+json"))
	body := bytes.TrimSpace(out.body)
	whole := isJSON && len(out.body) <= maxBody && json.Valid(body) && (body[0] == '{' || body[0] == '[')
	said := said{}
	if whole {
		said = listen(body)
	}
	if said.failed && e.Status < 300 {
		e.Status = max(said.code, http.StatusBadRequest)
	}
	switch {
	case e.Status == http.StatusTooManyRequests:
		e.Kind = RateLimited
		return &rateLimit{e, retryAfter(resp.Header)}
	case e.Status == http.StatusUnauthorized && said.pending:
		e.Kind = Pending
	case (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) && said.scope:
		e.Kind = Unscoped
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		e.Kind = Unauthorized
	case e.Status == http.StatusNotFound && whole:
		e.Kind = NotFound
	case e.Status < 200 || e.Status > 202:
		e.Kind = Failed
	case !whole:
		e.Kind = Garbage
	default:
		return nil
	}
	return e
}

func (op operation) needs() string {
	if op.scope == "" {
		return "to be that of this tenant, and enabled"
	}
	return fmt.Sprintf("scope %q", op.scope)
}

// said is what the body says of the outcome: in version 1's envelope, or flat.
type said struct {
	failed, pending, scope bool
	code                   int
}

func listen(body []byte) said {
	type flatStatus struct {
		Status     json.RawMessage `json:"status"`
		StatusCode Number          `json:"statusCode"`
		Message    json.RawMessage `json:"message"`
	}
	type envelopeStatus struct {
		Error   any    `json:"error"`
		Code    Number `json:"code"`
		Type    string `json:"type"`
		Message any    `json:"message"`
	}
	flat, err := decodeExactly[flatStatus](body)
	if err != nil {
		return said{}
	}
	envelope, err := decodeExactly[envelopeStatus](flat.Status)
	if err != nil {
		envelope = envelopeStatus{}
	}
	code := max(int(flat.StatusCode), int(envelope.Code))
	text := strings.ToLower(fmt.Sprint(string(flat.Message), envelope.Message, envelope.Type))
	return said{
		failed:  code >= 300 || (envelope.Error != nil && envelope.Error != false),
		pending: strings.Contains(text, "pending"),
		scope:   strings.Contains(text, "insufficient"),
		code:    code,
	}
}

// retryAfter reads when to come back: Retry-After, or OneLogin's seconds until
// the limit begins anew. Neither: one second.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"Retry-After", "X-RateLimit-Reset"} {
		value := strings.TrimSpace(h.Get(name))
		if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
			return max(time.Duration(n)*time.Second, 100*time.Millisecond)
		}
		if at, err := http.ParseTime(value); err == nil {
			return max(time.Until(at), 100*time.Millisecond)
		}
	}
	return time.Second
}

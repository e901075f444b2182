// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Request is an entry of the server's log.
type Request struct {
	Time   time.Time     // when its body had arrived, by the real clock
	Took   time.Duration // until the answer was handed to the connection; 0 while it runs
	Method string
	Path   string
	Query  url.Values
	Status int    // 0 while it runs, and if it was dropped or left without an answer
	Conn   int    // the connection's number, from 1
	Remote string // the client's address
	Token  string // "token-1": which token it carried or got; "" for none that the server made

	// Fields are the names of the body's fields, sorted.
	Fields []string
	// Digest tells equal bodies from different ones. It is keyed, since an OTP
	// is quickly guessed from its hash.
	Digest string

	// Body and Header are as they were sent, with [KeepBodies] only.
	Body   []byte
	Header http.Header
}

// ServeHTTP answers a call of the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.opts.control && strings.HasPrefix(r.URL.Path, "/control/") {
		s.control.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return
	}
	c := &call{s: s, r: r, fields: parse(r.Header.Get("Content-Type"), body)}
	c.entry = s.record(r, body, c.fields)
	defer s.finish(c.entry, time.Now()) // also if the answer ends in a panic
	effect, latency := s.plan(c)
	if !pause(r.Context(), latency) {
		panic(http.ErrAbortHandler)
	}
	a := effect()
	s.change(func() { c.entry.Status = a.status })
	w.Header().Set("Date", s.Now().UTC().Format(http.TimeFormat)) // by the clock that all else goes by
	a.write(w, r)
}

// plan is what to do for a request: the call itself, inside the faults that
// apply to it.
func (s *Server) plan(c *call) (effect func() answer, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	effect = func() answer { return s.do(c) }
	for _, f := range slices.Backward(s.faults(c.r)) {
		next := effect
		effect = func() answer { return f.apply(c, next) }
	}
	return effect, s.latency
}

// record adds a request to the log.
func (s *Server) record(r *http.Request, body []byte, fields map[string]any) *Request {
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write(body)
	conn, _ := r.Context().Value(connKey{}).(int)
	e := &Request{
		Time: time.Now(), Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(),
		Conn: conn, Remote: r.RemoteAddr,
		Fields: slices.Sorted(maps.Keys(fields)),
		Digest: hex.EncodeToString(mac.Sum(nil)),
	}
	if s.opts.bodies {
		e.Body, e.Header = body, r.Header.Clone()
	}
	s.change(func() { s.log = append(s.log, e) })
	return e
}

func (s *Server) finish(e *Request, start time.Time) {
	s.change(func() { e.Took = max(time.Since(start), 1) })
}

// Requests is the log since the start or the last Reset, in order of arrival.
func (s *Server) Requests() []Request { return s.RequestsFrom(0) }

// RequestsFrom is the log without its first n entries.
func (s *Server) RequestsFrom(n int) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Request{}
	for _, e := range s.log[min(n, len(s.log)):] {
		c := *e
		c.Query = maps.Clone(e.Query)
		c.Fields = slices.Clone(e.Fields)
		c.Body = bytes.Clone(e.Body)
		c.Header = e.Header.Clone()
		list = append(list, c)
	}
	return list
}

// Reset empties the log and what [Server.Sent] tells. Users, tokens and faults
// stay.
func (s *Server) Reset() { s.change(func() { s.log, s.sent = nil, nil }) }

// Count is how many requests of the log have this method ("" or "*": any) and
// a path that fits the pattern: "*" is any one segment, "**" at the end any
// rest.
func (s *Server) Count(method, pattern string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.log {
		if method != "" && method != "*" && method != e.Method {
			continue
		}
		if _, ok := matchPath(pattern, e.Path); ok {
			n++
		}
	}
	return n
}

// Sequence is the log as "METHOD path" with ids as stars, and the names of the
// query's keys, for comparing what two logins asked for:
// "GET /api/2/users?email".
func (s *Server) Sequence() []string {
	var list []string
	for _, r := range s.Requests() {
		list = append(list, r.Call())
	}
	return list
}

// Call is the request as [Server.Sequence] has it.
func (r Request) Call() string {
	path := r.Path
	for _, rt := range routes {
		if _, ok := matchPath(rt.path, r.Path); ok && rt.method == r.Method {
			path = rt.path
		}
	}
	if len(r.Query) > 0 {
		path += "?" + strings.Join(slices.Sorted(maps.Keys(r.Query)), "&")
	}
	return r.Method + " " + path
}

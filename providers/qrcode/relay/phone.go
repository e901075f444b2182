// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// servePhone takes one post of a phone and answers it.
func (s *Server) servePhone(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Origin")
	if !s.allowOrigin(h, r) {
		s.metrics.post("origin", 0)
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write(errorBody("origin"))
		return
	}
	switch r.Method {
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", http.MethodPost)
		h.Set("Access-Control-Allow-Headers", "content-type")
		h.Set("Access-Control-Max-Age", "600")
		w.WriteHeader(http.StatusNoContent)
		return
	case http.MethodPost:
	default:
		h.Set("Allow", "OPTIONS, POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		_, _ = w.Write(errorBody("post it"))
		return
	}
	begun := time.Now()
	s.metrics.inFlight.Add(1)
	a := s.take(w, r)
	s.metrics.inFlight.Add(-1)
	s.metrics.post(resultOf[a.status], time.Since(begun))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// allowOrigin reports whether the page that sent r may, and tells its browser.
// What is no browser sends no origin, and is not what CORS is about.
func (s *Server) allowOrigin(h http.Header, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	if s.open.Load() && !local(r) {
		return false
	}
	if s.PageOrigin != "" {
		if !strings.EqualFold(origin, s.PageOrigin) {
			return false
		}
		h.Set("Access-Control-Allow-Origin", origin)
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// take judges a post as far as a relay can, and has it answered.
func (s *Server) take(w http.ResponseWriter, r *http.Request) answer {
	from := group(s.client(r))
	if !s.posts.allow(from, time.Now()) {
		return answerSlowDown
	}
	body, refused := s.readPost(w, r)
	if refused != nil {
		return *refused
	}
	var m struct{ Type string }
	if err := json.Unmarshal(body, &m); err != nil || body[0] != '{' || m.Type == "" {
		return answerMalformed
	}
	name := strings.TrimPrefix(r.URL.Path, wire.PhonePath)
	isID, isLoc := wire.ValidID(name), wire.ValidLoc(name)
	if isID && m.Type == wire.TypeLookup || isLoc && m.Type != wire.TypeLookup {
		return answerMalformed
	}
	if !s.mayBegin(m.Type, from) {
		return answerSlowDown
	}
	if !isID && !isLoc {
		return answerGone
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.AnswerTimeout)
	defer cancel()
	return s.deliver(ctx, name, body)
}

// mayBegin reports whether one more phone may begin from there, if this is how
// phones begin.
func (s *Server) mayBegin(kind string, from netip.Addr) bool {
	switch kind {
	case wire.TypeHello:
		return s.phones.allow(from, time.Now())
	case wire.TypeLookup:
		return s.lookups.allow(from, time.Now())
	}
	return true
}

// readPost returns a body that is valid JSON, without white space.
func (s *Server) readPost(w http.ResponseWriter, r *http.Request) ([]byte, *answer) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, &answerMalformed
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.MaxPost))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &answerTooLarge
	case err != nil:
		return nil, &answerMalformed
	}
	// Whichever way it takes, the host gets the same bytes.
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return nil, &answerMalformed
	}
	return compact.Bytes(), nil
}

// deliver hands a post to the host that holds name, here or elsewhere, and waits
// for its answer. Where none comes, the login is gone.
func (s *Server) deliver(ctx context.Context, name string, body []byte) answer {
	k := s.logins.find(name)
	if k == nil && s.NATS != nil {
		return s.NATS.post(ctx, name, body)
	}
	if k == nil {
		return answerGone
	}
	answers := make(chan answer, 1)
	cancel, refused := k.post(body, func(a answer) { answers <- a })
	if refused != nil {
		return *refused
	}
	defer cancel()
	select {
	case a := <-answers:
		return a
	case <-ctx.Done():
		return answerGone
	}
}

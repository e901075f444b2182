// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultTokenLife is expires_in of the samples.
const defaultTokenLife = 36000 * time.Second

// A Scope is what a credential may do (reference, Working with API
// credentials).
type Scope string

// The scopes, as OneLogin's administration page names them.
const (
	AuthenticationOnly Scope = "Authentication Only"
	ReadUsers          Scope = "Read users"
	ManageUsers        Scope = "Manage users"
	ReadAll            Scope = "Read All"
	ManageAll          Scope = "Manage All"
)

var allScopes = []Scope{AuthenticationOnly, ReadUsers, ManageUsers, ReadAll, ManageAll}

func (s Scope) known() bool { return slices.Contains(allScopes, s) }

func scopeNames() []string {
	var names []string
	for _, s := range allScopes {
		names = append(names, string(s))
	}
	return names
}

// What each page of the reference asks for.
var (
	forUsers  = []Scope{ReadUsers, ManageUsers, ReadAll, ManageAll}
	forRoles  = []Scope{ReadAll, ManageAll}
	forMFA2   = []Scope{ManageAll}
	forMFA1   = []Scope{ManageUsers, ManageAll}
	forLogin  = []Scope{AuthenticationOnly, ManageUsers, ManageAll}
	forAnyone = allScopes
)

// token is an access token.
type token struct {
	name    string // for the log: it opens nothing
	access  string
	refresh string
	created time.Time
	expires time.Time
	life    time.Duration
	dead    bool
}

func (t *token) valid(now time.Time) bool { return !t.dead && now.Before(t.expires) }

// SetCredential changes the one credential that the server knows. Tokens of the
// old one live on.
func (s *Server) SetCredential(id, secret string) {
	s.change(func() { s.clientID, s.secret = id, secret })
}

// Scope sets what the credential may do, at once and for its living tokens.
func (s *Server) Scope(scope Scope) { s.change(func() { s.scope = scope }) }

// TokenLife sets how long tokens made from now on live. expires_in has whole
// seconds, rounded down.
func (s *Server) TokenLife(d time.Duration) { s.change(func() { s.tokenLife = d }) }

// ExpireTokens ends the life of all tokens, as time would.
func (s *Server) ExpireTokens() {
	s.change(func() {
		for _, t := range s.tokens {
			t.expires = s.now()
		}
	})
}

// RevokeTokens revokes all tokens, as an administrator would.
func (s *Server) RevokeTokens() {
	s.change(func() {
		for _, t := range s.tokens {
			t.dead = true
		}
	})
}

// Tokens is how many tokens were made since the start.
func (s *Server) Tokens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.minted
}

// currentToken is the living token, or a new one: a credential has one token
// until it expires (reference, Generate Tokens).
func (s *Server) currentToken() *token {
	now := s.now()
	for _, t := range s.tokens {
		if t.valid(now) {
			return t
		}
	}
	s.minted++
	t := &token{
		name: fmt.Sprintf("token-%d", s.minted), access: randomHex(32), refresh: randomHex(32),
		created: now, expires: now.Add(s.tokenLife), life: s.tokenLife,
	}
	s.tokens = append(s.tokens, t)
	return t
}

func (s *Server) tokenByAccess(access string) *token {
	for _, t := range s.tokens {
		if access != "" && t.access == access {
			return t
		}
	}
	return nil
}

// generateToken answers POST /auth/oauth2/v2/token, and the older
// /auth/oauth2/token, which wraps the same in an envelope.
func (s *Server) generateToken(c *call) answer {
	if !s.knows(c) {
		return envelopeError(401, "Unauthorized", "Authentication Failure")
	}
	if c.text("grant_type") != "client_credentials" {
		return envelopeError(400, "bad request", "grant_type is incorrect/absent")
	}
	t := s.currentToken()
	c.entry.Token = t.name
	life := t.life
	if s.variants.RemainingLife {
		life = t.expires.Sub(s.now())
	}
	body := object{
		"access_token": t.access, "refresh_token": t.refresh, "token_type": "bearer",
		"created_at": stamp(t.created), "expires_in": int64(life / time.Second), "account_id": 555555,
	}
	s.decorate(body)
	if strings.HasPrefix(c.r.URL.Path, "/auth/oauth2/v2/") {
		return jsonAnswer(200, body)
	}
	return envelope([]any{body})
}

// revokeToken answers POST /auth/oauth2/revoke.
func (s *Server) revokeToken(c *call) answer {
	if !s.knows(c) {
		return envelopeError(401, "Unauthorized", "Authentication Failure")
	}
	t := s.tokenByAccess(c.text("access_token"))
	if t == nil {
		return envelopeError(400, "bad request", "access_token is incorrect/absent")
	}
	c.entry.Token = t.name
	t.dead = true
	return envelope(nil)
}

// knows reports whether a token request shows the credential: in the header as
// "client_id:X, client_secret:Y" or Basic, or in the body.
func (s *Server) knows(c *call) bool {
	id, secret, ok := c.r.BasicAuth()
	if !ok {
		id, secret, ok = oldHeader(c.r.Header.Get("Authorization"))
	}
	if !ok {
		id, secret = c.text("client_id"), c.text("client_secret")
	}
	return id == s.clientID && secret == s.secret
}

// oldHeader reads "client_id:X, client_secret:Y".
func oldHeader(h string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(h), "client_id:")
	if !ok {
		return "", "", false
	}
	id, rest, ok = strings.Cut(rest, ",")
	if !ok {
		return "", "", false
	}
	secret, ok = strings.CutPrefix(strings.TrimSpace(rest), "client_secret:")
	return strings.TrimSpace(id), strings.TrimSpace(secret), ok
}

// bearer reads "bearer TOKEN" and "bearer:TOKEN".
func bearer(h string) string {
	const word = "bearer"
	if len(h) < len(word) || !strings.EqualFold(h[:len(word)], word) {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(h[len(word):], ":"))
}

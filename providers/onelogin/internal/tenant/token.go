// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// ahead is how long before its end a token is replaced: a code that is
// submitted must not meet an expired one.
const ahead = time.Minute

// tokens holds the access token of this call.
type tokens struct {
	turn    chan struct{} // who holds it may change the rest
	access  string
	expires time.Time // zero: not known
	renewed bool      // ahead of its end, with no better one to be had
	err     error     // the first failure: it is not tried again in this call
}

func newTokens() tokens {
	return tokens{turn: make(chan struct{}, 1)}
}

// token returns an access token, and a new one if refused is what it has:
// OneLogin may then give the same one again. Only one goroutine at a time asks.
func (t *Tenant) token(ctx context.Context, refused string) (string, error) {
	s := &t.tokens
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if s.err != nil {
		return "", s.err
	}
	if s.access != "" && s.access != refused && !s.ending() {
		return s.access, nil
	}
	if err := t.renew(ctx); err != nil {
		if s.access != "" && s.access != refused && time.Now().Before(s.expires) {
			s.renewed = true // it is good for a while
			return s.access, nil
		}
		if ctx.Err() == nil {
			s.err = err
		}
		return "", err
	}
	return s.access, nil
}

// ending reports whether the token should be replaced before it is used again.
func (s *tokens) ending() bool {
	left := time.Until(s.expires)
	return !s.expires.IsZero() && (left <= 0 || (left < ahead && !s.renewed))
}

var tokenRequest = operation{name: "the access token"}

// renew asks for a token. OneLogin gives the same one again until it ends.
func (t *Tenant) renew(ctx context.Context) error {
	var reply struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   Number `json:"expires_in"`
		CreatedAt   text   `json:"created_at"`
	}
	var out answer
	build := func() (*http.Request, error) {
		body := strings.NewReader(`{"grant_type":"client_credentials"}`)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.opts.Base+"/auth/oauth2/v2/token", body)
		if err != nil {
			return nil, err
		}
		req.SetBasicAuth(t.opts.ClientID, t.opts.ClientSecret.Reveal())
		req.Header.Set("Content-Type", "application/json")
		return req, nil
	}
	asked := time.Now()
	if err := t.patiently(ctx, tokenRequest, build, &out); err != nil {
		return err
	}
	if err := out.decode(&reply); err != nil || !plain(reply.AccessToken) {
		return garbage(tokenRequest)
	}
	s := &t.tokens
	s.renewed = s.access == reply.AccessToken
	s.access, s.expires = reply.AccessToken, time.Time{}
	if reply.ExpiresIn > 0 {
		life := time.Duration(min(int64(reply.ExpiresIn), 1<<31)) * time.Second
		if old := age(string(reply.CreatedAt), out.date); old < life {
			life -= old
		}
		s.expires = asked.Add(life)
	}
	return nil
}

// age is how long ago a token was made, by the tenant's own clock: OneLogin's
// pages have expires_in as the whole life of a token that may be hours old.
// Where it is what is left, taking the age off only renews too early, and an age
// above it shows that it is.
func age(created string, now time.Time) time.Duration {
	at, err := time.Parse(time.RFC3339, created)
	if err != nil || now.IsZero() {
		return 0
	}
	return max(now.Sub(at), 0)
}

// plain reports whether s can stand in a header or a path.
func plain(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= 4096
}

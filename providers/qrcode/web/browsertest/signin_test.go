// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// An issuer that says yes to everybody, at once.
func issuer(t *testing.T, respond func(ask func(string) string) string) (string, *[]string) {
	t.Helper()
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+respond(r.URL.Query().Get), http.StatusFound)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, &asked
}

func TestSignIn(t *testing.T) {
	respond := func(ask func(string) string) string { return "#code=c0de&state=" + ask("state") }
	at, asked := issuer(t, func(ask func(string) string) string { return respond(ask) })
	p := start(t, Options{Allow: []string{at}})
	login := func(t *testing.T) *host {
		h := newHost(t, wire.Login, at+"/auth?tenant=7")
		h.details.Methods = []string{wire.MethodPasskey, wire.MethodOIDC}
		h.details.OIDC = []wire.OIDCInfo{{Name: "Example", Issuer: at, AuthorizeURL: at + "/auth?tenant=7", ClientID: "pam-authn", CodeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}}
		return h
	}

	t.Run("approve", func(t *testing.T) {
		h := login(t)
		h.verdict = func(typ string, plain []byte) any {
			if typ != wire.TypeOIDC || string(plain) == "" {
				t.Errorf("%s", typ)
			}
			var m wire.OIDC
			if err := json.Unmarshal(plain, &m); err != nil || m.Issuer != at || m.Code != "c0de" {
				t.Errorf("%s: %v", plain, err)
			}
			return wire.Verdict{OK: true, Code: "042917"}
		}
		expect(t, p.Open(h.link()), "details")
		look(t, p, "details-oidc")
		p.SignIn("Example")
		if got := p.Digits(); got != "042917" {
			t.Errorf("digits %q", got)
		}
		if strings.Contains(p.URL(), "c0de") {
			t.Error("the issuer's answer stays in the address")
		}
		tl, err := h.details.Transcript(h.only())
		if err != nil {
			t.Fatal(err)
		}
		got := query(t, (*asked)[len(*asked)-1])
		for name, want := range map[string]string{
			"tenant": "7", "response_type": "code", "response_mode": "fragment", "client_id": "pam-authn", "redirect_uri": h.URL + "/",
			"scope": "openid", "nonce": wire.Nonce(tl), "max_age": "0", "prompt": "login", "code_challenge_method": "S256",
			"code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
		} {
			if got.Get(name) != want {
				t.Errorf("%s=%s", name, got.Get(name))
			}
		}
		if len(got.Get("state")) < 40 {
			t.Errorf("state=%s", got.Get("state"))
		}
		if kept := stored(p); kept != "" {
			t.Errorf("after the way back the tab keeps %d characters", len(kept))
		}
	})

	t.Run("an origin is listed, and the host sends parameters along", func(t *testing.T) {
		h := login(t)
		h.serveAt(at)
		h.details.OIDC[0].AuthorizeURL = at + "/auth?tenant=7&request_uri=https%3A%2F%2Fevil.example&response_mode=query"
		expect(t, p.Open(h.link()), "details")
		p.SignIn("Example")
		p.Digits()
		got := query(t, (*asked)[len(*asked)-1])
		if got.Has("tenant") || got.Has("request_uri") || got.Get("response_mode") != "fragment" || len(got["response_mode"]) != 1 {
			t.Errorf("the issuer was asked %v", got)
		}
	})

	t.Run("the network fails on the way back", func(t *testing.T) {
		h := login(t)
		h.deafTo(`"type":"oidc"`)
		expect(t, p.Open(h.link()), "details")
		p.SignIn("Example")
		expect(t, p.Wait("offline", "digits"), "offline")
		h.deafTo("")
		p.Tap("reload")
		if got := p.Digits(); got != "042917" {
			t.Errorf("digits %q", got)
		}
	})

	t.Run("issuer says no", func(t *testing.T) {
		respond = func(ask func(string) string) string { return "#error=access_denied&state=" + ask("state") }
		h := login(t)
		expect(t, p.Open(h.link()), "details")
		p.SignIn("Example")
		p.do("waitText", map[string]any{"selector": "#details-note"}, nil)
		look(t, p, "details-oidc-denied")
	})

	t.Run("another issuer answers", func(t *testing.T) {
		respond = func(ask func(string) string) string {
			return "#code=c0de&iss=https%3A%2F%2Fevil.example&state=" + ask("state")
		}
		h := login(t)
		expect(t, p.Open(h.link()), "details")
		p.SignIn("Example")
		expect(t, p.Wait("sent-link"), "sent-link")
	})

	t.Run("a link that somebody sent", func(t *testing.T) {
		h := login(t)
		expect(t, p.Open(h.URL+"/#code=c0de&state=stolen"), "sent-link")
		look(t, p, "sent-link")
		expect(t, p.Open(h.URL+"/?code=c0de&state=stolen"), "sent-link")
		if sent(h, "c0de") || sent(h, "oidc") {
			t.Error("something was sent to the host")
		}
	})

	t.Run("an issuer that the page does not know", func(t *testing.T) {
		for _, to := range []string{"https://evil.example/auth", "javascript:alert(1)", "http://id.example.com/", "https://u:p@" + strings.TrimPrefix(at, "http://") + "/", "nonsense"} {
			h := login(t)
			h.details.OIDC[0].AuthorizeURL = to
			expect(t, p.Open(h.link()), "details")
			p.SignIn("Example")
			expect(t, p.Wait("bad-issuer"), "bad-issuer")
			if to == "https://evil.example/auth" {
				look(t, p, "bad-issuer")
			}
		}
	})
}

// An issuer that many people run, asked as the page asks it.
func TestSignInAtAnIssuer(t *testing.T) {
	h := newHost(t, wire.Login)
	issuer := StartIssuer(t, IssuerOptions{RedirectURIs: []string{h.URL + "/"}})
	at := issuer.URL
	h.serveAt(at)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(issuer.CA))
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}})
	provider, err := oidc.NewProvider(ctx, at)
	if err != nil {
		t.Fatal(err)
	}
	verifier := oauth2.GenerateVerifier()
	client := oauth2.Config{ClientID: "pam-authn", Endpoint: provider.Endpoint(), RedirectURL: h.URL + "/"}
	h.details.Methods = []string{wire.MethodOIDC}
	h.details.OIDC = []wire.OIDCInfo{{Name: "Example", Issuer: at, AuthorizeURL: client.Endpoint.AuthURL, ClientID: client.ClientID,
		CodeChallenge: oauth2.S256ChallengeFromVerifier(verifier)}}
	check := func(plain []byte) error {
		var m wire.OIDC
		if err := json.Unmarshal(plain, &m); err != nil {
			return err
		}
		token, err := client.Exchange(ctx, m.Code, oauth2.VerifierOption(verifier))
		if err != nil {
			return err
		}
		raw, _ := token.Extra("id_token").(string)
		id, err := provider.Verifier(&oidc.Config{ClientID: client.ClientID}).Verify(ctx, raw)
		if err != nil {
			return err
		}
		var claims struct {
			AuthTime int64 `json:"auth_time"`
		}
		tl, err := h.details.Transcript(h.only())
		if err := errors.Join(err, id.Claims(&claims)); err != nil {
			return err
		}
		if id.Subject != "mittens" || id.Nonce != wire.Nonce(tl) || claims.AuthTime < h.details.Start {
			return fmt.Errorf("token of %q, nonce %q, auth_time %d", id.Subject, id.Nonce, claims.AuthTime)
		}
		return nil
	}
	h.verdict = func(_ string, plain []byte) any {
		if err := check(plain); err != nil {
			t.Error(err)
		}
		return wire.Verdict{OK: true, Code: "042917"}
	}
	p := start(t, Options{Allow: []string{at}, IgnoreCertificates: true})
	expect(t, p.Open(h.link()), "details")
	expect(t, p.SignInAs("Example", "mittens"), "digits")

	// Somebody who says no there comes back to the question here.
	q := start(t, Options{Allow: []string{at}, IgnoreCertificates: true})
	expect(t, q.Open(h.link()), "details")
	q.SignIn("Example")
	q.Click("#deny")
	expect(t, q.Wait("details"), "details")
	if got := q.Text("#details-note"); got == "" {
		t.Error("nothing is said")
	}
}

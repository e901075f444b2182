// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

const sub = "248289761001"

// withIssuer lets the account's person approve by signing in, too.
func withIssuer(w *world) {
	w.issuer = qrcodetest.NewIssuer(w.T)
	w.config.OIDC = []qrcode.OIDCConfig{{Issuer: w.issuer.URL, ClientID: w.issuer.ClientID}}
	w.approvers(w.passkey.Line(subject), w.line(w.issuer.URL))
}

// line is the person's, at an issuer.
func (w *world) line(issuer string) string {
	return "oidc " + subject + " " + issuer + " " + sub + "\n"
}

// approveOIDC offers an issuer's code, and returns the digits.
func (r *run) approveOIDC(v *qrcodetest.Visit, issuer, code string) string {
	return r.hear(v.ApproveOIDC(r.Context(), issuer, code))
}

// signIn is the story of a person who signs in, at an issuer that was changed.
func signIn(change func(r *run)) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		if r.evil {
			change(r)
		}
		return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(v, sub, time.Time{}))
	}
}

// claims is signIn with other claims in the ID token.
func claims(change func(c map[string]any)) story {
	return signIn(func(r *run) { r.issuer.Claims = change })
}

// madeBy is signIn with an ID token that somebody else made.
func madeBy(make func(r *run, claims []byte) string) story {
	return signIn(func(r *run) { r.issuer.Sign = func(claims []byte) string { return make(r, claims) } })
}

func set(name string, value any) story { return claims(func(c map[string]any) { c[name] = value }) }
func lacking(name string) story        { return claims(func(c map[string]any) { delete(c, name) }) }

// clock is claims of an issuer whose clock is off.
func clock(off time.Duration) story {
	return claims(func(c map[string]any) {
		for _, name := range []string{"iat", "exp", "auth_time"} {
			if at, ok := c[name].(int64); ok {
				c[name] = at + int64(off/time.Second)
			}
		}
	})
}

func TestSignIns(t *testing.T) {
	attacks := []attack{
		{name: "with_an_old_session", logged: reason.OIDCAuthTime, tell: func(r *run, shown string) string {
			v := r.open(shown)
			var at time.Time
			if r.evil { // prompt=none: nobody was asked anything
				at = time.Now().Add(-time.Hour)
			}
			return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(v, sub, at))
		}},
		{name: "without_auth_time", logged: reason.OIDCNoAuthTime, tell: lacking("auth_time")},
		{name: "for_another_client", logged: reason.OIDCAudience, tell: set("aud", "another-client")},
		{name: "for_another_client_too", logged: reason.OIDCAudience, tell: set("aud", []string{"pam-authn", "another-client"})},
		{name: "for_nobody", logged: reason.OIDCAudience, tell: lacking("aud")},
		{name: "authorized_for_another_client", logged: reason.OIDCAudience, tell: set("azp", "another-client")},
		{name: "of_another_issuer", logged: reason.OIDCIssuer, tell: set("iss", "https://evil.example.com")},
		{name: "signed_with_another_key", logged: reason.OIDCSignature, tell: madeBy(func(r *run, claims []byte) string {
			return qrcodetest.SignToken(jose.RS256, rsaKey(r.T), claims)
		})},
		{name: "changed_after_signing", logged: reason.OIDCSignature, setUp: withPinnedKey, tell: madeBy(changedToken)},
		{name: "signed_with_a_key_that_is_not_pinned", logged: reason.OIDCSignature, setUp: withPinnedKey,
			tell: signIn(func(r *run) { r.issuer.Sign = nil })},
		{name: "alg_none", logged: reason.OIDCAlgorithm, tell: madeBy(func(_ *run, claims []byte) string {
			return b64(`{"alg":"none"}`) + "." + b64(string(claims)) + "."
		})},
		{name: "alg_HS256_with_the_public_key", logged: reason.OIDCAlgorithm, tell: madeBy(func(r *run, claims []byte) string {
			return qrcodetest.SignToken(jose.HS256, r.issuer.JWKS(), claims)
		})},
		{name: "for_another_login", logged: reason.OIDCNonce, tell: nonceOf(func(*run, string) []byte { return make([]byte, 32) })},
		{name: "for_another_phone", logged: reason.OIDCNonce, tell: nonceOf(func(r *run, shown string) []byte { return r.open(shown).Transcript })},
		{name: "without_a_nonce", logged: reason.OIDCNonce, tell: lacking("nonce")},
		{name: "expired", logged: reason.OIDCExpired, tell: set("exp", time.Now().Add(-time.Second).Unix())},
		{name: "without_an_end", logged: reason.OIDCExpired, tell: lacking("exp")},
		{name: "issued_at_no_time", logged: reason.OIDCNoIssuedAt, tell: lacking("iat")},
		{name: "clock_ten_minutes_slow", logged: reason.OIDCClock, tell: clock(-10 * time.Minute)},
		{name: "clock_ten_minutes_fast", logged: reason.OIDCClock, tell: clock(10 * time.Minute)},
		{name: "of_another_person", logged: reason.OIDCUnknown, tell: func(r *run, shown string) string {
			v, who := r.open(shown), sub
			if r.evil {
				who = "another"
			}
			return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(v, who, time.Time{}))
		}},
		{name: "of_the_same_name_at_another_issuer", logged: reason.OIDCUnknown, tell: atAnother, setUp: secondIssuer},
		{name: "at_an_issuer_that_is_not_configured", logged: reason.OIDCOff, tell: func(r *run, shown string) string {
			v, issuer := r.open(shown), r.issuer.URL
			code := r.issuer.SignIn(v, sub, time.Time{})
			if r.evil {
				issuer = "https://evil.example.com"
			}
			return r.approveOIDC(v, issuer, code)
		}},
		{name: "with_a_code_that_was_used", logged: reason.OIDCExchange, tell: usedCode},
		{name: "with_a_code_of_another_phone", logged: reason.OIDCExchange, tell: func(r *run, shown string) string {
			v := r.open(shown)
			from := v
			if r.evil { // its code_challenge belongs to another verifier
				from = r.open(shown)
			}
			return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(from, sub, time.Time{}))
		}},
		{name: "with_more_codes_than_anybody_needs", logged: reason.OIDCTooMany, tell: func(r *run, shown string) string {
			v := r.open(shown)
			for i := range 10 {
				if i < 9 || r.evil {
					r.approveOIDC(v, r.issuer.URL, "guessed")
				}
			}
			return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(v, sub, time.Time{}))
		}},
		{name: "not_good_yet", logged: reason.OIDCLibrary, tell: set("nbf", time.Now().Add(time.Hour).Unix())},
		{name: "without_an_ID_token", logged: reason.OIDCNoToken, tell: madeBy(func(*run, []byte) string { return "" })},
		{name: "with_a_malformed_token", logged: reason.OIDCMalformed, tell: madeBy(func(*run, []byte) string { return "a.b.c" })},
		{name: "at_an_issuer_that_has_gone", logged: reason.OIDCUnreachable, tell: signIn(func(r *run) { r.issuer.Close() })},
	}
	for i := range attacks {
		if attacks[i].setUp == nil {
			attacks[i].setUp = withIssuer
		}
	}
	runAll(t, attacks)
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// withPinnedKey has the host know the issuer's key, so that it need not ask.
func withPinnedKey(w *world) {
	withIssuer(w)
	w.key = rsaKey(w.T)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: w.key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	if err != nil {
		w.Fatal(err)
	}
	w.config.OIDC[0].JWKS = string(set)
	w.issuer.Sign = func(claims []byte) string { return qrcodetest.SignToken(jose.RS256, w.key, claims) }
}

// changedToken is signed by the issuer and then says something else.
func changedToken(r *run, claims []byte) string {
	other := strings.Replace(string(claims), sub, "another", 1)
	signed := strings.Split(qrcodetest.SignToken(jose.RS256, r.key, []byte(other)), ".")
	return signed[0] + "." + b64(string(claims)) + "." + signed[2]
}

// nonceOf is the story of a sign-in for something else than this phone shows.
func nonceOf(transcript func(r *run, shown string) []byte) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		tl := v.Transcript
		if r.evil {
			tl = transcript(r, shown)
		}
		o := v.Details.OIDC[0]
		return r.approveOIDC(v, r.issuer.URL, r.issuer.Grant(url.Values{
			"client_id": {o.ClientID}, "redirect_uri": {v.Phone.Origin + "/"}, "nonce": {wire.Nonce(tl)}, "code_challenge": {o.CodeChallenge},
		}, sub, time.Time{}))
	}
}

// usedCode offers a code that was redeemed before, for the same phone.
func usedCode(r *run, shown string) string {
	v := r.open(shown)
	code := r.issuer.SignIn(v, sub, time.Time{})
	if r.evil {
		r.issuer.Claims = func(c map[string]any) { c["sub"] = "another" }
		r.approveOIDC(v, r.issuer.URL, code)
		r.issuer.Claims = nil
	}
	return r.approveOIDC(v, r.issuer.URL, code)
}

// secondIssuer is configured, and has nobody's line. Its people may call
// themselves what they like.
func secondIssuer(w *world) {
	withIssuer(w)
	w.otherIssuer = qrcodetest.NewIssuer(w.T)
	w.config.OIDC = append(w.config.OIDC, qrcode.OIDCConfig{Issuer: w.otherIssuer.URL, ClientID: w.otherIssuer.ClientID})
}

func atAnother(r *run, shown string) string {
	v, issuer := r.open(shown), r.issuer
	if r.evil {
		issuer = r.otherIssuer
	}
	return r.approveOIDC(v, issuer.URL, issuer.SignIn(v, sub, time.Time{}))
}

// TestAPasskeyNeedsNoClock: the issuer's is ten minutes off, or the host's, and
// a phone's matters to nobody.
func TestAPasskeyNeedsNoClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	withIssuer(w)
	w.succeeds(signIn(func(*run) {}))
	r := w.loginWith(true, func(r *run, shown string) string {
		clock(10*time.Minute)(r, shown)
		v := r.open(shown)
		return r.approve(v, r.sign(v, r.passkey))
	}, leave)
	if r.err != nil || r.id.Subject != subject {
		t.Errorf("the passkey was refused: %v", r.err)
	}
	if got := r.log.all(); len(got) != 1 || got[0] != "oidc: clock differs from issuer" {
		t.Errorf("the log has %q", got)
	}
}

// TestIssuersThatLie: such a one is not even offered, and passkeys go on.
func TestIssuersThatLie(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, path, body string
		want             reason.Reason
	}{
		{"without_keys", "/keys", `{"keys":[]}`, reason.OIDCKeys},
		{"with_a_secret_key", "/keys", `{"keys":[{"kty":"oct","k":"c3dvcmRmaXNo","alg":"HS256"}]}`, reason.OIDCKeys},
		{"who_says_it_is_another", "/.well-known/openid-configuration", `{"issuer":"https://evil.example.com"}`, reason.OIDCUnreachable},
		{"with_garbage", "/.well-known/openid-configuration", `<html>`, reason.OIDCUnreachable},
		{"without_end", "/.well-known/openid-configuration", `{"issuer":"` + strings.Repeat("x", 1<<20) + `"}`, reason.OIDCUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			withIssuer(w)
			behind, err := url.Parse(w.issuer.URL)
			if err != nil {
				t.Fatal(err)
			}
			proxy := httputil.NewSingleHostReverseProxy(behind)
			lies := false
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
				if lies && req.URL.Path == c.path {
					rw.Header().Set("Content-Type", "application/json")
					_, _ = rw.Write([]byte(c.body))
					return
				}
				proxy.ServeHTTP(rw, req)
			}))
			t.Cleanup(front.Close)
			w.issuer.URL = front.URL // it names itself so from now on
			w.config.OIDC[0].Issuer = front.URL
			w.approvers(w.line(front.URL))
			w.succeeds(signIn(func(*run) {}))
			lies = true
			w.login(true, func(r *run, shown string) string {
				v := r.open(shown)
				return r.approveOIDC(v, front.URL, r.issuer.Grant(url.Values{"nonce": {wire.Nonce(v.Transcript)}}, sub, time.Time{}))
			}).refused(attack{logged: c.want, want: reason.OIDCOff})
		})
	}
}

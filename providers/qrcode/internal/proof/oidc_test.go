// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package proof_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// A signIn is one approval through an issuer, right until a test changes a
// thing.
type signIn struct {
	server   *qrcodetest.Issuer
	issuer   *proof.Issuer
	list     []approvers.Approver
	asked    url.Values // what the phone asks the issuer
	sub      string
	signedIn time.Time
	claim    proof.Claim
	log      *bytes.Buffer
}

func newSignIn(t *testing.T) *signIn {
	server := qrcodetest.NewIssuer(t)
	var log bytes.Buffer
	client := host.NewClient(nil, nil)
	t.Cleanup(client.CloseIdleConnections)
	s := &signIn{server: server, sub: "248289761001", log: &log,
		list: []approvers.Approver{
			{Subject: "tom@example.com", Issuer: server.URL, Sub: "1"},
			{Subject: "mittens@example.com", Issuer: server.URL, Sub: "248289761001"},
		},
		issuer: &proof.Issuer{
			Name: "Example", URL: server.URL, ClientID: "pam-authn", RedirectURL: origin + "/",
			Client: proof.IssuerClient(client), Log: slog.New(slog.NewTextHandler(&log, nil)),
		},
		claim: proof.Claim{Transcript: challenge, Start: time.Now()},
		asked: url.Values{"client_id": {"pam-authn"}, "redirect_uri": {origin + "/"}, "nonce": {wire.Nonce(challenge)}},
	}
	return s
}

func (s *signIn) judge(t *testing.T) (*approvers.Approver, error) {
	s.issuer.Discover(t.Context())
	info, verifier, err := s.issuer.Offer(t.Context())
	if err != nil {
		return nil, err
	}
	if s.claim.Verifier == "" {
		s.claim.Verifier = verifier
	}
	s.asked.Set("code_challenge", info.CodeChallenge)
	if s.claim.Code == "" {
		s.claim.Code = s.server.Grant(s.asked, s.sub, s.signedIn)
	}
	return s.issuer.Approver(t.Context(), s.list, s.claim)
}

func TestAnIssuerNamesItsOwner(t *testing.T) {
	for name, edit := range map[string]func(*signIn){
		"public client":             func(*signIn) {},
		"client with a secret":      func(s *signIn) { s.server.Secret = "a/b+c"; s.issuer.ClientSecret = authn.NewSecret("a/b+c") },
		"pinned keys":               func(s *signIn) { s.issuer.Keys = s.server.JWKS() },
		"audience in a list":        func(s *signIn) { s.server.Claims = func(c map[string]any) { c["aud"] = []string{"pam-authn"} } },
		"signed in a little before": func(s *signIn) { s.signedIn = time.Now().Add(-20 * time.Second) },
		"clock a little off":        func(s *signIn) { s.issuer.Now = func() time.Time { return time.Now().Add(-25 * time.Second) } },
	} {
		s := newSignIn(t)
		edit(s)
		if a, err := s.judge(t); err != nil || a.Subject != "mittens@example.com" {
			t.Errorf("%s: got %v, %v", name, a, err)
		}
		if s.log.Len() > 0 {
			t.Errorf("%s: logged %s", name, s.log)
		}
	}
}

func otherKey(t *testing.T) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// claim returns a hook that sets one claim, or takes it out.
func claim(name string, value any) func(*signIn) {
	return func(s *signIn) {
		s.server.Claims = func(c map[string]any) {
			if value == nil {
				delete(c, name)
			} else {
				c[name] = value
			}
		}
	}
}

// unsigned returns a token with this header and no signature.
func unsigned(header string) func(*signIn) {
	return func(s *signIn) {
		s.server.Sign = func(claims []byte) string {
			return base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(claims) + "."
		}
	}
}

// TestEachCheckOfAnIDTokenHasItsReason changes one thing at a time in what is
// otherwise right.
func TestEachCheckOfAnIDTokenHasItsReason(t *testing.T) {
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for _, c := range []struct {
		name string
		edit func(*signIn)
		want reason.Reason
	}{
		{"issuer away", func(s *signIn) { s.server.Close() }, reason.OIDCUnreachable},
		{"issuer by another name", func(s *signIn) { s.issuer.URL += "/" }, reason.OIDCUnreachable},
		{"pinned to other keys", func(s *signIn) {
			s.issuer.Keys = []byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}`)
		}, reason.OIDCSignature},
		{"pinned to no keys", func(s *signIn) { s.issuer.Keys = []byte(`{"keys":[]}`) }, reason.OIDCKeys},
		{"a code that was not given", func(s *signIn) { s.claim.Code = "guess" }, reason.OIDCExchange},
		{"a code for another phone", func(s *signIn) { s.claim.Verifier = strings.Repeat("A", 43) }, reason.OIDCExchange},
		{"a code for another page", func(s *signIn) { s.asked.Set("redirect_uri", "https://evil.example.com/") }, reason.OIDCExchange},
		{"wrong secret", func(s *signIn) { s.server.Secret = "one"; s.issuer.ClientSecret = authn.NewSecret("two") }, reason.OIDCExchange},
		{"empty token", func(s *signIn) { s.server.Sign = func([]byte) string { return "" } }, reason.OIDCNoToken},
		{"no token", func(s *signIn) { s.server.Sign = func([]byte) string { return "a.b" } }, reason.OIDCMalformed},
		{"alg none", unsigned(`{"alg":"none"}`), reason.OIDCAlgorithm},
		{"no alg", unsigned(`{}`), reason.OIDCAlgorithm},
		{"alg HS256 with the public key", func(s *signIn) {
			s.server.Sign = func(claims []byte) string { return qrcodetest.SignToken(jose.HS256, s.server.JWKS(), claims) }
		}, reason.OIDCAlgorithm},
		{"an own key under the same name", func(s *signIn) {
			key := otherKey(t)
			s.server.Sign = func(claims []byte) string { return qrcodetest.SignToken(jose.RS256, key, claims) }
		}, reason.OIDCSignature},
		{"no signature", unsigned(`{"alg":"RS256"}`), reason.OIDCSignature},
		{"another issuer", claim("iss", "https://evil.example.com"), reason.OIDCIssuer},
		{"another client", claim("aud", "another"), reason.OIDCAudience},
		{"several clients", claim("aud", []string{"pam-authn", "another"}), reason.OIDCAudience},
		{"no audience", claim("aud", nil), reason.OIDCAudience},
		{"for another party", claim("azp", "another"), reason.OIDCAudience},
		{"no time of issue", claim("iat", nil), reason.OIDCNoIssuedAt},
		{"clock ten minutes ahead", func(s *signIn) { s.issuer.Now = func() time.Time { return time.Now().Add(10 * time.Minute) } }, reason.OIDCClock},
		{"clock ten minutes behind", func(s *signIn) { s.issuer.Now = func() time.Time { return time.Now().Add(-10 * time.Minute) } }, reason.OIDCClock},
		{"clock 40 s ahead", func(s *signIn) { s.issuer.Now = func() time.Time { return time.Now().Add(40 * time.Second) } }, reason.OIDCClock},
		{"issuer's clock 40 s behind", func(s *signIn) {
			s.signedIn = time.Now().Add(-40 * time.Second)
			claim("iat", ago(40*time.Second))(s)
		}, reason.OIDCClock},
		{"another nonce in other case", claim("NONCE", wire.Nonce(challenge)), reason.OIDCMalformed},
		{"another sub in other case", claim("\u017fub", "1"), reason.OIDCMalformed},
		{"another time in other case", claim("Auth_Time", ago(0)), reason.OIDCMalformed},
		{"expired", claim("exp", ago(time.Second)), reason.OIDCExpired},
		{"no expiry", claim("exp", nil), reason.OIDCExpired},
		{"not yet valid", claim("nbf", ago(-time.Hour)), reason.OIDCLibrary},
		{"another login", func(s *signIn) { s.asked.Set("nonce", wire.Nonce(bytes.Repeat([]byte{8}, 32))) }, reason.OIDCNonce},
		{"no nonce", claim("nonce", nil), reason.OIDCNonce},
		{"prompt=none and an old session", func(s *signIn) { s.signedIn = time.Now().Add(-time.Hour) }, reason.OIDCAuthTime},
		{"signed in 32 s before", func(s *signIn) { s.signedIn = time.Now().Add(-32 * time.Second) }, reason.OIDCAuthTime},
		{"no auth_time", claim("auth_time", nil), reason.OIDCNoAuthTime},
		{"auth_time zero", claim("auth_time", 0), reason.OIDCNoAuthTime},
		{"another person", func(s *signIn) { s.sub = "666" }, reason.OIDCUnknown},
		{"the person at another issuer", func(s *signIn) { s.list[1].Issuer = "https://id.example.com" }, reason.OIDCUnknown},
		{"no approvers", func(s *signIn) { s.list = nil }, reason.OIDCUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSignIn(t)
			c.edit(s)
			a, err := s.judge(t)
			if a != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v, want %q", a, err, c.want)
			}
			if authn.ResultOf(err) != authn.ErrAuth {
				t.Errorf("PAM hears %v", authn.ResultOf(err))
			}
		})
	}
}

func TestAnIssuerThatGoesAwayIsNoApproval(t *testing.T) {
	s := newSignIn(t)
	s.issuer.Discover(t.Context())
	if _, _, err := s.issuer.Offer(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.server.Close()
	if a, err := s.judge(t); a != nil || !errors.Is(err, reason.OIDCUnreachable) {
		t.Errorf("got %v, %v, want %q", a, err, reason.OIDCUnreachable)
	}
}

// TestWhatAnIssuerAnswersIsNotLogged: its error page may be anybody's text.
func TestWhatAnIssuerAnswersIsNotLogged(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"an error page": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "swordfish", http.StatusBadGateway) },
		"no JSON":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "swordfish") },
		"another name":  func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"issuer":"swordfish"}`) },
	} {
		s := newSignIn(t)
		page := httptest.NewServer(answer)
		t.Cleanup(page.Close)
		s.issuer.URL = page.URL
		if _, err := s.judge(t); !errors.Is(err, reason.OIDCUnreachable) || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestAnIssuerThatWasFoundIsOffered: however late it is when somebody asks.
func TestAnIssuerThatWasFoundIsOffered(t *testing.T) {
	s := newSignIn(t)
	s.issuer.Discover(t.Context())
	if _, _, err := s.issuer.Offer(t.Context()); err != nil {
		t.Fatal(err)
	}
	late, stop := context.WithCancel(t.Context())
	stop()
	for range 20 {
		if _, _, err := s.issuer.Offer(late); err != nil {
			t.Fatalf("got %v", err)
		}
	}
}

func TestACodeIsGoodOnce(t *testing.T) {
	s := newSignIn(t)
	if _, err := s.judge(t); err != nil {
		t.Fatal(err)
	}
	if _, err := s.judge(t); !errors.Is(err, reason.OIDCExchange) {
		t.Errorf("the second time: got %v, want %q", err, reason.OIDCExchange)
	}
}

func TestAnIssuerWithoutFragmentsIsLogged(t *testing.T) {
	s := newSignIn(t)
	s.server.Modes = []string{"query"}
	if _, err := s.judge(t); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.log.String(), "response_mode=fragment") {
		t.Errorf("logged %q", s.log)
	}
}

func TestEachPhoneGetsAVerifierOfItsOwn(t *testing.T) {
	s := newSignIn(t)
	s.issuer.Discover(t.Context())
	one, v1, err1 := s.issuer.Offer(t.Context())
	two, v2, err2 := s.issuer.Offer(t.Context())
	if err1 != nil || err2 != nil || v1 == v2 || one.CodeChallenge == two.CodeChallenge {
		t.Errorf("got %v, %v, %v, %v", one, two, err1, err2)
	}
}

func TestKeySetsAreOfPublicKeys(t *testing.T) {
	key := otherKey(t)
	set := func(k any) []byte {
		b, err := jose.JSONWebKey{Key: k}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return []byte(`{"keys":[` + string(b) + `, {"kty":"unheard of"}]}`)
	}
	if keys, err := proof.ParseKeys(set(key.Public())); err != nil || len(keys) != 1 {
		t.Errorf("a public key: got %v, %v", keys, err)
	}
	for name, text := range map[string][]byte{"a private key": set(key), "a shared secret": set([]byte("swordfish")), "no JSON": []byte("keys")} {
		if keys, err := proof.ParseKeys(text); err == nil {
			t.Errorf("%s: got %v", name, keys)
		}
	}
}

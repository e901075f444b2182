// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcodetest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// An Issuer is an OpenID Connect provider on loopback whose people are signed
// in by calling [Issuer.SignIn]. It honours max_age and PKCE; the hooks make it
// worse.
type Issuer struct {
	URL      string
	ClientID string
	Secret   string // of the client; empty: a public one

	// Claims, if set, changes the claims of every ID token.
	Claims func(claims map[string]any)

	// Sign, if set, makes the ID token in place of the issuer's key.
	Sign func(claims []byte) string

	// Modes are the response modes of its metadata: query and fragment at
	// first.
	Modes []string

	key    *rsa.PrivateKey
	server *httptest.Server
	mu     sync.Mutex
	codes  map[string]url.Values // what was asked for, with the sub added
}

// NewIssuer starts one. The test's end ends it.
func NewIssuer(t testing.TB) *Issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &Issuer{ClientID: "pam-authn", Modes: []string{"query", "fragment"}, key: key, codes: make(map[string]url.Values)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.metadata)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("POST /token", i.token)
	i.server = httptest.NewServer(mux)
	i.URL = i.server.URL
	t.Cleanup(i.server.Close)
	return i
}

// Close stops the issuer, as an outage does.
func (i *Issuer) Close() { i.server.Close() }

// Config returns what a host's configuration says of this issuer, as an element
// of the YAML list oidc.
func (i *Issuer) Config() string {
	text := fmt.Sprintf("{issuer: %q, client_id: %q", i.URL, i.ClientID)
	if i.Secret != "" {
		text += fmt.Sprintf(", client_secret: %q", i.Secret)
	}
	return text + "}"
}

// JWKS returns its public keys.
func (i *Issuer) JWKS() []byte {
	return mustJSON(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
}

func (i *Issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(mustJSON(map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/auth", "token_endpoint": i.URL + "/token",
		"jwks_uri": i.URL + "/keys", "response_modes_supported": i.Modes,
		"id_token_signing_alg_values_supported": []string{"RS256"},
	}))
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(i.JWKS())
}

// SignIn is a person at the issuer's page, who came by the link that the
// approver page makes of the details, and returns the code that they go back
// with. signedIn is when they last signed in; the zero time is now.
func (i *Issuer) SignIn(v *Visit, sub string, signedIn time.Time) string {
	for _, o := range v.Details.OIDC {
		if o.Issuer == i.URL {
			return i.Grant(url.Values{
				"client_id": {o.ClientID}, "redirect_uri": {v.Phone.Origin + "/"}, "nonce": {wire.Nonce(v.Transcript)},
				"code_challenge": {o.CodeChallenge},
			}, sub, signedIn)
		}
	}
	return "no such issuer was offered"
}

// Grant returns a code for what was asked.
func (i *Issuer) Grant(asked url.Values, sub string, signedIn time.Time) string {
	if signedIn.IsZero() {
		signedIn = time.Now()
	}
	asked.Set("sub", sub)
	asked.Set("auth_time", fmt.Sprint(signedIn.Unix()))
	code := b64url(random(16))
	i.mu.Lock()
	defer i.mu.Unlock()
	i.codes[code] = asked
	return code
}

// token redeems a code, once.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if err := r.ParseForm(); err != nil {
		http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
		return
	}
	i.mu.Lock()
	asked, ok := i.codes[r.Form.Get("code")]
	delete(i.codes, r.Form.Get("code"))
	i.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	id, secret, _ := r.BasicAuth() // each form-encoded: RFC 6749, 2.3.1
	secret, _ = url.QueryUnescape(secret)
	switch {
	case !ok, asked.Get("code_challenge") != b64url(challenge[:]), asked.Get("redirect_uri") != r.Form.Get("redirect_uri"),
		asked.Get("client_id") != r.Form.Get("client_id"):
		http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
		return
	case i.Secret != "" && (id != i.ClientID || secret != i.Secret):
		http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
		return
	}
	_, _ = w.Write(mustJSON(map[string]string{"access_token": "x", "token_type": "Bearer", "id_token": i.idToken(asked)}))
}

func (i *Issuer) idToken(asked url.Values) string {
	now := time.Now().Unix()
	var at int64
	_, _ = fmt.Sscan(asked.Get("auth_time"), &at)
	claims := map[string]any{
		"iss": i.URL, "aud": asked.Get("client_id"), "sub": asked.Get("sub"), "nonce": asked.Get("nonce"),
		"iat": now, "exp": now + 300, "auth_time": at,
	}
	if i.Claims != nil {
		i.Claims(claims)
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	if i.Sign != nil {
		return i.Sign(text)
	}
	return SignToken(jose.RS256, i.key, text)
}

// SignToken returns claims as a signed token.
func SignToken(algorithm jose.SignatureAlgorithm, key any, claims []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

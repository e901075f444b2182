// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

const (
	maxSkew       = 30 * time.Second // between our clock and the issuer's
	authTimeSlack = maxSkew          // for auth_time: more would not be believed, less not be told from it
	issuerTimeout = 10 * time.Second // for discovery, and for an exchange
	maxAnswer     = 256 << 10        // bytes of an issuer's answer
)

// algorithms are those that an ID token may be signed with. None of them takes
// a key that anybody but the issuer has.
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// An Issuer is one OpenID Connect provider whose people may approve.
type Issuer struct {
	Name         string
	URL          string
	ClientID     string
	ClientSecret authn.Secret
	RedirectURL  string // the page's, as the issuer knows it
	Keys         []byte // a JWKS that is used in place of what the issuer serves
	Client       *http.Client
	Log          *slog.Logger
	Now          func() time.Time // defaults to time.Now

	once     sync.Once
	found    chan struct{} // closed when discovery has ended
	metadata metadata
	keys     []crypto.PublicKey
	err      error
}

// metadata is what we use of the issuer's discovery document.
type metadata struct {
	Issuer        string   `json:"issuer"`
	Authorize     string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	ResponseModes []string `json:"response_modes_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
}

// ParseKeys reads a JWKS: its public keys that are for signatures. Keys of a
// kind that we do not know are left out.
func ParseKeys(text []byte) ([]crypto.PublicKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("not a JSON Web Key Set")
	}
	var keys []crypto.PublicKey
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.Valid() && k.IsPublic() && k.Use != "enc" {
			keys = append(keys, k.Key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no public key for signatures")
	}
	return keys, nil
}

// Discover asks the issuer for its addresses and keys, once. It returns at once
// and goes on in the background until ctx ends.
func (i *Issuer) Discover(ctx context.Context) {
	i.once.Do(func() {
		i.found = make(chan struct{})
		go func() {
			defer close(i.found)
			ctx, stop := context.WithTimeout(ctx, issuerTimeout)
			defer stop()
			i.err = i.discover(ctx)
		}()
	})
}

func (i *Issuer) discover(ctx context.Context) error {
	m := &i.metadata
	text, err := i.fetch(ctx, strings.TrimSuffix(i.URL, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return reason.OIDCUnreachable.With(bare(err))
	}
	// What it answers is its own text, and has no place in our log.
	if json.Unmarshal(text, m) != nil {
		return reason.OIDCUnreachable.With(errors.New("its discovery document is none"))
	}
	if m.Issuer != i.URL {
		return reason.OIDCUnreachable.With(errors.New("it calls itself by another URL than the configuration does"))
	}
	if err := sameTransport(i.URL, m.Authorize, m.Token, m.Keys); err != nil {
		return reason.OIDCUnreachable.With(err)
	}
	if !slices.Contains(m.ResponseModes, "fragment") {
		i.Log.Warn("the issuer does not list response_mode=fragment: without it, whoever serves the page sees the codes in its log", "issuer", i.URL)
	}
	if text = i.Keys; len(text) == 0 {
		if text, err = i.fetch(ctx, m.Keys); err != nil {
			return reason.OIDCKeys.With(bare(err))
		}
	}
	if i.keys, err = ParseKeys(text); err != nil {
		return reason.OIDCKeys.With(err)
	}
	return nil
}

func (i *Issuer) fetch(ctx context.Context, address string) ([]byte, error) {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := i.Client.Do(get)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	return io.ReadAll(resp.Body)
}

// sameTransport refuses addresses without TLS, unless the issuer itself has
// none, which is for tests on loopback.
func sameTransport(issuer string, addresses ...string) error {
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || (u.Scheme != "https" && !strings.HasPrefix(issuer, u.Scheme+"://")) {
			return errors.New("the issuer names an address that is not https")
		}
	}
	return nil
}

// await waits for discovery.
func (i *Issuer) await(ctx context.Context) error {
	if i.found == nil {
		return reason.OIDCUnreachable.With(errors.New("nobody asked it"))
	}
	select {
	case <-i.found: // in time, whatever ctx says
		return i.err
	default:
	}
	select {
	case <-i.found:
		return i.err
	case <-ctx.Done():
		return reason.OIDCUnreachable.With(ctx.Err())
	}
}

// Close waits until nothing of Discover goes on, whose context has ended, and
// closes what connections there are.
func (i *Issuer) Close() {
	if i.found != nil {
		<-i.found
	}
	i.Client.CloseIdleConnections()
}

// MaxExchanges is how many codes the issuers are asked about in one login or
// enrolment: anybody can start one, and must not have us flood them.
const MaxExchanges = 10

// offerWait is for all issuers together, before a phone is answered without
// them.
const offerWait = 2 * time.Second

// Verifiers are one phone's PKCE verifiers, by issuer.
type Verifiers map[string]string

// OfferAll returns what a phone needs to go to each issuer, and the verifiers,
// which stay here. An issuer that is away, or late, is logged and left out.
func OfferAll(ctx context.Context, issuers []*Issuer, log *slog.Logger) ([]wire.OIDCInfo, Verifiers) {
	var infos []wire.OIDCInfo
	secrets := Verifiers{}
	ctx, stop := context.WithTimeout(ctx, offerWait)
	defer stop()
	for _, i := range issuers {
		info, verifier, err := i.Offer(ctx)
		if err != nil {
			log.Warn("an issuer cannot be offered", "issuer", i.URL, "reason", err.Error())
			continue
		}
		infos = append(infos, info)
		secrets[i.URL] = verifier
	}
	return infos, secrets
}

// Offer returns what a phone needs to go to the issuer, and the verifier of its
// code_challenge, which stays here. It waits for [Issuer.Discover].
func (i *Issuer) Offer(ctx context.Context) (info wire.OIDCInfo, verifier string, err error) {
	if err := i.await(ctx); err != nil {
		return wire.OIDCInfo{}, "", err
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return wire.OIDCInfo{}, "", err
	}
	verifier = base64.RawURLEncoding.EncodeToString(secret)
	challenge := sha256.Sum256([]byte(verifier))
	return wire.OIDCInfo{
		Name: i.Name, Issuer: i.URL, AuthorizeURL: i.metadata.Authorize, ClientID: i.ClientID,
		CodeChallenge: base64.RawURLEncoding.EncodeToString(challenge[:]),
	}, verifier, nil
}

// A Claim is what a phone brought from an issuer, and what it must fit.
type Claim struct {
	Code       string
	Verifier   string // of this phone, from [Issuer.Offer]
	Transcript []byte
	Start      time.Time // of the login: nobody may have signed in before
}

// Approver redeems the code, and returns the one of list who signed in for
// this transcript.
func (i *Issuer) Approver(ctx context.Context, list []approvers.Approver, c Claim) (*approvers.Approver, error) {
	sub, err := i.Sub(ctx, c)
	if err != nil {
		return nil, err
	}
	for n := range list {
		if a := &list[n]; a.Passkey == nil && a.Issuer == i.URL && a.Sub == sub {
			return a, nil
		}
	}
	return nil, reason.OIDCUnknown
}

// Sub redeems the code and returns who signed in for this transcript, by the
// issuer's name for them.
func (i *Issuer) Sub(ctx context.Context, c Claim) (string, error) {
	ctx, stop := context.WithTimeout(ctx, issuerTimeout)
	defer stop()
	if err := i.await(ctx); err != nil {
		return "", err
	}
	raw, err := i.exchange(ctx, c)
	if err != nil {
		return "", err
	}
	return i.verify(ctx, raw, c)
}

// exchange redeems the code. An error of the issuer's is quoted by its
// registered word only.
func (i *Issuer) exchange(ctx context.Context, c Claim) (string, error) {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {c.Code}, "redirect_uri": {i.RedirectURL},
		"code_verifier": {c.Verifier}, "client_id": {i.ClientID},
	}
	inBody := slices.Contains(i.metadata.AuthMethods, "client_secret_post") && !slices.Contains(i.metadata.AuthMethods, "client_secret_basic")
	if !i.ClientSecret.IsZero() && inBody {
		form.Set("client_secret", i.ClientSecret.Reveal())
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, i.metadata.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", reason.OIDCExchange
	}
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	post.Header.Set("Accept", "application/json")
	if !i.ClientSecret.IsZero() && !inBody {
		post.SetBasicAuth(url.QueryEscape(i.ClientID), url.QueryEscape(i.ClientSecret.Reveal()))
	}
	resp, err := i.Client.Do(post)
	if err != nil {
		return "", reason.OIDCUnreachable.With(bare(err))
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	return idToken(resp)
}

// bare returns err without the URL that net/http puts in front.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func idToken(resp *http.Response) (string, error) {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", reason.OIDCUnreachable.With(err)
	}
	var answer struct {
		IDToken string `json:"id_token"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil && resp.StatusCode == http.StatusOK {
		return "", reason.OIDCNoToken
	}
	if resp.StatusCode != http.StatusOK {
		return "", reason.OIDCExchange.With(fmt.Errorf("HTTP %d %s", resp.StatusCode, word(answer.Error)))
	}
	if answer.IDToken == "" {
		return "", reason.OIDCNoToken
	}
	return answer.IDToken, nil
}

// word returns s if it is one, as the error codes of OAuth are.
func word(s string) string {
	if len(s) > 40 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") != "" {
		return ""
	}
	return s
}

// claims are those of an ID token that are looked at.
type claims struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Party    string          `json:"azp"`
	Expiry   json.Number     `json:"exp"`
	IssuedAt json.Number     `json:"iat"`
	AuthTime json.Number     `json:"auth_time"`
	Nonce    string          `json:"nonce"`
}

// verify judges an ID token that was just issued to us.
func (i *Issuer) verify(ctx context.Context, raw string, c Claim) (string, error) {
	algorithm, payload, err := open(raw)
	if err != nil {
		return "", reason.OIDCMalformed
	}
	if !slices.Contains(algorithms, algorithm) {
		return "", reason.OIDCAlgorithm
	}
	signed := &signature{StaticKeySet: oidc.StaticKeySet{PublicKeys: i.keys}}
	config := &oidc.Config{ClientID: i.ClientID, SupportedSigningAlgs: algorithms, Now: i.now}
	token, refused := oidc.NewVerifier(i.URL, signed, config).Verify(ctx, raw)
	if !signed.right {
		return "", reason.OIDCSignature
	}
	// What the library refused besides is said in our words, if we check it.
	var got claims
	if err := json.Unmarshal(payload, &got); err != nil || ambiguous(payload) {
		return "", reason.OIDCMalformed
	}
	for _, check := range []func(*claims, Claim) error{i.checkParties, i.checkTimes, i.checkLogin} {
		if err := check(&got, c); err != nil {
			return "", err
		}
	}
	if refused != nil {
		return "", reason.OIDCLibrary.With(refused)
	}
	return token.Subject, nil
}

// ambiguous reports whether a claim's name differs from one that we read in
// nothing but case: encoding/json and the library would take it for that one.
func ambiguous(payload []byte) bool {
	var all map[string]json.RawMessage
	if json.Unmarshal(payload, &all) != nil {
		return true
	}
	for name := range all {
		for _, ours := range []string{"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "auth_time", "nonce"} {
			if name != ours && strings.EqualFold(name, ours) {
				return true
			}
		}
	}
	return false
}

// A signature is a key set that remembers whether it verified.
type signature struct {
	oidc.StaticKeySet
	right bool
}

// VerifySignature implements oidc.KeySet.
func (s *signature) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := s.StaticKeySet.VerifySignature(ctx, jwt)
	s.right = err == nil
	return payload, err
}

// open returns a token's algorithm and content, believing neither.
func open(raw string) (algorithm string, payload []byte, err error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", nil, errors.New("not three parts")
	}
	head, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		return "", nil, err
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if err := json.Unmarshal(head, &header); err != nil {
		return "", nil, err
	}
	payload, err = base64.RawURLEncoding.DecodeString(parts[1])
	return header.Algorithm, payload, err
}

// checkParties judges by whom and for whom the token was made.
func (i *Issuer) checkParties(got *claims, _ Claim) error {
	if got.Issuer != i.URL {
		return reason.OIDCIssuer
	}
	var one string
	var many []string
	if json.Unmarshal(got.Audience, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(got.Audience, &many) != nil {
		return reason.OIDCAudience
	}
	if len(many) != 1 || many[0] != i.ClientID || (got.Party != "" && got.Party != i.ClientID) {
		return reason.OIDCAudience
	}
	return nil
}

// checkTimes judges when the token was made. We asked for it a moment ago, so a
// time of issue that is not now means that a clock is wrong, and then neither
// its expiry nor auth_time can be believed.
func (i *Issuer) checkTimes(got *claims, _ Claim) error {
	issued, ok := seconds(got.IssuedAt)
	if !ok {
		return reason.OIDCNoIssuedAt
	}
	now := i.now()
	if d := now.Sub(issued); d > maxSkew || d < -maxSkew {
		return reason.OIDCClock
	}
	expiry, ok := seconds(got.Expiry)
	if !ok || !now.Before(expiry) {
		return reason.OIDCExpired
	}
	return nil
}

// checkLogin judges whether it was this login that the person signed in for.
// Without auth_time an issuer's session from this morning would do, and nobody
// need have tapped anything: there is no way to switch that check off.
func (i *Issuer) checkLogin(got *claims, c Claim) error {
	if subtle.ConstantTimeCompare([]byte(got.Nonce), []byte(wire.Nonce(c.Transcript))) != 1 {
		return reason.OIDCNonce
	}
	at, ok := seconds(got.AuthTime)
	switch {
	case !ok:
		return reason.OIDCNoAuthTime
	case at.Before(c.Start.Add(-authTimeSlack)):
		return reason.OIDCAuthTime
	}
	return nil
}

// seconds reads a NumericDate, which may have a fraction.
func seconds(n json.Number) (time.Time, bool) {
	f, err := n.Float64()
	if err != nil || f <= 0 || f > 1e11 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

func (i *Issuer) now() time.Time {
	if i.Now != nil {
		return i.Now()
	}
	return time.Now()
}

// IssuerClient returns a client for issuers that connects like client, reads
// no answer larger than some KiB and waits for none longer than some seconds.
func IssuerClient(client *http.Client) *http.Client {
	c := *client
	c.Timeout = issuerTimeout
	c.Transport = limited{c.Transport}
	return &c
}

// limited cuts every answer.
type limited struct{ next http.RoundTripper }

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = cut{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// CloseIdleConnections is what http.Client looks for.
func (l limited) CloseIdleConnections() {
	if c, ok := l.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type cut struct {
	io.Reader
	io.Closer
}

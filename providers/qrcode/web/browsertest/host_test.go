// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"bytes"
	"cmp"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
)

// A host is a script that speaks the protocol over a real server, which serves
// the page as well. Its fields are set before the phone opens the link.
type host struct {
	t         *testing.T
	URL       string
	details   wire.Details
	forget    bool                               // every request is 404
	status    int                                // of every answer, if not 0
	verdict   func(typ string, plain []byte) any // answers an approval
	flaky     bool                               // the first try of each message never arrives, the second one's answer does not
	loseWaits bool                               // the first three tries of each wait never arrive
	garble    bool                               // answers hold boxes of other keys
	without   string                             // paths under it are not served
	stalls    string                             // this path is never answered
	breaks    string                             // this path is answered by an error that looks like settings
	deaf      string                             // messages that hold it never arrive
	refusal   string                             // what refusing ends in, if not "refused"
	page      http.Handler
	ends      chan string // answers of waits; closed: 404

	done   chan struct{}
	hs     *ecdh.PrivateKey
	mu     sync.Mutex
	phones map[string]*phoneState // by pp
	bodies []string               // of all messages
	tries  map[string]int         // of each message
}

type phoneState struct {
	channel *wire.Channel
	next    uint32
	stored  map[uint32]storedAnswer
}

type storedAnswer struct {
	body   string
	answer chan struct{} // closed when reply is there
	reply  any
	status int
}

func newHost(t *testing.T, kind wire.Kind, issuers ...string) *host {
	t.Helper()
	hs, err := wire.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, hs: hs, phones: map[string]*phoneState{}, ends: make(chan string), done: make(chan struct{}), tries: map[string]int{}}
	h.serveAt(issuers...)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		without, stalls, breaks := h.without, h.stalls, h.breaks
		h.mu.Unlock()
		switch {
		case without != "" && strings.HasPrefix(r.URL.Path, without):
			http.NotFound(w, r)
		case r.URL.Path == stalls:
			select {
			case <-r.Context().Done():
			case <-h.done:
			}
		case r.URL.Path == breaks:
			http.Error(w, "{}", http.StatusInternalServerError)
		case strings.HasPrefix(r.URL.Path, "/api/1/"):
			h.serve(w, r)
		default:
			h.page.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(h.done) })
	h.URL = strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	h.details = wire.Details{
		Kind: kind, RPID: "localhost", PageOrigin: h.URL, Host: "db7.example.com", Account: "alice", Service: "sshd",
		RHost: "192.0.2.7", TTY: "ssh", Methods: []string{wire.MethodPasskey}, Ref: "7f3a90",
	}
	h.details.Start, h.details.TTL = time.Now().Unix(), 90
	if kind == wire.Enroll {
		h.details.Service, h.details.RHost, h.details.TTY = "", "", ""
		h.details.Subject, h.details.UserHandle = "mittens@example.com", base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	}
	h.verdict = func(string, []byte) any { return wire.Verdict{OK: true, Code: "042917"} }
	return h
}

// serveAt says which issuers the page may send people to.
func (h *host) serveAt(issuers ...string) {
	h.page = web.Handler(web.Config{RPID: "localhost", Issuers: issuers})
}

// serveWorse says what of the page does not come: nothing of it if all are empty.
func (h *host) serveWorse(without, stalls, breaks string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.without, h.stalls, h.breaks = without, stalls, breaks
}

// deafTo keeps messages that hold what from arriving; "" lets all arrive.
func (h *host) deafTo(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = what
}

func (h *host) link() string {
	_, fragment, _ := strings.Cut(wire.PageLink(h.URL, h.hs.PublicKey().Bytes()), "#")
	return h.URL + "/1#" + fragment
}

// printed is what the terminal's code holds.
func (h *host) printed() string { return wire.PageLink(h.URL, h.hs.PublicKey().Bytes()) }

func (h *host) typed() string { return wire.FormatTyped(wire.Typed(h.hs.PublicKey().Bytes())) }

func (h *host) end(result string) {
	h.t.Helper()
	select {
	case h.ends <- result:
	case <-time.After(10 * time.Second):
		h.t.Fatal("no phone waits")
	}
}

func (h *host) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, wire.MaxBody))
	if err != nil {
		return
	}
	h.mu.Lock()
	deaf := h.deaf != "" && bytes.Contains(body, []byte(h.deaf))
	h.mu.Unlock()
	if deaf {
		panic(http.ErrAbortHandler)
	}
	try := h.try(body)
	if try == 1 && h.flaky || h.loseWaits && try <= 3 && bytes.Contains(body, []byte(`"type":"wait"`)) {
		panic(http.ErrAbortHandler)
	}
	status, reply := h.answer(r, body)
	if try == 2 && h.flaky {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(reply)
}

// try counts the tries of a message.
func (h *host) try(body []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries[string(body)]++
	return h.tries[string(body)]
}

func (h *host) answer(r *http.Request, body []byte) (int, any) {
	h.mu.Lock()
	h.bodies = append(h.bodies, string(body))
	status, forget := h.status, h.forget
	h.mu.Unlock()
	switch {
	case forget:
		return 404, wire.Reply{Error: wire.ErrorGone}
	case status != 0:
		return status, wire.Reply{}
	}
	m, err := wire.ParsePhone(body)
	if err != nil {
		h.t.Errorf("the page sent %s: %v", body, err)
		return 400, wire.Reply{}
	}
	hp := h.hs.PublicKey().Bytes()
	if m.Type == wire.TypeLookup {
		if m.Loc != wire.Loc(wire.Typed(hp)) || !bytes.Equal(m.Proof, wire.Proof(wire.Typed(hp))) {
			return 404, wire.Reply{Error: wire.ErrorGone}
		}
		return 200, wire.Reply{HP: wire.B64(hp)}
	}
	if r.URL.Path != "/api/1/"+wire.IDString(hp) {
		return 404, wire.Reply{Error: wire.ErrorGone}
	}
	return h.number(r, m, string(body))
}

// number takes each message once and in order, and answers the same bytes by
// the same answer.
func (h *host) number(r *http.Request, m *wire.Phone, body string) (int, any) {
	h.mu.Lock()
	p := h.phones[string(m.PP)]
	if p == nil {
		if m.Type != wire.TypeHello {
			h.mu.Unlock()
			return 404, wire.Reply{Error: wire.ErrorGone}
		}
		if len(h.phones) >= wire.MaxPhones {
			h.mu.Unlock()
			return 409, wire.Reply{Error: wire.ErrorBusy}
		}
		c, err := wire.HostChannel(h.details.Kind, h.hs, m.PP)
		if err != nil {
			h.t.Errorf("channel: %v", err)
		}
		p = &phoneState{channel: c, stored: map[uint32]storedAnswer{}}
		h.phones[string(m.PP)] = p
	}
	if s, ok := p.stored[m.Seq]; ok {
		h.mu.Unlock()
		if s.body != body {
			h.t.Errorf("other bytes as number %d", m.Seq)
			return 404, wire.Reply{Error: wire.ErrorGone}
		}
		select {
		case <-s.answer:
		case <-r.Context().Done():
			return 404, wire.Reply{}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		return p.stored[m.Seq].status, p.stored[m.Seq].reply
	}
	if m.Seq != p.next {
		h.mu.Unlock()
		h.t.Errorf("number %d instead of %d", m.Seq, p.next)
		return 404, wire.Reply{Error: wire.ErrorGone}
	}
	s := storedAnswer{body: body, answer: make(chan struct{})}
	p.stored[m.Seq] = s
	p.next++
	h.mu.Unlock()
	s.status, s.reply = h.reply(p.channel, m)
	h.mu.Lock()
	defer h.mu.Unlock()
	p.stored[m.Seq] = s
	close(s.answer)
	return s.status, s.reply
}

func (h *host) reply(c *wire.Channel, m *wire.Phone) (int, any) {
	typ, message := "", any(nil)
	var plain json.RawMessage
	if m.Type != wire.TypeHello {
		if err := c.Open(wire.ToHost, m.Seq, m.Type, m.Box, &plain); err != nil {
			h.t.Errorf("%s: %v", m.Type, err)
		}
	}
	switch m.Type {
	case wire.TypeHello:
		typ, message = wire.TypeDetails, h.details
	case wire.TypeWait:
		result, open := "", false
		select {
		case result, open = <-h.ends:
		case <-h.done:
		}
		if !open {
			return 404, wire.Reply{Error: wire.ErrorGone}
		}
		typ, message = wire.TypeEnd, wire.End{Result: result}
	case wire.TypeRefuse:
		typ, message = wire.TypeEnd, wire.End{Result: cmp.Or(h.refusal, wire.EndRefused)}
	default:
		typ, message = wire.TypeVerdict, h.verdict(m.Type, plain)
	}
	if h.garble {
		other, _ := wire.NewKey()
		c, _ = wire.HostChannel(h.details.Kind, other, c.PP())
	}
	box, err := c.Seal(wire.ToPhone, m.Seq, typ, message)
	if err != nil {
		h.t.Errorf("%s: %v", typ, err)
	}
	return 200, wire.Reply{Box: box}
}

// only returns the one phone's channel.
func (h *host) only() *wire.Channel {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.phones) != 1 {
		h.t.Fatalf("%d phones", len(h.phones))
	}
	for _, p := range h.phones {
		return p.channel
	}
	return nil
}

// passkey returns a passkey for localhost, and the key that checks it.
func passkey(t *testing.T) (Credential, *ecdsa.PublicKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		t.Fatal(err)
	}
	return Credential{
		CredentialID: wire.B64(id), IsResidentCredental: true, RPID: "localhost", PrivateKey: wire.B64(der),
		UserHandle: wire.B64([]byte("handle")), SignCount: 1,
	}, &key.PublicKey
}

// checkAssertion verifies what the page sent, over the transcript that the host
// computes by itself.
func checkAssertion(raw json.RawMessage, key *ecdsa.PublicKey, challenge, origin string) error {
	var a struct {
		Type     string
		Response struct{ ClientDataJSON, AuthenticatorData, Signature, UserHandle string }
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return err
	}
	var parts [3][]byte
	for i, s := range []string{a.Response.ClientDataJSON, a.Response.AuthenticatorData, a.Response.Signature} {
		var err error
		if parts[i], err = base64.RawURLEncoding.DecodeString(s); err != nil {
			return err
		}
	}
	if err := checkClient(a.Response.ClientDataJSON, "webauthn.get", challenge, origin); err != nil {
		return err
	}
	hash := sha256.Sum256(parts[0])
	sum := sha256.Sum256(append(bytes.Clone(parts[1]), hash[:]...))
	switch {
	case a.Type != "public-key":
		return errors.New("type " + a.Type)
	case len(parts[1]) < 37 || parts[1][32]&5 != 5:
		return errors.New("person not present or not verified")
	case !ecdsa.VerifyASN1(key, sum[:], parts[2]):
		return errors.New("bad signature")
	}
	return nil
}

// checkEnrolment looks at what ties the two signatures of an enrolment together;
// verifying the new key is the provider's.
func checkEnrolment(h *host, m wire.EnrollPasskey) error {
	te, err := h.details.Transcript(h.only())
	if err != nil {
		return err
	}
	attestation, err := base64.RawURLEncoding.DecodeString(m.AttestationObject)
	if err != nil {
		return err
	}
	if err := checkClient(m.ClientDataJSON, "webauthn.create", wire.Nonce(te), h.URL); err != nil {
		return err
	}
	var a struct {
		Response struct{ ClientDataJSON string }
	}
	if err := json.Unmarshal(m.Assertion, &a); err != nil {
		return err
	}
	return checkClient(a.Response.ClientDataJSON, "webauthn.get", wire.Nonce(wire.EnrollProof(te, attestation)), h.URL)
}

func checkClient(text, typ, challenge, origin string) error {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	var c struct{ Type, Challenge, Origin string }
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.Type != typ || c.Challenge != challenge || c.Origin != origin {
		return errors.New("client data " + string(data))
	}
	return nil
}

// query returns the parameters of an issuer's address.
func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

const subject = "mittens@example.com"

// A half is the child, without a process of its own, as its parent sees it.
type half struct {
	t        *testing.T
	site     *qrcodetest.Site
	plan     Plan
	in       io.WriteCloser
	messages chan *Message
	served   chan error
	hp       []byte
}

// begin has a child show a code.
func begin(t *testing.T, more string) *half {
	t.Helper()
	site := qrcodetest.NewSite(t)
	h := start(t, site, site.Config()+"host: db7\n"+more)
	h.hp = h.next(TypeReady).HP
	return h
}

func start(t *testing.T, site *qrcodetest.Site, config string) *half {
	t.Helper()
	r, in := io.Pipe()
	out, w := io.Pipe()
	h := &half{t: t, site: site, in: in, messages: make(chan *Message, MaxFrames), served: make(chan error, 1)}
	h.plan = Plan{Account: "alice", Subject: subject, UserHandle: NewHandle()}
	go func() {
		h.served <- Serve(t.Context(), r, w)
		_ = w.Close()
	}()
	go func() {
		defer close(h.messages)
		for {
			m, err := ReadFrame(out, MaxToParent)
			if err != nil {
				return
			}
			if err := m.fromChild(); err != nil {
				t.Error(err)
			}
			h.messages <- m
		}
	}()
	t.Cleanup(func() { _ = in.Close() })
	h.send(&Message{Type: TypeStart, Start: &Start{Config: []byte(config), Plan: h.plan}})
	return h
}

func (h *half) send(m *Message) {
	h.t.Helper()
	if err := WriteFrame(h.in, m, MaxToChild); err != nil {
		h.t.Fatal(err)
	}
}

// next returns the next message of this type.
func (h *half) next(typ string) *Message {
	h.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case m, ok := <-h.messages:
			if !ok {
				h.t.Fatalf("no %s came: %v", typ, <-h.served)
			}
			if m.Type == typ {
				return m
			}
		case <-late:
			h.t.Fatalf("no %s came", typ)
		}
	}
}

func (h *half) open() *qrcodetest.Visit {
	h.t.Helper()
	v, err := h.site.Phone().Meet(h.t.Context(), h.hp, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

// An offering is what a phone sends to enrol, before it is signed: change what
// is to be wrong.
type offering struct {
	*qrcodetest.Authenticator
	challenge []byte
	proof     func(te, object []byte) []byte // the second challenge
	origin    string
	prove     func(*qrcodetest.Assertion)
	message   func(*wire.EnrollPasskey)
	object    func([]byte) []byte
}

func (h *half) offer(v *qrcodetest.Visit, change func(*offering)) wire.Verdict {
	h.t.Helper()
	verdict, err := h.try(v, change)
	if err != nil {
		h.t.Fatal(err)
	}
	return verdict
}

func (h *half) try(v *qrcodetest.Visit, change func(*offering)) (verdict wire.Verdict, err error) {
	o := &offering{Authenticator: h.site.Passkey(h.t), challenge: v.Transcript, proof: wire.EnrollProof, origin: v.Phone.Origin,
		prove: func(*qrcodetest.Assertion) {}, message: func(*wire.EnrollPasskey) {},
		object: func(b []byte) []byte { return b }}
	o.UserHandle, _ = base64.RawURLEncoding.DecodeString(v.Details.UserHandle)
	change(o)
	object, client := o.Create(o.challenge, o.origin)
	object = o.object(object)
	request := o.Request(o.proof(v.Transcript, object), v.Phone.Origin)
	o.prove(request)
	m := wire.EnrollPasskey{
		ID:                base64.RawURLEncoding.EncodeToString(o.ID),
		AttestationObject: base64.RawURLEncoding.EncodeToString(object),
		ClientDataJSON:    base64.RawURLEncoding.EncodeToString(client),
		Assertion:         o.Sign(request),
	}
	o.message(&m)
	err = v.Say(h.t.Context(), wire.TypeEnroll, m, wire.TypeVerdict, &verdict)
	return verdict, err
}

// later offers in the background. Who is not answered got no verdict.
func (h *half) later(v *qrcodetest.Visit, change func(*offering)) <-chan wire.Verdict {
	h.t.Helper()
	ch := make(chan wire.Verdict, 1)
	go func() {
		defer close(ch)
		if verdict, err := h.try(v, change); err == nil {
			ch <- verdict
		}
	}()
	return ch
}

func as(*offering) {}

func TestAGenuineKeyIsOfferedAndItsDigitsAreTheParents(t *testing.T) {
	h := begin(t, "")
	v := h.open()
	h.next(TypePhone)
	verdict := h.later(v, as)
	offer := h.next(TypeOffer)
	config, err := DecodeConfig([]byte(h.site.Config()))
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseOffer(offer.Line, h.plan, config)
	if err != nil || a.Subject != subject {
		t.Fatalf("%+v, %v", a, err)
	}
	h.send(&Message{Type: TypeAccept, Code: "042917"})
	if got := <-verdict; !got.OK || got.Code != "042917" {
		t.Errorf("the phone got %+v", got)
	}
	if second := h.offer(v, as); second.OK {
		t.Error("a second key was accepted")
	}
	h.next(TypeNote)
	heard := make(chan string, 1)
	go func() {
		result, _ := v.Wait(t.Context())
		heard <- result
	}()
	h.send(&Message{Type: TypeWrong})
	if got := <-heard; got != wire.EndWrongCode {
		t.Errorf("the phone heard %q", got)
	}
	h.send(&Message{Type: TypeFinish, Result: wire.EndIn})
	if err := <-h.served; err != nil {
		t.Error(err)
	}
}

// Each changes one thing of what is otherwise accepted.
func TestKeysAreRefused(t *testing.T) {
	const synced = "passkeys: {device_bound: true}\n"
	tests := []struct {
		name, config string
		why          error
		change       func(*offering)
	}{
		{"made_for_another_enrolment", "", NewChallenge, func(o *offering) { o.challenge = make([]byte, 32) }},
		{"made_on_another_page", "", NewOrigin, func(o *offering) { o.origin = "https://evil.example" }},
		{"made_for_another_rp_id", "", NewRPIDHash, func(o *offering) { o.RPID = "example.com" }},
		{"made_without_anybody", "", NewPresence, func(o *offering) { o.Flags &^= qrcodetest.FlagUP }},
		{"made_by_nobody_verified", "", NewUser, func(o *offering) { o.Flags &^= qrcodetest.FlagUV }},
		{"synced_where_that_is_forbidden", synced, NewSynced, func(o *offering) { o.Flags |= qrcodetest.FlagBE }},
		{"backed_up_but_not_eligible", "", NewLibrary, func(o *offering) { o.Flags |= qrcodetest.FlagBS }},
		{"another_id_than_the_one_made", "", NewID, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) { m.ID = base64.RawURLEncoding.EncodeToString(make([]byte, 16)) }
		}},
		{"no_client_data", "", NewMalformed, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) { m.ClientDataJSON = "" }
		}},
		{"an_object_that_is_none", "", NewMalformed, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) { m.AttestationObject = m.AttestationObject[:40] }
		}},
		{"an_object_that_is_large", "", NewSize, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) { m.AttestationObject = strings.Repeat("A", 9000)[:8193] }
		}},
		{"attested_by_a_maker", "", NewFormat, func(o *offering) {
			o.object = func(b []byte) []byte { return bytes.Replace(b, []byte("\x64none"), []byte("\x63tpm"), 1) }
		}},
		{"attested_by_a_certificate", "", NewFormat, func(o *offering) {
			o.object = func(b []byte) []byte {
				b = bytes.Replace(b, []byte("\x64none"), []byte("\x66packed"), 1)
				return bytes.Replace(b, []byte("attStmt\xa0"), []byte("attStmt\xa1\x63x5c\x80"), 1)
			}
		}},
		{"attested_by_another_key", "", NewLibrary, func(o *offering) {
			o.object = func(b []byte) []byte {
				b = bytes.Replace(b, []byte("\x64none"), []byte("\x66packed"), 1)
				return bytes.Replace(b, []byte("attStmt\xa0"), []byte("attStmt\xa2\x63alg\x26\x63sig\x41x"), 1)
			}
		}},
		{"no_key", "", NewMalformed, func(o *offering) {
			o.object = func(b []byte) []byte {
				hash := sha256.Sum256([]byte("localhost"))
				at := bytes.Index(b, hash[:]) + len(hash)
				b[at] &^= qrcodetest.FlagAT
				return b
			}
		}},
		{"a_long_id", "", NewSize, func(o *offering) { o.ID = bytes.Repeat([]byte{1}, 1600) }},
		{"an_approval_in_its_place", "", NewType, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) {
				client := strings.Replace(decode(m.ClientDataJSON), "webauthn.create", "webauthn.get", 1)
				m.ClientDataJSON = base64.RawURLEncoding.EncodeToString([]byte(client))
			}
		}},
		{"inside_another_page", "", NewCrossOrigin, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) {
				client := strings.Replace(decode(m.ClientDataJSON), `"crossOrigin":false`, `"crossOrigin":true`, 1)
				m.ClientDataJSON = base64.RawURLEncoding.EncodeToString([]byte(client))
			}
		}},
		{"no_proof", "", reason.PasskeyMalformed, func(o *offering) {
			o.message = func(m *wire.EnrollPasskey) { m.Assertion = nil }
		}},
		{"a_proof_over_something_else", "", reason.PasskeyChallenge, func(o *offering) {
			o.proof = func(te, _ []byte) []byte { return te }
		}},
		{"a_proof_over_another_object", "", reason.PasskeyChallenge, func(o *offering) {
			o.proof = func(te, object []byte) []byte { return wire.EnrollProof(te, object[1:]) }
		}},
		{"a_proof_by_another_key", "", reason.PasskeySignature, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) {
				r.Tamper = func(_, _, signature []byte) { signature[len(signature)-1] ^= 1 }
			}
		}},
		{"a_proof_of_another_credential", "", reason.PasskeyUnknown, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.ID = make([]byte, 16) }
		}},
		{"a_proof_with_another_handle", "", reason.PasskeyUserHandle, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.UserHandle = make([]byte, 32) }
		}},
		{"a_proof_without_verification", "", reason.PasskeyUser, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.Flags &^= qrcodetest.FlagUV }
		}},
		{"a_proof_with_another_backup_flag", "", reason.PasskeyBackup, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.Flags |= qrcodetest.FlagBE }
		}},
		{"a_proof_on_another_page", "", reason.PasskeyOrigin, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.ClientData.Origin = "https://evil.example" }
		}},
		{"a_proof_for_another_rp_id", "", reason.PasskeyRPIDHash, func(o *offering) {
			o.prove = func(r *qrcodetest.Assertion) { r.RPID = "example.com" }
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := begin(t, tt.config)
			v := h.open()
			if verdict := h.offer(v, tt.change); verdict.OK || verdict.Code != "" {
				t.Fatalf("accepted: %+v", verdict)
			}
			if got := h.next(TypeNote).Text; !strings.HasPrefix(got, "the phone was refused: "+tt.why.Error()) {
				t.Errorf("the administrator reads %q, want %q", got, tt.why)
			}
			// The phone may try again: nothing else was wrong.
			verdict := h.later(v, as)
			h.next(TypeOffer)
			h.send(&Message{Type: TypeRefuse, Text: "enough"})
			if got := <-verdict; got.OK {
				t.Errorf("what the parent refuses is accepted: %+v", got)
			}
		})
	}
}

func decode(s string) string {
	b, _ := base64.RawURLEncoding.DecodeString(s)
	return string(b)
}

func TestASyncedKeyIsMarked(t *testing.T) {
	h := begin(t, "")
	h.later(h.open(), func(o *offering) { o.Flags |= qrcodetest.FlagBE | qrcodetest.FlagBS })
	a, err := approvers.ParseLine(h.next(TypeOffer).Line)
	if err != nil || !a.Passkey.BackupEligible {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAPhoneNeedNotRepeatTheID(t *testing.T) {
	h := begin(t, "")
	h.later(h.open(), func(o *offering) { o.message = func(m *wire.EnrollPasskey) { m.ID = "" } })
	h.next(TypeOffer)
}

func TestASecondPhoneEndsIt(t *testing.T) {
	h := begin(t, "")
	v := h.open()
	if _, err := h.site.Phone().Meet(t.Context(), h.hp, ""); err == nil {
		t.Error("a second phone was let in")
	}
	if m := h.next(TypeEnd); m.Result != ResultSecondPhone || m.Text != string(reason.SecondPhone) {
		t.Errorf("the parent hears %+v", m)
	}
	if verdict, err := h.try(v, as); err == nil {
		t.Errorf("the first phone goes on: %+v", verdict)
	}
}

func TestALoginsMessagesAreNone(t *testing.T) {
	h := begin(t, "")
	v := h.open()
	verdict, err := v.Approve(t.Context(), h.site.Passkey(t))
	if err != nil || verdict.OK {
		t.Errorf("%+v, %v", verdict, err)
	}
	if got := h.next(TypeNote).Text; !strings.Contains(got, string(reason.PhoneKind)) {
		t.Errorf("note %q", got)
	}
}

func TestThePhoneMayRefuse(t *testing.T) {
	h := begin(t, "")
	if _, err := h.open().Refuse(t.Context()); err != nil {
		t.Error(err)
	}
	if m := h.next(TypeEnd); m.Result != ResultRefused {
		t.Errorf("%+v", m)
	}
}

func TestARelayThatIsNotThereIsNamed(t *testing.T) {
	site := qrcodetest.NewSite(t)
	h := start(t, site, "relay: http://127.0.0.1:1\npage_url: http://localhost:1\n")
	if m := h.next(TypeEnd); m.Result != ResultRelay || !strings.Contains(m.Text, "refused") || strings.Contains(m.Text, "authinfo") {
		t.Errorf("%+v", m)
	}
}

func TestTheParentsEndIsTheChilds(t *testing.T) {
	h := begin(t, "")
	v := h.open()
	h.later(v, as)
	h.next(TypeOffer)
	_ = h.in.Close()
	select {
	case err := <-h.served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the child goes on")
	}
}

func TestTheChildTakesNothingButAStart(t *testing.T) {
	for _, m := range []*Message{{Type: TypeFinish}, {Type: TypeStart}} {
		r, w := io.Pipe()
		go func() { _ = WriteFrame(w, m, MaxToChild) }()
		if err := Serve(context.Background(), r, io.Discard); err == nil {
			t.Errorf("%+v was taken", m)
		}
	}
}

// signIn offers what an issuer gave.
func (h *half) signIn(v *qrcodetest.Visit, issuer, code string) <-chan wire.Verdict {
	ch := make(chan wire.Verdict, 1)
	go func() {
		defer close(ch)
		var verdict wire.Verdict
		if v.Say(h.t.Context(), wire.TypeEnrollOIDC, wire.OIDC{Issuer: issuer, Code: code}, wire.TypeVerdict, &verdict) == nil {
			ch <- verdict
		}
	}()
	return ch
}

// Each changes one thing of a sign-in that is otherwise accepted.
func TestSignInsAreRefused(t *testing.T) {
	tests := []struct {
		name   string
		why    reason.Reason
		change func(i *qrcodetest.Issuer, v *qrcodetest.Visit) (issuer, code string)
	}{
		{"of_another_enrolment", reason.OIDCNonce, func(i *qrcodetest.Issuer, v *qrcodetest.Visit) (string, string) {
			i.Claims = func(c map[string]any) { c["nonce"] = wire.Nonce(make([]byte, 32)) }
			return i.URL, i.SignIn(v, "7", time.Time{})
		}},
		{"before_the_enrolment", reason.OIDCAuthTime, func(i *qrcodetest.Issuer, v *qrcodetest.Visit) (string, string) {
			return i.URL, i.SignIn(v, "7", time.Now().Add(-time.Hour))
		}},
		{"for_another_client", reason.OIDCAudience, func(i *qrcodetest.Issuer, v *qrcodetest.Visit) (string, string) {
			i.Claims = func(c map[string]any) { c["aud"] = "another" }
			return i.URL, i.SignIn(v, "7", time.Time{})
		}},
		{"with_a_code_of_nobodys", reason.OIDCExchange, func(i *qrcodetest.Issuer, _ *qrcodetest.Visit) (string, string) {
			return i.URL, "made up"
		}},
		{"at_another_issuer", reason.OIDCOff, func(i *qrcodetest.Issuer, v *qrcodetest.Visit) (string, string) {
			return "https://evil.example", i.SignIn(v, "7", time.Time{})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			issuer := qrcodetest.NewIssuer(t)
			h := begin(t, "oidc: ["+issuer.Config()+"]\n")
			v := h.open()
			at, code := tt.change(issuer, v)
			if verdict := <-h.signIn(v, at, code); verdict.OK {
				t.Errorf("accepted: %+v", verdict)
			}
			if got := h.next(TypeNote).Text; !strings.HasPrefix(got, "the phone was refused: "+tt.why.Error()) {
				t.Errorf("the administrator reads %q, want %q", got, tt.why)
			}
			issuer.Claims = nil
			h.signIn(v, issuer.URL, issuer.SignIn(v, "7", time.Time{}))
			if line, want := h.next(TypeOffer).Line, "oidc "+subject+" "+issuer.URL+" 7"; line != want {
				t.Errorf("offered %q, want %q", line, want)
			}
		})
	}
}

func TestAnIssuerIsAskedAboutFewCodes(t *testing.T) {
	issuer := qrcodetest.NewIssuer(t)
	h := begin(t, "oidc: ["+issuer.Config()+"]\n")
	v := h.open()
	for n := range proof.MaxExchanges + 1 {
		want := reason.OIDCExchange
		if n == proof.MaxExchanges {
			want = reason.OIDCTooMany
		}
		if verdict := <-h.signIn(v, issuer.URL, "made up"); verdict.OK {
			t.Fatalf("accepted: %+v", verdict)
		}
		if got := h.next(TypeNote).Text; !strings.HasPrefix(got, "the phone was refused: "+want.Error()) {
			t.Fatalf("code %d: the administrator reads %q, want %q", n+1, got, want)
		}
	}
	if verdict := <-h.signIn(v, issuer.URL, issuer.SignIn(v, "7", time.Time{})); verdict.OK {
		t.Error("one too many is accepted")
	}
	// A passkey asks no issuer.
	h.later(v, as)
	h.next(TypeOffer)
}

func TestNotesAreCounted(t *testing.T) {
	n := 0
	log := slog.New(&noteHandler{send: func(string) { n++ }})
	for range 10 * maxNotes {
		log.Warn("a phone did something")
		log.Debug("and more")
	}
	if n != maxNotes {
		t.Errorf("%d notes", n)
	}
}

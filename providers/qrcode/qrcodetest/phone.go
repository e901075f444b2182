// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package qrcodetest plays the other side of a login by QR code: a phone that
// speaks to a relay as the page does, a passkey in software, and an OpenID
// Connect issuer. Everything is real but the screen.
package qrcodetest

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// A Phone opens codes at one relay.
type Phone struct {
	Relay  string       // its URL, without a slash at the end
	Origin string       // of the page that this phone has open
	RPID   string       // that the page asks passkeys of
	Client *http.Client // defaults to http.DefaultClient
}

// A StatusError is an answer of the relay other than 200.
type StatusError struct {
	Status int
	Word   string // of the answer's error
}

func (e *StatusError) Error() string { return fmt.Sprintf("HTTP %d %q", e.Status, e.Word) }

// IsGone reports whether err says that there is no such login, IsBusy that
// three phones are there already.
func IsGone(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsBusy reports whether err says that three phones are there already.
func IsBusy(err error) bool { return hasStatus(err, http.StatusConflict) }

func hasStatus(err error, status int) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == status
}

var (
	linkRE   = regexp.MustCompile(`(?i)https?://[a-z0-9.:\[\]-]+/1#[a-z2-7]{52}`)
	typedRE  = regexp.MustCompile(`\b[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}\b`)
	qrauthRE = regexp.MustCompile(`qrauth:([A-Za-z0-9+/]{43}=):([0-9a-f]{40})`)
)

// FindLink returns the page's link that text shows, which a prompt does with
// "qr: off", or "".
func FindLink(text string) string { return linkRE.FindString(text) }

// FindTyped returns the typed code that text shows, or "".
func FindTyped(text string) string { return typedRE.FindString(text) }

// A Visit is one phone's channel to one host: what the page holds in memory.
type Visit struct {
	Phone      *Phone
	Kind       wire.Kind
	ID         string
	Channel    *wire.Channel
	Key        *ecdh.PrivateKey
	Details    wire.Details
	Transcript []byte

	mu  sync.Mutex
	seq uint32
}

// Open opens a link as a camera reads it.
func (p *Phone) Open(ctx context.Context, link string) (*Visit, error) {
	_, fragment, _ := strings.Cut(link, "#")
	hp, err := wire.ParseKey(fragment)
	if err != nil {
		return nil, err
	}
	return p.Meet(ctx, hp, "")
}

// OpenQRAuth opens what a code of payload qrauth holds.
func (p *Phone) OpenQRAuth(ctx context.Context, text string) (*Visit, error) {
	m := qrauthRE.FindStringSubmatch(text)
	if m == nil {
		return nil, errors.New("not a qrauth code")
	}
	hp, err := base64.StdEncoding.DecodeString(m[1])
	if err != nil {
		return nil, err
	}
	return p.Meet(ctx, hp, m[2])
}

// OpenTyped opens a typed code, dashes and all.
func (p *Phone) OpenTyped(ctx context.Context, code string) (*Visit, error) {
	typed, err := wire.ParseTyped(code)
	if err != nil {
		return nil, err
	}
	var reply wire.Reply
	if err := p.Post(ctx, wire.Loc(typed), wire.NewLookup(typed), &reply); err != nil {
		return nil, err
	}
	hp, err := wire.UnB64(reply.HP)
	if err != nil {
		return nil, err
	}
	if wire.Typed(hp) != typed {
		return nil, errors.New("the relay gave a key that is not this code's")
	}
	return p.Meet(ctx, hp, "")
}

// Meet says hello to the host with public key hp.
func (p *Phone) Meet(ctx context.Context, hp []byte, sha1 string) (*Visit, error) {
	key, err := wire.NewKey()
	if err != nil {
		return nil, err
	}
	v := &Visit{Phone: p, ID: wire.IDString(hp), Key: key}
	hello := wire.NewHello(hp, key.PublicKey().Bytes(), sha1)
	var reply wire.Reply
	if err := p.Post(ctx, v.ID, hello, &reply); err != nil {
		return nil, err
	}
	return v, v.read(hp, reply.Box)
}

// read opens the details, of a login or else of an enrolment, and refuses what
// the page refuses.
func (v *Visit) read(hp []byte, box string) error {
	var err error
	for _, v.Kind = range []wire.Kind{wire.Login, wire.Enroll} {
		if v.Channel, err = wire.PhoneChannel(v.Kind, v.Key, hp); err != nil {
			return err
		}
		if err = v.Channel.Open(wire.ToPhone, 0, wire.TypeDetails, box, &v.Details); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if v.Details.Kind != v.Kind || v.Details.PageOrigin != v.Phone.Origin || v.Details.RPID != v.Phone.RPID {
		return errors.New("the host's page is another one: not our code")
	}
	v.Transcript, err = v.Details.Transcript(v.Channel)
	return err
}

// Post sends body to the relay's API for id, and decodes the answer into reply.
func (p *Phone) Post(ctx context.Context, id string, body any, reply any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return p.PostRaw(ctx, id, text, reply)
}

// PostRaw is [Phone.Post] with bytes.
func (p *Phone) PostRaw(ctx context.Context, id string, text []byte, reply any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Relay+wire.PhonePath+id, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Origin", p.Origin)
	client := p.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, wire.MaxEnvelope))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var word wire.Reply
		_ = json.Unmarshal(answer, &word) // a word or none
		return &StatusError{resp.StatusCode, word.Error}
	}
	return json.Unmarshal(answer, reply)
}

// Seal returns the phone's next message. It counts as sent.
func (v *Visit) Seal(typ string, content any) (wire.Sealed, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seq++
	box, err := v.Channel.Seal(wire.ToHost, v.seq, typ, content)
	return wire.Sealed{Seq: v.seq, Type: typ, PP: wire.B64(v.Key.PublicKey().Bytes()), Box: box}, err
}

// Send sends a message of [Visit.Seal] and opens the answer, which is of type
// answer, into reply.
func (v *Visit) Send(ctx context.Context, m wire.Sealed, answer string, reply any) error {
	var r wire.Reply
	if err := v.Phone.Post(ctx, v.ID, m, &r); err != nil {
		return err
	}
	return v.Channel.Open(wire.ToPhone, m.Seq, answer, r.Box, reply)
}

// Say seals content and sends it.
func (v *Visit) Say(ctx context.Context, typ string, content any, answer string, reply any) error {
	m, err := v.Seal(typ, content)
	if err != nil {
		return err
	}
	return v.Send(ctx, m, answer, reply)
}

// Approve approves with a passkey.
func (v *Visit) Approve(ctx context.Context, a *Authenticator) (wire.Verdict, error) {
	return v.ApproveWith(ctx, a.Sign(a.Request(v.Transcript, v.Phone.Origin)))
}

// ApproveWith approves with an assertion.
func (v *Visit) ApproveWith(ctx context.Context, assertion json.RawMessage) (verdict wire.Verdict, err error) {
	err = v.Say(ctx, wire.TypePasskey, wire.Passkey{Assertion: assertion}, wire.TypeVerdict, &verdict)
	return verdict, err
}

// ApproveOIDC approves with a code of an issuer.
func (v *Visit) ApproveOIDC(ctx context.Context, issuer, code string) (verdict wire.Verdict, err error) {
	err = v.Say(ctx, wire.TypeOIDC, wire.OIDC{Issuer: issuer, Code: code}, wire.TypeVerdict, &verdict)
	return verdict, err
}

// Refuse ends the login.
func (v *Visit) Refuse(ctx context.Context) (end wire.End, err error) {
	err = v.Say(ctx, wire.TypeRefuse, wire.Empty{}, wire.TypeEnd, &end)
	return end, err
}

// Wait asks once for news; there may be none.
func (v *Visit) Wait(ctx context.Context) (result string, err error) {
	var end wire.End
	err = v.Say(ctx, wire.TypeWait, wire.Empty{}, wire.TypeEnd, &end)
	return end.Result, err
}

// Enroll offers a new passkey, with the proof that it is there.
func (v *Visit) Enroll(ctx context.Context, a *Authenticator) (verdict wire.Verdict, err error) {
	handle, err := base64.RawURLEncoding.DecodeString(v.Details.UserHandle)
	if err != nil {
		return wire.Verdict{}, err
	}
	a.UserHandle = handle
	object, client := a.Create(v.Transcript, v.Phone.Origin)
	proof := a.Sign(a.Request(wire.EnrollProof(v.Transcript, object), v.Phone.Origin))
	err = v.Say(ctx, wire.TypeEnroll, wire.EnrollPasskey{
		ID: b64url(a.ID), AttestationObject: b64url(object), ClientDataJSON: b64url(client), Assertion: proof,
	}, wire.TypeVerdict, &verdict)
	return verdict, err
}

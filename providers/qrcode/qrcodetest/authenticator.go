// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcodetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"sync/atomic"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// The flags of authenticator data that matter here.
const (
	FlagUP = 0x01 // somebody was there
	FlagUV = 0x04 // and was verified: fingerprint, face, PIN
	FlagBE = 0x08 // the passkey may be synced
	FlagBS = 0x10 // and is
	FlagAT = 0x40 // a new key follows
)

// An Authenticator is a passkey in software: one ES256 key.
type Authenticator struct {
	Key        *ecdsa.PrivateKey
	ID         []byte // of the credential
	UserHandle []byte
	RPID       string
	Flags      byte          // FlagUP and FlagUV at first
	Counter    atomic.Uint32 // of uses
}

// NewAuthenticator returns a new passkey of rpID.
func NewAuthenticator(t testing.TB, rpID string) *Authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{Key: key, ID: random(16), UserHandle: random(32), RPID: rpID, Flags: FlagUP | FlagUV}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// Approver returns what a host keeps of the passkey once subject has enrolled it.
func (a *Authenticator) Approver(subject string) approvers.Approver {
	return approvers.Approver{Subject: subject, Passkey: &approvers.Passkey{
		RPID: a.RPID, ID: a.ID, COSE: a.COSE(), UserHandle: a.UserHandle, BackupEligible: a.Flags&FlagBE != 0,
	}}
}

// Line returns the line of subject's for the file of approvers.
func (a *Authenticator) Line(subject string) string { return a.Approver(subject).Line() + "\n" }

// COSE returns the public key as WebAuthn writes it.
func (a *Authenticator) COSE() []byte {
	point, err := a.Key.PublicKey.Bytes()
	if err != nil {
		panic(err) // it was made from a curve
	}
	return mustCBOR(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
}

func mustCBOR(v any) []byte {
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	b, err := mode.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// A ClientData is what a browser says it was asked.
type ClientData struct {
	Type        string `json:"type"`
	Challenge   string `json:"challenge"`
	Origin      string `json:"origin"`
	CrossOrigin bool   `json:"crossOrigin"`
	TopOrigin   string `json:"topOrigin,omitempty"`
}

// An Assertion is one use of a passkey, before it is signed: change what is to
// be wrong.
type Assertion struct {
	ClientData ClientData
	RPID       string // whose hash is signed
	Flags      byte
	UserHandle []byte
	ID         []byte
	Tamper     func(authenticatorData, clientDataJSON, signature []byte) // after signing
}

// Request returns the assertion that a page at origin gets for challenge.
func (a *Authenticator) Request(challenge []byte, origin string) *Assertion {
	return &Assertion{
		ClientData: ClientData{Type: "webauthn.get", Challenge: wire.Nonce(challenge), Origin: origin},
		RPID:       a.RPID, Flags: a.Flags, UserHandle: a.UserHandle, ID: a.ID,
	}
}

// Sign returns the assertion as PublicKeyCredential.toJSON does.
func (a *Authenticator) Sign(r *Assertion) json.RawMessage {
	a.Counter.Add(1)
	client := mustJSON(r.ClientData)
	data := a.data(r.RPID, r.Flags)
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(bytes.Clone(data), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.Key, digest[:])
	if err != nil {
		panic(err)
	}
	if r.Tamper != nil {
		r.Tamper(data, client, signature)
	}
	response := map[string]string{"clientDataJSON": b64url(client), "authenticatorData": b64url(data), "signature": b64url(signature)}
	if r.UserHandle != nil {
		response["userHandle"] = b64url(r.UserHandle)
	}
	return mustJSON(map[string]any{
		"id": b64url(r.ID), "rawId": b64url(r.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": response,
	})
}

func (a *Authenticator) data(rpID string, flags byte) []byte {
	hash := sha256.Sum256([]byte(rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), a.Counter.Load())
}

// Create returns the new passkey's attestation object, of the kind that attests
// nothing, and the client's data for challenge.
func (a *Authenticator) Create(challenge []byte, origin string) (attestationObject, clientDataJSON []byte) {
	client := mustJSON(ClientData{Type: "webauthn.create", Challenge: wire.Nonce(challenge), Origin: origin})
	data := a.data(a.RPID, a.Flags|FlagAT)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = append(data, 0, byte(len(a.ID)))  //nolint:gosec // 16
	data = append(append(data, a.ID...), a.COSE()...)
	return mustCBOR(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data}), client
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

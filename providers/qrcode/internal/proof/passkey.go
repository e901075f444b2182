// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package proof judges what a phone offers as an approval: a passkey's
// assertion or an issuer's code. It says yes only with the approver whose it is,
// and no only with a [reason.Reason].
package proof

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Passkeys judges assertions.
type Passkeys struct {
	RPID        string
	Origin      string // of the page, exactly
	DeviceBound bool   // refuse passkeys that may be synced
}

// clientData is what a browser says it was asked. A member that must not be
// there is told from one that is empty.
type clientData struct {
	Type        string           `json:"type"`
	Challenge   string           `json:"challenge"`
	Origin      string           `json:"origin"`
	CrossOrigin bool             `json:"crossOrigin"`
	TopOrigin   *json.RawMessage `json:"topOrigin"`
}

// Approver returns the one of list whose passkey signed challenge on the page.
func (k *Passkeys) Approver(list []approvers.Approver, challenge []byte, assertion json.RawMessage) (*approvers.Approver, error) {
	if len(assertion) > wire.MaxAssertion {
		return nil, reason.PasskeySize
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(assertion)
	if err != nil {
		return nil, reason.PasskeyMalformed
	}
	a := find(list, parsed.RawID)
	if a == nil {
		return nil, reason.PasskeyUnknown
	}
	for _, check := range []func(*approvers.Passkey, *protocol.ParsedCredentialAssertionData, []byte) error{
		k.checkLine, k.checkClientData, k.checkAuthenticator, k.checkSignature,
	} {
		if err := check(a.Passkey, parsed, challenge); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func find(list []approvers.Approver, id []byte) *approvers.Approver {
	for i := range list {
		if p := list[i].Passkey; p != nil && bytes.Equal(p.ID, id) {
			return &list[i]
		}
	}
	return nil
}

// checkLine judges what the approver's line says.
func (k *Passkeys) checkLine(p *approvers.Passkey, got *protocol.ParsedCredentialAssertionData, _ []byte) error {
	switch {
	case p.RPID != k.RPID:
		return reason.PasskeyRPID
	case k.DeviceBound && p.BackupEligible:
		return reason.PasskeyOff
	case subtle.ConstantTimeCompare(got.Response.UserHandle, p.UserHandle) != 1:
		return reason.PasskeyUserHandle
	}
	return nil
}

// checkClientData judges what the browser says.
func (k *Passkeys) checkClientData(_ *approvers.Passkey, got *protocol.ParsedCredentialAssertionData, challenge []byte) error {
	var c clientData
	if err := json.Unmarshal(got.Raw.AssertionResponse.ClientDataJSON, &c); err != nil {
		return reason.PasskeyMalformed
	}
	switch {
	case c.Type != string(protocol.AssertCeremony):
		return reason.PasskeyType
	case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(wire.Nonce(challenge))) != 1:
		return reason.PasskeyChallenge
	case c.Origin != k.Origin:
		return reason.PasskeyOrigin
	case c.CrossOrigin:
		return reason.PasskeyCrossOrigin
	case c.TopOrigin != nil:
		return reason.PasskeyTopOrigin
	}
	return nil
}

// checkAuthenticator judges what the authenticator says.
func (k *Passkeys) checkAuthenticator(p *approvers.Passkey, got *protocol.ParsedCredentialAssertionData, _ []byte) error {
	data := got.Response.AuthenticatorData
	hash := sha256.Sum256([]byte(k.RPID))
	switch {
	case !bytes.Equal(data.RPIDHash, hash[:]):
		return reason.PasskeyRPIDHash
	case !data.Flags.HasUserPresent():
		return reason.PasskeyPresence
	case !data.Flags.HasUserVerified():
		return reason.PasskeyUser
	case data.Flags.HasBackupEligible() != p.BackupEligible:
		return reason.PasskeyBackup
	}
	return nil
}

// checkSignature has the library judge all of it, once more and with the
// signature. Everything else was found right, so the signature is what it
// refuses; whatever it refuses besides is named so. The signature counter is
// not looked at: synced passkeys report none, nothing keeps one between logins,
// and the challenge is new each time.
func (k *Passkeys) checkSignature(p *approvers.Passkey, got *protocol.ParsedCredentialAssertionData, challenge []byte) error {
	w, err := webauthn.New(&webauthn.Config{RPID: k.RPID, RPDisplayName: "pam-authn", RPOrigins: []string{k.Origin}})
	if err != nil {
		return reason.PasskeyLibrary.With(err)
	}
	credential := webauthn.Credential{ID: p.ID, PublicKey: p.COSE, Flags: webauthn.CredentialFlags{BackupEligible: p.BackupEligible}}
	_, err = w.ValidateLogin(owner{p.UserHandle, credential}, webauthn.SessionData{
		Challenge: wire.Nonce(challenge), RelyingPartyID: k.RPID, UserID: p.UserHandle,
		AllowedCredentialIDs: [][]byte{p.ID}, UserVerification: protocol.VerificationRequired,
	}, got)
	if err != nil {
		return refusedByLibrary(err)
	}
	return nil
}

func refusedByLibrary(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) && e.Type == protocol.ErrAssertionSignature.Type {
		return reason.PasskeySignature
	}
	return reason.PasskeyLibrary.With(err)
}

// An owner is a webauthn.User: whoever holds one credential.
type owner struct {
	handle     []byte
	credential webauthn.Credential
}

func (o owner) WebAuthnID() []byte          { return o.handle }
func (o owner) WebAuthnName() string        { return "" }
func (o owner) WebAuthnDisplayName() string { return "" }
func (o owner) WebAuthnCredentials() []webauthn.Credential {
	return []webauthn.Credential{o.credential}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// maxClientData bounds what a browser says it was asked, in bytes.
const maxClientData = 4 << 10

// algorithms are those that the page asks for.
var algorithms = []webauthncose.COSEAlgorithmIdentifier{
	webauthncose.AlgES256, webauthncose.AlgEdDSA, webauthncose.AlgRS256,
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

// newPasskey returns the passkey that a phone made for the transcript te, and
// with which it then signed that it holds it: an attestation of kind "none"
// signs nothing.
func newPasskey(k *proof.Passkeys, te, handle []byte, m *wire.EnrollPasskey) (*approvers.Passkey, error) {
	if len(m.AttestationObject) > wire.MaxAssertion || len(m.ClientDataJSON) > maxClientData || len(m.ID) > 2*maxCredentialID {
		return nil, NewSize
	}
	client, err1 := base64.RawURLEncoding.DecodeString(m.ClientDataJSON)
	object, err2 := base64.RawURLEncoding.DecodeString(m.AttestationObject)
	if err1 != nil || err2 != nil {
		return nil, NewMalformed
	}
	if err := checkClientData(k, te, client); err != nil {
		return nil, err
	}
	made, err := parseMade(client, object)
	if err != nil {
		return nil, err
	}
	if err := checkMade(k, m, made); err != nil {
		return nil, err
	}
	if err := checkByLibrary(k, te, handle, made); err != nil {
		return nil, err
	}
	data := made.Response.AttestationObject.AuthData
	p := &approvers.Passkey{
		RPID: k.RPID, ID: data.AttData.CredentialID, COSE: data.AttData.CredentialPublicKey, UserHandle: handle,
		BackupEligible: data.Flags.HasBackupEligible(), AAGUID: data.AttData.AAGUID,
	}
	return p, checkProof(k, p, wire.EnrollProof(te, object), m.Assertion)
}

// checkClientData judges what the browser says.
func checkClientData(k *proof.Passkeys, te, text []byte) error {
	var c clientData
	if err := json.Unmarshal(text, &c); err != nil {
		return NewMalformed
	}
	switch {
	case c.Type != string(protocol.CreateCeremony):
		return NewType
	case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(wire.Nonce(te))) != 1:
		return NewChallenge
	case c.Origin != k.Origin:
		return NewOrigin
	case c.CrossOrigin, c.TopOrigin != nil:
		return NewCrossOrigin
	}
	return nil
}

// parseMade reads the attestation object.
func parseMade(client, object []byte) (*protocol.ParsedCredentialCreationData, error) {
	raw := protocol.AuthenticatorAttestationResponse{
		AuthenticatorResponse: protocol.AuthenticatorResponse{ClientDataJSON: client}, AttestationObject: object,
	}
	response, err := raw.Parse()
	if err != nil {
		return nil, NewMalformed
	}
	made := &protocol.ParsedCredentialCreationData{Response: *response, Raw: protocol.CredentialCreationResponse{AttestationResponse: raw}}
	made.RawID = response.AttestationObject.AuthData.AttData.CredentialID
	return made, nil
}

// checkMade judges what the authenticator says.
func checkMade(k *proof.Passkeys, m *wire.EnrollPasskey, made *protocol.ParsedCredentialCreationData) error {
	object := &made.Response.AttestationObject
	hash := sha256.Sum256([]byte(k.RPID))
	id := object.AuthData.AttData.CredentialID
	switch flags := object.AuthData.Flags; {
	case !bytes.Equal(object.AuthData.RPIDHash, hash[:]):
		return NewRPIDHash
	case !flags.HasUserPresent():
		return NewPresence
	case !flags.HasUserVerified():
		return NewUser
	case flags.HasBackupEligible() && k.DeviceBound:
		return NewSynced
	case !flags.HasAttestedCredentialData() || len(id) == 0 || len(object.AuthData.AttData.CredentialPublicKey) == 0:
		return NewMalformed
	case len(id) > maxCredentialID, len(object.AuthData.AttData.CredentialPublicKey) > maxKey:
		return NewSize
	case m.ID != "" && m.ID != base64.RawURLEncoding.EncodeToString(id):
		return NewID
	case !unattested(object):
		return NewFormat
	}
	return nil
}

// unattested reports whether the authenticator attests nothing, or with the new
// key itself. No other kind was asked for, so none is parsed.
func unattested(object *protocol.AttestationObject) bool {
	switch object.Format {
	case string(protocol.AttestationFormatNone):
		return len(object.AttStatement) == 0
	case string(protocol.AttestationFormatPacked):
		_, certified := object.AttStatement["x5c"]
		return !certified
	}
	return false
}

// checkByLibrary has the library judge all of it once more.
func checkByLibrary(k *proof.Passkeys, te, handle []byte, made *protocol.ParsedCredentialCreationData) error {
	w, err := webauthn.New(&webauthn.Config{RPID: k.RPID, RPDisplayName: "pam-authn", RPOrigins: []string{k.Origin}})
	if err != nil {
		return NewLibrary.With(err)
	}
	session := webauthn.SessionData{
		Challenge: wire.Nonce(te), RelyingPartyID: k.RPID, UserID: handle, UserVerification: protocol.VerificationRequired,
	}
	for _, alg := range algorithms {
		session.CredParams = append(session.CredParams, protocol.CredentialParameter{Type: protocol.PublicKeyCredentialType, Algorithm: alg})
	}
	if _, err := w.CreateCredential(owner(handle), session, made); err != nil {
		return NewLibrary.With(err)
	}
	return nil
}

// checkProof judges the second signature, as an approval is judged.
func checkProof(k *proof.Passkeys, p *approvers.Passkey, challenge []byte, assertion json.RawMessage) error {
	_, err := k.Approver([]approvers.Approver{{Subject: "new", Passkey: p}}, challenge, assertion)
	return err
}

// An owner is a webauthn.User that has no passkey yet.
type owner []byte

func (o owner) WebAuthnID() []byte                       { return o }
func (owner) WebAuthnName() string                       { return "" }
func (owner) WebAuthnDisplayName() string                { return "" }
func (owner) WebAuthnCredentials() []webauthn.Credential { return nil }

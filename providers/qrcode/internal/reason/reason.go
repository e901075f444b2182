// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package reason names every way in which a login by QR code is refused. The
// texts stand in the administrator's log, in the provider's README and in the
// tests that attack it, and nowhere else in the code.
package reason

import "github.com/pam-authn/pam-authn/authn"

// A Reason is why something was refused. As an error it also says what PAM
// hears: it wraps an [authn.Result].
type Reason string

// Of the relay. PAM hears system_err for all of them; a relay that nobody could
// reach has no Reason, since [authn.Unreachable] judges that.
const (
	RelayTLS       Reason = "relay: its certificate was not accepted"
	RelayToken     Reason = "relay: it does not know this host's token (401)" //nolint:gosec // a text, no secret
	RelayForbidden Reason = "relay: it refuses this host (403)"
	RelayBusy      Reason = "relay: too many requests (429)"
	RelayAnswer    Reason = "relay: it does not answer as a relay does"
	RelayGarbage   Reason = "relay: it sent a message that is not of the protocol"
	RelayTaken     Reason = "relay: it says that every fresh code is taken"
	RelayLimit     Reason = "relay: too many logins of this host's token are waiting"
	RelaySlow      Reason = "relay: no answer in time"
	RelayLost      Reason = "relay: the connection broke"
	RelayDrains    Reason = "relay: it is shutting down"
)

// Of the end of an attempt.
const (
	NotApproved Reason = "nobody approved, six prompts"
	NoDigits    Reason = "approved, but its digits were not typed, six prompts"
	WrongCode   Reason = "wrong code, three times"
	Refused     Reason = "refused on a phone"
	Expired     Reason = "the code expired"
	SecondPhone Reason = "a second phone opened the enrolment's code"

	// CodeOff: the configuration does not fit the PAM line.
	CodeOff Reason = "code: off is for logins at this machine only, and this one is remote or at no local terminal"

	// ShortTimeout: likewise.
	ShortTimeout Reason = "the PAM line's timeout leaves no time for a code: 20s or more is needed"

	// UnknownWord: likewise. The word follows.
	UnknownWord Reason = "the PAM line has a word for this provider, which has none"
)

// Of a phone's messages. They end nothing: the phone hears that there is no
// such login, and the attempt goes on.
const (
	PhoneMalformed Reason = "phone: malformed message"
	PhoneOtherID   Reason = "phone: hello for another login"
	PhoneOtherSHA1 Reason = "phone: scanned code names another connection"
	PhoneKey       Reason = "phone: key gives no secret"
	PhoneBusy      Reason = "phone: three phones are there already"
	PhoneUnknown   Reason = "phone: message without a hello"
	PhoneClosed    Reason = "phone: its channel is closed"
	PhoneReused    Reason = "phone: other bytes under a number that was used"
	PhoneOrder     Reason = "phone: message out of order"
	PhoneTooMany   Reason = "phone: too many messages"
	PhoneBox       Reason = "phone: box does not open"
	PhoneContent   Reason = "phone: box holds no message of its type"
	PhoneKind      Reason = "phone: message of the other kind"
	LookupProof    Reason = "lookup: wrong proof"
	LookupClosed   Reason = "lookup: closed after five wrong proofs"
)

// Of an approval by passkey.
const (
	PasskeyOff         Reason = "passkey: synced passkeys are forbidden here" //nolint:gosec // a text, no secret
	PasskeySize        Reason = "passkey: assertion is larger than 8 KiB"
	PasskeyMalformed   Reason = "passkey: assertion is malformed"
	PasskeyUnknown     Reason = "passkey: not of an approver of this account"
	PasskeyRPID        Reason = "passkey: the approver's line is of another rp_id" //nolint:gosec // a text, no secret
	PasskeyUserHandle  Reason = "passkey: user handle is another's"                //nolint:gosec // a text, no secret
	PasskeyType        Reason = "passkey: not the answer to a request for an approval"
	PasskeyChallenge   Reason = "passkey: approves another login than this one"
	PasskeyOrigin      Reason = "passkey: used on a page of another origin"
	PasskeyCrossOrigin Reason = "passkey: used inside another site's page"
	PasskeyTopOrigin   Reason = "passkey: used below another site's page"
	PasskeyRPIDHash    Reason = "passkey: made for another rp_id" //nolint:gosec // a text, no secret
	PasskeyPresence    Reason = "passkey: nobody was present"
	PasskeyUser        Reason = "passkey: the phone did not verify its user" //nolint:gosec // a text, no secret
	PasskeyBackup      Reason = "passkey: backup flag differs from enrolment"
	PasskeySignature   Reason = "passkey: signature does not verify"
	PasskeyLibrary     Reason = "passkey: refused by the library's own checks"
)

// Of an approval by OpenID Connect.
const (
	OIDCOff         Reason = "oidc: not a configured issuer"
	OIDCTooMany     Reason = "oidc: too many codes in one login"
	OIDCUnreachable Reason = "oidc: the issuer was not reached"
	OIDCExchange    Reason = "oidc: the issuer did not take the code"
	OIDCNoToken     Reason = "oidc: the issuer sent no ID token" //nolint:gosec // a text, no secret
	OIDCMalformed   Reason = "oidc: ID token is malformed"
	OIDCAlgorithm   Reason = "oidc: ID token is signed with an algorithm that is not allowed"
	OIDCKeys        Reason = "oidc: the issuer's keys could not be had"
	OIDCSignature   Reason = "oidc: signature does not verify"
	OIDCIssuer      Reason = "oidc: ID token of another issuer"
	OIDCAudience    Reason = "oidc: ID token is not for this client alone"
	OIDCNoIssuedAt  Reason = "oidc: ID token does not say when it was issued"
	OIDCClock       Reason = "oidc: clock differs from issuer"
	OIDCExpired     Reason = "oidc: ID token has expired"
	OIDCNonce       Reason = "oidc: approves another login than this one"
	OIDCNoAuthTime  Reason = "oidc: ID token does not say when the person signed in"
	OIDCAuthTime    Reason = "oidc: the person signed in before this login began"
	OIDCLibrary     Reason = "oidc: refused by the library's own checks"
	OIDCUnknown     Reason = "oidc: not of an approver of this account"
)

// Of the account phase.
const (
	Ticket       Reason = "ticket is not one of ours"
	ApproverGone Reason = "the account has lost the approver that let this login in"
)

// other says what PAM hears for those that are not auth_err.
var other = map[Reason]authn.Result{
	RelayTLS: authn.ErrSystem, RelayToken: authn.ErrSystem, RelayForbidden: authn.ErrSystem,
	RelayBusy: authn.ErrSystem, RelayAnswer: authn.ErrSystem, RelayGarbage: authn.ErrSystem,
	RelayTaken: authn.ErrSystem, RelayLimit: authn.ErrSystem, RelaySlow: authn.ErrSystem,
	RelayLost: authn.ErrSystem, RelayDrains: authn.ErrSystem,
	CodeOff: authn.ErrSystem, ShortTimeout: authn.ErrSystem, UnknownWord: authn.ErrSystem,
	Ticket: authn.ErrPermDenied, ApproverGone: authn.ErrPermDenied,
}

// Error returns the text of the log's reason=.
func (r Reason) Error() string { return string(r) }

// Unwrap returns what PAM hears: auth_err for whatever is no fault.
func (r Reason) Unwrap() error {
	if result, ok := other[r]; ok {
		return result
	}
	return authn.ErrAuth
}

// With returns an error that reads "r: err" and says to PAM what r does; of err
// only the text is kept.
func (r Reason) With(err error) error {
	if err == nil {
		return r
	}
	return detailed{r, err.Error()}
}

type detailed struct {
	Reason
	detail string
}

func (d detailed) Error() string { return string(d.Reason) + ": " + d.detail }
func (d detailed) Unwrap() error { return d.Reason }

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package enroll takes a new phone into a file of approvers. It is two
// processes: one as root, which prints the code, reads the digits and writes
// the file, and its child as an unprivileged user, which does the network and
// reads all that comes from there (see [Serve]). Between them go frames of a
// bounded size, in a bounded number; what the child says is checked again.
package enroll

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Reasons for which a phone's new key is refused, besides those of a login's
// approval, which its second signature is judged by.
const (
	NewSize        reason.Reason = "new passkey: message is too large"
	NewMalformed   reason.Reason = "new passkey: message is malformed"
	NewType        reason.Reason = "new passkey: not the answer to a request for a new passkey"
	NewChallenge   reason.Reason = "new passkey: made for another enrolment than this one"
	NewOrigin      reason.Reason = "new passkey: made on a page of another origin"
	NewCrossOrigin reason.Reason = "new passkey: made inside another site's page"
	NewFormat      reason.Reason = "new passkey: attested in a way that was not asked for"
	NewRPIDHash    reason.Reason = "new passkey: made for another rp_id"
	NewPresence    reason.Reason = "new passkey: nobody was present"
	NewUser        reason.Reason = "new passkey: the phone did not verify its user"
	NewID          reason.Reason = "new passkey: credential id is not the one that was made"
	NewSynced      reason.Reason = "new passkey: may be synced, which device_bound forbids"
	NewLibrary     reason.Reason = "new passkey: refused by the library's own checks"
	KeyExists      reason.Reason = "an approver with this credential is there already"
	SecondKey      reason.Reason = "a key was accepted already, or the enrolment has ended"
)

// Bounds of what a phone may offer.
const (
	maxCredentialID = 1023 // bytes; WebAuthn's own
	maxKey          = 2048 // bytes of a public key
	handleSize      = 32   // bytes of a new user handle
	maxHandle       = 64   // bytes; WebAuthn's own
	maxSub          = 255  // bytes; OpenID Connect's own
)

// A Plan is what an enrolment is for.
type Plan struct {
	Account    string
	Subject    string
	UserHandle []byte
}

var plainUser = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)
})

// CheckAccount says whether account can be a file's name, as the worker judges
// it for authn.files.
func CheckAccount(account string) error {
	if !plainUser().MatchString(account) {
		return fmt.Errorf("%.80q is no plain account name", account)
	}
	return nil
}

// CheckComment says whether comment can stand at a line's end.
func CheckComment(comment string) error {
	if !wire.Printable(comment) {
		return errors.New("a comment wants printable ASCII of at most 255 characters")
	}
	return nil
}

// ParseOffer judges the line that the child offers: it must be what approvers
// would write, of this plan and this configuration, without a comment.
func ParseOffer(line string, plan Plan, c *qrcode.Config) (approvers.Approver, error) {
	a, err := approvers.ParseLine(line)
	if err != nil {
		return approvers.Approver{}, fmt.Errorf("offered line: %w", err)
	}
	switch {
	case a.Comment != "":
		err = errors.New("has a comment")
	case a.Line() != line:
		err = errors.New("is not written as it must be")
	case a.Subject != plan.Subject:
		err = errors.New("is of another subject")
	case a.Passkey != nil:
		err = checkPasskey(a.Passkey, plan, c)
	default:
		err = checkOIDC(&a, c)
	}
	if err != nil {
		return approvers.Approver{}, fmt.Errorf("offered line: %w", err)
	}
	return a, nil
}

func checkPasskey(p *approvers.Passkey, plan Plan, c *qrcode.Config) error {
	switch {
	case p.RPID != c.RPID:
		return errors.New("is of another rp_id")
	case !bytes.Equal(p.UserHandle, plan.UserHandle):
		return errors.New("has another user handle")
	case len(p.ID) > maxCredentialID, len(p.COSE) > maxKey:
		return errors.New("has a credential that is too large")
	case len(p.AAGUID) != 0 && len(p.AAGUID) != 16:
		return errors.New("has a bad aaguid")
	case p.BackupEligible && c.Passkeys.DeviceBound:
		return NewSynced
	}
	return nil
}

func checkOIDC(a *approvers.Approver, c *qrcode.Config) error {
	if len(a.Sub) > maxSub || !wire.Printable(a.Sub) {
		return errors.New("has a sub that is none of OpenID Connect")
	}
	for i := range c.OIDC {
		if c.OIDC[i].Issuer == a.Issuer {
			return nil
		}
	}
	return errors.New("is of an issuer that is not configured")
}

// same reports whether a and b approve by the same credential: whoever could use
// the one could use the other, or be mistaken for it.
func same(a, b approvers.Approver) bool {
	if a.Passkey == nil || b.Passkey == nil {
		return a.Passkey == nil && b.Passkey == nil && a.Issuer == b.Issuer && a.Sub == b.Sub
	}
	return bytes.Equal(a.Passkey.ID, b.Passkey.ID)
}

// NewHandle returns a handle for a person who has none.
func NewHandle() []byte {
	handle := make([]byte, handleSize)
	_, _ = rand.Read(handle) // never fails
	return handle
}

// Seconds is how long a code is good for.
func Seconds(c *qrcode.Config) int { return int(ttl(c) / time.Second) }

func ttl(c *qrcode.Config) time.Duration { return cmp.Or(c.TTL, TTL) }

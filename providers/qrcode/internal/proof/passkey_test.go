// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

const (
	rpID   = "login.example.com"
	origin = "https://login.example.com"
)

var challenge = bytes.Repeat([]byte{7}, 32)

// A useOfPasskey is one approval, right until a test changes a thing.
type useOfPasskey struct {
	key       *qrcodetest.Authenticator
	verifier  *proof.Passkeys
	list      []approvers.Approver
	assertion *qrcodetest.Assertion
	raw       func(json.RawMessage) json.RawMessage
}

func newUse(t *testing.T) *useOfPasskey {
	key := qrcodetest.NewAuthenticator(t, rpID)
	return &useOfPasskey{
		key: key, verifier: &proof.Passkeys{RPID: rpID, Origin: origin},
		list: []approvers.Approver{
			qrcodetest.NewAuthenticator(t, rpID).Approver("tom@example.com"), key.Approver("mittens@example.com"),
		},
		assertion: key.Request(challenge, origin),
	}
}

func (u *useOfPasskey) judge() (*approvers.Approver, error) {
	raw := u.key.Sign(u.assertion)
	if u.raw != nil {
		raw = u.raw(raw)
	}
	return u.verifier.Approver(u.list, challenge, raw)
}

func TestAPasskeyNamesItsOwner(t *testing.T) {
	for name, flags := range map[string]byte{"device-bound": 0, "synced": qrcodetest.FlagBE | qrcodetest.FlagBS} {
		u := newUse(t)
		u.key.Flags |= flags
		u.assertion.Flags |= flags
		u.list[1] = u.key.Approver("mittens@example.com")
		if a, err := u.judge(); err != nil || a.Subject != "mittens@example.com" {
			t.Errorf("%s: got %v, %v", name, a, err)
		}
	}
}

// TestEachCheckOfAPasskeyHasItsReason changes one thing at a time in what is
// otherwise right.
func TestEachCheckOfAPasskeyHasItsReason(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*useOfPasskey)
		want reason.Reason
	}{
		{"too large", func(u *useOfPasskey) {
			u.raw = func(b json.RawMessage) json.RawMessage { return append(b, bytes.Repeat([]byte{' '}, 8<<10)...) }
		}, reason.PasskeySize},
		{"no JSON", func(u *useOfPasskey) { u.raw = func(b json.RawMessage) json.RawMessage { return b[1:] } }, reason.PasskeyMalformed},
		{"nothing", func(u *useOfPasskey) { u.raw = func(json.RawMessage) json.RawMessage { return nil } }, reason.PasskeyMalformed},
		{"null", func(u *useOfPasskey) {
			u.raw = func(json.RawMessage) json.RawMessage { return json.RawMessage("null") }
		}, reason.PasskeyMalformed},
		{"another person's", func(u *useOfPasskey) { u.list = u.list[:1] }, reason.PasskeyUnknown},
		{"no approvers", func(u *useOfPasskey) { u.list = nil }, reason.PasskeyUnknown},
		{"credential id of somebody else", func(u *useOfPasskey) { u.assertion.ID = u.list[0].Passkey.ID }, reason.PasskeyUserHandle},
		{"key of somebody else", func(u *useOfPasskey) { u.list[1].Passkey.COSE = u.list[0].Passkey.COSE }, reason.PasskeySignature},
		{"line of another rp_id", func(u *useOfPasskey) { u.list[1].Passkey.RPID = "example.com" }, reason.PasskeyRPID},
		{"synced where forbidden", func(u *useOfPasskey) { u.verifier.DeviceBound = true; u.list[1].Passkey.BackupEligible = true }, reason.PasskeyOff},
		{"another user handle", func(u *useOfPasskey) { u.assertion.UserHandle = []byte("mallory") }, reason.PasskeyUserHandle},
		{"no user handle", func(u *useOfPasskey) { u.assertion.UserHandle = nil }, reason.PasskeyUserHandle},
		{"a registration", func(u *useOfPasskey) { u.assertion.ClientData.Type = "webauthn.create" }, reason.PasskeyType},
		{"another challenge", func(u *useOfPasskey) { u.assertion.ClientData.Challenge = "AAAA" }, reason.PasskeyChallenge},
		{"another origin", func(u *useOfPasskey) { u.assertion.ClientData.Origin = "https://evil.example.com" }, reason.PasskeyOrigin},
		{"another port", func(u *useOfPasskey) { u.assertion.ClientData.Origin = origin + ":8443" }, reason.PasskeyOrigin},
		{"origin in capitals", func(u *useOfPasskey) { u.assertion.ClientData.Origin = strings.ToUpper(origin) }, reason.PasskeyOrigin},
		{"in a frame", func(u *useOfPasskey) { u.assertion.ClientData.CrossOrigin = true }, reason.PasskeyCrossOrigin},
		{"below another page", func(u *useOfPasskey) { u.assertion.ClientData.TopOrigin = "https://evil.example.com" }, reason.PasskeyTopOrigin},
		{"another rp_id", func(u *useOfPasskey) { u.assertion.RPID = "example.com" }, reason.PasskeyRPIDHash},
		{"nobody there", func(u *useOfPasskey) { u.assertion.Flags &^= qrcodetest.FlagUP }, reason.PasskeyPresence},
		{"nobody verified", func(u *useOfPasskey) { u.assertion.Flags &^= qrcodetest.FlagUV }, reason.PasskeyUser},
		{"now synced", func(u *useOfPasskey) { u.assertion.Flags |= qrcodetest.FlagBE }, reason.PasskeyBackup},
		{"no longer synced", func(u *useOfPasskey) { u.list[1].Passkey.BackupEligible = true }, reason.PasskeyBackup},
		{"backed up without being able to be", func(u *useOfPasskey) { u.assertion.Flags |= qrcodetest.FlagBS }, reason.PasskeyLibrary},
		{"changed signature", func(u *useOfPasskey) {
			u.assertion.Tamper = func(_, _, signature []byte) { signature[len(signature)-1] ^= 1 }
		}, reason.PasskeySignature},
		{"counter changed after signing", func(u *useOfPasskey) {
			u.assertion.Tamper = func(data, _, _ []byte) { data[len(data)-1] ^= 1 }
		}, reason.PasskeySignature},
		{"client data changed after signing", func(u *useOfPasskey) {
			u.assertion.Tamper = func(_, client, _ []byte) {
				copy(client, bytes.Replace(client, []byte(`"crossOrigin":false`), []byte(`"crossOrigin":null `), 1))
			}
		}, reason.PasskeySignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUse(t)
			c.edit(u)
			a, err := u.judge()
			if a != nil || !errors.Is(err, c.want) {
				t.Errorf("got %v, %v, want %q", a, err, c.want)
			}
			if authn.ResultOf(err) != authn.ErrAuth {
				t.Errorf("PAM hears %v", authn.ResultOf(err))
			}
		})
	}
}

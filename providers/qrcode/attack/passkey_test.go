// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// assert is the story of an approval whose assertion is changed before it is
// signed.
func assert(change func(r *run, a *qrcodetest.Assertion)) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		a := r.passkey.Request(v.Transcript, v.Phone.Origin)
		if r.evil {
			change(r, a)
		}
		return r.approve(v, r.passkey.Sign(a))
	}
}

// genuine is the story of an approval of which nothing is changed.
func genuine(r *run, shown string) string {
	v := r.open(shown)
	return r.approve(v, r.sign(v, r.passkey))
}

// with is the story of an approval with another passkey than the account's.
func with(other func(r *run) *qrcodetest.Authenticator) story {
	return func(r *run, shown string) string {
		if !r.evil {
			return genuine(r, shown)
		}
		v := r.open(shown)
		return r.approve(v, r.sign(v, other(r)))
	}
}

func flip(flags byte) story {
	return assert(func(_ *run, a *qrcodetest.Assertion) { a.Flags ^= flags })
}

func TestPasskeys(t *testing.T) {
	runAll(t, []attack{
		{name: "of_a_stranger", logged: reason.PasskeyUnknown,
			tell: with(func(r *run) *qrcodetest.Authenticator { return r.site.Passkey(r.T) })},
		{name: "of_another_account", logged: reason.PasskeyUnknown, tell: ofAnotherAccount},
		{name: "of_a_stranger_under_a_known_id", logged: reason.PasskeySignature,
			tell: with(func(r *run) *qrcodetest.Authenticator {
				a := r.site.Passkey(r.T)
				a.ID, a.UserHandle = r.passkey.ID, r.passkey.UserHandle
				return a
			})},
		{name: "enrolled_for_another_rp_id", logged: reason.PasskeyRPID, tell: with(other), setUp: secondKey(
			func(a *qrcodetest.Authenticator) { a.RPID = "example.com" },
			func(a *qrcodetest.Authenticator) { a.RPID = "localhost" })},
		{name: "used_for_another_rp_id", logged: reason.PasskeyRPIDHash,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.RPID = "example.com" })},
		{name: "without_user_verification", logged: reason.PasskeyUser, tell: flip(qrcodetest.FlagUV)},
		{name: "without_anybody", logged: reason.PasskeyPresence, tell: flip(qrcodetest.FlagUP)},
		{name: "with_the_BE_flag_set", logged: reason.PasskeyBackup, tell: flip(qrcodetest.FlagBE)},
		{name: "with_the_BE_flag_cleared", logged: reason.PasskeyBackup, tell: flip(qrcodetest.FlagBE), setUp: func(w *world) {
			w.passkey.Flags |= qrcodetest.FlagBE
			w.approvers(w.passkey.Line(subject))
		}},
		{name: "backed_up_but_not_eligible", logged: reason.PasskeyLibrary, tell: flip(qrcodetest.FlagBS)},
		{name: "synced_where_that_is_forbidden", logged: reason.PasskeyOff, tell: with(other), setUp: func(w *world) {
			w.config.Passkeys.DeviceBound = true
			secondKey(func(a *qrcodetest.Authenticator) { a.Flags |= qrcodetest.FlagBE }, nil)(w)
		}},
		{name: "with_the_handle_of_another", logged: reason.PasskeyUserHandle,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.UserHandle = make([]byte, 32) })},
		{name: "without_a_handle", logged: reason.PasskeyUserHandle,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.UserHandle = nil })},
		{name: "on_a_page_of_another_origin", logged: reason.PasskeyOrigin,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.ClientData.Origin = "http://localhost" })},
		{name: "inside_another_page", logged: reason.PasskeyCrossOrigin,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.ClientData.CrossOrigin = true })},
		{name: "below_another_page", logged: reason.PasskeyTopOrigin,
			tell: assert(func(r *run, a *qrcodetest.Assertion) { a.ClientData.TopOrigin = r.site.Origin })},
		{name: "made_and_not_used", logged: reason.PasskeyType,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.ClientData.Type = "webauthn.create" })},
		{name: "for_another_challenge", logged: reason.PasskeyChallenge,
			tell: assert(func(_ *run, a *qrcodetest.Assertion) { a.ClientData.Challenge = wire.Nonce(make([]byte, 32)) })},
		{name: "with_another_signature", logged: reason.PasskeySignature, tell: tamper(func(_, _, signature []byte) { signature[len(signature)-1] ^= 1 })},
		{name: "with_data_changed_after_signing", logged: reason.PasskeySignature, tell: tamper(func(data, _, _ []byte) { data[36] ^= 1 })},
		{name: "too_large", logged: reason.PasskeySize, tell: assertion(func(text json.RawMessage) json.RawMessage {
			return append(text[:len(text)-1], `,"x":"`+strings.Repeat("x", wire.MaxAssertion)+`"}`...)
		})},
		{name: "malformed", logged: reason.PasskeyMalformed, tell: assertion(func(json.RawMessage) json.RawMessage {
			return json.RawMessage(`{"id":"AAAA"}`)
		})},
	})
}

func tamper(change func(data, client, signature []byte)) story {
	return assert(func(_ *run, a *qrcodetest.Assertion) { a.Tamper = change })
}

// assertion is the story of an approval that is changed after it was signed.
func assertion(change func(json.RawMessage) json.RawMessage) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		text := r.sign(v, r.passkey)
		if r.evil {
			text = change(text)
		}
		return r.approve(v, text)
	}
}

// ofAnotherAccount has somebody approve who may approve, but not here.
func ofAnotherAccount(r *run, shown string) string {
	v := r.open(shown)
	if !r.evil {
		return r.approve(v, r.sign(v, r.passkey))
	}
	root := r.site.Passkey(r.T)
	other := *r.world
	other.request.User = "root"
	other.approvers(root.Line(subject))
	other.passkey = root
	other.succeeds(genuine) // there, it is good
	return r.approve(v, r.sign(v, root))
}

// secondKey gives the account a second approver. change makes of the passkey
// what its line says; what lie makes of it then is what the phone uses.
func secondKey(change, lie func(a *qrcodetest.Authenticator)) func(w *world) {
	return func(w *world) {
		w.other = w.site.Passkey(w.T)
		change(w.other)
		w.approvers(w.passkey.Line(subject), w.other.Line(subject))
		if lie != nil {
			lie(w.other)
		}
	}
}

func other(r *run) *qrcodetest.Authenticator { return r.other }

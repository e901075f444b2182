// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Some browsers want a tap for each signature.
func TestEnrolmentWithATapEach(t *testing.T) {
	p := start(t, Options{Scripts: []string{`
		if (navigator.credentials) {
			const get = navigator.credentials.get.bind(navigator.credentials);
			let first = true;
			navigator.credentials.get = (options) => {
				if (!first) return get(options);
				first = false;
				return Promise.reject(new DOMException('', 'NotAllowedError'));
			};
		}`}})
	h := newHost(t, wire.Enroll)
	h.verdict = func(_ string, plain []byte) any {
		var m wire.EnrollPasskey
		if err := json.Unmarshal(plain, &m); err != nil {
			t.Error(err)
		}
		if err := checkEnrolment(h, m); err != nil {
			t.Error(err)
		}
		return wire.Verdict{OK: true, Code: "510203"}
	}
	expect(t, p.Open(h.link()), "enrol")
	expect(t, p.Enrol(), "not-confirmed")
	look(t, p, "not-confirmed")
	p.Tap("back")
	expect(t, p.Wait("enrol"), "enrol")
	look(t, p, "enrol-confirm")
	p.Tap("prove")
	if got := p.Digits(); got != "510203" {
		t.Errorf("digits %q", got)
	}
	if made := p.Credentials(); len(made) != 1 {
		t.Errorf("%d passkeys", len(made))
	}
}

func TestEnrolment(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Enroll)
	h.verdict = func(typ string, plain []byte) any {
		var m wire.EnrollPasskey
		if err := json.Unmarshal(plain, &m); err != nil || typ != wire.TypeEnroll {
			t.Errorf("%s: %v", typ, err)
		}
		if err := checkEnrolment(h, m); err != nil {
			t.Error(err)
		}
		return wire.Verdict{OK: true, Code: "510203"}
	}
	expect(t, p.Open(h.link()), "enrol")
	look(t, p, "enrol")
	expect(t, p.Enrol(), "enrol-digits")
	if got := p.Digits(); got != "510203" {
		t.Errorf("digits %q", got)
	}
	look(t, p, "enrol-digits")
	made := p.Credentials()
	if len(made) != 1 || made[0].RPID != "localhost" || !made[0].IsResidentCredental {
		t.Errorf("passkeys %+v", made)
	}
	h.end(wire.EndIn)
	expect(t, p.Wait("enrolled"), "enrolled")
	look(t, p, "enrolled")

	not := newHost(t, wire.Enroll)
	not.verdict = func(string, []byte) any { return wire.Verdict{Ref: "7f3a90"} }
	expect(t, p.Open(not.link()), "enrol")
	expect(t, p.Enrol(), "not-accepted")
	if got := p.Text("[data-view=not-accepted]"); strings.Contains(got, "another passkey") || !strings.Contains(got, "This device was not added.") {
		t.Errorf("an enrolment that is not accepted reads: %s", got)
	}
	look(t, p, "not-accepted-enrol")

	refused := newHost(t, wire.Enroll)
	expect(t, p.Open(refused.link()), "enrol")
	expect(t, p.Refuse(), "refused")
}

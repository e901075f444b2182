// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// shown is the story of an approval of what a phone was shown, where the phone
// was shown something else. The keys stay the same, so that each field is alone.
func shown(change func(d *wire.Details)) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		d := v.Details
		if r.evil {
			change(&d)
		}
		tl, err := d.Transcript(v.Channel)
		if err != nil {
			r.Fatal(err)
		}
		return r.approve(v, r.passkey.Sign(r.passkey.Request(tl, v.Phone.Origin)))
	}
}

// TestTheApprovalOfSomethingElse changes one thing that the person was shown.
func TestTheApprovalOfSomethingElse(t *testing.T) {
	attacks := []attack{
		{name: "another_host", tell: shown(func(d *wire.Details) { d.Host = "b.example.com" })},
		{name: "another_account", tell: shown(func(d *wire.Details) { d.Account = "root" })},
		{name: "another_service", tell: shown(func(d *wire.Details) { d.Service = "sudo" })},
		{name: "another_address", tell: shown(func(d *wire.Details) { d.RHost = "192.0.2.8" })},
		{name: "another_terminal", tell: shown(func(d *wire.Details) { d.TTY = "/dev/tty1" })},
		{name: "another_time", tell: shown(func(d *wire.Details) { d.Start++ })},
		{name: "another_rp_id", tell: shown(func(d *wire.Details) { d.RPID = "example.com" })},
		{name: "another_page", tell: shown(func(d *wire.Details) { d.PageOrigin = "http://localhost" })},
		{name: "fields_run_together", tell: shown(func(d *wire.Details) { d.Account, d.Service = d.Account+d.Service[:1], d.Service[1:] })},
		{name: "an_enrolment", tell: anEnrolment},
	}
	for i := range attacks {
		attacks[i].logged = reason.PasskeyChallenge
	}
	runAll(t, attacks)
}

// anEnrolment has the person sign an enrolment with the same keys.
func anEnrolment(r *run, shown string) string {
	v := r.open(shown)
	if !r.evil {
		return r.approve(v, r.sign(v, r.passkey))
	}
	c, err := wire.PhoneChannel(wire.Enroll, v.Key, v.Channel.HP())
	if err != nil {
		r.Fatal(err)
	}
	d := v.Details
	d.Kind = wire.Enroll
	te, err := d.Transcript(c)
	if err != nil {
		r.Fatal(err)
	}
	return r.approve(v, r.passkey.Sign(r.passkey.Request(te, v.Phone.Origin)))
}

// A victim approves a login of their own, somewhere; the attacker, who got hold
// of what the phone signed there, offers it here.
func elsewhere(change func(w *world)) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		if !r.evil {
			return r.approve(v, r.sign(v, r.passkey))
		}
		return r.approve(v, r.signedElsewhere(change))
	}
}

// signedElsewhere returns what the victim's phone signs for another login.
func (r *run) signedElsewhere(change func(w *world)) (signed json.RawMessage) {
	there := *r.world
	change(&there)
	there.loginWith(false, func(r *run, shown string) string {
		v := r.open(shown)
		signed = r.sign(v, r.passkey)
		if r.approve(v, signed) == "" {
			r.Error("what was signed is not even good there")
		}
		return ""
	}, leave)
	return signed
}

// TestTheApprovalOfAnotherLogin: of a host, an account, a service, an address,
// and of another session of the very same.
func TestTheApprovalOfAnotherLogin(t *testing.T) {
	attacks := []attack{
		{name: "at_another_host", tell: elsewhere(func(w *world) { w.config.Host = "b.example.com" })},
		{name: "to_another_account", tell: elsewhere(func(w *world) { w.request.User = "root" })},
		{name: "by_another_service", tell: elsewhere(func(w *world) { w.request.Service = "sudo" })},
		{name: "from_another_address", tell: elsewhere(func(w *world) { w.request.RHost = "192.0.2.8" })},
		{name: "in_another_session", tell: elsewhere(func(*world) {})},
		{name: "on_another_phone_of_this_session", tell: func(r *run, shown string) string {
			v := r.open(shown)
			from := v
			if r.evil {
				from = r.open(shown)
			}
			return r.approve(v, r.sign(from, r.passkey))
		}},
		{name: "with_the_same_phone_key", tell: sameKey},
	}
	for i := range attacks {
		attacks[i].logged = reason.PasskeyChallenge
	}
	runAll(t, attacks)
}

// sameKey has the phone show exactly the same to the victim, with its own key the
// same, and only the host's another.
func sameKey(r *run, shown string) string {
	v := r.open(shown)
	tl := v.Transcript
	if r.evil {
		hs, err := wire.NewKey()
		if err != nil {
			r.Fatal(err)
		}
		c, err := wire.PhoneChannel(wire.Login, v.Key, hs.PublicKey().Bytes())
		if err != nil {
			r.Fatal(err)
		}
		if tl, err = v.Details.Transcript(c); err != nil {
			r.Fatal(err)
		}
	}
	return r.approve(v, r.passkey.Sign(r.passkey.Request(tl, v.Phone.Origin)))
}

// TestAnAccountThatNoPhoneCanShow: what is shown for it is the same for all such
// accounts, so it has no approvers.
func TestAnAccountThatNoPhoneCanShow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(genuine)
	w.request.User = "mitt\x1b[2Jens"
	w.login(true, genuine).refused(attack{logged: reason.PasskeyUnknown, want: reason.PasskeyUnknown})
}

// TestTheAccountPhase: an approver that was removed lets nobody in any more, and
// nobody brings a ticket of their own.
func TestTheAccountPhase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.succeeds(genuine)
	p := w.provider(slog.DiscardHandler)
	good := w.request
	good.Subject, good.Ticket = r.id.Subject, r.id.Ticket
	if err := p.CheckAccount(t.Context(), &good, nil); err != nil {
		t.Fatalf("nothing was changed, and the account is refused: %v", err)
	}
	stranger := w.site.Passkey(t)
	for _, c := range []struct {
		name   string
		change func(req *authn.Request)
		want   reason.Reason
	}{
		{"approver_removed", func(req *authn.Request) { req.Files = nil }, reason.ApproverGone},
		{"approver_replaced", func(req *authn.Request) {
			req.Files = map[string][]byte{"approvers": []byte(stranger.Line(subject))}
		}, reason.ApproverGone},
		{"ticket_of_another_provider", func(req *authn.Request) { req.Ticket = req.Ticket[1:] }, reason.Ticket},
		{"empty_ticket", func(req *authn.Request) { req.Ticket = []byte{} }, reason.Ticket},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := good
			c.change(&req)
			err := p.CheckAccount(t.Context(), &req, nil)
			if !is(text(err), c.want) || authn.ResultOf(err) != authn.ErrPermDenied {
				t.Errorf("got %v (%v), want %q", err, authn.ResultOf(err), c.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

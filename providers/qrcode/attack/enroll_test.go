// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"io"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// An enrolment is the process that does the network, as root's sees it.
type enrolment struct {
	*world
	in     io.WriteCloser
	said   chan *enroll.Message
	served chan error
	hp     []byte
}

// enrol has the host show an enrolment's code.
func (w *world) enrol() *enrolment {
	w.Helper()
	r, in := io.Pipe()
	out, to := io.Pipe()
	e := &enrolment{world: w, in: in, said: make(chan *enroll.Message, enroll.MaxFrames), served: make(chan error, 1)}
	go func() {
		e.served <- enroll.Serve(w.Context(), r, to)
		_ = to.Close()
	}()
	go func() {
		defer close(e.said)
		for {
			m, err := enroll.ReadFrame(out, enroll.MaxToParent)
			if err != nil {
				return
			}
			e.said <- m
		}
	}()
	w.Cleanup(func() { _ = in.Close() })
	plan := enroll.Plan{Account: w.request.User, Subject: subject, UserHandle: enroll.NewHandle()}
	e.tell(&enroll.Message{Type: enroll.TypeStart, Start: &enroll.Start{Config: []byte(w.site.Config() + "host: a.example.com\n"), Plan: plan}})
	e.hp = e.next(enroll.TypeReady).HP
	return e
}

func (e *enrolment) tell(m *enroll.Message) {
	e.Helper()
	if err := enroll.WriteFrame(e.in, m, enroll.MaxToChild); err != nil {
		e.Fatal(err)
	}
}

// next returns the next message of this type.
func (e *enrolment) next(typ string) *enroll.Message {
	e.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case m, ok := <-e.said:
			if !ok {
				e.Fatalf("no %s came", typ)
			}
			if m.Type == typ {
				return m
			}
		case <-late:
			e.Fatalf("no %s came", typ)
		}
	}
}

// offer has a phone make a new passkey. The digits that it is shown, if any,
// come when root's process has said yes.
func (e *enrolment) offer(v *qrcodetest.Visit) <-chan wire.Verdict {
	verdicts := make(chan wire.Verdict, 1)
	a := e.site.Passkey(e.T)
	go func() {
		verdict, err := v.Enroll(e.Context(), a)
		if err != nil {
			verdict = wire.Verdict{}
		}
		verdicts <- verdict
	}()
	return verdicts
}

// succeeds is an enrolment of one phone.
func (e *enrolment) succeeds() {
	e.Helper()
	v, err := e.phone.Meet(e.Context(), e.hp, "")
	if err != nil {
		e.Fatal(err)
	}
	verdict := e.offer(v)
	e.next(enroll.TypeOffer)
	e.tell(&enroll.Message{Type: enroll.TypeAccept, Code: "042917"})
	if got := <-verdict; !got.OK || got.Code != "042917" {
		e.Fatalf("nothing was changed, and the phone hears %+v", got)
	}
}

// TestASecondPhoneAtAnEnrolment ends it for both, whichever was the right one.
func TestASecondPhoneAtAnEnrolment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol().succeeds()

	e := w.enrol()
	v, err := e.phone.Meet(t.Context(), e.hp, "")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := e.phone.Meet(t.Context(), e.hp, ""); err == nil {
		t.Errorf("the second phone is shown %+v", second.Details)
	}
	if m := e.next(enroll.TypeEnd); m.Result != enroll.ResultSecondPhone || m.Text != string(reason.SecondPhone) {
		t.Errorf("got %q, %q", m.Result, m.Text)
	}
	if verdict := <-e.offer(v); verdict.OK || verdict.Code != "" {
		t.Errorf("got %+v for the first phone", verdict)
	}
	for m := range e.said {
		if m.Type == enroll.TypeOffer {
			t.Errorf("THE ATTACK SUCCEEDED: root is offered %s", m.Line)
		}
	}
}

// TestASecondPhoneAfterTheDigits: they are of no use then, since the process that
// would write them hears of the end before it looks at them.
func TestASecondPhoneAfterTheDigits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.enrol()
	e.succeeds()
	if second, err := e.phone.Meet(t.Context(), e.hp, ""); err == nil {
		t.Errorf("the second phone is shown %+v", second.Details)
	}
	if m := e.next(enroll.TypeEnd); m.Result != enroll.ResultSecondPhone {
		t.Errorf("got %q, %q", m.Result, m.Text)
	}
}

// TestAnEnrolmentHasNoTypedCode: sixty bits are for the seconds of a login, whose
// phone proves who it is; whoever enrols gives the proof.
func TestAnEnrolmentHasNoTypedCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(genuine) // a login's is taken: run.open types it
	e := w.enrol()
	if v, err := e.phone.OpenTyped(t.Context(), wire.FormatTyped(wire.Typed(e.hp))); err == nil {
		t.Errorf("the phone is shown %+v", v.Details)
	}
	if m := e.next(enroll.TypeNote); m.Text != "message of a phone refused: "+string(reason.PhoneKind) {
		t.Errorf("the log has %q", m.Text)
	}
}

// TestALoginsApprovalEnrolsNobody, and what enrols approves no login: see also
// TestMessages.
func TestALoginsApprovalEnrolsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.enrol().succeeds()
	e := w.enrol()
	v, err := e.phone.Meet(t.Context(), e.hp, "")
	if err != nil {
		t.Fatal(err)
	}
	if verdict, err := v.Approve(t.Context(), w.passkey); err != nil || verdict.OK || verdict.Code != "" {
		t.Errorf("the phone hears %+v, %v", verdict, err)
	}
	if m := e.next(enroll.TypeNote); m.Text != "the phone was refused: "+string(reason.PhoneKind) {
		t.Errorf("the log has %q", m.Text)
	}
}

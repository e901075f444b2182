// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// wrong returns six digits that are not code.
func wrong(code string) string {
	return strings.Map(func(d rune) rune { return '0' + (d-'0'+1)%10 }, code)
}

// victim is the story of somebody to whom the attacker showed the code, and who
// approves, but keeps the digits to themselves. What the attacker types is guess's.
func victim(guess func(code string) string) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		code := r.approve(v, r.sign(v, r.passkey))
		if r.evil {
			return guess(code)
		}
		return code
	}
}

// typing answers every later prompt.
func typing(guess func(code string) string) func(*run, string) (string, error) {
	return func(r *run, _ string) (string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return guess(r.codes[0]), nil
	}
}

// TestDigitsAreGuessed: whoever sits at the terminal has not got them.
func TestDigitsAreGuessed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		guess   func(code string) string
		want    reason.Reason
		prompts int
	}{
		{"wrongly", wrong, reason.WrongCode, 3},
		{"by_one_digit", func(code string) string { return code[:5] + wrong(code[5:]) }, reason.WrongCode, 3},
		{"not_at_all", func(string) string { return "" }, reason.NoDigits, 6},
		{"in_part", func(code string) string { return code[:5] }, reason.NoDigits, 6},
		{"by_all_of_them_at_once", func(code string) string { return code + wrong(code) }, reason.NoDigits, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.succeeds(victim(c.guess))
			r := w.loginWith(true, victim(c.guess), typing(c.guess))
			r.refused(attack{want: c.want, digits: true})
			if len(r.prompts) != c.prompts {
				t.Errorf("%d prompts, want %d", len(r.prompts), c.prompts)
			}
		})
	}
}

// TestTheRightDigitsTooLate: three guesses are the end, whatever comes then.
func TestTheRightDigitsTooLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	right := func(r *run, _ string) (string, error) {
		if len(r.prompts) <= 3 {
			return wrong(r.codes[0]), nil
		}
		return r.codes[0], nil
	}
	w.succeeds(victim(wrong))
	w.loginWith(true, victim(wrong), right).refused(attack{want: reason.WrongCode, digits: true})
}

// TestNobodyApproves: six prompts, each of which costs two seconds.
func TestNobodyApproves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(genuine)
	r := w.loginWith(true, func(*run, string) string { return "123456" }, func(*run, string) (string, error) { return "123456", nil })
	r.refused(attack{want: reason.NotApproved})
	if len(r.prompts) != 6 {
		t.Errorf("%d prompts, want 6", len(r.prompts))
	}
	for i, at := range append(r.times[1:], r.ended) {
		if d := at.Sub(r.times[i]); d < 1900*time.Millisecond {
			t.Errorf("prompt %d was answered after %s", i+1, d)
		}
	}
}

// TestDigitsBeforeTheApproval: somebody types first, and the approval comes while
// the answer is held back. It is dropped all the same, and never compared.
func TestDigitsBeforeTheApproval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(genuine)
	approved := make(chan string, 1)
	r := w.loginWith(true, func(r *run, shown string) string {
		v := r.open(shown)
		ctx := context.WithoutCancel(r.Context())
		time.AfterFunc(300*time.Millisecond, func() {
			approved <- r.hear(v.ApproveWith(ctx, r.sign(v, r.passkey)))
		})
		return "123456"
	}, leave)
	if r.id.Subject != "" {
		t.Error("THE ATTACK SUCCEEDED: digits that were typed before they were drawn opened")
	}
	if code := <-approved; len(code) != 6 {
		t.Errorf("the phone was shown %q", code)
	}
	if len(r.prompts) != 2 || r.prompts[1] != notAccepted {
		t.Fatalf("asked %q", r.prompts[1:])
	}
	if d := r.times[1].Sub(r.times[0]); d < 1900*time.Millisecond {
		t.Errorf("asked again after %s", d)
	}
}

// TestEarlyDigitsAreNeverCompared: they are no guesses, not even wrong ones.
func TestEarlyDigitsAreNeverCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var late []string
	r := w.loginWith(false, func(*run, string) string { return "000000" }, func(r *run, shown string) (string, error) {
		late = append(late, shown)
		switch len(late) {
		case 1, 2:
			return "000000", nil
		case 3: // now approve, and guess twice
			v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(r.prompts[0]))
			if err != nil {
				return "", err
			}
			r.approve(v, r.sign(v, r.passkey))
			return wrong(r.codes[0]), nil
		case 4:
			return wrong(r.codes[0]), nil
		}
		return r.codes[0], nil
	})
	if r.err != nil {
		t.Errorf("two wrong guesses after three early ones: %v", r.err)
	}
}

// TestARefusalIsTheEnd: digits that another phone was shown before are worth
// nothing, and none are shown after.
func TestARefusalIsTheEnd(t *testing.T) {
	runAll(t, []attack{
		{name: "after_the_digits", want: reason.Refused, digits: true, tell: func(r *run, shown string) string {
			v := r.open(shown)
			code := r.approve(v, r.sign(v, r.passkey))
			if r.evil {
				r.refuse(shown)
			}
			return code
		}},
		{name: "before_the_approval", want: reason.Refused, tell: func(r *run, shown string) string {
			v := r.open(shown)
			if r.evil {
				r.refuse(shown)
			}
			return r.approve(v, r.sign(v, r.passkey))
		}},
		// The issuer vouches for the approver just after the other phone refused.
		{name: "while_an_approval_is_judged", want: reason.Refused, setUp: withIssuer, tell: func(r *run, shown string) string {
			v, other := r.open(shown), r.open(shown)
			if r.evil {
				r.issuer.Claims = func(map[string]any) {
					if _, err := other.Refuse(r.Context()); err != nil {
						r.Error(err)
					}
				}
			}
			return r.approveOIDC(v, r.issuer.URL, r.issuer.SignIn(v, sub, time.Time{}))
		}},
	})
}

func (r *run) refuse(shown string) {
	if end, err := r.open(shown).Refuse(r.Context()); err != nil || end.Result != wire.EndRefused {
		r.Errorf("refusing: %+v, %v", end, err)
	}
}

// TestPhones: three may open a code, and only the first approval counts.
func TestPhones(t *testing.T) {
	runAll(t, []attack{{
		name: "a_fourth", logged: reason.PhoneBusy, want: reason.NotApproved, tell: func(r *run, shown string) string {
			r.open(shown)
			r.open(shown)
			if r.evil {
				r.open(shown)
			}
			v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(shown))
			if err != nil {
				return ""
			}
			return r.approve(v, r.sign(v, r.passkey))
		},
	}})
}

// TestSixtyApprovals: all of them right, over three phones, at once.
func TestSixtyApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(func(r *run, shown string) string {
		var mu sync.Mutex
		verdicts := 0
		var phones sync.WaitGroup
		for range 3 {
			v := r.open(shown)
			phones.Go(func() {
				for range 20 {
					verdict, err := v.ApproveWith(r.Context(), r.sign(v, r.passkey))
					r.hear(verdict, err)
					mu.Lock()
					if err == nil {
						verdicts++
					}
					mu.Unlock()
				}
			})
		}
		phones.Wait()
		if verdicts != 60 || len(r.codes) != 1 {
			t.Errorf("%d verdicts, %d codes", verdicts, len(r.codes))
		}
		return r.codes[0]
	})
}

// TestWithoutDigits: where they are switched off, nobody from elsewhere gets in.
func TestWithoutDigits(t *testing.T) {
	t.Parallel()
	enter := func(r *run, shown string) string {
		v := r.open(shown)
		r.approve(v, r.sign(v, r.passkey))
		return ""
	}
	for name, change := range map[string]func(w *world){
		"from_another_machine": func(w *world) { w.request.RHost = "192.0.2.7" },
		"at_a_pseudo_terminal": func(w *world) { w.request.TTY = "/dev/pts/0" },
		"at_no_terminal":       func(w *world) { w.request.TTY = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.config.Code = "off"
			w.request.Service, w.request.RHost, w.request.TTY = "login", "", "/dev/tty1"
			w.succeeds(enter)
			change(w)
			w.login(true, enter).refused(attack{want: reason.CodeOff})
		})
	}
}

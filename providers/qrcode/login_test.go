// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// direct returns the provider without the wire between, so that an error is
// still the reason that it was.
func (w *world) direct(more string) *Provider {
	w.Helper()
	p, err := newQuick(w.yaml(more), slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// yaml is config as a Config: of more, only the keys that tests of this file use.
func (w *world) yaml(more string) Config {
	w.Helper()
	c := Config{Relay: w.site.URL, PageURL: w.site.Origin, Host: "db7"}
	for _, line := range strings.Fields(more) {
		switch line {
		case "qr:off":
			c.QR = "off"
		case "code:off":
			c.Code = "off"
		case "payload:qrauth":
			c.Payload = "qrauth"
		case "invert":
			c.Invert = true
		default:
			w.Fatalf("no such setting: %s", line)
		}
	}
	return c
}

// refused makes one call that must end with this reason.
func (w *world) refused(p authn.Authenticator, want reason.Reason, steps ...authntest.Step) {
	w.Helper()
	if id, err := w.login(p, steps...); !errors.Is(err, want) {
		w.Errorf("got %+v, %v, want %q", id, err, want)
	}
}

// answer is a step that does what do does and types what it returns.
func answer(text string, do func(shown string) string) authntest.Step {
	return authntest.PromptFunc(text, do)
}

func TestThePhoneIsShownWhatPAMSays(t *testing.T) {
	w := newWorld(t)
	w.request.User, w.request.TTY = "mitt\x1b[2Jens", strings.Repeat("x", 300)
	before := time.Now().Unix()
	_, _ = w.login(w.direct(""), answer(question, func(shown string) string {
		v := w.open(shown)
		d := v.Details
		want := wire.Details{
			Kind: wire.Login, RPID: "localhost", PageOrigin: w.site.Origin, Host: "db7", Account: "(unprintable)",
			Service: "sshd", RHost: "192.0.2.7", TTY: "(unprintable)", Methods: []string{"passkey"}, Ref: d.Ref,
			Start: d.Start, TTL: d.TTL,
		}
		if fmt.Sprint(d) != fmt.Sprint(want) {
			t.Errorf("got %+v\nwant %+v", d, want)
		}
		if d.Start < before || d.Start > time.Now().Unix() || d.TTL < 75 || d.TTL > 80 || len(d.Ref) != 6 {
			t.Errorf("start %d, ttl %d, ref %q", d.Start, d.TTL, d.Ref)
		}
		if verdict, err := v.Approve(t.Context(), w.passkey); err != nil || verdict.OK {
			t.Errorf("an account with such a name was approved: %+v, %v", verdict, err)
		}
		return ""
	}), authntest.Leave())
}

func TestNobodyLearnsWhoHasApprovers(t *testing.T) {
	w := newWorld(t)
	stranger := w.site.Passkey(t)
	var seen []string
	for name, edit := range map[string]func(*authn.Request){
		"known":            func(*authn.Request) {},
		"unknown":          func(r *authn.Request) { r.User, r.Files = "nobody", nil },
		"without approver": func(r *authn.Request) { r.Files = map[string][]byte{approversFile: []byte("# none\n")} },
		"rubbish":          func(r *authn.Request) { r.Files = map[string][]byte{approversFile: []byte("passkey a b c\n")} },
	} {
		saved := w.request
		edit(&w.request)
		var story string
		user := authntest.Expect(t, answer(question, func(shown string) string {
			v := w.open(shown)
			verdict, err := v.Approve(t.Context(), stranger)
			story = fmt.Sprintf("%v %v %t %v\n", v.Details.Methods, v.Details.OIDC, verdict.OK, err)
			if verdict.Ref != v.Details.Ref || verdict.Code != "" {
				t.Errorf("%s: got %+v", name, verdict)
			}
			return "123456"
		}), authntest.Prompt(notAccepted, ""), authntest.Prompt(notAccepted, "000000"), authntest.Prompt(notAccepted, ""),
			authntest.Prompt(notAccepted, ""), authntest.Prompt(notAccepted, ""))
		req := w.request
		_, err := w.direct("").Authenticate(t.Context(), &req, user)
		seen = append(seen, story+maskRE.ReplaceAllString(user.Transcript(), "#")+fmt.Sprint(err))
		w.request = saved
	}
	for _, s := range seen[1:] {
		if s != seen[0] {
			t.Errorf("accounts can be told apart:\n%s\nand\n%s", seen[0], s)
		}
	}
}

func TestOnlyTheFirstPromptHasTheCode(t *testing.T) {
	w := newWorld(t)
	_, _ = w.login(w.direct(""), answer(question, func(shown string) string {
		rows := strings.Split(shown, "\n")
		// The empty row is for what OpenSSH puts in front of a prompt.
		if len(rows) > 24 || rows[0] != "" {
			t.Errorf("%d rows:\n%s", len(rows), shown)
		}
		for _, r := range rows {
			if len([]rune(r)) > 80 {
				t.Errorf("row of %d: %s", len([]rune(r)), r)
			}
		}
		if strings.ContainsAny(shown, "\x1b\r\t") {
			t.Errorf("control characters in %q", shown)
		}
		return ""
	}), answer(notAccepted, func(shown string) string {
		if shown != notAccepted {
			t.Errorf("the second prompt is %q", shown)
		}
		return ""
	}), authntest.Leave())
}

func TestWithoutQRThereIsALink(t *testing.T) {
	w := newWorld(t)
	id, err := w.login(w.direct("qr:off"), answer(question, func(shown string) string {
		if qrcodetest.FindLink(shown) == "" || strings.ContainsAny(shown, "\u2580\u2584\u2588") {
			t.Errorf("shown:\n%s", shown)
		}
		return w.digits(shown)
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestThePredecessorsPayload(t *testing.T) {
	w := newWorld(t)
	req := w.request
	a, err := w.direct("payload:qrauth").attempt(&req)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.close()
	text, err := a.firstPrompt()
	if err != nil || strings.Count(text, "\n") != 23 {
		t.Errorf("%v, %d rows", err, strings.Count(text, "\n"))
	}
	payload := wire.QRAuth(a.session.HP(), a.session.CID())
	v, err := w.phone.OpenQRAuth(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	if verdict, err := v.Approve(t.Context(), w.passkey); err != nil || !verdict.OK {
		t.Errorf("got %+v, %v", verdict, err)
	}
	other := payload[:len(payload)-40] + strings.Repeat("a", 40)
	if _, err := w.phone.OpenQRAuth(t.Context(), other); !qrcodetest.IsGone(err) {
		t.Errorf("a code of another connection: got %v, want gone", err)
	}
}

func TestDigitsBeforeTheApprovalAreForgotten(t *testing.T) {
	w := newWorld(t)
	p := w.direct("")
	p.early = 200 * time.Millisecond
	code := make(chan string, 1)
	id, err := w.login(p, answer(question, func(shown string) string {
		v := w.open(shown)
		// Approve while the answer below waits: it does not count all the same.
		time.AfterFunc(p.early/4, func() {
			verdict, err := v.Approve(context.WithoutCancel(t.Context()), w.passkey)
			if err != nil || !verdict.OK {
				t.Errorf("got %+v, %v", verdict, err)
			}
			code <- verdict.Code
		})
		return "123456"
	}), answer(notAccepted, func(string) string { return <-code }))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestAnEarlyAnswerCostsTwoSeconds(t *testing.T) {
	w := newWorld(t)
	p, err := New(w.yaml(""), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var began time.Time
	_, _ = w.login(p, answer(question, func(string) string {
		began = time.Now()
		return "123456"
	}), answer(notAccepted, func(string) string {
		if d := time.Since(began); d < 1900*time.Millisecond {
			t.Errorf("asked again after %s", d)
		}
		return ""
	}), authntest.Leave())
}

// wrong returns six digits that are not code.
func wrong(code string) string {
	if code[0] == '9' {
		return "0" + code[1:]
	}
	return string(code[0]+1) + code[1:]
}

func TestThreeComparisonsAreTheEnd(t *testing.T) {
	w := newWorld(t)
	var v *qrcodetest.Visit
	var code string
	hears := func(want string) {
		if got, err := v.Wait(t.Context()); err != nil || got != want {
			t.Errorf("the phone hears %q, %v, want %q", got, err, want)
		}
	}
	end := make(chan struct{})
	w.refused(w.direct(""), reason.WrongCode, answer(question, func(shown string) string {
		v = w.open(shown)
		verdict, err := v.Approve(t.Context(), w.passkey)
		if err != nil || !verdict.OK {
			t.Errorf("got %+v, %v", verdict, err)
		}
		code = verdict.Code
		return wrong(code)
	}), answer(notAccepted, func(string) string {
		hears("wrong_code")
		return "" // no guess
	}), answer(notAccepted, func(string) string { return wrong(code) }), answer(notAccepted, func(string) string {
		hears("wrong_code")
		m, err := v.Seal(wire.TypeWait, wire.Empty{})
		if err != nil {
			t.Error(err)
		}
		go func() {
			defer close(end)
			var got wire.End
			if err := v.Send(context.WithoutCancel(t.Context()), m, wire.TypeEnd, &got); err == nil && got.Result != "refused" {
				t.Errorf("at last the phone hears %q", got.Result)
			}
		}()
		return wrong(code)
	}), authntest.Error("Not accepted."))
	<-end
}

func TestSixPromptsAreTheEnd(t *testing.T) {
	w := newWorld(t)
	enter := authntest.Prompt(notAccepted, "")
	w.refused(w.direct(""), reason.NotApproved, authntest.Prompt(question, ""), enter, enter, enter, enter, enter)
	w.refused(w.direct(""), reason.NoDigits, answer(question, func(shown string) string { w.digits(shown); return "" }),
		enter, enter, enter, enter, enter)
	w.refused(w.direct(""), reason.PasskeyUnknown, answer(question, func(shown string) string {
		if verdict, err := w.open(shown).Approve(t.Context(), w.site.Passkey(t)); err != nil || verdict.OK {
			t.Errorf("got %+v, %v", verdict, err)
		}
		return ""
	}), enter, enter, enter, enter, enter)
}

func TestARefusalEndsItForEverybody(t *testing.T) {
	w := newWorld(t)
	w.refused(w.direct(""), reason.Refused, answer(question, func(shown string) string {
		one, two := w.open(shown), w.open(shown)
		verdict, err := one.Approve(t.Context(), w.passkey)
		if err != nil || !verdict.OK {
			t.Errorf("got %+v, %v", verdict, err)
		}
		heard := make(chan string, 1)
		go func() {
			result, _ := one.Wait(t.Context())
			heard <- result
		}()
		if end, err := two.Refuse(t.Context()); err != nil || end.Result != "refused" {
			t.Errorf("got %+v, %v", end, err)
		}
		// The wait may have come too late: then its phone hears "gone".
		if result := <-heard; result != "refused" && result != "" {
			t.Errorf("the other phone heard %q", result)
		}
		return verdict.Code // right, and too late
	}), authntest.Error("refused on a phone"))
}

func TestACodeExpires(t *testing.T) {
	w := newWorld(t)
	req := w.request
	a, err := w.direct("").attempt(&req)
	if err != nil {
		t.Fatal(err)
	}
	a.ttl = 3 * time.Second
	if err := a.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.close()
	_, err = a.ask(authntest.Expect(t, answer(question, func(shown string) string {
		v := w.open(shown)
		verdict, err := v.Approve(t.Context(), w.passkey)
		if err != nil || !verdict.OK {
			t.Errorf("got %+v, %v", verdict, err)
		}
		if result, err := v.Wait(t.Context()); err != nil || result != "expired" {
			t.Errorf("the phone heard %q, %v", result, err)
		}
		return verdict.Code
	}), authntest.Error("expired")))
	if !errors.Is(err, reason.Expired) {
		t.Errorf("got %v", err)
	}
}

func TestThreePhonesAndNoFourth(t *testing.T) {
	w := newWorld(t)
	id, err := w.login(w.direct(""), answer(question, func(shown string) string {
		one, two, three := w.open(shown), w.open(shown), w.open(shown)
		if _, err := w.phone.OpenTyped(t.Context(), qrcodetest.FindTyped(shown)); !qrcodetest.IsBusy(err) {
			t.Errorf("the fourth: got %v, want busy", err)
		}
		if verdict, err := one.Approve(t.Context(), w.site.Passkey(t)); err != nil || verdict.OK {
			t.Errorf("a stranger: got %+v, %v", verdict, err)
		}
		right, err := two.Approve(t.Context(), w.passkey)
		if err != nil || !right.OK || len(right.Code) != 6 {
			t.Errorf("the second: got %+v, %v", right, err)
		}
		if verdict, err := three.Approve(t.Context(), w.passkey); err != nil || verdict.OK || verdict.Code != "" {
			t.Errorf("the third, too late: got %+v, %v", verdict, err)
		}
		return right.Code
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

// TestSixtyApprovalsGiveOneCode: all of them right, over three phones, at once.
func TestSixtyApprovalsGiveOneCode(t *testing.T) {
	w := newWorld(t)
	id, err := w.login(w.direct(""), answer(question, func(shown string) string {
		var mu sync.Mutex
		var codes []string
		verdicts := 0
		var phones sync.WaitGroup
		for range 3 {
			v := w.open(shown)
			phones.Go(func() {
				for range 20 {
					verdict, err := v.Approve(t.Context(), w.passkey)
					mu.Lock()
					if err == nil {
						verdicts++
					}
					if verdict.OK {
						codes = append(codes, verdict.Code)
					}
					mu.Unlock()
				}
			})
		}
		phones.Wait()
		if verdicts != 60 || len(codes) != 1 {
			t.Errorf("%d verdicts, codes %v", verdicts, codes)
			return ""
		}
		return codes[0]
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestTheSameBytesGetTheSameAnswer(t *testing.T) {
	w := newWorld(t)
	id, err := w.login(w.direct(""), answer(question, func(shown string) string {
		v := w.open(shown)
		m, err := v.Seal(wire.TypePasskey, wire.Passkey{Assertion: w.passkey.Sign(w.passkey.Request(v.Transcript, w.site.Origin))})
		if err != nil {
			t.Error(err)
		}
		var first, again wire.Reply
		err1, err2 := w.phone.Post(t.Context(), v.ID, m, &first), w.phone.Post(t.Context(), v.ID, m, &again)
		if err1 != nil || err2 != nil || first != again || first.Box == "" {
			t.Errorf("got %v, %v: %t", err1, err2, first == again)
		}
		var verdict wire.Verdict
		if err := v.Channel.Open(wire.ToPhone, m.Seq, wire.TypeVerdict, again.Box, &verdict); err != nil {
			t.Error(err)
		}
		return verdict.Code
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestALocalLoginMayGoWithoutDigits(t *testing.T) {
	w := newWorld(t)
	p := w.direct("code:off")
	w.refused(p, reason.CodeOff)
	w.request.RHost, w.request.Service, w.request.TTY = "", "login", "/dev/tty1"
	enter := "Press Enter once approved on your phone: "
	approve := func(shown string) string {
		if verdict, err := w.open(shown).Approve(t.Context(), w.passkey); err != nil || !verdict.OK || verdict.Code != "" {
			t.Errorf("got %+v, %v", verdict, err)
		}
		return ""
	}
	if id, err := w.login(p, answer(enter, approve)); err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
	again := authntest.Prompt("Not accepted. "+enter, "")
	w.refused(p, reason.NotApproved, authntest.Prompt(enter, "123456"), again, again, again, again, again)
}

func TestAnIssuerOpens(t *testing.T) {
	w := newWorld(t)
	issuer := qrcodetest.NewIssuer(t)
	issuer.Secret = "swordfish"
	w.request.Files[approversFile] = []byte("oidc " + subject + " " + issuer.URL + " 248289761001\n")
	id, err := w.login(w.serve("oidc: ["+issuer.Config()+"]\n"), answer(question, func(shown string) string {
		v := w.open(shown)
		if len(v.Details.Methods) != 2 {
			t.Errorf("offered %v", v.Details.Methods)
		}
		if verdict, err := v.ApproveOIDC(t.Context(), "https://evil.example.com", "x"); err != nil || verdict.OK {
			t.Errorf("an issuer of the phone's: got %+v, %v", verdict, err)
		}
		verdict, err := v.ApproveOIDC(t.Context(), issuer.URL, issuer.SignIn(v, "248289761001", time.Time{}))
		if err != nil || !verdict.OK {
			t.Errorf("got %+v, %v", verdict, err)
		}
		return verdict.Code
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestAnIssuerIsAskedAboutTenCodes(t *testing.T) {
	w := newWorld(t)
	issuer := qrcodetest.NewIssuer(t)
	config := w.yaml("")
	config.OIDC = []OIDCConfig{{Issuer: issuer.URL, ClientID: issuer.ClientID}}
	p, err := newQuick(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	w.request.Files[approversFile] = []byte("oidc " + subject + " " + issuer.URL + " 248289761001\n")
	enter := authntest.Prompt(notAccepted, "")
	w.refused(p, reason.OIDCTooMany, answer(question, func(shown string) string {
		v := w.open(shown)
		for range 10 {
			if verdict, err := v.ApproveOIDC(t.Context(), issuer.URL, "guess"); err != nil || verdict.OK {
				t.Errorf("a guess: got %+v, %v", verdict, err)
			}
		}
		code := issuer.SignIn(v, "248289761001", time.Time{})
		if verdict, err := v.ApproveOIDC(t.Context(), issuer.URL, code); err != nil || verdict.OK {
			t.Errorf("the eleventh: got %+v, %v", verdict, err)
		}
		return ""
	}), enter, enter, enter, enter, enter)
}

func TestAnIssuerThatIsAwayLeavesPasskeys(t *testing.T) {
	w := newWorld(t)
	issuer := qrcodetest.NewIssuer(t)
	config := "oidc: [" + issuer.Config() + "]\n"
	issuer.Close()
	id, err := w.login(w.serve(config), answer(question, func(shown string) string {
		if v := w.open(shown); len(v.Details.Methods) != 1 {
			t.Errorf("offered %v", v.Details.Methods)
		}
		return w.digits(shown)
	}))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestTheAccountPhaseAsksForTheApprover(t *testing.T) {
	w := newWorld(t)
	p := w.direct("")
	id, err := w.login(p, answer(question, w.digits))
	if err != nil {
		t.Fatal(err)
	}
	other := w.site.Passkey(t)
	for _, c := range []struct {
		name string
		edit func(*authn.Request)
		want error
	}{
		{"still there", func(*authn.Request) {}, nil},
		{"another comment", func(r *authn.Request) {
			r.Files = map[string][]byte{approversFile: []byte(strings.TrimSpace(w.passkey.Line(subject)) + " new phone\n")}
		}, nil},
		{"lost", func(r *authn.Request) { r.Files = map[string][]byte{approversFile: []byte(other.Line(subject))} }, reason.ApproverGone},
		{"now somebody else's", func(r *authn.Request) {
			r.Files = map[string][]byte{approversFile: []byte(w.passkey.Line("tom@example.com"))}
		}, reason.ApproverGone},
		{"no file", func(r *authn.Request) { r.Files = nil }, reason.ApproverGone},
		{"no ticket", func(r *authn.Request) { r.Ticket = nil }, authn.ErrIgnore},
		{"empty ticket", func(r *authn.Request) { r.Ticket = []byte{} }, reason.Ticket},
		{"another's ticket", func(r *authn.Request) { r.Ticket = []byte("x") }, reason.Ticket},
	} {
		req := w.request
		req.Ticket, req.Subject = id.Ticket, id.Subject
		c.edit(&req)
		err := p.CheckAccount(t.Context(), &req, authntest.Conversation(t))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && !errors.Is(c.want, authn.ErrIgnore) && authn.ResultOf(err) != authn.ErrPermDenied {
			t.Errorf("%s: PAM hears %v", c.name, authn.ResultOf(err))
		}
	}
}

// TestATicketIsGoodForItsAccount: several accounts may have the same approver.
func TestATicketIsGoodForItsAccount(t *testing.T) {
	w := newWorld(t)
	p := w.direct("")
	id, err := w.login(p, answer(question, w.digits))
	if err != nil {
		t.Fatal(err)
	}
	w.request.Ticket, w.request.Subject = id.Ticket, id.Subject
	if err := p.CheckAccount(t.Context(), &w.request, authntest.Conversation(t)); err != nil {
		t.Errorf("its own: got %v", err)
	}
	w.request.User = "root"
	if err := p.CheckAccount(t.Context(), &w.request, authntest.Conversation(t)); !errors.Is(err, reason.Ticket) {
		t.Errorf("root's: got %v, want %q", err, reason.Ticket)
	}
}

// TestOnlyDigitsAreCompared: six letters are a slip, and no guess.
func TestOnlyDigitsAreCompared(t *testing.T) {
	w := newWorld(t)
	slip := authntest.Prompt(notAccepted, "qwerty")
	var code string
	id, err := w.login(w.direct(""), answer(question, func(shown string) string {
		code = w.digits(shown)
		return "qwerty"
	}), slip, slip, slip, answer(notAccepted, func(string) string { return code }))
	if err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
}

// TestAnIssuerThatHangsHoldsNoPhone: those that answer are offered all the same.
func TestAnIssuerThatHangsHoldsNoPhone(t *testing.T) {
	w := newWorld(t)
	good, end := qrcodetest.NewIssuer(t), make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(func() {
		close(end)
		hanging.Close()
	})
	config := w.yaml("")
	config.OIDC = []OIDCConfig{{Issuer: hanging.URL, ClientID: "x"}, {Issuer: good.URL, ClientID: good.ClientID}}
	p, err := newQuick(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.login(p, answer(question, func(shown string) string {
		began := time.Now()
		v := w.open(shown)
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("the phone waited %s", d)
		}
		if v == nil || len(v.Details.OIDC) != 1 || v.Details.OIDC[0].Issuer != good.URL {
			t.Errorf("offered %+v", v)
		}
		return ""
	}), authntest.Leave())
}

func TestAPhoneIsToldTheTimeThatTheRelayGrants(t *testing.T) {
	w := newWorld(t)
	w.site.Server.MaxTTL = 3 * time.Second
	w.refused(w.direct(""), reason.Expired, answer(question, func(shown string) string {
		v := w.open(shown)
		if v.Details.TTL > 3 {
			t.Errorf("the phone is told of %d seconds", v.Details.TTL)
		}
		if result, err := v.Wait(t.Context()); err != nil || result != wire.EndExpired {
			t.Errorf("it hears %q, %v", result, err)
		}
		return "123456"
	}), authntest.Error("expired"))
}

// TestTheFileIsReadOnceThePromptIsOut: how long it takes tells nobody who has
// approvers.
func TestTheFileIsReadOnceThePromptIsOut(t *testing.T) {
	w := newWorld(t)
	w.request.Files[approversFile] = append([]byte("rubbish\n"), w.request.Files[approversFile]...)
	read := make(chan struct{}, 8)
	p, err := newQuick(w.yaml(""), slog.New(hook{slog.DiscardHandler, func() { read <- struct{}{} }}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.login(p, answer(question, func(shown string) string {
		select {
		case <-read:
			t.Error("it was read before the prompt")
		default:
		}
		<-read // without anything else
		return ""
	}), answer(notAccepted, func(string) string { return "" }), authntest.Leave())
	if authn.ResultOf(err) != authn.ErrConv {
		t.Errorf("got %v", err)
	}
}

// A hook is called with every warning.
type hook struct {
	slog.Handler
	warned func()
}

func (h hook) Enabled(context.Context, slog.Level) bool { return true }

func (h hook) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		h.warned()
	}
	return nil
}

func TestAWordOnThePAMLineIsRefused(t *testing.T) {
	w := newWorld(t)
	w.request.Args = []string{"invert=true"}
	_, err := w.login(w.direct(""))
	if !errors.Is(err, reason.UnknownWord) || !strings.Contains(err.Error(), "qrcode.invert") {
		t.Errorf("got %v", err)
	}
	if err := w.direct("").CheckAccount(t.Context(), &w.request, authntest.Conversation(t)); !errors.Is(err, reason.UnknownWord) {
		t.Errorf("account: got %v", err)
	}
}

func TestEveryReasonHasOneResult(t *testing.T) {
	for r, want := range map[reason.Reason]authn.Result{
		reason.WrongCode: authn.ErrAuth, reason.Expired: authn.ErrAuth, reason.PasskeyUser: authn.ErrAuth, reason.OIDCClock: authn.ErrAuth,
		reason.RelayLost: authn.ErrSystem, reason.RelayTLS: authn.ErrSystem, reason.CodeOff: authn.ErrSystem,
		reason.ApproverGone: authn.ErrPermDenied,
	} {
		if got := authn.ResultOf(r); got != want {
			t.Errorf("%s: PAM hears %v, want %v", r, got, want)
		}
		if got := authn.ResultOf(r.With(authn.ErrPermDenied)); got != want {
			t.Errorf("%s with a detail: PAM hears %v, want %v", r, got, want)
		}
	}
}

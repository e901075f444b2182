// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

func TestLogin(t *testing.T) {
	p := start(t, Options{})
	credential, key := passkey(t)
	p.PutCredential(credential)

	t.Run("approve", func(t *testing.T) {
		h := newHost(t, wire.Login)
		h.verdict = func(typ string, plain []byte) any {
			var m wire.Passkey
			if err := json.Unmarshal(plain, &m); err != nil || typ != wire.TypePasskey {
				t.Errorf("%s: %v", typ, err)
			}
			tl, err := h.details.Transcript(h.only())
			if err != nil {
				t.Error(err)
			}
			if err := checkAssertion(m.Assertion, key, wire.Nonce(tl), h.URL); err != nil {
				t.Error(err)
			}
			return wire.Verdict{OK: true, Code: "042917"}
		}
		expect(t, p.Open(h.link()), "details")
		if strings.Contains(p.URL(), "#") {
			t.Error("the key stays in the address")
		}
		fields := p.Fields()
		for name, want := range map[string]string{"host": "db7.example.com", "account": "alice", "service": "sshd", "rhost": "192.0.2.7", "tty": "ssh"} {
			if fields[name] != want {
				t.Errorf("%s is shown as %q", name, fields[name])
			}
		}
		look(t, p, "details")
		p.Click("summary")
		look(t, p, "details-more")
		p.Tap("passkey")
		expect(t, p.Wait("new", "digits"), "new")
		look(t, p, "new")
		p.Tap("confirm")
		if got := p.Digits(); got != "042917" {
			t.Errorf("digits %q", got)
		}
		look(t, p, "digits")
		h.end(wire.EndWrongCode)
		h.end(wire.EndNone)
		if got := p.Text("#digits-note"); got == "" {
			t.Error("nothing is said about wrong digits")
		}
		look(t, p, "digits-wrong")
		h.end(wire.EndIn)
		expect(t, p.Wait("in"), "in")
		look(t, p, "in")
		expect(t, p.Open(h.link()), "details") // the script knows no end; the relay says 404
		h.mu.Lock()
		h.forget = true
		h.mu.Unlock()
		p.Forget()
	})

	t.Run("known place needs one tap", func(t *testing.T) {
		h := newHost(t, wire.Login)
		expect(t, p.Open(h.link()), "details")
		expect(t, p.Approve(), "digits")
		h2 := newHost(t, wire.Login)
		h2.details.RHost = "192.0.2.200"
		h2.details.PageOrigin = h2.URL
		expect(t, p.Open(h2.link()), "details")
		// Another port is another origin, with a memory of its own.
		p.Eval(`localStorage.setItem("pam-authn.approved", JSON.stringify([["db7.example.com", "alice", "192.0.2.0/24"]]))`, nil)
		p.Tap("passkey")
		expect(t, p.Wait("new", "digits"), "digits")
	})

	t.Run("what is new is named", func(t *testing.T) {
		for _, c := range []struct{ host, account, rhost, want string }{
			{"db7.example.com", "alice", "203.0.113.9", "a login from 203.0.113.9"},
			{"db7.example.com", "root", "192.0.2.9", "the account root\na login from 192.0.2.9"},
			{"evil.example.com", "alice", "", "the computer evil.example.com\nthe account alice\na login at the machine itself"},
		} {
			h := newHost(t, wire.Login)
			h.details.Host, h.details.Account, h.details.RHost = c.host, c.account, c.rhost
			expect(t, p.Open(h.link()), "details")
			p.Eval(`localStorage.setItem("pam-authn.approved", JSON.stringify([["db7.example.com", "alice", "192.0.2.0/24"]]))`, nil)
			p.Tap("passkey")
			expect(t, p.Wait("new", "digits"), "new")
			if got := p.Text("#news"); got != c.want {
				t.Errorf("%v: %q", c, got)
			}
		}
	})

	t.Run("refuse", func(t *testing.T) {
		h := newHost(t, wire.Login)
		expect(t, p.Open(h.link()), "details")
		expect(t, p.Refuse(), "refused")
		look(t, p, "refused")
	})

	t.Run("not accepted, and again", func(t *testing.T) {
		h := newHost(t, wire.Login)
		h.verdict = func(string, []byte) any { return wire.Verdict{Ref: "7f3a90"} }
		expect(t, p.Open(h.link()), "details")
		expect(t, p.Approve(), "not-accepted")
		if got := p.Text("[data-view=not-accepted]"); !strings.Contains(got, "another passkey") || strings.Contains(got, "was not added") {
			t.Errorf("a login that is not accepted reads: %s", got)
		}
		look(t, p, "not-accepted")
		p.Tap("back")
		expect(t, p.Wait("details"), "details")
		expect(t, p.Approve(), "not-accepted")
	})

	t.Run("a local login has no address", func(t *testing.T) {
		h := newHost(t, wire.Login)
		h.details.RHost, h.details.Service, h.details.TTY = "", "login", "/dev/tty1"
		h.details.Host = `a "quoted" \ <b>host</b>`
		h.verdict = func(_ string, plain []byte) any {
			var m wire.Passkey
			tl, err := h.details.Transcript(h.only())
			if err != nil || json.Unmarshal(plain, &m) != nil {
				t.Error(err)
			}
			if err := checkAssertion(m.Assertion, key, wire.Nonce(tl), h.URL); err != nil {
				t.Error(err)
			}
			return wire.Verdict{OK: true, Code: "000000"}
		}
		expect(t, p.Open(h.link()), "details")
		look(t, p, "details-local")
		expect(t, p.Approve(), "digits")
	})

	for name, c := range map[string]struct{ result, want string }{
		"expired":   {wire.EndExpired, "expired"},
		"host gone": {wire.EndHostGone, "host-gone"},
		"refused":   {wire.EndRefused, "refused"},
	} {
		t.Run(name+" while it is shown", func(t *testing.T) {
			h := newHost(t, wire.Login)
			expect(t, p.Open(h.link()), "details")
			h.end(c.result)
			expect(t, p.Wait(c.want), c.want)
			look(t, p, c.want)
		})
	}

	t.Run("the relay forgets it while it is shown", func(t *testing.T) {
		h := newHost(t, wire.Login)
		expect(t, p.Open(h.link()), "details")
		close(h.ends)
		expect(t, p.Wait("host-gone"), "host-gone")
		// The same code again, in the same browser.
		h.mu.Lock()
		h.forget = true
		h.mu.Unlock()
		expect(t, p.Open(h.link()), "used")
		look(t, p, "used")
	})

	t.Run("the relay forgets it once the digits are shown", func(t *testing.T) {
		h := newHost(t, wire.Login)
		expect(t, p.Open(h.link()), "details")
		expect(t, p.Approve(), "digits")
		close(h.ends)
		expect(t, p.Wait("over"), "over")
		look(t, p, "over")
	})
}

func TestInstallsLikeAnApp(t *testing.T) {
	p := start(t, Options{})
	expect(t, p.Open(newHost(t, wire.Login).URL+"/"), "home")
	var found []string
	p.do("installable", nil, &found)
	for _, f := range found {
		t.Errorf("a browser would not install it: %s", f)
	}
}

func TestPhonesAndAFourth(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	for range wire.MaxPhones {
		expect(t, p.Open(h.link()), "details")
		p.Forget()
	}
	expect(t, p.Open(h.link()), "busy")
	look(t, p, "busy")
}

func TestNoPasskey(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	expect(t, p.Approve(), "no-passkey")
	look(t, p, "no-passkey")
	credential, _ := passkey(t)
	p.PutCredential(credential)
	p.SetVerified(false)
	p.Tap("back")
	expect(t, p.Approve(), "no-passkey")
	p.SetVerified(true)
	p.Tap("back")
	expect(t, p.Approve(), "digits")
}

func TestThePromptForAPasskeyWaits(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	p.SetPresent(false)
	p.Tap("passkey")
	p.Wait("new")
	p.Tap("confirm")
	expect(t, p.Wait("asking"), "asking")
	look(t, p, "asking")
	// It ends meanwhile: the prompt's answer comes too late for anything.
	h.end(wire.EndExpired)
	expect(t, p.Wait("expired"), "expired")
	p.SetPresent(true)
	if sent(h, `"passkey"`) {
		t.Error("an approval was sent all the same")
	}
}

func TestLinksThatAreNotForUs(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)

	expect(t, p.Open(h.URL+"/1#HELLO"), "not-ours")
	look(t, p, "not-ours")
	h.garble = true
	expect(t, p.Open(h.link()), "not-ours")

	other := newHost(t, wire.Login)
	other.details.PageOrigin = "https://login.example.com"
	expect(t, p.Open(other.link()), "other-page")
	look(t, p, "other-page")

	rp := newHost(t, wire.Login)
	rp.details.RPID = "example.com"
	expect(t, p.Open(rp.link()), "other-page")

	odd := newHost(t, wire.Login)
	odd.details.Host = "db7\u202emoc.elpmaxe"
	expect(t, p.Open(odd.link()), "not-ours")

	gone := newHost(t, wire.Login)
	gone.forget = true
	expect(t, p.Open(gone.link()), "gone")
	look(t, p, "gone")

	slow := newHost(t, wire.Login)
	slow.status = http.StatusTooManyRequests
	expect(t, p.Open(slow.link()), "slow")
	look(t, p, "slow")
	slow.mu.Lock()
	slow.status = 0
	slow.mu.Unlock()
	p.Tap("reload")
	expect(t, p.Wait("details"), "details")

	bad := newHost(t, wire.Login)
	bad.status = http.StatusTeapot
	expect(t, p.Open(bad.link()), "trouble")
	look(t, p, "trouble")
}

func TestLongNamesFit(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	for _, field := range []*string{&h.details.Host, &h.details.Account, &h.details.RHost, &h.details.TTY, &h.details.Service} {
		*field = strings.Repeat("W", 255)
	}
	expect(t, p.Open(h.link()), "details")
	look(t, p, "details-long")
	p.Tap("passkey")
	expect(t, p.Wait("new"), "new")
	look(t, p, "new-long")
	p.Tap("confirm")
	expect(t, p.Wait("digits"), "digits")
	look(t, p, "digits-long")
}

func TestUnsupportedBrowser(t *testing.T) {
	p := start(t, Options{Scripts: []string{`
		if (globalThis.SubtleCrypto) SubtleCrypto.prototype.generateKey = () => Promise.reject(new DOMException('', 'NotSupportedError'));`}})
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "unsupported")
	look(t, p, "unsupported")

	q := start(t, Options{Scripts: []string{`delete globalThis.PublicKeyCredential;`}})
	expect(t, q.Open(newHost(t, wire.Login).link()), "unsupported")
}

func TestInsecureOrigin(t *testing.T) {
	p := start(t, Options{Resolve: []string{"MAP login.test 127.0.0.1"}, Tolerate: true}) // the browser says that it ignores a header
	h := newHost(t, wire.Login)
	expect(t, p.Open(strings.Replace(h.link(), "localhost", "login.test", 1)), "insecure")
	look(t, p, "insecure")
}

func TestKeyboardAlone(t *testing.T) {
	p := start(t, Options{Desktop: true})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	if got := p.Focus(); !strings.HasPrefix(got, "h1:") {
		t.Errorf("focus at %q, not at the heading", got)
	}
	tabTo := func(want string) {
		t.Helper()
		for range 10 {
			p.Press("Tab")
			if p.Focus() == want {
				return
			}
		}
		t.Fatalf("no way to %q by keyboard", want)
	}
	tabTo("passkey")
	p.Press("Enter")
	expect(t, p.Wait("new"), "new")
	tabTo("confirm")
	p.Press("Enter")
	expect(t, p.Wait("digits"), "digits")
	if got := p.Text("#digits"); !strings.Contains(got, "0 4 2 9 1 7") {
		t.Errorf("a screen reader reads %q", got)
	}
}

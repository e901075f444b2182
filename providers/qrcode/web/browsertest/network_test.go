// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

func TestReloadGoesOn(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	for range 4 { // more often than phones are let in
		expect(t, p.Reload(), "details")
	}
	h.only()
	expect(t, p.Approve(), "digits")
	expect(t, p.Reload(), "digits")
	if got := p.Digits(); got != "042917" {
		t.Errorf("digits %q", got)
	}
	if kept := stored(p); kept == "" || strings.Contains(kept, "042917") {
		t.Errorf("the tab keeps %d characters, the digits among them or nothing at all", len(kept))
	}
	expect(t, p.Open(h.link()), "digits") // the same code in the same tab
	h.end(wire.EndIn)
	expect(t, p.Wait("in"), "in")
	if kept := stored(p); kept != "" {
		t.Errorf("at the end the tab keeps %d characters", len(kept))
	}
	if left := digits(p); left != "" {
		t.Errorf("the page holds the digits %s after the end", left)
	}
	expect(t, p.Reload(), "home")
}

// Digits were seen before the page was loaded anew: they may have been typed.
func TestReloadAfterTheEnd(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	expect(t, p.Approve(), "digits")
	h.mu.Lock()
	h.forget = true
	h.mu.Unlock()
	expect(t, p.Reload(), "over")
}

func TestAnEndOfANewerHosts(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	h.refusal = "postponed"
	h.deafTo(`"type":"refuse"`)
	expect(t, p.Open(h.link()), "details")
	p.Tap("refuse")
	expect(t, p.Wait("offline"), "offline")
	h.deafTo("")
	p.Tap("reload")
	expect(t, p.Wait("over", "trouble", "refused"), "over")
}

// stored is what the tab's storage holds; empty if nothing.
func stored(p *Phone) (text string) {
	p.Eval(`Object.values(sessionStorage).join(" ")`, &text)
	return text
}

// digits is what the page holds of them, shown or not.
func digits(p *Phone) (text string) {
	p.Eval(`[...document.querySelectorAll(".digits")].map((e) => e.textContent + (e.dataset.code ?? "")).join("")`, &text)
	return text
}

// hurried makes the page's own limits short: what is tested is that there are any.
const hurried = `{
	const slowly = setTimeout;
	globalThis.setTimeout = (f, ms, ...rest) => slowly(f, ms === 8000 || ms === 10000 ? ms / 10 : ms, ...rest);
}`

func TestWhatThePageIsMadeOfDoesNotCome(t *testing.T) {
	p := start(t, Options{Scripts: []string{hurried}})
	for _, c := range []struct{ name, without, stalls, breaks string }{
		{name: "a module is missing", without: "/scan.js"},
		{name: "the settings never come", stalls: "/config.json"},
		{name: "the settings cannot be had", breaks: "/config.json"},
		{name: "a module never comes", stalls: "/wire.js"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, wire.Login)
			h.serveWorse(c.without, c.stalls, c.breaks)
			p.do("open", map[string]any{"url": h.link(), "clear": true, "early": true}, nil)
			expect(t, p.Wait("offline", "trouble", "other-page"), "offline")
			h.serveWorse("", "", "")
			p.Tap("reload")
			expect(t, p.Wait("details"), "details")
		})
	}
}

// An approval whose answer got lost is asked for again, byte for byte.
func TestReloadWhileTheHostDecides(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	decide := make(chan bool)
	h.verdict = func(string, []byte) any {
		<-decide
		return wire.Verdict{OK: true, Code: "042917"}
	}
	expect(t, p.Open(h.link()), "details")
	p.Tap("passkey")
	expect(t, p.Wait("new"), "new")
	p.Tap("confirm")
	p.Wait("loading")
	for !sent(h, `"passkey"`) {
		time.Sleep(time.Millisecond) // until the message is at the host
	}
	p.do("reload", nil, nil)
	p.Wait("loading")
	look(t, p, "loading")
	close(decide)
	if got := p.Digits(); got != "042917" {
		t.Errorf("digits %q", got)
	}
}

func TestOffline(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.link()), "details")
	p.Offline(true)
	p.Wait("details")
	look(t, p, "details-offline")
	p.Tap("passkey")
	p.Wait("new")
	p.Tap("confirm")
	expect(t, p.Wait("offline", "digits"), "offline")
	look(t, p, "offline")
	p.Offline(false)
	p.Tap("reload")
	if got := p.Digits(); got != "042917" {
		t.Errorf("digits %q", got)
	}
}

// The host takes numbers in order only, and closes the channel else.
func TestBadNetworkKeepsTheOrder(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	for range 3 {
		h := newHost(t, wire.Login)
		h.flaky = true
		expect(t, p.Open(h.link()), "details")
		expect(t, p.Approve(), "digits")
		h.end(wire.EndWrongCode)
		h.end(wire.EndIn)
		expect(t, p.Wait("in"), "in")
	}
}

// A wait that was sent first and is still lost must not be overtaken.
func TestNothingOvertakesALostWait(t *testing.T) {
	p := start(t, Options{})
	credential, _ := passkey(t)
	p.PutCredential(credential)
	h := newHost(t, wire.Login)
	h.loseWaits = true
	expect(t, p.Open(h.link()), "details")
	expect(t, p.Approve(), "digits")
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
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
	expect(t, p.Open(h.link()), "digits") // the same code in the same tab
	h.end(wire.EndIn)
	expect(t, p.Wait("in"), "in")
	expect(t, p.Reload(), "home")
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

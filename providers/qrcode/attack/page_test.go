// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

// browsers keeps it at one at a time, while the other attacks wait for prompts.
var browsers sync.Mutex

// A browserWorld is a world whose phone is a browser with the real page, and
// with the account's passkey.
type browserWorld struct {
	*world
	browser *browsertest.Phone
}

func newBrowserWorld(t *testing.T, o browsertest.Options) *browserWorld {
	t.Helper()
	browsers.Lock()
	t.Cleanup(browsers.Unlock)
	w := newWorld(t)
	withIssuer(w)
	w.site.Server.Page = web.Handler(web.Config{RPID: w.site.RPID, Issuers: []string{w.issuer.URL}})
	w.config.QR = "off" // so that the prompt has a link that can be copied
	b := &browserWorld{w, browsertest.Start(t, o)}
	der, err := x509.MarshalPKCS8PrivateKey(w.passkey.Key)
	if err != nil {
		t.Fatal(err)
	}
	synced := false
	b.browser.PutCredential(browsertest.Credential{
		CredentialID: wire.B64(w.passkey.ID), IsResidentCredental: true, RPID: w.site.RPID, PrivateKey: wire.B64(der),
		UserHandle: wire.B64(w.passkey.UserHandle), SignCount: 1, BackupEligibility: &synced, BackupState: &synced,
	})
	return b
}

// scan opens what a prompt shows, and wants this view of the page.
func (b *browserWorld) scan(shown, want string) {
	b.Helper()
	if got := b.browser.Open(qrcodetest.FindLink(shown)); got != want {
		b.Fatalf("the page shows %q, want %q", got, want)
	}
}

// approved is the story of somebody who approves what they expect to see.
func (b *browserWorld) approved(_ *run, shown string) string {
	b.scan(shown, "details")
	b.browser.Approve()
	return b.browser.Digits()
}

// TestHostBShowsTheCodeOfHostA: it begins a login there in its visitor's name,
// and would read the digits at its own prompt. What the phone shows is all that
// stands against it.
func TestHostBShowsTheCodeOfHostA(t *testing.T) {
	t.Parallel()
	b := newBrowserWorld(t, browsertest.Options{})
	b.config.Host = "b.example.com"
	b.succeeds(b.approved)
	b.succeeds(func(_ *run, shown string) string { // known by now: one tap
		b.scan(shown, "details")
		b.browser.Tap("passkey")
		if got := b.browser.Wait("new", "digits"); got != "digits" {
			t.Errorf("what was approved before wants another tap: %s", got)
		}
		return b.browser.Digits()
	})

	const hostB = "198.51.100.9" // where the login to A comes from
	b.config.Host, b.request.RHost = "a.example.com", hostB
	b.login(true, func(_ *run, shown string) string {
		b.scan(shown, "details")
		fields := b.browser.Fields()
		if fields["host"] != "a.example.com" || fields["rhost"] != hostB || fields["account"] != "mittens" {
			t.Errorf("the page shows %q", fields)
		}
		b.browser.Tap("passkey")
		if got := b.browser.Wait("new", "digits"); got != "new" {
			t.Fatalf("no second tap is wanted: %s", got)
		}
		if got, want := b.browser.Text("#news"), "the computer a.example.com\nthe account mittens\na login from "+hostB; got != want {
			t.Errorf("named as new: %q, want %q", got, want)
		}
		if got := b.browser.Refuse(); got != "refused" {
			t.Errorf("refusing leads to %q", got)
		}
		return ""
	}).refused(attack{want: reason.Refused})
}

// asks is what a page with a script of the attacker's own does: it has the
// browser ask for the passkey, for a challenge of somebody else's.
const asks = `(async () => {
  const bytes = (s) => Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  const made = await navigator.credentials.get({ publicKey: {
    challenge: bytes(%q), rpId: 'localhost', allowCredentials: [], userVerification: 'required' } });
  return made.toJSON();
})()`

// TestAPageOfAnotherOrigin has the same rp_id, so that the browser signs.
func TestAPageOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	b := newBrowserWorld(t, browsertest.Options{})
	evil := httptest.NewServer(web.Handler(web.Config{RPID: b.site.RPID}))
	t.Cleanup(evil.Close)
	tell := func(r *run, shown string) string {
		v, err := r.phone.Open(r.Context(), qrcodetest.FindLink(shown))
		if err != nil {
			r.Fatal(err)
		}
		page := r.site.Origin
		if r.evil {
			page = strings.Replace(evil.URL, "127.0.0.1", "localhost", 1)
		}
		b.browser.Open(page + "/")
		var signed json.RawMessage
		b.browser.Eval(fmt.Sprintf(asks, wire.Nonce(v.Transcript)), &signed)
		return r.approve(v, signed)
	}
	b.succeeds(tell)
	b.login(true, tell).refused(attack{logged: reason.PasskeyOrigin, want: reason.PasskeyOrigin})
}

// TestTheCodeOfAnotherPage: our page shows nothing of a host that is configured
// for another, and so gives no passkey's signature for it.
func TestTheCodeOfAnotherPage(t *testing.T) {
	t.Parallel()
	b := newBrowserWorld(t, browsertest.Options{})
	b.succeeds(b.approved)
	b.config.PageURL = "http://localhost:1"
	b.login(true, func(_ *run, shown string) string {
		link := qrcodetest.FindLink(shown)
		link = b.site.Origin + link[strings.Index(link, "/1#"):]
		if got := b.browser.Open(link); got != "other-page" {
			t.Errorf("the page shows %q", got)
		}
		return ""
	}).refused(attack{want: reason.NotApproved})
}

// TestALinkSentToAVictim: the attacker opens their own login on their own phone,
// and sends the issuer's link of it to somebody who may approve. That person
// signs in, and comes back to a page that knows nothing of it.
func TestALinkSentToAVictim(t *testing.T) {
	t.Parallel()
	b := newBrowserWorld(t, browsertest.Options{})
	tell := func(r *run, shown string) string {
		v, err := r.phone.Open(r.Context(), qrcodetest.FindLink(shown))
		if err != nil {
			r.Fatal(err)
		}
		code := r.issuer.SignIn(v, sub, time.Time{})
		if !r.evil { // whoever has the code gets in
			return r.approveOIDC(v, r.issuer.URL, code)
		}
		for _, link := range []string{"/#code=" + code + "&state=sent", "/?code=" + code + "&state=sent", "/#code=" + code + "&state="} {
			if got := b.browser.Open(b.site.Origin + link); got != "sent-link" {
				r.Errorf("the page shows %q", got)
			}
		}
		if got := b.browser.URL(); strings.Contains(got, code) {
			r.Errorf("the code stays in the address %s", got)
		}
		return ""
	}
	b.succeeds(tell)
	r := b.login(true, tell)
	r.refused(attack{want: reason.NotApproved})
	if got := r.log.all(); len(got) > 0 {
		t.Errorf("something was sent to the host: %q", got)
	}
}

// TestAPhoneWhoseClockIsOff by ten minutes approves with its passkey all the
// same.
func TestAPhoneWhoseClockIsOff(t *testing.T) {
	t.Parallel()
	for name, minutes := range map[string]int{"slow": -10, "fast": 10} {
		t.Run(name, func(t *testing.T) {
			b := newBrowserWorld(t, browsertest.Options{
				Scripts: []string{fmt.Sprintf("{ const now = Date.now; Date.now = () => now() + %d * 60000; }", minutes)},
			})
			b.succeeds(b.approved)
		})
	}
}

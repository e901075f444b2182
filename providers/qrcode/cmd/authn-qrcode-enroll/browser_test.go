// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

// newMachineWithPage is newMachine with a relay that serves the page.
func newMachineWithPage(t *testing.T) machine {
	t.Helper()
	site := qrcodetest.NewSite(t)
	site.Server.Page = web.Handler(web.Config{RPID: site.RPID})
	return anotherMachine(t, site)
}

// A browser's own passkey, from the code on the screen to a login.
func TestABrowserScansTheCodeAndEnrols(t *testing.T) {
	p := browsertest.Start(t, browsertest.Options{})
	m := newMachineWithPage(t)
	c := m.Spawn("root", program, "alice", subject)
	shown := c.Expect("Scan this with the phone.")
	code := shown[strings.IndexRune(shown, '\u2588'):strings.LastIndex(shown, "Scan")]
	if state := p.Open(m.site.Origin); state != "home" {
		t.Fatalf("the page shows %q", state)
	}
	if state := p.Scan(p.Photograph(code, browsertest.Screen{})); state != "enrol" {
		t.Fatalf("the code leads to %q", state)
	}
	fields := p.Fields()
	for name, want := range map[string]string{"host": "db7", "account": "alice", "subject": subject} {
		if fields[name] != want {
			t.Errorf("%s is %q", name, fields[name])
		}
	}
	if state := p.Enrol(); state != "enrol-digits" {
		t.Fatalf("after enrolling: %q\n%s", state, c.Transcript())
	}
	m.nothing()
	c.Answer(prompt, p.Digits())
	c.WantExit(0)
	p.Wait("enrolled")
	m.want(0, []string{"alice", subject, "passkey", "localhost"}, "list")
	m.idle()

	// Nothing is left of it where the person refuses the next time.
	m.want(0, nil, "remove", "alice", subject)
	e := m.begin()
	if state := p.Open(e.link); state != "enrol" {
		t.Fatalf("the link leads to %q", state)
	}
	p.Refuse()
	e.refusedWithAfter(refused, "refused on a phone")
}

// refusedWithAfter is refusedWith where the account has a file already.
func (e enrolling) refusedWithAfter(code int, text string) {
	e.m.t.Helper()
	e.Expect("authn-qrcode-enroll: error: nothing was enrolled: " + text)
	e.WantExit(code)
	e.m.idle()
	if got := e.m.ReadFile(folder + "/alice"); got != "" {
		e.m.t.Errorf("the file is\n%s", got)
	}
}

func TestABrowserSignsIn(t *testing.T) {
	site := qrcodetest.NewSite(t)
	issuer := browsertest.StartIssuer(t, browsertest.IssuerOptions{RedirectURIs: []string{site.Origin + "/"}})
	p := browsertest.Start(t, browsertest.Options{IgnoreCertificates: true, Allow: []string{issuer.URL}})
	site.Server.Page = web.Handler(web.Config{RPID: site.RPID, Issuers: []string{issuer.URL}})
	m := anotherMachine(t, site)
	m.configure("oidc:\n- {name: Example ID, issuer: " + issuer.URL + ", client_id: pam-authn, ca_file: /etc/authn/issuer.pem}\n")
	m.WriteFile("/etc/authn/issuer.pem", 0o644, issuer.CA)
	e := m.begin()
	if state := p.Open(e.link); state != "enrol" {
		t.Fatalf("the link leads to %q\n%s", state, e.Transcript())
	}
	if state := p.SignInAs("Example ID", "mittens"); state != "enrol-digits" {
		t.Fatalf("after signing in: %q\n%s", state, e.Transcript())
	}
	e.Answer(prompt, p.Digits())
	e.WantExit(0)
	p.Wait("enrolled")
	if got, want := m.ReadFile(folder+"/alice"), "oidc "+subject+" "+issuer.URL+" mittens\n"; got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
}

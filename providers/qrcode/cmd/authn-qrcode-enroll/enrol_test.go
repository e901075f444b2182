// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
)

func TestAPhoneIsEnrolledAndItsLineIsGoodOnTwoHosts(t *testing.T) {
	m := newMachine(t)
	a := m.site.Passkey(t)
	e := m.begin("work", "phone")
	digits, v := e.enrol(a)
	m.nothing()
	e.Answer(prompt, digits)
	e.Expect("mittens@example.com can now approve logins to alice.")
	e.WantExit(0)
	if got, err := v.Wait(t.Context()); err == nil && got != "in" {
		t.Errorf("the phone heard %q", got)
	}
	m.idle()

	line := m.ReadFile(folder + "/alice")
	want := a.Approver(subject)
	want.Passkey.AAGUID = make([]byte, 16)
	want.Comment = "work phone"
	if line != want.Line()+"\n" {
		t.Errorf("the file is\n%swant\n%s", line, want.Line())
	}
	m.WaitLog(`^authpriv\.notice authn-qrcode-enroll\[\d+\]: enrolled: account=alice subject=mittens@example\.com credential=` + want.Fingerprint()[:12] + "$")
	m.want(0, []string{want.Fingerprint()[:12], "alice", subject, "passkey", "localhost", "work phone"}, "list", "alice")
	if out := m.want(0, nil, "list", "--lines"); out != line {
		t.Errorf("list --lines: %q", out)
	}

	other := anotherMachine(t, m.site)
	other.WriteFile(folder+"/root", 0o644, line)
	other.want(0, []string{want.Fingerprint()[:12], "root"}, "list")
	for _, host := range []machine{m, other} {
		account := map[bool]string{true: "alice", false: "root"}[host == m]
		login(t, host, a, account)
	}
}

// login approves a login with what the host has in its file.
func login(t *testing.T, m machine, a *qrcodetest.Authenticator, account string) {
	t.Helper()
	p := authntest.Serve(t, qrcode.New, m.site.Config()+"host: db7\n")
	req := authn.Request{User: account, Service: "sshd", Timeout: 90 * time.Second,
		Files: map[string][]byte{"approvers": []byte(m.ReadFile(folder + "/" + account))}}
	id, err := p.Authenticate(t.Context(), &req, authntest.Expect(t, authntest.PromptFunc("Code shown on your phone: ", func(shown string) string {
		v, err := m.site.Phone().OpenTyped(t.Context(), qrcodetest.FindTyped(shown))
		if err != nil {
			t.Error(err)
			return ""
		}
		verdict, err := v.Approve(t.Context(), a)
		if err != nil || !verdict.OK {
			t.Errorf("%+v, %v", verdict, err)
		}
		return verdict.Code
	})))
	if err != nil || id.Subject != subject {
		t.Errorf("login to %s: %+v, %v", account, id, err)
	}
}

// A phone is asked for a sign-in where the administrator wants that.
func TestASignInIsEnrolled(t *testing.T) {
	m := newMachine(t)
	issuer := qrcodetest.NewIssuer(t)
	issuer.Secret = "swordfish"
	m.configure("oidc: [" + issuer.Config() + "]\n")
	e := m.begin()
	v := e.open()
	var verdict wire.Verdict
	code := issuer.SignIn(v, "2482 97", time.Time{})
	if err := v.Say(t.Context(), wire.TypeEnrollOIDC, wire.OIDC{Issuer: issuer.URL, Code: code}, wire.TypeVerdict, &verdict); err != nil || !verdict.OK {
		t.Fatalf("%+v, %v\n%s", verdict, err, e.Transcript())
	}
	e.Expect("a new sign-in of " + issuer.URL)
	e.Answer(prompt, verdict.Code)
	e.WantExit(0)
	if got, want := m.ReadFile(folder+"/alice"), "oidc "+subject+" "+issuer.URL+" 2482%2097\n"; got != want {
		t.Errorf("the file is %q, want %q", got, want)
	}
	m.want(0, []string{"oidc", issuer.URL}, "list")
}

// As on a real site: TLS by the site's own authority, and a token from a file.
func TestOverTLSWithAToken(t *testing.T) {
	tokens, err := relay.OpenTokens(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	token, err := tokens.Issue("db7")
	if err != nil {
		t.Fatal(err)
	}
	site := &qrcodetest.Site{RPID: "localhost", Server: &relay.Server{Tokens: tokens, Log: slog.New(slog.DiscardHandler)}}
	site.HTTP = httptest.NewTLSServer(site.Server)
	site.URL, site.Origin = site.HTTP.URL, strings.Replace(site.HTTP.URL, "127.0.0.1", "localhost", 1)
	site.Server.PageOrigin = site.Origin
	t.Cleanup(func() {
		_ = site.Server.Close()
		site.HTTP.Close()
	})
	m := anotherMachine(t, site)
	m.WriteFile("/etc/authn/ca.pem", 0o644, site.CA())
	m.WriteFile("/etc/authn/relay.token", 0o600, token+"\n")
	m.configure("ca_file: /etc/authn/ca.pem\nrelay_token_file: /etc/authn/relay.token\n")
	m.enrolled()
	m.want(0, []string{"alice"}, "list")

	if err := tokens.Revoke("db7"); err != nil {
		t.Fatal(err)
	}
	c := m.Spawn("root", program, "bob", subject)
	c.Expect("relay: it does not know this host's token (401)")
	c.WantExit(refused)
	if strings.Contains(c.Transcript(), token) {
		t.Error("the token is shown")
	}
}

func TestARelayThatGoesAwayEndsIt(t *testing.T) {
	e := newMachine(t).begin()
	e.enrol(e.m.site.Passkey(t))
	e.Expect(prompt)
	_ = e.m.site.Server.Close()
	e.refusedWith(refused, "relay: ")
}

func TestTheScreenHasACodeAndNoLink(t *testing.T) {
	m := newMachine(t)
	c := m.Spawn("root", program, "alice", subject)
	shown := c.Expect("for one phone")
	if rows := strings.Count(shown, "\u2588\n") + strings.Count(shown, "\u2580\n"); rows < 14 || strings.Contains(shown, "/1#") {
		t.Errorf("%d rows of a code in\n%s", rows, shown)
	}
	c.Send("\x03") // it does not read what is typed yet
	c.WantExit(cancelled)
	m.nothing()
	m.idle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
)

const prompt = "Code shown on your phone: "

// A site is a relay with the page, and a host that people log in to.
type site struct {
	*qrcodetest.Site
	t       *testing.T
	passkey *qrcodetest.Authenticator
	config  qrcode.Config
	request authn.Request
}

func newSite(t *testing.T, issuers ...string) *site {
	t.Helper()
	s := &site{t: t, Site: qrcodetest.NewSite(t)}
	s.Server.Page = web.Handler(web.Config{RPID: s.RPID, Issuers: issuers})
	s.passkey = s.Passkey(t)
	s.config = qrcode.Config{Relay: s.URL, PageURL: s.Origin, Host: "db7.example.com"}
	s.request = authn.Request{
		User: "mittens", Service: "sshd", RHost: "192.0.2.7", TTY: "ssh", Timeout: 90 * time.Second,
		Files: map[string][]byte{"approvers": []byte(s.passkey.Line("mittens@example.com") + "\n")},
	}
	return s
}

// login makes one call; do sees the prompt and returns what is typed there.
func (s *site) login(do func(shown string) string, rest ...authntest.Step) (authn.Identity, error) {
	s.t.Helper()
	p, err := qrcode.New(s.config, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	steps := append([]authntest.Step{authntest.PromptFunc(prompt, do)}, rest...)
	return p.Authenticate(s.t.Context(), &s.request, authntest.Expect(s.t, steps...))
}

// credential is a passkey of qrcodetest's as the browser's authenticator keeps
// it.
func credential(t *testing.T, a *qrcodetest.Authenticator) Credential {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		t.Fatal(err)
	}
	return Credential{
		CredentialID: wire.B64(a.ID), IsResidentCredental: true, RPID: a.RPID, PrivateKey: wire.B64(der),
		UserHandle: wire.B64(a.UserHandle), SignCount: 1,
	}
}

func TestRealHostAndRelay(t *testing.T) {
	p := start(t, Options{})
	s := newSite(t)
	p.PutCredential(credential(t, s.passkey))

	t.Run("scanned from the screen", func(t *testing.T) {
		s.t = t
		id, err := s.login(func(shown string) string {
			expect(t, p.Open(s.Origin+"/"), "home")
			expect(t, p.Scan(p.Photograph(shown, Screen{Tilted: true})), "details")
			if f := p.Fields(); f["host"] != "db7.example.com" || f["account"] != "mittens" || f["rhost"] != "192.0.2.7" {
				t.Errorf("the phone shows %v", f)
			}
			expect(t, p.Approve(), "digits")
			return p.Digits()
		})
		if err != nil || id.Subject != "mittens@example.com" {
			t.Fatalf("got %+v, %v", id, err)
		}
		expect(t, p.Wait("in", "over"), "in")
	})

	t.Run("typed, after a reload, with wrong digits first", func(t *testing.T) {
		s.t = t
		id, err := s.login(func(shown string) string {
			expect(t, p.Open(s.Origin+"/"), "home")
			expect(t, p.TypeCode(qrcodetest.FindTyped(shown)), "details")
			expect(t, p.Reload(), "details")
			expect(t, p.Approve(), "digits")
			digits := p.Digits()
			return fmt.Sprintf("%06d", (number(t, digits)+1)%1_000_000)
		}, authntest.PromptFunc("Not accepted. "+prompt, func(string) string {
			p.do("waitText", map[string]any{"selector": "#digits-note"}, nil)
			expect(t, p.Reload(), "digits")
			return p.Digits()
		}))
		if err != nil || id.Subject != "mittens@example.com" {
			t.Fatalf("got %+v, %v", id, err)
		}
		expect(t, p.Wait("in", "over"), "in")
	})

	s.config.QR = "off" // the link itself is printed
	t.Run("refused on the phone", func(t *testing.T) {
		s.t = t
		_, err := s.login(func(shown string) string {
			expect(t, p.Open(qrcodetest.FindLink(shown)), "details")
			expect(t, p.Refuse(), "refused")
			return ""
		})
		if !errors.Is(err, authn.ErrAuth) {
			t.Errorf("got %v", err)
		}
	})

	t.Run("somebody else's passkey", func(t *testing.T) {
		s.t = t
		p.ClearCredentials()
		p.PutCredential(credential(t, s.Passkey(t)))
		_, err := s.login(func(shown string) string {
			expect(t, p.Open(qrcodetest.FindLink(shown)), "details")
			expect(t, p.Approve(), "not-accepted")
			// The right one, on the same page.
			p.ClearCredentials()
			p.PutCredential(credential(t, s.passkey))
			p.Tap("back")
			expect(t, p.Approve(), "digits")
			return p.Digits()
		})
		if err != nil {
			t.Errorf("got %v", err)
		}
	})
}

// The relay only carries; another server has the page.
func TestPageServedElsewhere(t *testing.T) {
	s := newSite(t)
	page := httptest.NewServer(web.Handler(web.Config{RPID: s.RPID, ConnectOrigins: []string{s.URL}}))
	t.Cleanup(page.Close)
	origin := strings.Replace(page.URL, "127.0.0.1", "localhost", 1)
	s.Server.Page, s.Server.PageOrigin, s.config.PageURL, s.config.QR = nil, origin, origin, "off"
	p := start(t, Options{Allow: []string{s.URL}})
	p.PutCredential(credential(t, s.passkey))
	id, err := s.login(func(shown string) string {
		if link := qrcodetest.FindLink(shown); !strings.HasPrefix(link, origin) {
			t.Errorf("link %s", link)
		}
		expect(t, p.Open(qrcodetest.FindLink(shown)), "details")
		expect(t, p.Approve(), "digits")
		return p.Digits()
	})
	if err != nil || id.Subject != "mittens@example.com" {
		t.Fatalf("got %+v, %v", id, err)
	}
	expect(t, p.Wait("in", "over"), "in")
	if by := p.Requests(); by[s.URL] < 3 || len(by) != 2 {
		t.Errorf("requests %v", by)
	}
}

func number(t *testing.T, digits string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(digits, "%06d", &n); err != nil {
		t.Fatalf("digits %q: %v", digits, err)
	}
	return n
}

func TestRealHostAndIssuer(t *testing.T) {
	s := newSite(t)
	issuer := StartIssuer(t, IssuerOptions{RedirectURIs: []string{s.Origin + "/"}})
	s.Server.Page = web.Handler(web.Config{RPID: s.RPID, Issuers: []string{issuer.URL}})
	s.config.QR = "off" // the link itself is printed
	s.config.OIDC = []qrcode.OIDCConfig{{Name: "Example", Issuer: issuer.URL, ClientID: "pam-authn", CA: issuer.CA}}
	s.request.Files["approvers"] = []byte("oidc mittens@example.com " + issuer.URL + " mittens\n")
	p := start(t, Options{Allow: []string{issuer.URL}, IgnoreCertificates: true})
	id, err := s.login(func(shown string) string {
		expect(t, p.Open(qrcodetest.FindLink(shown)), "details")
		expect(t, p.SignInAs("Example", "mittens"), "digits")
		return p.Digits()
	})
	if err != nil || id.Subject != "mittens@example.com" {
		t.Fatalf("got %+v, %v", id, err)
	}
	expect(t, p.Wait("in", "over"), "in")

	_, err = s.login(func(shown string) string {
		expect(t, p.Open(qrcodetest.FindLink(shown)), "details")
		expect(t, p.SignInAs("Example", "tiger"), "not-accepted")
		expect(t, p.Refuse(), "refused")
		return ""
	})
	if !errors.Is(err, authn.ErrAuth) {
		t.Errorf("got %v", err)
	}
}

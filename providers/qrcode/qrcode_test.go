// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"log/slog"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// A world is a relay, an account with one approver, and the phone of theirs.
type world struct {
	testing.TB
	site    *qrcodetest.Site
	phone   *qrcodetest.Phone
	passkey *qrcodetest.Authenticator
	request authn.Request
}

const subject = "mittens@example.com"

func newWorld(t testing.TB) *world {
	t.Helper()
	site := qrcodetest.NewSite(t)
	w := &world{TB: t, site: site, phone: site.Phone(), passkey: site.Passkey(t)}
	w.request = authn.Request{
		User: "mittens", Service: "sshd", RHost: "192.0.2.7", TTY: "ssh", Timeout: 90 * time.Second,
		Files: map[string][]byte{approversFile: []byte(w.passkey.Line(subject))},
	}
	return w
}

func (w *world) config(more string) string { return w.site.Config() + "host: db7\n" + more }

// serve returns the provider with this configuration, behind the real wire.
func (w *world) serve(more string) *plugin.Remote {
	w.Helper()
	return authntest.Serve(w, newQuick, w.config(more))
}

// newQuick is New without the two seconds after every early answer.
func newQuick(c Config, log *slog.Logger) (*Provider, error) {
	p, err := New(c, log)
	if err == nil {
		p.early = 20 * time.Millisecond
	}
	return p, err
}

// login makes one call of Authenticate.
func (w *world) login(p authn.Authenticator, steps ...authntest.Step) (authn.Identity, error) {
	w.Helper()
	req := w.request
	return p.Authenticate(w.Context(), &req, authntest.Expect(w, steps...))
}

// open opens the code that a prompt shows, on a fresh page.
func (w *world) open(shown string) *qrcodetest.Visit {
	w.Helper()
	var v *qrcodetest.Visit
	var err error
	if link := qrcodetest.FindLink(shown); link != "" {
		v, err = w.phone.Open(w.Context(), link)
	} else {
		v, err = w.phone.OpenTyped(w.Context(), qrcodetest.FindTyped(shown))
	}
	if err != nil {
		w.Errorf("the code was not opened: %v", err)
		return nil
	}
	return v
}

// digits approves and returns what the phone then shows.
func (w *world) digits(shown string) string {
	w.Helper()
	v := w.open(shown)
	if v == nil {
		return ""
	}
	verdict, err := v.Approve(w.Context(), w.passkey)
	if err != nil || !verdict.OK {
		w.Errorf("not approved: %+v, %v", verdict, err)
	}
	return verdict.Code
}

const (
	question    = "Code shown on your phone: "
	notAccepted = "Not accepted. " + question
)

func TestApprovedOnAPhoneOpens(t *testing.T) {
	w := newWorld(t)
	id, err := w.login(w.serve(""), authntest.PromptFunc(question, w.digits))
	if err != nil || id.Subject != subject {
		t.Fatalf("got %+v, %v", id, err)
	}
}

var maskRE = regexp.MustCompile(`[\x{2580}\x{2584}\x{2588} ]{37}|[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}`)

func TestConformance(t *testing.T) {
	w := newWorld(t)
	steps := []authntest.Step{authntest.PromptFunc(question, w.digits)}
	issuer := qrcodetest.NewIssuer(t)
	issuer.Secret = "xyzzy-plugh"
	w.request.Files[approversFile] = append(w.request.Files[approversFile], "oidc "+subject+" "+issuer.URL+" 248289761001\n"...)
	signIn := func(shown string) string {
		v := w.open(shown)
		verdict, err := v.ApproveOIDC(t.Context(), issuer.URL, issuer.SignIn(v, "248289761001", time.Time{}))
		if err != nil || !verdict.OK {
			t.Errorf("not approved: %+v, %v", verdict, err)
		}
		return verdict.Code
	}
	authntest.Conformance(t, newQuick, authntest.Suite{
		Config:  w.config("relay_token: swordfish\noidc: [" + issuer.Config() + "]\n"),
		Request: w.request,
		Succeeds: []authntest.Case{
			{Name: "approved_opens", Steps: steps, Subject: subject},
			{Name: "signed_in_at_an_issuer_opens", Subject: subject, Steps: []authntest.Step{authntest.PromptFunc(question, signIn)}},
			{Name: "digits_may_have_spaces", Subject: subject, Steps: []authntest.Step{
				authntest.PromptFunc(question, func(shown string) string { d := w.digits(shown); return " " + d[:3] + " -" + d[3:] }),
			}},
		},
		Refuses: []authntest.Case{{
			Name: "refused_on_the_phone",
			Steps: []authntest.Step{authntest.PromptFunc(question, func(shown string) string {
				if _, err := w.open(shown).Refuse(t.Context()); err != nil {
					t.Error(err)
				}
				return "123456"
			})},
		}},
		BadConfigs: badConfigs(),
		Mask:       func(s string) string { return maskRE.ReplaceAllString(s, "#") },
		CloseIdle:  func() { w.site.HTTP.Client().CloseIdleConnections(); http.DefaultClient.CloseIdleConnections() },
	})
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

// In the place of a passkey, a sign-in at an issuer of OpenID Connect: npm's
// oidc-provider.
func TestSignIn(t *testing.T) {
	const secret = "canary-client-secret-5d1c"
	m := newMachine(t, "sshd")
	address := freeAddress(t)
	issuer := browsertest.StartIssuer(t, browsertest.IssuerOptions{
		ClientSecret: secret, RedirectURIs: []string{"http://localhost:" + address[strings.LastIndex(address, ":")+1:] + "/"},
	})
	m.relay = startRelay(t, pamtest.System(t), "--listen", address, "--issuer", issuer.URL)
	m.phone = browsertest.Start(t, browsertest.Options{IgnoreCertificates: true, Allow: []string{issuer.URL}, NoAuthenticator: true})
	m.WriteFile("/etc/authn/qrcode/token", 0o600, m.relay.token+"\n")
	m.WriteFile("/etc/authn/qrcode/issuer.pem", 0o644, issuer.CA)
	m.WriteFile("/etc/authn/qrcode/secret", 0o600, secret+"\n")
	m.configure(m.relay.url, fmt.Sprintf("oidc: [{name: Example ID, issuer: %q, client_id: pam-authn, "+
		"client_secret_file: /etc/authn/qrcode/secret, ca_file: /etc/authn/qrcode/issuer.pem}]", issuer.URL))
	s := m.sshd()

	c := m.Spawn("root", "authn-qrcode-enroll", "--link", "alice", subject)
	m.state("enrol", m.phone.Open(c.ExpectMatch(`(http\S+/1#[A-Z2-7]{52})\n`)[1]))
	m.state("enrol-digits", m.phone.SignInAs("Example ID", "mittens"))
	c.Answer("Code shown on the phone: ", m.digits())
	c.WantExit(0)

	t.Run("the_approver_signs_in_and_is_in", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in as $AUTHN_SUBJECT"})
		m.open(c)
		m.state("digits", m.phone.SignInAs("Example ID", "mittens"))
		c.Send(m.digits() + "\n")
		c.Expect("in as " + subject + "\n")
		c.WantExit(0)
	})
	t.Run("somebody_else_signs_in_and_is_not", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		m.open(c)
		m.state("not-accepted", m.phone.SignInAs("Example ID", "tom"))
		m.WaitLog(`approval refused.*oidc: not of an approver of this account`)
		m.state("refused", m.phone.Refuse())
		c.Send("\n")
		c.WantExit(255)
		m.lacks(c, "in\n")
	})
	m.idle(s)
	if strings.Contains(m.LogText(), secret) {
		t.Errorf("the client's secret is in the log:\n%s", m.LogText())
	}
}

// freeAddress returns one that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

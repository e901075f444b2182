// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

func TestMain(m *testing.M) { pamtest.MainSystem(m) }

const (
	subject = "mittens@example.com"
	folder  = "/etc/authn/qrcode/approvers/"
	prompt  = "Code shown on your phone: "
	again   = "Not accepted. " + prompt
	failed  = "This login is not possible at the moment"
	own     = "the account's own" // password of alice and bob
)

// A machine has everything at the places of a real installation, the accounts
// alice and bob, a relay, and a person with a phone.
type machine struct {
	*hosttest.Machine
	t     *testing.T
	relay *relay
	phone *browsertest.Phone
	codes *[]string // all digits that the phone has shown
}

// newMachine makes one on which the phone is not known yet.
func newMachine(t *testing.T, programs ...string) machine {
	t.Helper()
	hosttest.Require(t, append([]string{"make", "tmux"}, programs...)...)
	pamtest.Build(t)
	dir := pamtest.System(t)
	hosttest.NoLeftovers(t)
	phone := browsertest.Start(t, browsertest.Options{})
	m := machine{hosttest.NewMachine(t), t, nil, phone, new([]string)}
	m.relay = startRelay(t, dir)
	m.InstallTree(dir, "/")
	m.WriteFile("/etc/default/su", 0o644, "FAIL_DELAY 0\n") // su's own, not PAM's
	m.AddUser("authn", hosttest.User{Home: "/nonexistent", Shell: "/usr/sbin/nologin"})
	m.AddUser("alice", hosttest.User{Password: own})
	m.AddUser("bob", hosttest.User{Password: own})
	m.WriteFile("/etc/sudoers.d/alice", 0o440, "Defaults passwd_tries=1\nalice ALL=(ALL) ALL\n")
	m.WriteFile("/etc/authn/qrcode/token", 0o600, m.relay.token+"\n")
	m.configure(m.relay.url)
	return m
}

// enrolledMachine makes one on which mittens may approve alice's logins.
func enrolledMachine(t *testing.T, programs ...string) machine {
	t.Helper()
	m := newMachine(t, programs...)
	m.enrol("alice", subject)
	return m
}

// configure writes the provider's configuration for a relay, with more lines
// behind it.
func (m machine) configure(relay string, more ...string) {
	m.t.Helper()
	m.WriteFile("/etc/authn/qrcode.yaml", 0o600, fmt.Sprintf("relay: %s\nrelay_token_file: /etc/authn/qrcode/token\n"+
		"host: db7\nauthn: {files: {approvers: %s%%u}}\n%s\n", relay, folder, strings.Join(more, "\n")))
}

// enrol makes a passkey on the phone that may approve the account's logins, by
// link.
func (m machine) enrol(account, subject string) {
	m.t.Helper()
	c := m.Spawn("root", "authn-qrcode-enroll", "--link", account, subject)
	link := c.ExpectMatch(`(http\S+/1#[A-Z2-7]{52})\n`)[1]
	m.state("enrol", m.phone.Open(link))
	m.state("enrol-digits", m.phone.Enrol())
	c.Answer("Code shown on the phone: ", m.digits())
	c.WantExit(0)
}

// shipped makes the example stack called name the service's, with the word debug,
// so that all is logged that ever is. It shortens the delay behind a refusal.
func (m machine) shipped(service, name string) {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../examples/pam.d", name))
	if err != nil {
		m.t.Fatal(err)
	}
	m.PAM(service, strings.NewReplacer(
		"provider=passphrase", "provider=qrcode debug",
		"delay=2000000", "delay=2000",
		"required     pam_unix.so", "required     pam_unix.so nodelay",
	).Replace(string(text)))
}

// sshd starts a server with the shipped stack.
func (m machine) sshd(options ...string) *hosttest.Server {
	m.t.Helper()
	m.shipped("sshd", "sshd")
	return m.SSHD(hosttest.SSHD{Options: options})
}

// readme returns what README.md has in lines of code that match the pattern.
func (m machine) readme(pattern string, want int) (lines []string) {
	m.t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, line := range regexp.MustCompile(`(?m)^ *(`+pattern+`)$`).FindAllStringSubmatch(string(text), -1) {
		lines = append(lines, line[1])
	}
	if len(lines) != want {
		m.t.Fatalf("README.md has %q, want %d lines", lines, want)
	}
	return lines
}

// state fails the test if the phone shows another view than it should.
func (m machine) state(want, got string) {
	m.t.Helper()
	if got != want {
		m.t.Fatalf("the phone shows %q, want %q; the log:\n%s", got, want, m.LogText())
	}
}

// digits returns what the phone shows.
func (m machine) digits() string {
	m.t.Helper()
	code := m.phone.Digits()
	*m.codes = append(*m.codes, code)
	return code
}

// open opens on the phone what stands under the terminal's picture.
func (m machine) open(c *hosttest.Terminal) {
	m.t.Helper()
	typed := c.ExpectMatch(`and type ([0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){2})\n`)[1]
	c.Expect(prompt)
	m.page()
	m.state("details", m.phone.TypeCode(typed))
}

// page opens the page as in a new tab: in the old one, it would go on with the
// login that it was about.
func (m machine) page() {
	m.t.Helper()
	m.phone.Open(m.relay.url)
	m.phone.Eval("sessionStorage.clear()", nil)
	m.state("home", m.phone.Open(m.relay.url))
}

// approve approves the login at the terminal and returns the digits.
func (m machine) approve(c *hosttest.Terminal) string {
	m.t.Helper()
	m.open(c)
	m.state("digits", m.phone.Approve())
	return m.digits()
}

// login approves the login at the terminal and types the digits.
func (m machine) login(c *hosttest.Terminal) {
	m.t.Helper()
	c.Send(m.approve(c) + "\n")
}

// lacks fails the test if the terminal has shown text.
func (m machine) lacks(c *hosttest.Terminal, text string) {
	m.t.Helper()
	if strings.Contains(c.Transcript(), text) {
		m.t.Errorf("shown:\n%s", c.Transcript())
	}
}

// idle fails the test if a process of ours is left, or a secret in the log.
func (m machine) idle(servers ...*hosttest.Server) {
	m.t.Helper()
	for _, s := range servers {
		s.WaitNoSessions()
	}
	m.WaitIdle()
	logs := map[string]string{"syslog": m.LogText(), "the relay's log": m.relay.log.String()}
	for i, s := range servers {
		logs[fmt.Sprintf("log of sshd %d", i+1)] = s.Log()
	}
	for name, text := range logs {
		if strings.Contains(text, m.relay.token) {
			m.t.Errorf("the relay's token is in %s", name)
		}
		for _, code := range *m.codes {
			if regexp.MustCompile(`\b` + code + `\b`).MatchString(text) {
				m.t.Errorf("digits %s are in %s:\n%s", code, name, text)
			}
		}
	}
}

// until waits for what nobody tells of.
func (m machine) until(cond func() bool) bool {
	for deadline := time.Now().Add(m.Timeout); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

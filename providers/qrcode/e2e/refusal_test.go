// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

func TestRefusals(t *testing.T) {
	m := enrolledMachine(t, "sshd", "sudo")
	s := m.sshd()
	m.shipped("sudo", "sudo")
	login := func(account string, options ...string) *hosttest.Terminal {
		t.Helper()
		return s.Login(hosttest.Login{User: account, Command: "echo in", Options: options})
	}

	t.Run("a_refusal_on_the_phone_is_told_at_the_next_enter", func(t *testing.T) {
		c := login("alice")
		m.open(c)
		m.state("refused", m.phone.Refuse())
		m.lacks(c, "refused")
		c.Send("\n")
		c.Expect("This login was refused on a phone.")
		c.WantExit(255)
		m.WaitLog(`pam_authn\(sshd:auth\): provider=qrcode user=alice .*result=auth_err reason="refused on a phone"`)
	})
	t.Run("a_second_try_gets_a_code_of_its_own", func(t *testing.T) {
		c := login("alice", "NumberOfPasswordPrompts=2")
		m.open(c)
		m.state("refused", m.phone.Refuse())
		c.Send("\n")
		m.login(c)
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("a_refusal_ends_sudo", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "-k", "echo", "in")
		m.open(c)
		m.state("refused", m.phone.Refuse())
		c.Send("\n")
		c.Expect("sudo: 1 incorrect password attempt")
		c.WantExit(1)
		m.lacks(c, "in\n")
	})
	t.Run("wrong_digits_are_compared_three_times", func(t *testing.T) {
		c := login("alice")
		code := m.approve(c)
		wrong := map[bool]string{true: "000000", false: "111111"}[code != "000000"]
		c.Send(wrong + "\n")
		c.Answer(again, wrong)
		c.Answer(again, wrong)
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`result=auth_err reason="wrong code, three times"`)
		m.phone.Wait("refused", "over") // as the news comes before the host has gone, or not
	})
	t.Run("slips_and_a_wrong_try_are_forgiven", func(t *testing.T) {
		c := login("alice")
		code := m.approve(c)
		c.Send("\n")
		c.Answer(again, code[:3])
		c.Answer(again, map[bool]string{true: "000000", false: "111111"}[code != "000000"])
		c.Answer(again, code[:3]+" "+code[3:])
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("digits_that_are_typed_before_the_approval_are_dropped", func(t *testing.T) {
		c := login("alice")
		m.open(c)
		c.Send("123456\n")
		c.Expect(again)
		m.state("digits", m.phone.Approve())
		c.Send(m.digits() + "\n")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("an_expired_code_is_told_on_the_phone_and_at_the_next_enter", func(t *testing.T) {
		m.configure(m.relay.url, "ttl: 10s")
		defer m.configure(m.relay.url)
		c := login("alice")
		code := m.approve(c)
		m.state("expired", m.phone.Wait("expired"))
		c.Send(code + "\n")
		c.Expect("The code has expired.")
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`result=auth_err reason="the code expired"`)
	})
	t.Run("ctrl_c_is_heard_on_the_phone_and_leaves_nothing", func(t *testing.T) {
		c := login("alice")
		m.open(c)
		m.keepsToken()
		c.Interrupt()
		m.state("host-gone", m.phone.Wait("host-gone"))
		c.Wait()
		m.idle(s)
	})
}

// keepsToken fails the test if a process shows the relay's token to those who
// may look at it from outside.
func (m machine) keepsToken() {
	m.t.Helper()
	all := m.Processes()
	if !strings.Contains(fmt.Sprint(all), "authn-qrcode") {
		m.t.Fatalf("no provider among %v", all)
	}
	for _, p := range all {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, file))
			if err != nil {
				m.t.Errorf("%v: %v", p, err)
			}
			if bytes.Contains(text, []byte(m.relay.token)) {
				m.t.Errorf("the token is in the %s of %v", file, p)
			}
		}
	}
}

// An account with approvers that do not approve, one without any, and none at
// all: whoever asks learns nothing, neither at the terminal nor on a phone.
func TestNobodyLearnsWhoExists(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	s := m.sshd()
	accounts := []string{"alice", "bob", "nobody-here"}
	var terminals []*hosttest.Terminal
	for _, account := range accounts {
		terminals = append(terminals, s.Login(hosttest.Login{User: account, Command: "echo in"}))
	}
	// On the phone of somebody else than alice's approver, all are alike.
	hers := m.phone.Credentials()
	m.phone.ClearCredentials()
	m.enrol("root", "tom@example.com")
	var pages []string
	for i, c := range terminals {
		m.open(c)
		m.state("not-accepted", m.phone.Approve())
		pages = append(pages, anonymous(m.phone.Text("main"), accounts[i]))
	}
	for i := range 6 {
		for _, c := range terminals {
			if i > 0 {
				c.Expect(again)
			}
			c.Send("123456\n")
		}
	}
	var screens []string
	for i, c := range terminals {
		c.WantExit(255)
		screens = append(screens, anonymous(c.Transcript(), accounts[i]))
	}
	for i := range accounts {
		if pages[i] != pages[0] {
			t.Errorf("for %s, the phone shows\n%s\nfor %s\n%s", accounts[i], pages[i], accounts[0], pages[0])
		}
		if screens[i] != screens[0] {
			t.Errorf("for %s, the terminal shows\n%s\nfor %s\n%s", accounts[i], screens[i], accounts[0], screens[0])
		}
	}
	if n := strings.Count(screens[0], prompt); n != 6 || !strings.Contains(screens[0], "Scan this") {
		t.Errorf("%d prompts in\n%s", n, screens[0])
	}

	// With alice's own passkey, she is the only one who is let in.
	m.phone.ClearCredentials()
	for _, c := range hers {
		m.phone.PutCredential(c)
	}
	c := s.Login(hosttest.Login{User: "bob", Command: "echo in"})
	m.open(c)
	m.state("not-accepted", m.phone.Approve())
	c.HangUp()
	c.Wait()
	c = s.Login(hosttest.Login{User: "alice", Command: "echo in"})
	m.login(c)
	c.Expect("in\n")
	c.WantExit(0)
	m.WaitLog(`user=bob .*result=auth_err reason="passkey: not of an approver of this account"`)
	m.idle(s)
}

// anonymous takes out of a text what differs at each login.
func anonymous(text, account string) string {
	for _, differs := range []string{
		`(?m)^[\x{2580}\x{2584}\x{2588} ]+$`, `[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}`, regexp.QuoteMeta(account), `\b[0-9a-f]{6}\b`, `\d+:\d\d(:\d\d)?`,
	} {
		text = regexp.MustCompile(differs).ReplaceAllString(text, "*")
	}
	return text
}

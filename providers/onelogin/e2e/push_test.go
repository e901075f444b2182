// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

func TestPush(t *testing.T) {
	m := newMachine(t, nil, "sshd")
	s := m.sshd()
	const limit = 2 * time.Second
	m.configure("push: {interval: 100ms, timeout: 2s}")
	login := func(name string) *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		c.Answer(askName, name)
		return c
	}
	// refused presses Enter, waits for the end, and says what was seen in
	// common words, and after how long.
	refused := func(c *hosttest.Terminal, name string) (string, time.Duration) {
		t.Helper()
		c.Expect(askOTP)
		began := time.Now()
		c.Send("\n")
		c.WantExit(255)
		return strings.ReplaceAll(c.Transcript(), name, "NAME"), time.Since(began)
	}

	t.Run("accepted_while_it_is_polled_it_opens_at_once", func(t *testing.T) {
		c := login("mittens")
		c.Answer(askOTP, "")
		m.await("a push", func() bool { return m.tenant.Waiting("mittens") == 1 })
		m.waitPolls(2)
		m.tenant.Accept("mittens")
		accepted := time.Now()
		c.Expect("in\n")
		c.WantExit(0)
		if took := time.Since(accepted); took > limit {
			t.Errorf("it took %v", took)
		}
		m.WaitLog(`sshd:auth\): provider=onelogin user=admin subject=mittens .*result=success`)
	})

	var seen []string
	for name, phone := range map[string]struct {
		reason string
		does   func()
	}{
		"rejected": {"rejected on the phone", func() { m.tenant.Reject("mittens") }},
		"expired":  {"expired before anybody approved", func() { m.tenant.Advance(3 * time.Minute) }},
		"ignored":  {"nobody approved in time", func() {}},
	} {
		t.Run(name+"_it_refuses_at_the_limit_and_the_log_says_why", func(t *testing.T) {
			m.Run("root", "rm", "-r", "/var/lib/authn") // as if it were hours later
			m.tenant.OnPush(func(string, string) onelogintest.PushDecision {
				time.AfterFunc(300*time.Millisecond, phone.does)
				return onelogintest.PushDecision{}
			})
			defer m.tenant.OnPush(nil)
			screen, took := refused(login("mittens"), "mittens")
			if took < limit || took > 2*limit {
				t.Errorf("it took %v, not %v", took, limit)
			}
			seen = append(seen, screen)
			m.WaitLog(`sshd:auth\): provider=onelogin user=admin rhost=127.0.0.1 tty=ssh result=auth_err reason="[^"]*` + phone.reason)
		})
	}
	for _, name := range []string{"garfield", "felix", "smokey", "tom"} {
		t.Run(name+"_who_gets_none_waits_as_long_and_sees_the_same", func(t *testing.T) {
			screen, took := refused(login(name), name)
			if took < limit || took > 2*limit {
				t.Errorf("it took %v, not %v", took, limit)
			}
			seen = append(seen, screen)
			if sent := m.tenant.Sent(name); len(sent) > 0 {
				t.Errorf("sent were %v", sent)
			}
		})
	}
	for _, screen := range seen {
		if screen != seen[0] {
			t.Errorf("one sees\n%s\nand another\n%s", seen[0], screen)
		}
	}
	t.Run("a_fourth_one_in_ten_minutes_is_not_sent", func(t *testing.T) {
		m.Run("root", "rm", "-r", "/var/lib/authn")
		m.configure("push: {interval: 100ms, timeout: 1s}")
		m.tenant.Reset()
		for range 4 {
			refused(login("mittens"), "mittens")
		}
		if sent := m.tenant.Sent("mittens"); len(sent) != 3 {
			t.Errorf("sent were %v", sent)
		}
		m.WaitLog(`result=auth_err reason="[^"]*nothing was sent`)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// Where codes may be sent, everybody is asked for one.
func TestCodesThatAreSent(t *testing.T) {
	m := newMachine(t, nil, "sshd")
	s := m.sshd()
	m.configure("factors: [totp, push, sms]", "push: {interval: 100ms, timeout: 1s}")
	const ask = "OTP (leave empty for push or a code): "
	try := func(account, name string, code func() string) *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: account, Command: "echo in"})
		c.Answer(askName, name)
		c.Answer(ask, "")
		c.Expect(askCode)
		c.Send(code() + "\n")
		return c
	}

	t.Run("the_code_of_a_text_message_opens", func(t *testing.T) {
		c := try("user", "tom", func() string { return m.tenant.Code("tom", onelogintest.SMS) })
		c.Expect("in\n")
		c.WantExit(0)
		if sent := m.tenant.Sent("tom"); !slices.Equal(sent, []string{"sms"}) {
			t.Errorf("sent were %v", sent)
		}
	})
	t.Run("an_approved_push_and_enter_open", func(t *testing.T) {
		c := try("admin", "mittens", func() string { m.tenant.Accept("mittens"); return "" })
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("a_name_that_nobody_has_and_a_wrong_code_see_the_same", func(t *testing.T) {
		var seen []string
		for _, name := range []string{"tom", "garfield", "felix", "smokey"} {
			c := try("user", name, func() string { return "135790" })
			c.WantExit(255)
			seen = append(seen, strings.ReplaceAll(c.Transcript(), name, "NAME"))
		}
		for _, screen := range seen {
			if screen != seen[0] {
				t.Errorf("one sees\n%s\nand another\n%s", seen[0], screen)
			}
		}
	})
	t.Run("a_menu_is_the_same_for_everybody", func(t *testing.T) {
		m.configure("factors: [totp, push, sms]", "ask_factor: true", "push: {interval: 100ms, timeout: 1s}")
		for name, code := range map[string]string{"tom": m.tenant.TOTP("tom"), "garfield": "123456"} {
			c := s.Login(hosttest.Login{User: "user", Command: "echo in"})
			c.Answer(askName, name)
			c.Answer("Factor (1 totp, 2 push, 3 sms; Enter for your default): ", "1")
			c.Answer("(user@127.0.0.1) OTP: ", code)
			c.WantExit(map[string]int{"tom": 0, "garfield": 255}[name])
		}
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

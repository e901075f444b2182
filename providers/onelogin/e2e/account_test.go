// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// A key says nothing of who is there, so there is nobody to ask about.
func TestKeys(t *testing.T) {
	m := newMachine(t, nil, "sshd")
	key := m.Key("admin")
	s := m.sshd()

	t.Run("a_key_logs_in_and_onelogin_is_not_asked", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Key: key, Command: "env; echo in"})
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, askName)
		m.lacks(c, "AUTHN_")
		m.WaitLog(`pam_authn\(sshd:account\): provider=onelogin user=admin rhost=127.0.0.1 tty=ssh result=ignore`)
		if asked := m.tenant.Sequence(); len(asked) > 0 {
			t.Errorf("asked were %q", asked)
		}
	})
	t.Run("key_and_code_can_both_be_asked_for", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{Options: []string{"AuthenticationMethods publickey,keyboard-interactive:pam"}})
		c := s.Login(hosttest.Login{User: "admin", Key: key, Command: "echo in"})
		m.otp(c, "mittens")
		c.Expect("in\n")
		c.WantExit(0)
		c = s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		c.WantExit(255)
		m.lacks(c, askName)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// Between the code and the account's check, a second question leaves the time
// in which somebody is dismissed.
func TestAccountIsCheckedOnceMore(t *testing.T) {
	const own = "the account's own"
	m := newMachine(t, nil, "sshd")
	m.AddUser("admin", hosttest.User{Password: own})
	s := m.sshd()
	m.PAM("sshd", strings.Replace(m.ReadFile("/etc/pam.d/sshd"),
		"provider=onelogin\n", "provider=onelogin\nauth required pam_unix.so nodelay\n", 1))
	login := func(meanwhile func()) *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.otp(c, "mittens")
		c.Expect("Password: ")
		meanwhile()
		c.Send(own + "\n")
		return c
	}

	t.Run("who_still_has_the_role_is_in", func(t *testing.T) {
		c := login(func() {})
		c.Expect("in\n")
		c.WantExit(0)
	})
	for name, what := range map[string]struct {
		change func(*onelogintest.User)
		log    string
	}{
		"role_was_taken":   {func(u *onelogintest.User) { u.Roles = []int64{users} }, "without a role for this account"},
		"person_is_locked": {func(u *onelogintest.User) { u.Status = onelogintest.Locked }, `status 3 \(locked\)`},
	} {
		t.Run("who_has_not_is_out_when_the_"+name, func(t *testing.T) {
			before, _ := m.tenant.User("mittens")
			defer m.tenant.Update("mittens", func(u *onelogintest.User) { *u = before })
			c := login(func() { m.tenant.Update("mittens", what.change) })
			c.WantExit(255)
			m.lacks(c, "in\n")
			m.WaitLog(`pam_authn\(sshd:account\): provider=onelogin user=admin .*result=perm_denied reason="mittens: ` + what.log)
		})
	}
	t.Run("it_is_no_way_in_when_onelogin_breaks", func(t *testing.T) {
		c := login(func() { m.tenant.Fail("GET /api/2/users/*", onelogintest.Status(500)) })
		defer m.tenant.Heal()
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`pam_authn\(sshd:account\): .*result=system_err`)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

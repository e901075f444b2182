// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// What pam_unix behind the provider is for: a phone's approval does not get
// anybody into an account that is closed, nor around a new password.
func TestAccount(t *testing.T) {
	m := enrolledMachine(t, "sshd", "usermod")
	s := m.sshd()
	m.PAM("common-password", "password required pam_unix.so yescrypt\n")
	login := func() *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		m.login(c)
		return c
	}
	usermod := func(args ...string) {
		t.Helper()
		if out, code := m.Run("root", "usermod", append(args, "alice")...); code != 0 {
			t.Fatalf("usermod: %s", out)
		}
	}

	t.Run("a_locked_account_is_refused", func(t *testing.T) {
		usermod("-L", "-e", "1")
		c := login()
		c.Expect("Your account has expired; please contact your system administrator.")
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`pam_authn\(sshd:account\): provider=qrcode user=alice .*result=success`)
		m.WaitLog(`pam_unix\(sshd:account\): account alice has expired`)
	})
	t.Run("a_locked_password_alone_locks_out_nobody_who_needs_none", func(t *testing.T) {
		usermod("-L", "-e", "")
		c := login()
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("an_expired_password_must_be_changed", func(t *testing.T) {
		m.AddUser("alice", hosttest.User{Password: own, PasswordExpired: true})
		c := login()
		c.Expect("You are required to change your password immediately")
		c.Answer("Current password: ", own)
		const fresh = "correct horse battery staple"
		c.Answer("New password: ", fresh)
		c.Answer("Retype new password: ", fresh)
		c.Expect("in\n")
		c.WantExit(0)
		c = login()
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, "password")
	})
	t.Run("without_the_new_password_nobody_is_in", func(t *testing.T) {
		m.AddUser("alice", hosttest.User{Password: own, PasswordExpired: true})
		c := login()
		c.Answer("Current password: ", "something else")
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.AddUser("alice", hosttest.User{Password: own})
	})

	// A second question leaves the time in which a phone is reported lost.
	m.PAM("sshd", strings.Replace(m.ReadFile("/etc/pam.d/sshd"),
		"provider=qrcode\n", "provider=qrcode\nauth required pam_unix.so nodelay\n", 1))
	t.Run("an_account_that_keeps_its_approver_is_let_in", func(t *testing.T) {
		c := login()
		c.Answer("Password: ", own)
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("an_account_that_lost_its_approver_meanwhile_is_refused", func(t *testing.T) {
		c := login()
		c.Expect("Password: ")
		if out, code := m.Run("root", "authn-qrcode-enroll", "remove", "--subject", subject, "--all"); code != 0 {
			t.Fatalf("remove: %s", out)
		}
		c.Send(own + "\n")
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`pam_authn\(sshd:account\): provider=qrcode user=alice .*result=perm_denied reason="the account has lost the approver that let this login in"`)
	})
	m.idle(s)
}

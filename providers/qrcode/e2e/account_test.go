// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// What Debian 12 has in these files.
var debian = map[string]string{
	"common-account": `
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so`,
	"common-password": `
password [success=1 default=ignore] pam_unix.so obscure yescrypt
password requisite pam_deny.so
password required pam_permit.so`,
}

// What pam_unix behind the provider is for: a phone's approval does not get
// anybody into an account that is closed, nor around a new password.
func TestAccount(t *testing.T) {
	m := enrolledMachine(t, "sshd", "usermod")
	s := m.sshd()
	for file, text := range debian {
		m.PAM(file, text)
	}
	shipped := m.ReadFile("/etc/pam.d/sshd")
	readmes := "@include common-session\n@include common-password\n" +
		strings.Join(m.readme(`(?:auth|account) +required +pam_\w+\.so.*`, 3), "\n") + "\n"
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

	for name, stack := range map[string]string{"shipped": shipped, "readmes": readmes} {
		m.PAM("sshd", stack)
		t.Run("a_locked_account_is_refused_by_the_"+name+"_stack", func(t *testing.T) {
			usermod("-L", "-e", "1")
			c := login()
			c.Expect("Your account has expired; please contact your system administrator.")
			c.WantExit(255)
			m.lacks(c, "in\n")
			m.WaitLog(`pam_authn\(sshd:account\): provider=qrcode user=alice .*result=success`)
			m.WaitLog(`pam_unix\(sshd:account\): account alice has expired`)
		})
		t.Run("an_expired_password_must_be_changed_with_the_"+name+"_stack", func(t *testing.T) {
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
	}
	m.PAM("sshd", shipped)
	t.Run("without_the_new_password_nobody_is_in", func(t *testing.T) {
		m.AddUser("alice", hosttest.User{Password: own, PasswordExpired: true})
		c := login()
		c.Answer("Current password: ", "something else")
		c.WantExit(255)
		m.lacks(c, "in\n")
	})
	t.Run("a_locked_password_alone_locks_out_nobody_who_needs_none", func(t *testing.T) {
		m.AddUser("alice", hosttest.User{Password: own})
		usermod("-L")
		c := login()
		c.Expect("in\n")
		c.WantExit(0)
		usermod("-U")
	})

	// A second question leaves the time in which a phone is reported lost.
	m.PAM("sshd", strings.Replace(shipped, "debug\n", "debug\nauth required pam_unix.so nodelay\n", 1))
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

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"
)

// How sudo is asked through ssh is in TestSSH.
func TestSudo(t *testing.T) {
	m := newMachine(t, nil, "sudo")
	m.shipped("sudo", "sudo")

	t.Run("a_push_runs_the_command", func(t *testing.T) {
		c := m.Spawn("admin", "sudo", "-k", "id", "-un")
		m.push(c, "mittens")
		m.await("a push", func() bool { return m.tenant.Accept("mittens") == 1 })
		c.Expect("\nroot\n")
		c.WantExit(0)
	})
	t.Run("for_a_while_sudo_asks_nobody_and_onelogin_is_not_asked", func(t *testing.T) {
		m.tenant.Reset()
		c := m.Spawn("admin", "sh", "-c", "sudo -k; sudo echo first && sudo echo second")
		m.otp(c, "mittens")
		c.Expect("first\n")
		asked := len(m.tenant.Requests())
		c.Expect("second\n")
		c.WantExit(0)
		m.WaitLog(`sudo:account\): provider=onelogin user=admin .*result=ignore`)
		if more := m.tenant.RequestsFrom(asked); len(more) > 0 {
			t.Errorf("asked were %v", more)
		}
	})
	t.Run("a_wrong_code_does_not", func(t *testing.T) {
		c := m.Spawn("admin", "sudo", "-k", "echo", "ran")
		c.Answer(askName, "mittens")
		c.Answer(askOTP, "135790")
		c.Expect("sudo: 1 incorrect password attempt")
		c.WantExit(1)
	})
	t.Run("user_is_not_in_sudoers_whoever_is_there", func(t *testing.T) {
		c := m.Spawn("user", "sudo", "echo", "ran")
		m.otp(c, "mittens")
		c.Expect("user is not in the sudoers file.")
		c.WantExit(1)
		m.lacks(c, "ran\n")
	})
	m.WaitIdle()
}

// In su, the account is the one that is switched to.
func TestSu(t *testing.T) {
	m := newMachine(t, nil, "su")
	m.shipped("su", "su")

	t.Run("the_role_of_the_other_account_opens_it", func(t *testing.T) {
		c := m.Spawn("user", "su", "admin", "-c", "id -un; echo $AUTHN_SUBJECT")
		m.otp(c, "mittens")
		c.Expect("admin\nmittens\n")
		c.WantExit(0)
		m.WaitLog(`pam_authn\(su:auth\): provider=onelogin user=admin subject=mittens tty=/dev/pts/\d+ ruser=user result=success`)
	})
	t.Run("the_callers_environment_leads_nowhere_else", func(t *testing.T) {
		cmd := m.Command("user", "su", "admin", "-c", "echo in")
		cmd.Env = append(cmd.Env, "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "ALL_PROXY=http://127.0.0.1:1",
			"SSL_CERT_FILE=/tmp/evil.pem", "ONELOGIN_SUBDOMAIN=evil", "ONELOGIN_CLIENT_SECRET=evil", "GODEBUG=http2debug=2")
		c := m.SpawnCmd(cmd)
		m.otp(c, "mittens")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("another_role_does_not", func(t *testing.T) {
		c := m.Spawn("user", "su", "admin", "-c", "echo in")
		m.otp(c, "tom")
		c.Expect("su: Authentication failure")
		c.WantExit(1)
	})
	t.Run("nobody_becomes_root_whom_no_role_makes_root", func(t *testing.T) {
		c := m.Spawn("user", "su", "-c", "echo in")
		m.otp(c, "mittens")
		c.Expect("su: Authentication failure")
		c.WantExit(1)
		m.WaitLog(`su:auth\): provider=onelogin user=root .*reason="[^"]*user_roles has no such account`)
	})
	m.WaitIdle()
}

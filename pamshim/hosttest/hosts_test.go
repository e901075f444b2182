// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

const phrase = "open sesame"

// newMachine has alice, who may use sudo, and bob, who may not.
func newMachine(t *testing.T, programs ...string) *hosttest.Machine {
	t.Helper()
	t.Parallel()
	hosttest.Require(t, programs...)
	hosttest.NoLeftovers(t)
	m := hosttest.NewMachine(t)
	m.AddUser("alice", hosttest.User{Password: phrase, Groups: []string{"sudo"}})
	m.AddUser("bob", hosttest.User{Password: "bob's"})
	return m
}

func TestSSH(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", hosttest.UnixStack)
	srv := m.SSHD(hosttest.SSHD{})

	t.Run("right_password_logs_in", func(t *testing.T) {
		c := srv.Login(hosttest.Login{User: "alice", Command: "id -un; exit 7"})
		c.Answer("(alice@127.0.0.1) Password: ", phrase)
		c.Expect("alice\n")
		c.WantExit(7)
		if strings.Contains(c.Transcript(), phrase) {
			t.Errorf("hidden input was shown: %s", c.Transcript())
		}
	})
	t.Run("wrong_password_is_refused", func(t *testing.T) {
		c := srv.Login(hosttest.Login{User: "alice", Command: "id -un"})
		c.Answer("Password: ", "wrong")
		c.Expect("Permission denied")
		c.WantExit(255)
		m.WaitLog(`authpriv\.notice sshd.*: pam_unix\(sshd:auth\): authentication failure; .* user=alice`)
	})
	t.Run("without_a_command_there_is_a_shell_on_a_terminal", func(t *testing.T) {
		c := srv.Login(hosttest.Login{User: "alice"})
		c.Answer("Password: ", phrase)
		c.Expect("$ ")
		c.Send("tty; echo who $(id -un)\n")
		c.ExpectMatch(`(?s)/dev/pts/\d+\n.*who alice`)
		if len(srv.Sessions()) == 0 {
			t.Error("no process of the session was found")
		}
		c.Send("exit\n")
		c.Expect("Connection to 127.0.0.1 closed.")
		c.WantExit(0)
	})
	t.Run("a_vanished_client_is_cleaned_up", func(t *testing.T) {
		c := srv.Login(hosttest.Login{User: "alice", TTY: true, Command: "echo up; cat"})
		c.Answer("Password: ", phrase)
		c.Expect("up\n")
		c.Signal(syscall.SIGKILL)
		c.WantExit(137)
	})
	srv.WaitNoSessions()
	m.WaitIdle()
	if !strings.Contains(srv.Log(), "Accepted keyboard-interactive/pam for alice") {
		t.Errorf("sshd's log lacks the login: %s", srv.Log())
	}
	srv.Stop()
	if left := m.Processes(); len(left) > 0 {
		t.Errorf("sshd was stopped, but: %v", left)
	}
}

func TestSSHKeys(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", hosttest.UnixStack)
	key := m.Key("alice")

	c := m.SSHD(hosttest.SSHD{}).Login(hosttest.Login{User: "alice", Key: key, Command: "id -un"})
	c.Expect("alice\n")
	c.WantExit(0)
	if strings.Contains(c.Transcript(), "Password") {
		t.Errorf("a key needs no password: %s", c.Transcript())
	}

	both := m.SSHD(hosttest.SSHD{Options: []string{"AuthenticationMethods publickey,keyboard-interactive"}})
	c = both.Login(hosttest.Login{User: "alice", Key: key, Command: "id -un"})
	c.Answer("Password: ", phrase)
	c.Expect("alice\n")
	c.WantExit(0)

	c = both.Login(hosttest.Login{User: "alice", Command: "id -un"})
	c.Expect("Permission denied")
	c.WantExit(255)
}

func TestSSHServersHaveStacksOfTheirOwn(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd-open", "auth required pam_permit.so\n"+
		"auth optional pam_echo.so come in, %u\naccount required pam_permit.so\nsession required pam_permit.so")
	m.PAM("sshd-shut", "auth required pam_deny.so\naccount required pam_permit.so\nsession required pam_permit.so")

	c := m.SSHD(hosttest.SSHD{Service: "sshd-open"}).Login(hosttest.Login{User: "bob", Command: "id -un"})
	c.Expect("bob\n")
	c.WantExit(0)
	c = m.SSHD(hosttest.SSHD{Service: "sshd-shut"}).Login(hosttest.Login{User: "bob", Command: "id -un"})
	c.WantExit(255)
}

func TestExpiry(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", hosttest.UnixStack)
	m.AddUser("stale", hosttest.User{Password: phrase, PasswordExpired: true})
	m.AddUser("gone", hosttest.User{Password: phrase, AccountExpired: true})
	srv := m.SSHD(hosttest.SSHD{})

	c := srv.Login(hosttest.Login{User: "stale", Command: "echo in"})
	c.Answer("Password: ", phrase)
	c.Answer("Current password: ", phrase)
	c.Answer("New password: ", "Xyzzy-plugh-42")
	c.Answer("Retype new password: ", "Xyzzy-plugh-42")
	c.Expect("in\n")
	c.WantExit(0)

	c = srv.Login(hosttest.Login{User: "stale", Command: "echo in"})
	c.Answer("Password: ", "Xyzzy-plugh-42")
	c.Expect("in\n")
	c.WantExit(0)

	c = srv.Login(hosttest.Login{User: "gone", Command: "echo in"})
	c.Answer("Password: ", phrase)
	c.WantExit(255)
	m.WaitLog("account gone has expired")
}

func TestSudo(t *testing.T) {
	m := newMachine(t, "sudo")
	m.PAM("sudo", hosttest.UnixStack)

	t.Run("right_password_is_let_in", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "id", "-un")
		c.Answer("password for alice: ", phrase)
		c.Expect("root\n")
		c.WantExit(0)
	})
	t.Run("wrong_password_is_asked_again_and_refused", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "-k", "id", "-un")
		for range 3 {
			c.Answer("password for alice: ", "wrong")
		}
		c.Expect("sudo: 3 incorrect password attempts")
		c.WantExit(1)
	})
	t.Run("interrupt_ends_it", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "-k", "id", "-un")
		c.Expect("password for alice: ")
		c.Interrupt()
		c.WantExit(1)
	})
	t.Run("right_password_of_a_stranger_is_refused", func(t *testing.T) {
		c := m.Spawn("bob", "sudo", "id", "-un")
		c.Answer("password for bob: ", "bob's")
		c.Expect("bob is not in the sudoers file.")
		c.WantExit(1)
	})
	t.Run("rules_can_be_added", func(t *testing.T) {
		m.WriteFile("/etc/sudoers.d/bob", 0o440, "bob ALL=(alice) NOPASSWD: /usr/bin/id\n")
		if out, code := m.Run("bob", "sudo", "-u", "alice", "/usr/bin/id", "-un"); out != "alice\n" || code != 0 {
			t.Errorf("got %q, exit code %d", out, code)
		}
	})
	m.WaitIdle()
}

func TestSu(t *testing.T) {
	m := newMachine(t, "su")
	m.PAM("su", hosttest.UnixStack)
	m.PAM("su-l", hosttest.UnixStack)

	c := m.Spawn("alice", "su", "-", "bob", "-c", "id -un; pwd")
	c.Answer("Password: ", "bob's")
	c.Expect("bob\n/home/bob\n")
	c.WantExit(0)

	c = m.Spawn("alice", "su", "bob", "-c", "id -un")
	c.Answer("Password: ", "wrong")
	c.Expect("su: Authentication failure")
	c.WantExit(1)

	m.AddUser("root", hosttest.User{Password: "root's"})
	c = m.Spawn("alice", "su", "-c", "id -un")
	c.Answer("Password: ", "root's")
	c.Expect("root\n")
	c.WantExit(0)
	m.WaitIdle()
}

func TestLogin(t *testing.T) {
	m := newMachine(t, "login")
	m.PAM("login", hosttest.UnixStack)

	c := m.Spawn("root", "login")
	c.Answer("testhost login: ", "bob")
	c.Answer("Password: ", "wrong")
	c.Expect("Login incorrect")
	c.Answer("testhost login: ", "bob")
	c.Answer("Password: ", "bob's")
	c.Expect("$ ")
	c.Send("id -un; exit 3\n")
	c.Expect("\nbob\n")
	c.Wait()
	m.WaitLog(`pam_unix\(login:session\): session closed for user bob`)
	m.WaitIdle()
}

// Services that have nobody to ask: atd and runuser.
func TestSilentServices(t *testing.T) {
	m := newMachine(t, "at", "runuser")
	const stack = "auth required pam_permit.so\naccount required pam_permit.so\n" +
		"session required pam_exec.so seteuid /usr/local/bin/note"
	m.WriteFile("/usr/local/bin/note", 0o755, "#!/bin/sh\necho $PAM_SERVICE $PAM_TYPE $PAM_USER >>/run/notes\n")
	m.PAM("atd", stack)
	m.PAM("runuser", stack)

	if out := m.At("bob", "id -un; tty; pwd"); out != "bob\nnot a tty\n/home/bob\n" {
		t.Errorf("the job printed %q", out)
	}
	if out, code := m.Run("root", "runuser", "bob", "-c", "id -un"); out != "bob\n" || code != 0 {
		t.Errorf("runuser printed %q, exit code %d", out, code)
	}
	const want = "atd open_session bob\natd close_session bob\nrunuser open_session bob\nrunuser close_session bob\n"
	if got := m.ReadFile("/run/notes"); got != want {
		t.Errorf("hooks ran:\n%swant:\n%s", got, want)
	}

	m.PAM("atd", "auth required pam_permit.so\naccount required pam_deny.so\nsession required pam_permit.so")
	if out := m.At("bob", "id -un"); out != "" {
		t.Errorf("a refused job ran and printed %q", out)
	}
	m.WaitLog(`atd.*: (Permission denied|Authentication failure)`)
	m.WaitIdle()
}

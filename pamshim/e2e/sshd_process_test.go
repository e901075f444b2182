// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// busy asks, and then works for longer than any test runs.
const busy = "authenticate: [{secret: 'Passphrase: '}, {sleep: 1h}]"

func TestSSHLeavesNoProcess(t *testing.T) {
	m := newMachine(t, "sshd")
	m.playing("sshd", "sshd", busy)

	t.Run("while_a_session_runs_there_is_none_of_ours", func(t *testing.T) {
		m.shipped("sshd", "sshd")
		defer m.playing("sshd", "sshd", busy)
		s := m.SSHD(hosttest.SSHD{})
		c := s.Login(hosttest.Login{User: "alice", Command: "echo up; exec cat", TTY: true})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("up\n")
		if left := m.helpers(); len(left) > 0 {
			t.Errorf("beside the session there are %v", left)
		}
		c.Send("\x04")
		c.WantExit(0)
		s.WaitNoSessions()
		m.WaitIdle()
	})
	t.Run("a_client_that_vanishes_at_the_prompt", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{Options: []string{"LoginGraceTime 4"}})
		c := s.Login(hosttest.Login{User: "alice"})
		c.Expect("Passphrase: ")
		m.waitHelpers()
		c.Signal(syscall.SIGKILL)
		s.WaitNoSessions()
		m.WaitIdle()
	})
	t.Run("a_client_that_goes_silent_at_the_prompt", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{Options: []string{"LoginGraceTime 4"}})
		c := s.Login(hosttest.Login{User: "alice"})
		c.Expect("Passphrase: ")
		m.waitHelpers()
		c.Signal(syscall.SIGSTOP)
		s.WaitNoSessions()
		c.Signal(syscall.SIGKILL)
		m.WaitIdle()
	})
	t.Run("a_client_that_vanishes_while_the_provider_works", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{Options: []string{"LoginGraceTime 4"}})
		c := s.Login(hosttest.Login{User: "alice"})
		c.Answer("Passphrase: ", "x")
		m.waitHelpers()
		c.Signal(syscall.SIGKILL)
		s.WaitNoSessions()
		m.WaitIdle()
	})
	t.Run("the_lines_timeout_ends_a_provider_that_works_too_long", func(t *testing.T) {
		m.playing("sshd", "sshd", busy, "timeout=3s")
		defer m.playing("sshd", "sshd", busy)
		s := m.SSHD(hosttest.SSHD{})
		c := s.Login(hosttest.Login{User: "alice"})
		c.Answer("Passphrase: ", "x")
		c.Expect("This login is not possible at the moment")
		c.WantExit(255)
		s.WaitNoSessions()
		m.WaitIdle()
	})
	// Whichever process of sshd somebody kills, nothing of ours lives on.
	for name, pick := range map[string]func(pam, all []hosttest.Process) []hosttest.Process{
		"its_pam_process": func(pam, _ []hosttest.Process) []hosttest.Process { return pam },
		"all_of_them":     func(_, all []hosttest.Process) []hosttest.Process { return all },
	} {
		for _, at := range []string{"at_the_prompt", "while_the_provider_works"} {
			t.Run(name+"_of_sshd_killed_"+at, func(t *testing.T) {
				s := m.SSHD(hosttest.SSHD{})
				c := s.Login(hosttest.Login{User: "alice"})
				c.Expect("Passphrase: ")
				if at != "at_the_prompt" {
					c.Send("x\n")
				}
				helpers := m.waitHelpers()
				isHelper := func(p hosttest.Process) bool {
					return slices.ContainsFunc(helpers, func(h hosttest.Process) bool { return h.PID == p.PID })
				}
				all := slices.DeleteFunc(s.Sessions(), isHelper)
				pam := slices.DeleteFunc(slices.Clone(all), func(p hosttest.Process) bool { return p.PID != helpers[0].PPID })
				if len(all) < 3 || len(pam) != 1 {
					t.Fatalf("sshd's processes: %v, the one that calls PAM: %v", all, pam)
				}
				for _, p := range pick(pam, all) {
					if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
				if !m.until(func() bool { return len(m.helpers()) == 0 }) {
					t.Fatalf("left: %v", m.helpers())
				}
				c.HangUp()
				s.Stop()
				m.WaitIdle()
			})
		}
	}
}

// A client may be gone at any moment.
func TestSSHClientVanishes(t *testing.T) {
	m := newMachine(t, "sshd")
	m.shipped("sshd", "sshd")
	s := m.SSHD(hosttest.SSHD{})
	n := 10
	if soak {
		n = 300
	}
	for i := range n {
		c := s.Login(hosttest.Login{User: "alice", Command: "true"})
		moment := time.Duration(i) * 200 * time.Millisecond / time.Duration(n)
		if i%2 == 1 {
			c.Answer("Passphrase: ", pamtest.Phrase)
			moment /= 2
		}
		vanish := time.AfterFunc(moment, c.HangUp)
		c.Wait()
		vanish.Stop()
	}
	s.WaitNoSessions()
	m.WaitIdle()

	c := s.Login(hosttest.Login{User: "alice", Command: "true"})
	c.Answer("Passphrase: ", pamtest.Phrase)
	c.WantExit(0)
	s.WaitNoSessions()
	if left := m.Glob("/run/authn/*"); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
}

// What else ssh is used for goes through the same stack.
func TestSSHCarries(t *testing.T) {
	m := newMachine(t, "sshd", "scp", "sftp")
	m.shipped("sshd", "sshd")
	s := m.SSHD(hosttest.SSHD{Options: []string{"Subsystem sftp /usr/lib/openssh/sftp-server"}})
	m.WriteFile("/root/cat", 0o600, "meow\n")
	options := []string{"-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
		"-o", "PreferredAuthentications=keyboard-interactive", "-o", "NumberOfPasswordPrompts=1"}
	client := func(name string, args ...string) *hosttest.Terminal {
		return m.Spawn("root", name, append(slices.Clone(options), args...)...)
	}
	port := fmt.Sprint(s.Port)

	for _, protocol := range []string{"-s", "-O"} {
		t.Run("scp_"+protocol, func(t *testing.T) {
			c := client("scp", protocol, "-P", port, "/root/cat", "alice@127.0.0.1:cat"+protocol)
			c.Answer("Passphrase: ", pamtest.Phrase)
			c.WantExit(0)
			if got := m.ReadFile("/home/alice/cat" + protocol); got != "meow\n" {
				t.Errorf("arrived: %q", got)
			}
			c = client("scp", protocol, "-P", port, "/root/cat", "alice@127.0.0.1:not")
			c.Answer("Passphrase: ", wrong)
			if c.Wait() == 0 || len(m.Glob("/home/alice/not")) != 0 {
				t.Errorf("the wrong passphrase copied: %s", c.Transcript())
			}
		})
	}
	t.Run("sftp", func(t *testing.T) {
		c := client("sftp", "-P", port, "alice@127.0.0.1")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Answer("sftp> ", "put /root/cat kitten")
		c.Answer("sftp> ", "quit")
		c.WantExit(0)
		if got := m.ReadFile("/home/alice/kitten"); got != "meow\n" {
			t.Errorf("arrived: %q", got)
		}
	})
	t.Run("a_connection_that_only_forwards_a_port", func(t *testing.T) {
		before := strings.Count(m.LogText(), "session opened for user alice")
		c := client("ssh", "-p", port, "-N", "-o", "ExitOnForwardFailure=yes", "-v",
			"-L", "/run/forwarded:127.0.0.1:"+port, "alice@127.0.0.1")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("Entering interactive session.")
		if banner := m.banner("/run/forwarded"); !strings.HasPrefix(banner, "SSH-2.0-OpenSSH") {
			t.Errorf("through the tunnel there is %q", banner)
		}
		c.Signal(syscall.SIGTERM)
		c.Wait()
		s.WaitNoSessions()
		if n := strings.Count(m.LogText(), "session opened for user alice"); n != before+1 {
			t.Errorf("%d sessions were opened", n-before)
		}
	})
	s.WaitNoSessions()
	if text := m.LogText(); strings.Count(text, "session opened for user alice") != strings.Count(text, "session closed for user alice") {
		t.Errorf("a session was not closed:\n%s", text)
	}
	m.WaitIdle()
}

// banner returns what a server says first.
func (m machine) banner(socket string) string {
	m.t.Helper()
	var (
		buf [64]byte
		n   int
		err error
	)
	m.Do(func() {
		var conn net.Conn
		if conn, err = net.Dial("unix", socket); err != nil {
			return
		}
		defer conn.Close()
		n, err = conn.Read(buf[:])
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return string(buf[:n])
}

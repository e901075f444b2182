// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// patience is far below the push's timeout, 45 s, and far above what killing a
// few processes takes on a busy machine.
const patience = 5 * time.Second

// stopped fails the test unless everything of the call ended soon after began,
// and nobody polls any more.
func (m machine) stopped(t *testing.T, began time.Time) {
	t.Helper()
	m.WaitIdle()
	if took := time.Since(began); took > patience {
		t.Errorf("the call ended %v later", took)
	}
	if n := m.tenant.Waiting("mittens"); n != 1 {
		t.Errorf("%d pushes were waiting", n)
	}
	for _, r := range m.tenant.Requests() {
		if r.Time.After(began.Add(patience)) {
			t.Errorf("still asked: %s", r.Call())
		}
	}
	m.Run("root", "rm", "-r", "/var/lib/authn") // as if it were hours later
	m.tenant.Reject("mittens")
}

func TestInterruptedWhileAPushIsPolled(t *testing.T) {
	m := newMachine(t, nil, "su", "sudo")
	m.shipped("su", "su")
	m.shipped("sudo", "sudo")
	m.configure("push: {interval: 100ms}")

	for name, press := range map[string]func(c *hosttest.Terminal){
		"ctrl_c":            func(c *hosttest.Terminal) { c.Send("\x03") },
		"a_closed_terminal": (*hosttest.Terminal).HangUp,
	} {
		signal := map[string]syscall.Signal{"ctrl_c": syscall.SIGINT, "a_closed_terminal": syscall.SIGHUP}[name]
		t.Run(name+"_in_su_ends_it_at_once", func(t *testing.T) {
			c := m.Spawn("user", "su", "admin", "-c", "echo in")
			m.push(c, "mittens")
			m.waitPolls(2)
			began := time.Now()
			press(c)
			c.WantExit(128 + int(signal))
			m.stopped(t, began)
		})
		t.Run(name+"_in_sudo_ends_it_at_once", func(t *testing.T) {
			c := m.Spawn("admin", "sudo", "-k", "echo", "in")
			m.push(c, "mittens")
			m.waitPolls(2)
			began := time.Now()
			press(c)
			c.WantExit(1)
			m.stopped(t, began)
		})
	}
	t.Run("ctrl_c_gives_the_shell_its_prompt_back", func(t *testing.T) {
		c := m.Spawn("user", "sh", "-i")
		c.Expect("$ ")
		c.Send("su admin -c 'echo in'\n")
		m.push(c, "mittens")
		m.waitPolls(2)
		began := time.Now()
		c.Send("\x03")
		c.Expect("$ ")
		if took := time.Since(began); took > patience {
			t.Errorf("the prompt came back after %v", took)
		}
		c.Send("exit\n")
		c.Wait()
		m.stopped(t, began)
	})
}

// sshd does not notice that somebody has gone before it asks the next question,
// or LoginGraceTime is over.
func TestClientVanishesWhileAPushIsPolled(t *testing.T) {
	m := newMachine(t, nil, "sshd")
	vanish := func(s *hosttest.Server) time.Time {
		t.Helper()
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.push(c, "mittens")
		m.waitHelpers()
		m.waitPolls(2)
		c.Signal(syscall.SIGKILL)
		return time.Now()
	}

	t.Run("nothing_outlives_sshds_pam_process", func(t *testing.T) {
		const grace = 8 * time.Second
		m.configure("push: {interval: 100ms}")
		s := m.sshd(fmt.Sprintf("LoginGraceTime %.0f", grace.Seconds()))
		began := vanish(s)
		s.WaitNoSessions()
		m.stopped(t, began.Add(grace))
	})
	t.Run("polling_stops_within_the_pushs_timeout", func(t *testing.T) {
		const timeout = 3 * time.Second
		m.configure("push: {interval: 100ms, timeout: 3s}")
		s := m.sshd()
		began := vanish(s)
		s.WaitNoSessions()
		m.WaitIdle()
		for _, r := range m.tenant.Requests() {
			if r.Time.After(began.Add(timeout + time.Second)) {
				t.Errorf("%v later %s was asked", r.Time.Sub(began), r.Call())
			}
		}
		m.WaitLog(`sshd:auth\): .*result=auth_err reason="[^"]*nobody approved in time`)
	})
	t.Run("an_approval_behind_it_opens_nothing", func(t *testing.T) {
		m.configure("push: {interval: 100ms}")
		s := m.sshd()
		m.tenant.Reset()
		vanish(s)
		m.tenant.Accept("mittens")
		s.WaitNoSessions()
		m.WaitIdle()
		if text := m.LogText(); strings.Contains(text, "session opened") {
			t.Errorf("a session was opened for nobody:\n%s", text)
		}
	})
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// suL is Debian's /etc/pam.d/su-l.
const suL = `auth include su
account include su
password include su
session optional pam_keyinit.so force revoke
session include su`

func TestSu(t *testing.T) {
	m := newMachine(t, "su")
	m.shipped("su", "su")
	m.PAM("su-l", suL)

	t.Run("the_right_passphrase_becomes_another", func(t *testing.T) {
		c := m.Spawn("alice", "su", "bob", "-c", "id -un; exit 7")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("bob\n")
		c.WantExit(7)
		m.WaitLog(`su:auth\): provider=passphrase user=bob subject=bob tty=/dev/pts/\d+ ruser=alice result=success`)
	})
	t.Run("a_wrong_one_does_not", func(t *testing.T) {
		c := m.Spawn("alice", "su", "bob", "-c", "id -un")
		c.Answer("Passphrase: ", wrong)
		c.Expect("su: Authentication failure")
		c.WantExit(1)
	})
	t.Run("a_login_shell_has_the_environment_of_the_login", func(t *testing.T) {
		c := m.Spawn("alice", "su", "-", "bob")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("$ ")
		c.Send("pwd; env | grep ^AUTHN_; exit 3\n")
		c.Expect("/home/bob\n")
		c.ExpectMatch(`AUTHN_ID=[0-9a-f]{6}\n`)
		c.WantExit(3)
		m.WaitLog(`su-l:auth\): .*result=success`)
	})
	t.Run("an_account_that_is_expired_is_refused_by_pam_unix", func(t *testing.T) {
		m.AddUser("gone", hosttest.User{AccountExpired: true})
		c := m.Spawn("alice", "su", "gone", "-c", "echo in")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.WantExit(1)
		m.WaitLog("account gone has expired")
	})
	t.Run("without_a_terminal_the_phrase_is_read_from_standard_input", func(t *testing.T) {
		c := m.Command("alice", "su", "bob", "-c", "id -un")
		c.Stdin = strings.NewReader(pamtest.Phrase + "\n")
		if out, err := c.Output(); err != nil || string(out) != "bob\n" {
			t.Errorf("%v %s", err, out)
		}
	})
	t.Run("its_sessions_are_told_with_subject_and_ticket", func(t *testing.T) {
		m.playing("su", "su", `
authenticate:
  - secret: "Code: "
  - succeed: {subject: mittens@example.com, env: {AUTHN_BADGE: "17"}, ticket: abc}
account: [{echo: true}]
open_session: [{echo: true}]
close_session: [{echo: true}]
`)
		for _, args := range [][]string{{"bob", "-c", "env; echo up; exec cat"}, {"-", "bob", "-c", "env; echo up; exec cat"}} {
			before := len(m.ours())
			c := m.Spawn("alice", "su", args...)
			c.Answer("Code: ", "x")
			c.Expect("AUTHN_BADGE=17\n")
			c.Expect("up\n")
			if left := m.helpers(); len(left) > 0 {
				t.Errorf("beside the command there are %v", left)
			}
			c.Send("\x04")
			c.WantExit(0)
			text := strings.Join(m.ours()[before:], "\n")
			told := regexp.MustCompile(`:(account|session)\): .*user=bob .*subject=mittens@example.com claimed=\\"\\" ticket=3`)
			if n := len(told.FindAllString(text, -1)); n != 3 {
				t.Errorf("%d calls of account, open and close:\n%s", n, text)
			}
		}
	})
	t.Run("root_is_asked_nothing_even_when_the_provider_is_broken", func(t *testing.T) {
		m.playing("su", "su", "authenticate: [{panic: oops}]\naccount: [{panic: oops}]\nopen_session: [{panic: oops}]")
		if out, code := m.Run("root", "su", "bob", "-c", "id -un; exit 4"); code != 4 || !strings.HasSuffix(out, "bob\n") {
			t.Errorf("%d %s", code, out)
		}
	})
	m.WaitIdle()
}

// su leaves signals to what they do by default, and dies of them.
func TestSuInterrupted(t *testing.T) {
	m := newMachine(t, "su")
	m.playing("su", "su", "authenticate: [{secret: 'Code: '}, {log: at work}, {sleep: 1h}]")
	press := map[string]func(c *hosttest.Terminal){
		"ctrl_c":            func(c *hosttest.Terminal) { c.Send("\x03") },
		"a_closed_terminal": (*hosttest.Terminal).HangUp,
		"the_callers_kill":  func(c *hosttest.Terminal) { m.Run("alice", "sh", "-c", fmt.Sprint("kill -KILL ", c.PID())) },
	}
	exit := map[string]syscall.Signal{
		"ctrl_c": syscall.SIGINT, "a_closed_terminal": syscall.SIGHUP, "the_callers_kill": syscall.SIGKILL,
	}
	for name, press := range press {
		t.Run(name+"_at_the_prompt", func(t *testing.T) {
			c := m.Spawn("alice", "su", "bob", "-c", "id")
			c.Expect("Code: ")
			m.waitHelpers()
			press(c)
			c.WantExit(128 + int(exit[name]))
			m.WaitIdle()
		})
		t.Run(name+"_while_the_provider_works", func(t *testing.T) {
			before := strings.Count(m.LogText(), "at work")
			c := m.Spawn("alice", "su", "bob", "-c", "id")
			c.Answer("Code: ", "x")
			m.waitCount("at work", before+1)
			press(c)
			c.WantExit(128 + int(exit[name]))
			m.WaitIdle()
		})
	}
}

// su runs as the caller, and yet the caller cannot touch what works for it.
func TestSuCallerCannotTouchHelpers(t *testing.T) {
	m := newMachine(t, "su")
	m.playing("su", "su", "authenticate: [{secret: 'Code: '}]")
	c := m.Spawn("alice", "su", "bob", "-c", "echo in")
	c.Expect("Code: ")
	for _, p := range m.waitHelpers() {
		for _, sig := range []string{"-STOP", "-KILL", "-TERM", "-CONT", "-0"} {
			if out, code := m.Run("alice", "sh", "-c", fmt.Sprint("kill ", sig, " ", p.PID)); code == 0 || !strings.Contains(out, "not permitted") {
				t.Errorf("kill %s %v: %d %s", sig, p, code, out)
			}
		}
		for _, file := range []string{"environ", "mem", "fd", "maps"} {
			if out, code := m.Run("alice", "ls", fmt.Sprintf("/proc/%d/%s/", p.PID, file)); code == 0 {
				t.Errorf("/proc/%d/%s of %v can be read: %s", p.PID, file, p, out)
			}
			if out, code := m.Run("alice", "cat", fmt.Sprintf("/proc/%d/%s", p.PID, file)); code == 0 {
				t.Errorf("/proc/%d/%s of %v can be read: %s", p.PID, file, p, out)
			}
		}
	}
	c.Send("x\n")
	c.Expect("in\n")
	c.WantExit(0)
	m.WaitIdle()
}

// The caller's limits are inherited by setuid programs. They may make a login
// fail. They must never make it look like an outage, which opens the way to the
// emergency password, nor let anybody in.
func TestHostileLimits(t *testing.T) {
	m := newMachine(t, "su", "sudo")
	m.AddUser("bob", hosttest.User{Password: bobsOwn, Groups: []string{"break-glass"}})
	m.shipped("su", "sshd-break-glass")
	m.shipped("sudo", "sudo")

	t.Run("seven_descriptors_are_system_err", func(t *testing.T) {
		c := m.Spawn("alice", "sh", "-c", "ulimit -n 7; exec su bob -c 'echo in'")
		said := c.ExpectMatch(`This login is not possible at the moment \(reference ([0-9a-f]{6})\)`)
		c.WantExit(1)
		if strings.Contains(c.Transcript(), "assword") {
			t.Errorf("an emergency was made: %s", c.Transcript())
		}
		m.WaitLog(`pam_authn\(su:auth\): .*result=system_err reason=.* id=` + said[1])
	})
	limits := []string{"-n 16", "-n 64", "-u 0", "-v 20000", "-v 200000", "-d 20000", "-f 0", "-s 64", "-t 1"}
	if soak {
		limits = append(limits, "-n 63", "-u 1", "-d 100", "-v 400000", "-f 1", "-l 0", "-c unlimited", "-i 0", "-q 0", "-e 0", "-r 0", "-x 0")
	}
	for _, limit := range limits {
		for _, host := range []string{"su bob", "sudo -k"} {
			run := host + " sh -c 'echo in'"
			if host == "su bob" {
				run = host + " -c 'echo in'"
			}
			t.Run(strings.ReplaceAll(host+"_with_ulimit_"+limit, " ", "_"), func(t *testing.T) {
				for answer, right := range map[string]bool{pamtest.Phrase: true, wrong: false} {
					c := m.Spawn("alice", "sh", "-c", `bash -c "$0"; echo "exit code $?"`, "ulimit "+limit+"; exec "+run)
					for c.ExpectMatch(`Passphrase: |exit code \d+\n`)[0] == "Passphrase: " {
						c.Send(answer + "\n")
					}
					seen := c.Transcript()
					in := strings.Contains(seen, "in\n")
					if in && !right || in != strings.Contains(seen, "exit code 0\n") || strings.Contains(seen, "assword: ") {
						t.Errorf("the answer %q brought: %s", answer, seen)
					}
					c.Wait()
				}
			})
		}
	}
	if text := m.LogText(); strings.Contains(text, "authinfo_unavail") {
		t.Errorf("a limit looks like an outage:\n%s", text)
	}
	m.WaitIdle()
}

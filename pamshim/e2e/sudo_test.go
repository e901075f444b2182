// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

func TestSudo(t *testing.T) {
	m := newMachine(t, "sudo")
	m.shipped("sudo", "sudo")

	t.Run("the_right_passphrase_runs_the_command", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "sh", "-c", "id -un; env; exit 7")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("\nroot\n")
		c.WantExit(7)
		id := entryID(t, m, `sudo:auth\): provider=passphrase user=alice subject=alice tty=/dev/pts/\d+ ruser=alice result=success ms=\d+ id=`)
		for _, variable := range []string{"AUTHN_PROVIDER=passphrase", "AUTHN_SUBJECT=alice", "AUTHN_ID=" + id} {
			if !strings.Contains(c.Transcript(), "\n"+variable+"\n") {
				t.Errorf("the command's environment lacks %s: %s", variable, c.Transcript())
			}
		}
	})
	t.Run("three_wrong_ones_are_three_prompts_and_a_refusal", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "id")
		for range 3 {
			c.Answer("Passphrase: ", wrong)
		}
		c.Expect("sudo: 3 incorrect password attempts")
		c.WantExit(1)
		if n := strings.Count(c.Transcript(), "Passphrase: "); n != 3 {
			t.Errorf("%d prompts: %s", n, c.Transcript())
		}
	})
	t.Run("who_is_not_in_sudoers_is_refused_behind_the_passphrase", func(t *testing.T) {
		c := m.Spawn("bob", "sudo", "id")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("bob is not in the sudoers file.")
		c.WantExit(1)
	})
	t.Run("a_second_command_is_not_asked_for_again", func(t *testing.T) {
		before := strings.Count(m.LogText(), "pam_authn(sudo:account)")
		c := m.Spawn("alice", "sh", "-c", "sudo true && sudo echo cached; sudo -k; sudo echo asked")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("cached\n")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("asked\n")
		c.WantExit(0)
		if n := strings.Count(m.LogText(), "pam_authn(sudo:account)") - before; n != 3 {
			t.Errorf("the account was looked at %d times for 3 commands", n)
		}
	})
	t.Run("without_anybody_to_ask_it_is_refused", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "-n", "id")
		c.Expect("sudo: a password is required")
		c.WantExit(1)
		if out, code := m.Run("alice", "sudo", "id"); code != 1 || !strings.Contains(out, "a terminal is required") {
			t.Errorf("without a terminal: %d %s", code, out)
		}
	})
	t.Run("the_passphrase_can_come_through_standard_input", func(t *testing.T) {
		if out, code := m.Run("alice", "sh", "-c", "echo "+pamtest.Phrase+" | sudo -S -p '' id -un"); code != 0 || !strings.HasSuffix(out, "root\n") {
			t.Errorf("%d %s", code, out)
		}
	})
	t.Run("a_hostile_environment_changes_nothing", func(t *testing.T) {
		c := m.Command("alice", "sh", "-c", "ulimit -c unlimited; cd /tmp/nest && rmdir /tmp/nest && umask 777 && exec sudo -k id -un")
		m.Mkdir("/tmp/nest", 0o777)
		m.Mkdir("/tmp", 0o777)
		c.Env = append(c.Env, "LD_PRELOAD=/tmp/evil.so", "LD_LIBRARY_PATH=/tmp", "GODEBUG=inittrace=1,panicnil=1",
			"GOTRACEBACK=crash", "TMPDIR=/tmp", "HTTPS_PROXY=http://evil.example", "SSL_CERT_FILE=/tmp/evil.pem",
			"PLUGIN_UNIX_SOCKET_DIR=/tmp", "AUTHN_SUBJECT=forged", "AUTHN_PROVIDER=passphrase", "GOCOVERDIR=/tmp", "PATH=/tmp:/usr/bin")
		term := m.SpawnCmd(c)
		term.Answer("Passphrase: ", pamtest.Phrase)
		term.Expect("root\n")
		term.WantExit(0)
		if text := m.LogText(); strings.Contains(text, "forged") {
			t.Errorf("the caller's environment was believed:\n%s", text)
		}
		m.Mkdir("/tmp", 0o1777)
	})
	t.Run("prompts_are_all_that_is_shown", func(t *testing.T) {
		// sudo asks for silence, and only since 1.9.16 can be told not to.
		m.playing("sudo", "sudo", `authenticate: [{info: "Look at your phone."}, {secret: "Code:\n> "}, {error: "Too late."}, {result: system_err}]`)
		defer m.shipped("sudo", "sudo")
		c := m.Spawn("alice", "sudo", "-k", "id")
		c.Answer("Code:\n> ", "x")
		c.Expect("sudo: PAM authentication error: ")
		c.WantExit(1)
		if seen := c.Transcript(); strings.Contains(seen, "phone") || strings.Contains(seen, "late") || strings.Contains(seen, "reference") {
			t.Errorf("seen: %s", seen)
		}
	})
	t.Run("nopasswd_asks_nobody_and_looks_at_the_account", func(t *testing.T) {
		m.playing("sudo", "sudo", "authenticate: [{result: system_err}]")
		m.WriteFile("/etc/sudoers.d/bob", 0o440, "bob ALL=(alice) NOPASSWD: /usr/bin/id\n")
		if out, code := m.Run("bob", "sudo", "-u", "alice", "id", "-un"); out != "alice\n" || code != 0 {
			t.Errorf("%d %s", code, out)
		}
		m.WaitLog(`sudo:account\): provider=scenario user=bob .*result=success`)
	})
	m.WaitIdle()
}

// sudo notes signals and blocks those of the keyboard while it authenticates:
// without our help, Ctrl-C would be heard when the provider is done.
func TestSudoInterrupted(t *testing.T) {
	m := newMachine(t, "sudo")
	m.playing("sudo", "sudo", "authenticate: [{secret: 'Code: '}, {log: at work}, {sleep: 1h}]")

	for name, press := range map[string]func(c *hosttest.Terminal){
		"ctrl_c":            func(c *hosttest.Terminal) { c.Send("\x03") },
		"ctrl_backslash":    func(c *hosttest.Terminal) { c.Send("\x1c") },
		"a_closed_terminal": (*hosttest.Terminal).HangUp,
		"sigterm":           func(c *hosttest.Terminal) { m.Run("root", "sh", "-c", fmt.Sprint("kill ", c.PID())) },
	} {
		t.Run(name+"_while_the_provider_works_ends_it_at_once", func(t *testing.T) {
			before := strings.Count(m.LogText(), "at work")
			c := m.Spawn("alice", "sudo", "id")
			c.Answer("Code: ", "x")
			m.waitCount("at work", before+1)
			press(c)
			c.WantExit(1)
			if strings.Count(c.Transcript(), "Code: ") != 1 || strings.Contains(c.Transcript(), "not possible") {
				t.Errorf("seen: %s", c.Transcript())
			}
			m.WaitIdle()
		})
	}
	if n := strings.Count(m.LogText(), `result=conv_err reason="interrupted by a signal"`); n != 4 {
		t.Errorf("%d of 4 interruptions are in the log:\n%s", n, m.LogText())
	}
	for _, call := range []string{"account", "open_session"} {
		t.Run("ctrl_c_in_"+call+"_ends_it_at_once", func(t *testing.T) {
			m.scenario("authenticate: [{secret: 'Code: '}]\n" + call + ": [{log: at work in " + call + "}, {sleep: 1h}]")
			c := m.Spawn("alice", "sudo", "-k", "echo", "ran")
			c.Answer("Code: ", "x")
			m.waitCount("at work in "+call, 1)
			c.Send("\x03")
			c.Wait()
			if strings.Contains(c.Transcript(), "ran") {
				t.Errorf("seen: %s", c.Transcript())
			}
			m.WaitIdle()
		})
	}
	m.scenario("authenticate: [{secret: 'Code: '}]")
	t.Run("ctrl_c_at_the_prompt_ends_it", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "id")
		c.Expect("Code: ")
		c.Interrupt()
		c.Expect("sudo: a password is required")
		c.WantExit(1)
		m.WaitLog("sudo:auth.*result=conv_err")
		m.WaitIdle()
	})
	t.Run("a_closed_terminal_at_the_prompt_ends_it", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "id")
		c.Expect("Code: ")
		c.HangUp()
		c.WantExit(1)
		m.WaitIdle()
	})
	t.Run("a_suspended_sudo_goes_on_where_it_was", func(t *testing.T) {
		m.scenario("authenticate: [{secret: 'Code: '}, {log: at work again}, {sleep: 1s}]")
		c := m.Spawn("alice", "bash", "--norc", "-i")
		c.Expect("$ ")
		c.Send("sudo -k id -un\n")
		c.Answer("Code: ", "x")
		m.waitCount("at work again", 1)
		c.Send("\x1a")
		c.Expect("Stopped")
		c.Send("fg; exit\n")
		c.Expect("\nroot\n")
		c.WantExit(0)
		m.WaitIdle()
	})
	t.Run("a_command_is_interrupted_as_ever", func(t *testing.T) {
		m.scenario("authenticate: [{secret: 'Code: '}]\nopen_session: [{echo: true}]\nclose_session: [{sleep: 500ms}, {log: closed}]")
		c := m.Spawn("alice", "sudo", "sh", "-c", "echo up; exec cat")
		c.Answer("Code: ", "x")
		c.Expect("up\n")
		c.Send("\x03\x03\x03") // impatiently, also while the session is closed
		c.WantExit(128 + int(syscall.SIGINT))
		m.WaitLog(`sudo:session\): provider=scenario log=.*closed`)
		m.WaitIdle()
	})
}

// Authentication and session are one process here, so the provider knows who
// is there.
func TestSudoSession(t *testing.T) {
	m := newMachine(t, "sudo")
	m.playing("sudo", "sudo", `
authenticate:
  - secret: "Code: "
  - succeed: {subject: mittens@example.com, env: {AUTHN_BADGE: "17"}, ticket: abc}
account: [{echo: true}]
open_session: [{echo: true}]
close_session: [{echo: true}]
`)
	t.Run("its_start_and_end_are_told_with_subject_and_ticket", func(t *testing.T) {
		c := m.Spawn("alice", "sudo", "-u", "bob", "sh", "-c", "env; echo up; exec cat")
		c.Answer("Code: ", "x")
		c.Expect("AUTHN_BADGE=17\n")
		c.Expect("up\n")
		if left := m.helpers(); len(left) > 0 {
			t.Errorf("beside the command there are %v", left)
		}
		c.Send("\x04")
		c.WantExit(0)
		m.WaitIdle()
		text := strings.Join(m.ours(), "\n")
		for pattern, want := range map[string]int{
			`sudo:account\): .*user=alice .*subject=mittens@example.com claimed=\\"\\" ticket=3`: 1,
			`sudo:session\): .*user=bob .*subject=mittens@example.com claimed=\\"\\" ticket=3`:   2,
		} {
			if n := len(regexp.MustCompile(pattern).FindAllString(text, -1)); n != want {
				t.Errorf("%d calls, want %d, match %s:\n%s", n, want, pattern, text)
			}
		}
	})
	// sudo itself shrugs at session_err, and at nothing else.
	for result, code := range map[string]int{"session_err": 0, "perm_denied": 1, "system_err": 1} {
		t.Run("a_required_session_line_that_says_"+result, func(t *testing.T) {
			stack := strings.ReplaceAll(example(t, "sudo"), "provider=passphrase", "provider=scenario")
			m.PAM("sudo", strings.ReplaceAll(stack, "session    optional     pam_authn", "session    required     pam_authn"))
			m.scenario("authenticate: [{secret: 'Code: '}]\nopen_session: [{result: " + result + "}]")
			c := m.Spawn("alice", "sudo", "-k", "echo", "ran")
			c.Answer("Code: ", "x")
			c.WantExit(code)
			if ran := strings.Contains(c.Transcript(), "ran\n"); ran != (code == 0) {
				t.Errorf("seen: %s", c.Transcript())
			}
		})
	}
	m.WaitIdle()
}

// sudo waits for its command. Children of ours would get in the way.
func TestSudoExitStatus(t *testing.T) {
	m := newMachine(t, "sudo")
	m.playing("sudo", "sudo", "authenticate: [{secret: 'Code: '}]")
	n := 25
	if soak {
		n = 300
	}
	loop := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do i=$((i+1)); want=$((i %% 200))
sudo sh -c "exit $want"; got=$?
[ $got = $want ] || { echo "got $got, want $want"; exit 1; }
done; echo "$i right"`, n)
	for _, pty := range []string{"", "!"} {
		m.WriteFile("/etc/sudoers.d/pty", 0o440, "Defaults "+pty+"use_pty\n")
		c := m.Spawn("alice", "sh", "-c", loop)
		c.Timeout = 5 * time.Minute
		c.Answer("Code: ", "x")
		c.Expect(fmt.Sprintf("%d right\n", n))
		c.WantExit(0)
	}
	m.WaitIdle()
}

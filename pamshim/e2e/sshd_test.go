// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

const wrong = "open barley"

func TestSSH(t *testing.T) {
	m := newMachine(t, "sshd")
	m.shipped("sshd", "sshd")
	s := m.SSHD(hosttest.SSHD{})

	t.Run("the_right_passphrase_logs_in", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "alice", Command: "id -un; env; exit 7"})
		c.Answer("(alice@127.0.0.1) Passphrase: ", pamtest.Phrase)
		c.Expect("\nalice\n")
		c.WantExit(7)
		id := entryID(t, m, `sshd:auth\): provider=passphrase user=alice subject=alice rhost=127.0.0.1 tty=ssh result=success ms=\d+ id=`)
		for _, variable := range []string{"AUTHN_PROVIDER=passphrase", "AUTHN_SUBJECT=alice", "AUTHN_ID=" + id} {
			if !strings.Contains(c.Transcript(), "\n"+variable+"\n") {
				t.Errorf("the session's environment lacks %s: %s", variable, c.Transcript())
			}
		}
		if strings.Contains(c.Transcript(), pamtest.Phrase) {
			t.Errorf("the passphrase was shown: %s", c.Transcript())
		}
	})
	t.Run("three_wrong_ones_are_three_prompts_and_a_refusal", func(t *testing.T) {
		c := s.Login(threeTries("alice"))
		for range 3 {
			c.Answer("Passphrase: ", wrong)
		}
		c.WantExit(255)
		if n := strings.Count(c.Transcript(), "Passphrase: "); n != 3 {
			t.Errorf("%d prompts: %s", n, c.Transcript())
		}
		if n := strings.Count(m.LogText(), `result=auth_err reason="wrong passphrase"`); n != 3 {
			t.Errorf("%d refusals in the log:\n%s", n, m.LogText())
		}
	})
	t.Run("the_second_try_can_be_right", func(t *testing.T) {
		c := s.Login(threeTries("alice"))
		c.Answer("Passphrase: ", wrong)
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("an_unknown_user_sees_what_a_known_one_sees", func(t *testing.T) {
		var seen []string
		for _, user := range []string{"alice", "ghost"} {
			for _, answer := range []string{wrong, pamtest.Phrase} {
				if user == "alice" && answer != wrong {
					continue
				}
				c := s.Login(threeTries(user))
				for range 3 {
					c.Answer("Passphrase: ", answer)
				}
				c.WantExit(255)
				seen = append(seen, strings.ReplaceAll(c.Transcript(), user, "USER"))
			}
		}
		for _, transcript := range seen {
			if transcript != seen[0] {
				t.Errorf("a stranger sees\n%sinstead of\n%s", transcript, seen[0])
			}
		}
		if strings.Contains(strings.Join(m.ours(), "\n"), "ghost") {
			t.Errorf("a name that was typed, and may be a password, is in the log:\n%s", m.LogText())
		}
	})
	t.Run("a_passphrase_of_other_bytes_than_text_is_only_wrong", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Answer("Passphrase: ", "\xff\xfe\xc3("+strings.Repeat("x", 900))
		c.WantExit(255)
		m.WaitLog(`sshd:auth.*result=auth_err reason="wrong passphrase"`)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

func threeTries(user string) hosttest.Login {
	return hosttest.Login{User: user, Command: "echo in", Options: []string{"NumberOfPasswordPrompts=3"}}
}

// entryID waits for a log line of pam_authn and returns the reference in it.
func entryID(t *testing.T, m machine, pattern string) string {
	t.Helper()
	e := m.WaitLog(`pam_authn\(` + pattern)
	match := regexp.MustCompile(`id=([0-9a-f]{6})`).FindStringSubmatch(e.Text)
	if match == nil {
		t.Fatalf("no reference in %s", e)
	}
	return match[1]
}

// Who may not use the account is kept out, whatever they know.
func TestSSHAccount(t *testing.T) {
	m := newMachine(t, "sshd")
	m.shipped("sshd", "sshd")
	m.AddUser("gone", hosttest.User{AccountExpired: true})
	m.AddUser("stale", hosttest.User{Password: "stale's", PasswordExpired: true})
	key := m.Key("alice")
	s := m.SSHD(hosttest.SSHD{})
	allow := "authenticate: [{secret: 'Passphrase: ', expect: open sesame}]\n"

	t.Run("an_expired_account_is_refused_by_pam_unix", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "gone", Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.WantExit(255)
		m.WaitLog("pam_unix.sshd:account.: account gone has expired")
	})
	t.Run("an_expired_password_is_changed_by_pam_unix", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "stale", Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Answer("Current password: ", "stale's")
		c.Answer("New password: ", "Xyzzy-plugh-42")
		c.Answer("Retype new password: ", "Xyzzy-plugh-42")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("nologin_keeps_people_out_but_not_root", func(t *testing.T) {
		m.WriteFile("/etc/nologin", 0o644, "closed for the night\n")
		defer m.Run("root", "rm", "/etc/nologin")
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("closed for the night")
		c.WantExit(255)
		c = s.Login(hosttest.Login{User: "root", Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("in\n")
		c.WantExit(0)
	})
	for _, result := range []string{"perm_denied", "acct_expired", "authinfo_unavail", "system_err"} {
		t.Run("the_providers_"+result+"_refuses", func(t *testing.T) {
			m.playing("sshd", "sshd", allow+"account: [{result: "+result+"}]")
			c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
			c.Answer("Passphrase: ", pamtest.Phrase)
			c.WantExit(255)
			c = s.Login(hosttest.Login{User: "alice", Key: key, Command: "echo in",
				Options: []string{"KbdInteractiveAuthentication=no"}})
			c.WantExit(255)
			m.WaitLog(`sshd:account\): .*result=` + result)
			if strings.Contains(c.Transcript(), "in\n") {
				t.Errorf("a key let in: %s", c.Transcript())
			}
		})
	}
	t.Run("the_providers_refusal_holds_for_an_expired_password", func(t *testing.T) {
		m.AddUser("stale", hosttest.User{Password: "stale's", PasswordExpired: true})
		m.playing("sshd", "sshd", allow+"account: [{result: perm_denied}]")
		c := s.Login(hosttest.Login{User: "stale", Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.WantExit(255)
		if strings.Contains(c.Transcript(), "Current password") {
			t.Errorf("common-account ended the stack: %s", c.Transcript())
		}
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

func TestSSHKeys(t *testing.T) {
	m := newMachine(t, "sshd")
	m.playing("sshd", "sshd", `
authenticate: [{secret: 'Passphrase: ', expect: open sesame}]
account: [{echo: true}]
open_session: [{echo: true}]
close_session: [{echo: true}]
`)
	key := m.Key("alice")

	t.Run("a_key_alone_logs_in_and_has_no_ticket_and_no_subject", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{})
		c := s.Login(hosttest.Login{User: "alice", Key: key, Command: "env; echo in"})
		c.Expect("in\n")
		c.WantExit(0)
		s.WaitNoSessions()
		if strings.Contains(c.Transcript(), "Passphrase") || strings.Contains(c.Transcript(), "AUTHN_") {
			t.Errorf("seen: %s", c.Transcript())
		}
		for _, call := range []string{"account", "session", "session"} {
			m.WaitLog(`sshd:` + call + `\): provider=scenario log="msg=request .*subject=\\"\\" claimed=\\"\\" ticket=0`)
		}
		if n := strings.Count(m.LogText(), "log=\"msg=request"); n != 3 {
			t.Errorf("%d calls, want account, open and close:\n%s", n, m.LogText())
		}
	})
	t.Run("key_and_passphrase_can_both_be_asked_for", func(t *testing.T) {
		s := m.SSHD(hosttest.SSHD{Options: []string{"AuthenticationMethods publickey,keyboard-interactive:pam"}})
		c := s.Login(hosttest.Login{User: "alice", Key: key, Command: "echo in"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("in\n")
		c.WantExit(0)
		c = s.Login(hosttest.Login{User: "alice", Key: key, Command: "echo in"})
		c.Answer("Passphrase: ", wrong)
		c.WantExit(255)
		c = s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Expect("Permission denied")
		c.WantExit(255)
		if strings.Contains(c.Transcript(), "Passphrase") {
			t.Errorf("asked without a key: %s", c.Transcript())
		}
		s.WaitNoSessions()
	})
	m.WaitIdle()
}

// What a provider hears of a session, and whom it may believe.
func TestSSHSession(t *testing.T) {
	m := newMachine(t, "sshd")
	const scenario = `
authenticate:
  - secret: "Passphrase: "
  - succeed: {subject: mittens@example.com, env: {AUTHN_BADGE: "17"}, ticket: abc}
account: [{echo: true}]
open_session: [{echo: true}]
close_session: [{echo: true}]
`
	s := m.SSHD(hosttest.SSHD{})
	login := func(t *testing.T) string {
		t.Helper()
		before := len(m.ours())
		c := s.Login(hosttest.Login{User: "alice", Command: "env"})
		c.Answer("Passphrase: ", "x")
		c.Expect("AUTHN_ID=")
		c.WantExit(0)
		s.WaitNoSessions()
		return c.Transcript() + strings.Join(m.ours()[before:], "\n")
	}
	claimed := func(t *testing.T, seen, subject string) {
		t.Helper()
		heard := regexp.MustCompile(`sshd:session\): .*log="msg=request .*subject=\\"\\" claimed=` + subject + ` ticket=0`)
		logged := regexp.MustCompile(`sshd:session\): provider=scenario user=alice claimed_subject=` + subject + ` `)
		if h, l := len(heard.FindAllString(seen, -1)), len(logged.FindAllString(seen, -1)); h != 2 || l != 2 {
			t.Errorf("%d of 2 session calls heard of the claimed subject %s, and %d logged it:\n%s", h, subject, l, seen)
		}
	}

	t.Run("its_start_and_end_are_told_once_with_one_reference", func(t *testing.T) {
		m.playing("sshd", "sshd", scenario)
		seen := login(t)
		ids := map[string]int{}
		for _, match := range regexp.MustCompile(`\): .* id=([0-9a-f]{6})`).FindAllStringSubmatch(seen, -1) {
			ids[match[1]]++
		}
		// auth, account, open and close; all but the first with an echo.
		if len(ids) != 1 || strings.Count(seen, "result=success") != 4 {
			t.Errorf("references %v in\n%s", ids, seen)
		}
		if !strings.Contains(seen, "AUTHN_BADGE=17\n") || !strings.Contains(seen, "AUTHN_SUBJECT=mittens@example.com\n") {
			t.Errorf("the provider's environment is not the session's:\n%s", seen)
		}
	})
	t.Run("account_knows_the_subject_and_session_hears_a_claim", func(t *testing.T) {
		// sshd authenticates in one process and opens sessions in another.
		seen := login(t)
		if !regexp.MustCompile(`sshd:account\): .*subject=mittens@example.com claimed=\\"\\" ticket=3`).MatchString(seen) {
			t.Errorf("the account call did not get what authenticate said:\n%s", seen)
		}
		claimed(t, seen, "mittens@example.com")
	})
	t.Run("in_front_of_pam_env_nobody_can_forge_it", func(t *testing.T) {
		m.WriteFile("/home/alice/.pam_environment", 0o644, "AUTHN_SUBJECT DEFAULT=forged\n")
		seen := login(t)
		claimed(t, seen, "mittens@example.com")
		if !strings.Contains(seen, "AUTHN_SUBJECT=forged\n") {
			t.Errorf("the forgery is not even in the session's environment:\n%s", seen)
		}
	})
	t.Run("behind_pam_env_a_forgery_is_a_claim_and_no_more", func(t *testing.T) {
		var lines []string
		ours := ""
		for line := range strings.Lines(strings.ReplaceAll(quick(example(t, "sshd")), "passphrase", "scenario")) {
			if strings.HasPrefix(line, "session") && strings.Contains(line, "pam_authn") {
				ours = line
				continue
			}
			lines = append(lines, line)
		}
		m.PAM("sshd", strings.Join(lines, "")+ours)
		claimed(t, login(t), "forged")
	})
	t.Run("a_session_that_the_provider_refuses_goes_on", func(t *testing.T) {
		m.playing("sshd", "sshd", "open_session: [{result: session_err}]\nclose_session: [{panic: oops}]\n")
		before := strings.Count(m.LogText(), "pam_unix(sshd:session): session closed")
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Expect("in\n")
		c.WantExit(0)
		s.WaitNoSessions()
		m.WaitLog(`sshd:session\): .*result=session_err`)
		m.WaitLog(`sshd:session\): .*result=system_err`)
		if n := strings.Count(m.LogText(), "pam_unix(sshd:session): session closed"); n != before+1 {
			t.Errorf("the modules behind ours did not hear of the end:\n%s", m.LogText())
		}
	})
	m.WaitIdle()
}

// With sshd's password method PAM runs in the privileged process itself, and
// every hidden question gets the password.
func TestSSHPasswordMethod(t *testing.T) {
	m := newMachine(t, "sshd")
	m.shipped("sshd", "sshd")
	s := m.SSHD(hosttest.SSHD{Options: []string{"PasswordAuthentication yes", "KbdInteractiveAuthentication no"}})
	login := hosttest.Login{User: "alice", Command: "echo in", Options: []string{"PreferredAuthentications=password"}}

	c := s.Login(login)
	c.Answer("alice@127.0.0.1's password: ", pamtest.Phrase)
	c.Expect("in\n")
	c.WantExit(0)
	c = s.Login(login)
	c.Answer("alice@127.0.0.1's password: ", wrong)
	c.WantExit(255)
	s.WaitNoSessions()
	if text := strings.Join(m.ours(), "\n"); strings.Contains(text, "claimed_subject") {
		t.Errorf("one process did it all, and yet:\n%s", text)
	}

	m.playing("sshd", "sshd", "authenticate: [{prompt: 'Code: '}]")
	c = s.Login(login)
	c.Answer("alice@127.0.0.1's password: ", pamtest.Phrase)
	c.WantExit(255)
	m.WaitLog("sshd:auth.*result=conv_err")
	s.WaitNoSessions()
	m.WaitIdle()
}

// What README.md says of trying a stack out: sshd under another name uses
// another stack, and the one that works goes on working.
func TestSSHTrial(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", hosttest.UnixStack)
	m.shipped("sshd-authn", "sshd")
	trial := m.SSHD(hosttest.SSHD{Service: "sshd-authn"})
	c := trial.Login(hosttest.Login{User: "alice", Command: "echo in"})
	c.Answer("Passphrase: ", pamtest.Phrase)
	c.WantExit(0)
	c = m.SSHD(hosttest.SSHD{}).Login(hosttest.Login{User: "alice", Command: "echo in"})
	c.Answer("Password: ", alicesOwn)
	c.WantExit(0)
}

// The administrator's tool finds nothing to say about what is shipped.
func TestShippedStacksPassCheck(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"sshd", "sudo", "su", "sshd-break-glass"} {
		m.PAM(name, example(t, name))
		if out, code := m.Run("root", "authnctl", "check", "/etc/pam.d/"+name); code != 0 {
			t.Errorf("%s: %d %s", name, code, out)
		}
	}
}

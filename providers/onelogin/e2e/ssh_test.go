// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

func TestSSH(t *testing.T) {
	m := newMachine(t, nil, "sshd", "sudo")
	m.shipped("sudo", "sudo")
	s := m.sshd()

	t.Run("a_code_opens_the_account_of_the_persons_role", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "id -un; env"})
		c.Answer("(admin@127.0.0.1) "+askName, "mittens")
		code := m.tenant.TOTP("mittens")
		c.Answer("(admin@127.0.0.1) "+askOTP, code)
		c.Expect("\nadmin\n")
		c.WantExit(0)
		line := m.WaitLog(`pam_authn\(sshd:auth\): provider=onelogin user=admin subject=mittens rhost=127.0.0.1 tty=ssh result=success ms=\d+ id=[0-9a-f]{6}`)
		id := regexp.MustCompile(`id=(\w+)`).FindStringSubmatch(line.Text)[1]
		for _, variable := range []string{"AUTHN_PROVIDER=onelogin", "AUTHN_SUBJECT=mittens", "AUTHN_ID=" + id} {
			if !strings.Contains(c.Transcript(), "\n"+variable+"\n") {
				t.Errorf("the session's environment lacks %s:\n%s", variable, c.Transcript())
			}
		}
		m.lacks(c, code)
	})
	t.Run("admin_runs_sudo_with_another_code", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "sudo id -un", TTY: true})
		m.otp(c, "mittens")
		m.otp(c, "mittens")
		c.Expect("\nroot\n")
		c.WantExit(0)
		m.WaitLog(`pam_authn\(sudo:auth\): provider=onelogin user=admin subject=mittens tty=/dev/pts/\d+ ruser=admin result=success`)
	})
	t.Run("user_gets_in_by_email_address_and_may_not_run_sudo", func(t *testing.T) {
		m.tenant.SetVariants(onelogintest.Variants{FoldCase: true})
		defer m.tenant.SetVariants(onelogintest.Variants{})
		c := s.Login(hosttest.Login{User: "user", Command: "id -un; sudo id -un", TTY: true})
		c.Answer(askName, "Tom@Example.com")
		c.Answer(askOTP, m.tenant.TOTP("tom"))
		c.Expect("\nuser\n")
		m.otp(c, "tom")
		c.Expect("user is not in the sudoers file.")
		c.WantExit(1)
		m.lacks(c, "root")
	})
	t.Run("sudo_turns_away_who_has_not_the_callers_role", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "sudo id -un", TTY: true})
		m.otp(c, "mittens")
		m.otp(c, "tom")
		c.Expect("sudo: ")
		c.WantExit(1)
		m.lacks(c, "root")
		m.WaitLog(`pam_authn\(sudo:auth\): .*result=auth_err reason="[^"]*without a role for this account`)
	})
	t.Run("the_second_try_can_be_right", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in", Options: []string{"NumberOfPasswordPrompts=2"}})
		c.Answer(askName, "mittens")
		c.Answer(askOTP, "135790")
		m.otp(c, "mittens")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("two_people_share_an_account_and_are_told_apart", func(t *testing.T) {
		var both []*hosttest.Terminal
		for _, name := range []string{"mittens", "tom"} {
			c := s.Login(hosttest.Login{User: "user", Command: "echo $AUTHN_SUBJECT is user; exec cat", TTY: true})
			m.otp(c, name)
			c.Expect("\n" + name + " is user\n")
			m.WaitLog(`sshd:session\): provider=onelogin log="msg=\\"session opened\\" account=user claimed_subject=` + name)
			both = append(both, c)
		}
		for _, c := range both {
			c.Send("\x04")
			c.WantExit(0)
		}
	})
	t.Run("its_session_is_logged_with_the_person", func(t *testing.T) {
		for _, what := range []string{"session opened", "session closed"} {
			m.WaitLog(`pam_authn\(sshd:session\): provider=onelogin log="msg=\\"` + what + `\\" account=admin `)
		}
	})
	t.Run("with_log_stderr_the_lines_are_in_sshds_own_log", func(t *testing.T) {
		s.WaitNoSessions()
		m.shipped("sshd", "sshd", "log=stderr")
		before := m.LogText()
		c := s.Login(hosttest.Login{User: "admin", Command: "true", Options: []string{"NumberOfPasswordPrompts=2"}})
		c.Answer(askName, "tom")
		c.Answer(askOTP, "135790")
		m.otp(c, "mittens")
		c.WantExit(0)
		s.WaitLog(`pam_authn(sshd:auth): provider=onelogin user=admin rhost=127.0.0.1 tty=ssh result=auth_err reason="`)
		s.WaitLog("pam_authn(sshd:auth): provider=onelogin user=admin subject=mittens rhost=127.0.0.1 tty=ssh result=success ")
		s.WaitNoSessions()
		if more := strings.TrimPrefix(m.LogText(), before); strings.Contains(more, "pam_authn") {
			t.Errorf("syslog has lines, too:\n%s", more)
		}
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// Who is kept out sees one thing, whoever that is and whatever the reason. The
// log has the reason.
func TestRefusals(t *testing.T) {
	m := newMachine(t, []onelogintest.Option{onelogintest.ReusableCodes()}, "sshd")
	s := m.sshd()
	try := func(account, name, code string) string {
		t.Helper()
		c := s.Login(hosttest.Login{User: account, Command: "echo in"})
		c.Answer(askName, name)
		c.Answer(askOTP, code)
		c.WantExit(255)
		return strings.NewReplacer(account+"@", "ACCOUNT@", name, "NAME").Replace(c.Transcript())
	}
	wrong := try("admin", "mittens", "135790")
	if !strings.Contains(wrong, askOTP) || strings.Contains(wrong, "in\n") {
		t.Fatalf("a wrong code sees\n%s", wrong)
	}
	m.WaitLog(`sshd:auth\): provider=onelogin user=admin rhost=127.0.0.1 tty=ssh result=auth_err reason="[^"]*\(id \d+\): wrong code" ms=\d+ id=[0-9a-f]{6}`)

	for name, who := range map[string]struct{ account, name, code, reason string }{
		"a_person_without_the_role":           {"admin", "tom", m.tenant.TOTP("tom"), `reason="[^"]*without a role for this account`},
		"a_locked_person":                     {"admin", "felix", m.tenant.TOTP("felix"), `reason="[^"]*status 3 \(locked\)`},
		"a_person_without_a_factor":           {"admin", "smokey", "123456", `reason="[^"]*no factor`},
		"a_name_that_nobody_has":              {"admin", "garfield", "123456", `reason="nobody answers to the typed name`},
		"a_wildcard":                          {"admin", "*", "123456", `reason="a name that nobody can have`},
		"an_account_that_no_role_is_for":      {"backup", "mittens", m.tenant.TOTP("mittens"), `reason="[^"]*user_roles has no such account`},
		"an_account_that_does_not_exist":      {"ghost", "mittens", m.tenant.TOTP("mittens"), `reason="[^"]*user_roles has no such account`},
		"a_code_that_is_none":                 {"admin", "mittens", "let me in!", `reason="[^"]*what was typed cannot be a code`},
		"a_code_of_somebody_else":             {"user", "tom", m.tenant.TOTP("mittens"), `reason="[^"]*wrong code`},
		"a_name_with_a_forged_log_line_in_it": {"admin", "x result=success", "123456", `reason="nobody answers`},
	} {
		t.Run(name+"_sees_what_a_wrong_code_sees", func(t *testing.T) {
			if seen := try(who.account, who.name, who.code); seen != wrong {
				t.Errorf("sees\n%s\ninstead of\n%s", seen, wrong)
			}
			logged := strings.ReplaceAll(who.account, "ghost", `\?`)
			m.WaitLog(`pam_authn\(sshd:auth\): provider=onelogin user=` + logged + ` rhost=127.0.0.1 tty=ssh result=auth_err ` + who.reason)
		})
	}
	for _, typed := range []string{"garfield", "x result", "let me in"} {
		if strings.Contains(m.LogText(), typed) {
			t.Errorf("what was typed, and may be a password, is in the log:\n%s", m.LogText())
		}
	}
	if n := m.tenant.Count("", "/api/2/mfa/users/*/verifications") - m.tenant.Count("", "/api/2/mfa/users/2147483647/verifications"); n != 3 {
		t.Errorf("%d codes were submitted for somebody; 3 came from somebody with a factor: %q", n, m.tenant.Sequence())
	}
	s.WaitNoSessions()
	m.WaitIdle()
}

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

// The module among other modules that ask for a password. su to bob stands for
// any host.
func TestFirstPass(t *testing.T) {
	m := newMachine(t, "su")
	m.AddUser("both", hosttest.User{Password: pamtest.Phrase}) // whose password is the phrase
	m.scenario("authenticate: [{secret: 'Code: ', expect: open sesame}, {secret: 'PIN: ', expect: '1'}]")
	const (
		unix  = "auth required pam_unix.so nodelay\n"
		ours  = "auth required pam_authn.so provider=passphrase"
		two   = "auth required pam_authn.so provider=scenario"
		other = "account required pam_permit.so\nsession required pam_permit.so\n"
	)
	for name, c := range map[string]struct {
		stack  string
		user   string
		dialog []string // prompt, answer, ...
		code   int
	}{
		"behind_pam_unix_each_asks": {
			unix + ours, "bob", []string{"Password: ", bobsOwn, "Passphrase: ", pamtest.Phrase}, 0,
		},
		"behind_pam_unix_both_must_be_right": {
			unix + ours, "bob", []string{"Password: ", "x", "Passphrase: ", pamtest.Phrase}, 1,
		},
		"in_front_of_pam_unix_each_asks": {
			ours + "\n" + unix, "bob", []string{"Passphrase: ", pamtest.Phrase, "Password: ", bobsOwn}, 0,
		},
		"in_front_of_pam_unix_the_answer_stays_ours": {
			ours + "\nauth required pam_unix.so nodelay try_first_pass\n", "both", []string{"Passphrase: ", pamtest.Phrase, "Password: ", pamtest.Phrase}, 0,
		},
		"in_front_as_sufficient_it_suffices": {
			"auth sufficient pam_authn.so provider=passphrase\n" + unix, "bob", []string{"Passphrase: ", pamtest.Phrase}, 0,
		},
		"in_front_as_sufficient_the_password_is_the_other_way_in": {
			"auth sufficient pam_authn.so provider=passphrase\n" + unix, "bob", []string{"Passphrase: ", wrong, "Password: ", bobsOwn}, 0,
		},
		"try_first_pass_takes_the_password": {
			unix + ours + " try_first_pass", "both", []string{"Password: ", pamtest.Phrase}, 0,
		},
		"try_first_pass_refuses_a_password_that_is_not_the_phrase": {
			unix + ours + " try_first_pass", "bob", []string{"Password: ", bobsOwn}, 1,
		},
		"try_first_pass_takes_it_once_and_then_asks": {
			unix + two + " try_first_pass", "both", []string{"Password: ", pamtest.Phrase, "PIN: ", "1"}, 0,
		},
		"try_first_pass_with_nothing_before_asks": {
			ours + " try_first_pass", "bob", []string{"Passphrase: ", pamtest.Phrase}, 0,
		},
		"use_first_pass_takes_the_password": {
			unix + ours + " use_first_pass", "both", []string{"Password: ", pamtest.Phrase}, 0,
		},
		"use_first_pass_asks_nothing_else": {
			unix + two + " use_first_pass", "both", []string{"Password: ", pamtest.Phrase}, 1,
		},
		"use_first_pass_with_nothing_before_refuses": {
			ours + " use_first_pass", "bob", nil, 1,
		},
		"both_words_are_a_fault": {
			unix + ours + " use_first_pass try_first_pass", "both", []string{"Password: ", pamtest.Phrase}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m.PAM("su", c.stack+"\n"+other)
			term := m.Spawn("alice", "su", c.user, "-c", "true")
			for i := 0; i < len(c.dialog); i += 2 {
				term.Answer(c.dialog[i], c.dialog[i+1])
			}
			term.WantExit(c.code)
			if n := strings.Count(term.Transcript(), ": \n"); n != len(c.dialog)/2 {
				t.Errorf("%d questions, want %d: %s", n, len(c.dialog)/2, term.Transcript())
			}
		})
	}
	if text := m.LogText(); strings.Contains(text, pamtest.Phrase) || strings.Contains(text, bobsOwn) {
		t.Errorf("a password is in the log:\n%s", text)
	}
	m.WaitIdle()
}

func TestLog(t *testing.T) {
	m := newMachine(t, "sshd", "su", "sudo")
	for _, service := range []string{"sshd", "su", "sudo"} {
		m.shipped(service, service)
	}
	m.WriteFile("/etc/sudoers.d/once", 0o440, "Defaults passwd_tries=1\n")
	s := m.SSHD(hosttest.SSHD{})

	t.Run("one_line_a_call_with_all_fields", func(t *testing.T) {
		for _, answer := range []string{pamtest.Phrase, wrong} {
			c := s.Login(hosttest.Login{User: "alice", Command: "true"})
			c.Answer("Passphrase: ", answer)
			c.Wait()
			c = m.Spawn("alice", "su", "bob", "-c", "true")
			c.Answer("Passphrase: ", answer)
			c.Wait()
			c = m.Spawn("alice", "sudo", "-k", "true")
			c.Answer("Passphrase: ", answer)
			c.Wait()
		}
		s.WaitNoSessions()
		var auth []string
		for _, line := range m.ours() {
			if strings.Contains(line, ":auth)") {
				auth = append(auth, line)
			}
		}
		const (
			right  = ` result=success ms=\d+ id=[0-9a-f]{6}$`
			notOne = ` result=auth_err reason="wrong passphrase" ms=\d+ id=[0-9a-f]{6}$`
			tty    = ` tty=/dev/pts/\d+ ruser=alice`
		)
		want := []string{
			`^sshd:auth\): provider=passphrase user=alice subject=alice rhost=127\.0\.0\.1 tty=ssh` + right,
			`^su:auth\): provider=passphrase user=bob subject=bob` + tty + right,
			`^sudo:auth\): provider=passphrase user=alice subject=alice` + tty + right,
			`^sshd:auth\): provider=passphrase user=alice rhost=127\.0\.0\.1 tty=ssh` + notOne,
			`^su:auth\): provider=passphrase user=bob` + tty + notOne,
			`^sudo:auth\): provider=passphrase user=alice` + tty + notOne,
		}
		if len(auth) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(auth), len(want), strings.Join(auth, "\n"))
		}
		for i, line := range auth {
			if !regexp.MustCompile(want[i]).MatchString(line) {
				t.Errorf("logged %q, want a match of %q", line, want[i])
			}
		}
		for _, e := range m.Log() {
			if !strings.HasPrefix(e.Text, "pam_authn(") {
				continue
			}
			service, _, _ := strings.Cut(strings.TrimPrefix(e.Text, "pam_authn("), ":")
			severity := map[bool]string{true: "info", false: "notice"}[regexp.MustCompile("result=(success|ignore)").MatchString(e.Text)]
			if e.Facility != "authpriv" || e.Severity != severity || e.Tag != service || e.PID == 0 {
				t.Errorf("logged as %s", e)
			}
		}
	})
	t.Run("nobody_forges_a_line_or_a_field", func(t *testing.T) {
		name := "x result=success\n<0>root: \x1b[31m"
		m.Run("alice", "su", name, "-c", "true")
		c := s.Login(hosttest.Login{User: "x result=success id=000000", Command: "true"})
		c.Answer("Passphrase: ", wrong)
		c.WantExit(255)
		for _, line := range m.ours() {
			if strings.ContainsAny(line, "\n\x1b") || strings.Contains(line, "id=000000") {
				t.Errorf("logged %q", line)
			}
		}
	})
	t.Run("stderr_through_a_pipe_of_sshd", func(t *testing.T) {
		m.PAM("sshd", strings.ReplaceAll(quick(example(t, "sshd")), "provider=passphrase", "provider=passphrase log=stderr"))
		before := len(m.ours())
		c := s.Login(hosttest.Login{User: "alice", Command: "true"})
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.WantExit(0)
		s.WaitNoSessions()
		s.WaitLog("pam_authn(sshd:auth): provider=passphrase user=alice subject=alice rhost=127.0.0.1 tty=ssh result=success ")
		if lines := m.ours()[before:]; len(lines) > 0 {
			t.Errorf("syslog has lines, too: %q", lines)
		}
	})
	t.Run("stderr_is_used_if_it_is_a_pipe_and_not_the_callers", func(t *testing.T) {
		m.PAM("su", strings.ReplaceAll(quick(example(t, "su")), "provider=passphrase", "provider=passphrase log=stderr"))
		for _, c := range []struct {
			from, redirect string
			logged         bool
		}{
			{"root", "2>&1 | cat >/tmp/log", true},
			{"root", "2>/tmp/log", false}, // may be anybody's
			{"root", "2>/dev/null", false},
			{"root", "2>&-", false},
			{"alice", "2>&1 | cat >/tmp/log", false}, // alice could throw it away
			{"alice", "2>/tmp/log", false},
			{"alice", "", false},
		} {
			before := len(m.ours())
			m.WriteFile("/tmp/log", 0o666, "")
			term := m.Spawn(c.from, "sh", "-c", "(echo '"+pamtest.Phrase+"' | su bob -c true) "+c.redirect)
			term.WantExit(0)
			seen := term.Transcript() + m.ReadFile("/tmp/log")
			if logged := strings.Contains(seen, "pam_authn(su:session): provider=passphrase user=bob"); logged != c.logged {
				t.Errorf("with %q %s sees %q", c.redirect, c.from, seen)
			}
			if lines := m.ours()[before:]; (len(lines) == 0) != c.logged {
				t.Errorf("with %q of %s syslog has %q", c.redirect, c.from, lines)
			}
		}
	})
	m.WaitIdle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

const (
	unreachable = "authenticate: [{secret: 'Code: '}, {result: authinfo_unavail, reason: no route}]\n"
	emergency   = "The login service cannot be reached. Only emergency access is left, with a local password.\n"
)

// breakGlass makes a machine whose sshd has the break-glass stack, with alice in
// the group and bob outside of it. Debian's pam_unix would wait two seconds.
func breakGlass(t *testing.T) (machine, *hosttest.Server) {
	t.Helper()
	m := newMachine(t, "sshd")
	m.AddUser("alice", hosttest.User{Password: alicesOwn, Groups: []string{"break-glass"}})
	return m, m.SSHD(hosttest.SSHD{})
}

func (m machine) playBreakGlass(scenario string) {
	m.t.Helper()
	m.playing("sshd", "sshd-break-glass", scenario)
	stack := m.ReadFile("/etc/pam.d/sshd")
	m.PAM("sshd", strings.Replace(stack, "required     pam_unix.so", "required     pam_unix.so nodelay", 1))
}

func TestBreakGlass(t *testing.T) {
	m, s := breakGlass(t)
	login := func(user string) *hosttest.Terminal {
		return s.Login(hosttest.Login{User: user, Command: "env; echo in"})
	}

	t.Run("a_known_person_needs_no_password", func(t *testing.T) {
		m.playBreakGlass("authenticate: [{secret: 'Code: '}]")
		for _, user := range []string{"alice", "bob"} {
			c := login(user)
			c.Answer("Code: ", "x")
			c.Expect("in\n")
			c.WantExit(0)
			if strings.Contains(c.Transcript(), "assword") || !strings.Contains(c.Transcript(), "AUTHN_SUBJECT="+user) {
				t.Errorf("seen: %s", c.Transcript())
			}
		}
	})

	m.playBreakGlass(unreachable)
	t.Run("unreachable_a_member_with_the_right_password_is_in", func(t *testing.T) {
		c := login("alice")
		c.Answer("Code: ", "x")
		c.ExpectMatch(`This login is not possible at the moment \(reference [0-9a-f]{6}\)\.`)
		c.Answer("\n"+emergency+"Password: ", alicesOwn)
		c.Expect("in\n")
		c.WantExit(0)
		if strings.Contains(c.Transcript(), "AUTHN_") {
			t.Errorf("nobody was proven to be there: %s", c.Transcript())
		}
		e := m.WaitLog(`pam_authn\(sshd:auth\): .*result=authinfo_unavail reason="no route"`)
		if e.Severity != "alert" {
			t.Errorf("logged at level %s", e.Severity)
		}
	})
	t.Run("unreachable_everybody_else_is_refused_and_learns_nothing", func(t *testing.T) {
		var seen []string
		for _, try := range []struct{ user, password string }{
			{"alice", bobsOwn}, {"bob", bobsOwn}, {"bob", alicesOwn}, {"ghost", bobsOwn}, {"alice", ""},
		} {
			c := login(try.user)
			c.Answer("Code: ", "x")
			said := c.ExpectMatch(`\(reference ([0-9a-f]{6})\)`)
			c.Answer("Password: ", try.password)
			c.WantExit(255)
			seen = append(seen, strings.NewReplacer(try.user, "USER", said[1], "REFERENCE").Replace(c.Transcript()))
		}
		for _, transcript := range seen {
			if transcript != seen[0] {
				t.Errorf("one sees\n%swhere another sees\n%s", transcript, seen[0])
			}
		}
		m.WaitLog(`pam_succeed_if\(sshd:auth\): requirement "user ingroup break-glass" not met by user "bob"`)
	})
	t.Run("unreachable_an_account_without_a_password_is_refused", func(t *testing.T) {
		m.AddUser("empty", hosttest.User{Groups: []string{"break-glass"}})
		if out, code := m.Run("root", "passwd", "-d", "empty"); code != 0 {
			t.Fatal(out)
		}
		c := login("empty")
		c.Answer("Code: ", "x")
		c.Answer("Password: ", "")
		c.WantExit(255)
	})

	for name, scenario := range map[string]string{
		"auth_err":            "authenticate: [{secret: 'Code: '}, {result: auth_err}]",
		"perm_denied":         "authenticate: [{secret: 'Code: '}, {result: perm_denied}]",
		"user_unknown":        "authenticate: [{secret: 'Code: '}, {result: user_unknown}]",
		"ignore":              "authenticate: [{secret: 'Code: '}, {result: ignore}]",
		"system_err":          "authenticate: [{secret: 'Code: '}, {result: system_err}]",
		"a_panic":             "authenticate: [{secret: 'Code: '}, {panic: oops}]",
		"an_exit":             "authenticate: [{secret: 'Code: '}, {exit: 0}]",
		"a_kill":              "authenticate: [{secret: 'Code: '}, {signal: 9}, {sleep: 1h}]",
		"a_stop":              "authenticate: [{secret: 'Code: '}, {signal: 19}, {sleep: 1h}]",
		"a_nobody":            "authenticate: [{secret: 'Code: '}, {succeed: {subject: ''}}]",
		"a_bad_configuration": "authenticate: {}",
	} {
		t.Run(name+"_refuses_a_member_and_asks_for_no_password", func(t *testing.T) {
			m.playBreakGlass(scenario)
			if name == "a_stop" {
				stack := m.ReadFile("/etc/pam.d/sshd")
				m.PAM("sshd", strings.ReplaceAll(stack, "provider=scenario", "provider=scenario timeout=3s"))
			}
			c := login("alice")
			if strings.Contains(scenario, "Code") {
				c.Answer("Code: ", "x")
			}
			c.WantExit(255)
			if strings.Contains(c.Transcript(), "assword: ") || strings.Contains(c.Transcript(), "emergency") {
				t.Errorf("seen: %s", c.Transcript())
			}
		})
	}
	t.Run("no_worker_refuses_a_member", func(t *testing.T) {
		m.playBreakGlass(unreachable)
		stack := m.ReadFile("/etc/pam.d/sshd")
		m.PAM("sshd", strings.ReplaceAll(stack, "provider=scenario", "provider=scenario worker=/nowhere/authn-worker"))
		c := login("alice")
		c.Expect("This login is not possible at the moment")
		c.WantExit(255)
		if strings.Contains(c.Transcript(), "assword: ") {
			t.Errorf("seen: %s", c.Transcript())
		}
	})
	t.Run("without_the_module_a_member_is_refused", func(t *testing.T) {
		stack := strings.ReplaceAll(m.ReadFile("/etc/pam.d/sshd"), "pam_authn.so", "pam_gone.so")
		m.PAM("sshd", stack)
		c := login("alice")
		c.WantExit(255)
		if strings.Contains(c.Transcript(), "assword: ") {
			t.Errorf("seen: %s", c.Transcript())
		}
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// Keys are checked by sshd, so that only the account lines stand between a key
// and a session.
func TestBreakGlassAccount(t *testing.T) {
	m, s := breakGlass(t)
	keys := map[string]string{"alice": m.Key("alice"), "bob": m.Key("bob")}
	m.AddUser("gone", hosttest.User{Groups: []string{"break-glass"}, AccountExpired: true})
	keys["gone"] = m.Key("gone")

	for steps, in := range map[string]string{
		"[]":                           "alice bob",
		"[{result: ignore}]":           "alice bob",
		"[{result: authinfo_unavail}]": "alice",
		"[{result: perm_denied}]":      "",
		"[{result: acct_expired}]":     "",
		"[{result: auth_err}]":         "",
		"[{result: system_err}]":       "",
		"[{panic: oops}]":              "",
	} {
		m.playBreakGlass("account: " + steps)
		for user, key := range keys {
			want := map[bool]int{true: 0, false: 255}[strings.Contains(in, user)]
			t.Run(steps+"_"+user, func(t *testing.T) {
				c := s.Login(hosttest.Login{User: user, Key: key, Command: "true",
					Options: []string{"KbdInteractiveAuthentication=no"}})
				if got := c.Wait(); got != want {
					t.Errorf("exit code %d, want %d: %s", got, want, c.Transcript())
				}
			})
		}
	}
	t.Run("new_authtok_reqd_makes_a_stranger_change_the_password", func(t *testing.T) {
		m.playBreakGlass("account: [{result: new_authtok_reqd}]")
		c := s.Login(hosttest.Login{User: "bob", Key: keys["bob"], Command: "true", TTY: true})
		c.Expect("assword")
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// Who came in through the emergency door wants to use sudo, too.
func TestBreakGlassLinesServeSudo(t *testing.T) {
	m := newMachine(t, "sudo")
	m.AddUser("alice", hosttest.User{Password: alicesOwn, Groups: []string{"break-glass", "sudo"}})
	m.AddUser("bob", hosttest.User{Password: bobsOwn, Groups: []string{"sudo"}})
	var stack strings.Builder
	for line := range strings.Lines(example(t, "sshd-break-glass")) {
		if strings.HasPrefix(line, "auth") || strings.HasPrefix(line, "account") || strings.HasPrefix(line, "@include common-account") {
			stack.WriteString(line)
		}
	}
	for line := range strings.Lines(example(t, "sudo")) {
		if strings.HasPrefix(line, "session") || strings.HasPrefix(line, "@include common-session") {
			stack.WriteString(line)
		}
	}
	m.WriteFile("/etc/sudoers.d/once", 0o440, "Defaults passwd_tries=1\n")
	m.PAM("sudo", quick(strings.ReplaceAll(stack.String(), "provider=passphrase", "provider=scenario")))
	m.scenario(unreachable + "account: [{result: authinfo_unavail}]")
	for user, password := range map[string]string{"alice": alicesOwn, "bob": bobsOwn} {
		c := m.Spawn(user, "sudo", "id", "-un")
		c.Answer("Code: ", "x")
		c.Answer("password for "+user+": ", password)
		if code := c.Wait(); (code == 0) != (user == "alice") {
			t.Errorf("%s: exit code %d: %s", user, code, c.Transcript())
		}
	}
	m.WaitIdle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// loginStack is for a console; login is told no name, so that PAM asks for it.
const loginStack = `auth required pam_authn.so provider=passphrase
account required pam_authn.so provider=passphrase
@include common-account
session optional pam_authn.so provider=passphrase
@include common-session
@include common-password
`

func TestLogin(t *testing.T) {
	m := newMachine(t, "login")
	m.PAM("login", loginStack)

	t.Run("name_and_passphrase_are_asked_for_until_they_are_right", func(t *testing.T) {
		c := m.Spawn("root", "login")
		c.Answer("testhost login: ", "alice")
		c.Answer("Passphrase: ", wrong)
		c.Expect("Login incorrect")
		c.Answer("testhost login: ", "ghost")
		c.Answer("Passphrase: ", wrong)
		c.Expect("Login incorrect")
		c.Answer("testhost login: ", "alice")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("$ ")
		if left := m.helpers(); len(left) > 0 {
			t.Errorf("beside the shell there are %v", left)
		}
		c.Send("id -un; tty; env | grep ^AUTHN_SUBJECT; exit\n")
		c.Expect("\nalice\n")
		c.Expect("/dev/pts/")
		c.Expect("AUTHN_SUBJECT=alice\n")
		c.WantExit(0)
		m.WaitLog(`pam_unix\(login:session\): session closed for user alice`)
		m.WaitLog(`login:auth\): provider=passphrase user=alice subject=alice tty=/dev/pts/\d+ result=success`)
	})
	t.Run("a_password_typed_at_the_name_prompt_is_not_in_our_log", func(t *testing.T) {
		const secret = "hunter2-typed-too-early"
		c := m.Spawn("root", "login")
		c.Answer("testhost login: ", secret)
		c.Answer("Passphrase: ", wrong)
		c.Expect("Login incorrect")
		c.HangUp()
		c.Wait()
		m.WaitLog(`login:auth\): provider=passphrase user=\? .*result=auth_err`)
		if text := strings.Join(m.ours(), "\n"); strings.Contains(text, secret) {
			t.Errorf("it is:\n%s", text)
		}
	})
	t.Run("no_name_at_all_is_refused", func(t *testing.T) {
		c := m.Spawn("root", "login")
		c.Answer("testhost login: ", "")
		c.ExpectMatch("Passphrase: |testhost login: ")
		c.HangUp()
		c.Wait()
	})
	m.WaitIdle()
}

// login waits for any child, and ends the session when one has ended.
func TestLoginTenTimes(t *testing.T) {
	m := newMachine(t, "login")
	m.PAM("login", strings.ReplaceAll(loginStack, "provider=passphrase", "provider=scenario setcred"))
	m.scenario("authenticate: [{secret: 'Passphrase: '}, {spawn: [/bin/sleep, '100']}]\nopen_session: [{spawn: [/bin/sleep, '100']}]\n" +
		"close_session: [{echo: true}]\nsetcred: [{spawn: [/bin/sleep, '100']}]")
	n := 10
	if soak {
		n = 200
	}
	for i := range n {
		c := m.Spawn("root", "login")
		c.Answer("testhost login: ", "alice")
		c.Answer("Passphrase: ", "x")
		c.Expect("$ ")
		// A session that ended too early would not live to say this.
		c.Send(fmt.Sprintf("sleep 0.1; echo $((%d + 1)) times\n", i))
		c.Expect(fmt.Sprintf("\n%d times\n", i+1))
		c.Send("exit\n")
		c.WantExit(0)
		m.WaitIdle()
		m.waitCount("pam_unix(login:session): session closed for user alice", i+1)
	}
	if closed := strings.Count(m.LogText(), "login:session): provider=scenario log="); closed != n {
		t.Errorf("the provider heard of the end of %d of %d sessions", closed, n)
	}
	if opened := strings.Count(m.LogText(), "session opened for user alice"); opened != n {
		t.Errorf("%d sessions were opened by %d logins", opened, n)
	}
}

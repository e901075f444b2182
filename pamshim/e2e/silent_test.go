// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// What cron and its like have: nobody to ask and no terminal.
const silentStack = `auth required pam_permit.so
account required pam_authn.so provider=scenario
account required pam_unix.so
session optional pam_authn.so provider=scenario
session required pam_unix.so
`

func TestSilentServices(t *testing.T) {
	m := newMachine(t, "at", "runuser")
	m.PAM("atd", silentStack)
	m.PAM("runuser", silentStack)
	m.PAM("runuser-l", silentStack)

	t.Run("a_job_of_at_runs_with_our_lines", func(t *testing.T) {
		m.scenario("account: [{echo: true}]\nopen_session: [{echo: true}]\nclose_session: [{echo: true}]")
		if out := m.At("bob", "id -un; tty; env | grep AUTHN; pwd; exit 3"); out != "bob\nnot a tty\n/home/bob\n" {
			t.Errorf("the job printed %q", out)
		}
		text := strings.Join(m.ours(), "\n")
		for pattern, want := range map[string]int{
			`atd:account\): provider=scenario log="msg=request .*user=bob .*silent=true`: 1,
			`atd:session\): provider=scenario log="msg=request .*user=bob .*silent=true`: 2,
			`atd:(account|session)\): .*result=success`:                                  3,
		} {
			if n := len(regexp.MustCompile(pattern).FindAllString(text, -1)); n != want {
				t.Errorf("%d lines, want %d, match %s:\n%s", n, want, pattern, text)
			}
		}
		m.WaitIdle()
	})
	t.Run("a_refused_account_runs_no_job", func(t *testing.T) {
		m.scenario("account: [{result: perm_denied}]")
		if out := m.At("bob", "echo ran"); out != "" {
			t.Errorf("the job printed %q", out)
		}
		m.WaitLog(`atd:account\): .*result=perm_denied`)
	})
	t.Run("a_question_finds_nobody_and_refuses", func(t *testing.T) {
		m.scenario("account: [{prompt: 'Still there? '}]")
		if out := m.At("bob", "echo ran"); out != "" {
			t.Errorf("the job printed %q", out)
		}
		m.WaitLog(`atd:account\): .*result=conv_err`)
	})
	t.Run("a_question_at_the_sessions_start_is_shrugged_at", func(t *testing.T) {
		m.scenario("open_session: [{secret: 'Still there? '}]")
		if out := m.At("bob", "echo ran"); out != "ran\n" {
			t.Errorf("the job printed %q", out)
		}
		m.WaitLog(`atd:session\): .*result=conv_err`)
	})
	t.Run("texts_for_nobody_do_no_harm", func(t *testing.T) {
		m.scenario("account: [{info: hello}, {error: oops}]\nopen_session: [{info: hello}]\nclose_session: [{waiting: 1s}]")
		if out := m.At("bob", "echo ran"); out != "ran\n" {
			t.Errorf("the job printed %q", out)
		}
	})
	t.Run("a_provider_without_account_and_session_is_ignored", func(t *testing.T) {
		m.PAM("atd", strings.ReplaceAll(silentStack, "scenario", "passphrase"))
		if out := m.At("bob", "echo ran"); out != "ran\n" {
			t.Errorf("the job printed %q", out)
		}
		m.WaitLog(`atd:account\): .*result=ignore`)
	})
	t.Run("runuser_runs_with_our_lines_and_its_exit_code_is_right", func(t *testing.T) {
		// It calls close_session with its signals blocked.
		m.scenario("open_session: [{echo: true}]\nclose_session: [{echo: true}, {spawn: [/bin/sleep, '100']}]")
		if out, code := m.Run("root", "runuser", "bob", "-c", "id -un; exit 9"); out != "bob\n" || code != 9 {
			t.Errorf("%d %q", code, out)
		}
		m.WaitLog(`runuser:session\): .*user=bob .*result=success`)
		m.WaitIdle()
	})
	m.WaitIdle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// What a person at an ssh client sees of a provider's texts. sshd 9.2 holds
// them back until the next prompt or the end.
func TestSSHScreen(t *testing.T) {
	m := newMachine(t, "sshd")
	s := m.SSHD(hosttest.SSHD{})

	t.Run("a_prompt_of_many_lines_arrives_intact", func(t *testing.T) {
		code := qrLike()
		m.playing("sshd", "sshd", fmt.Sprintf("authenticate: [{secret: %q, expect: '123456'}]", code+"Code shown on your phone: "))
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		if seen := c.Expect("Code shown on your phone: "); seen != "(alice@127.0.0.1) "+code+"Code shown on your phone: " {
			t.Errorf("shown:\n%s\nwant:\n%s", seen, code)
		}
		c.Send("123456\n")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("info_comes_with_the_next_prompt", func(t *testing.T) {
		m.playing("sshd", "sshd", `authenticate:
  - info: "Look at your phone."
  - error: "It is upside down."
  - prompt: "Code: "
  - info: "Nearly there."
  - secret: "PIN: "`)
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Answer("(alice@127.0.0.1) Look at your phone.\nIt is upside down.\nCode: ", "0815")
		c.Answer("(alice@127.0.0.1) Nearly there.\nPIN: ", "4711")
		c.Expect("in\n")
		c.WantExit(0)
		if seen := c.Transcript(); !strings.Contains(seen, "Code: 0815") || strings.Contains(seen, "4711") {
			t.Errorf("prompts show what is typed, secrets do not: %s", seen)
		}
	})
	t.Run("text_behind_the_last_prompt_is_shown_at_the_end", func(t *testing.T) {
		m.playing("sshd", "sshd", `authenticate: [{prompt: "Code: "}, {info: "Your badge expires tomorrow."}]`)
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Answer("Code: ", "x")
		c.Expect("Your badge expires tomorrow.")
		c.Expect("in\n")
		c.WantExit(0)
	})
	for name, scenario := range map[string]string{
		"a_fault_of_the_provider":       `authenticate: [{secret: "Code: "}, {panic: oops}]`,
		"a_provider_that_dies":          `authenticate: [{secret: "Code: "}, {signal: 9}, {sleep: 1h}]`,
		"an_unreachable_service":        `authenticate: [{secret: "Code: "}, {result: authinfo_unavail}]`,
		"a_configuration_with_an_error": "authenticat: []",
	} {
		t.Run(name+"_is_explained_with_the_logs_reference", func(t *testing.T) {
			m.playing("sshd", "sshd", scenario)
			c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
			if strings.Contains(scenario, "Code: ") {
				c.Answer("Code: ", "x")
			}
			said := c.ExpectMatch(`This login is not possible at the moment \(reference ([0-9a-f]{6})\)\.`)
			c.WantExit(255)
			e := m.WaitLog(`pam_authn\(sshd:auth\): .*result=(system_err|authinfo_unavail) .*id=` + said[1])
			if want := map[bool]string{true: "alert", false: "err"}[strings.Contains(e.Text, "unavail")]; e.Severity != want {
				t.Errorf("logged at level %s, want %s: %s", e.Severity, want, e)
			}
			if strings.Contains(c.Transcript(), "oops") {
				t.Errorf("the log's reason was shown: %s", c.Transcript())
			}
		})
	}
	t.Run("a_wrong_answer_is_explained_by_nothing", func(t *testing.T) {
		m.shipped("sshd", "sshd")
		c := s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.Answer("Passphrase: ", wrong)
		c.WantExit(255)
		if strings.Contains(c.Transcript(), "reference") {
			t.Errorf("shown: %s", c.Transcript())
		}
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// qrLike is a picture of 20 lines of half blocks.
func qrLike() string {
	blocks := []string{" ", "▀", "▄", "█"}
	var b strings.Builder
	for y := range 20 {
		b.WriteString("█")
		for x := range 38 {
			b.WriteString(blocks[(x*x+3*y*x+y)%4])
		}
		b.WriteString("█\n")
	}
	return b.String()
}

// The shipped stacks slow guessing down.
func TestDelay(t *testing.T) {
	for _, name := range []string{"sshd", "sshd-break-glass", "su"} {
		if !regexp.MustCompile(`(?m)^auth +optional +pam_faildelay.so delay=2000000$`).MatchString(example(t, name)) {
			t.Errorf("%s has no delay", name)
		}
	}
	m := newMachine(t, "su")
	m.PAM("su", example(t, "su"))
	c := m.Spawn("alice", "su", "bob", "-c", "true")
	c.Expect("Passphrase: ")
	began := time.Now()
	c.Send(wrong + "\n")
	c.WantExit(1)
	if took := time.Since(began); took < time.Second {
		t.Errorf("a wrong answer took only %v", took)
	}
}

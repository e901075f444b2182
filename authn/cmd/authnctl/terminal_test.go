// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// newMachine makes a machine with a build in /opt/authn, and alice, who has
// a configuration.
func newMachine(t *testing.T, config string) *hosttest.Machine {
	t.Helper()
	hosttest.Require(t)
	tree := newTree(t)
	m := hosttest.NewMachine(t)
	m.InstallTree(tree.Dir, "/opt/authn")
	m.AddUser("authn", hosttest.User{})
	alice := m.AddUser("alice", hosttest.User{})
	m.WriteFile("/home/alice/my.yaml", 0o600, config)
	m.Do(func() { _ = os.Chown("/home/alice/my.yaml", alice.UID, -1) })
	return m
}

// tryAtTerminal starts "authnctl try" in a terminal of alice's.
func tryAtTerminal(t *testing.T, config, provider string) *hosttest.Terminal {
	t.Helper()
	return newMachine(t, config).Spawn("alice", "/opt/authn/authnctl", "try", "--user", "alice", "--config", "my.yaml", "--provider", provider)
}

func TestATerminalHidesWhatIsTyped(t *testing.T) {
	c := tryAtTerminal(t, pamtest.PhraseConfig, "passphrase")
	c.Answer("Passphrase: ", pamtest.Phrase)
	c.Expect("auth: success: it was proven who this is\n    AUTHN_ID=")
	c.Expect("The same in /etc/pam.d:")
	c.WantExit(0)
	if strings.Contains(c.Transcript(), pamtest.Phrase) {
		t.Errorf("the phrase is on the screen:\n%s", c.Transcript())
	}
}

func TestATerminalShowsAnswersToOpenPrompts(t *testing.T) {
	c := tryAtTerminal(t, "authenticate: [{prompt: \"Code: \", expect: \"1234\"}, {echo: true}]", "scenario")
	c.Answer("Code: ", "1234")
	c.Expect("1234\n")
	if m := c.ExpectMatch(`tty=(\S+) ruser=(\S+)`); !strings.HasPrefix(m[1], "/dev/pts/") || m[2] != "alice" {
		t.Errorf("the provider hears of terminal %q and user %q", m[1], m[2])
	}
	c.Expect("auth: success")
	c.WantExit(0)
}

func TestCtrlCLeavesTheTerminalAsItWas(t *testing.T) {
	const try = `trap : INT
/opt/authn/authnctl try --user alice --config my.yaml --provider passphrase
echo exit $?
stty -a
ls /tmp`
	m := newMachine(t, pamtest.PhraseConfig)
	c := m.Spawn("alice", "sh", "-c", try)
	c.Expect("Passphrase: ")
	c.Send("\x03")
	c.Expect("exit 130\n")
	if m := c.ExpectMatch(`(-?)echo `); m[1] != "" {
		t.Error("the terminal stays without echo")
	}
	c.WantExit(0)
	if strings.Contains(c.Transcript(), "authnctl-") {
		t.Errorf("left behind:\n%s", c.Transcript())
	}
}

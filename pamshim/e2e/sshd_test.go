// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// installed is where a machine has the build.
const installed = "/opt/authn"

var tree = pamtest.Tree{Dir: installed}

// newMachine makes a machine with the build, a user of its own for providers,
// and alice.
func newMachine(t *testing.T, programs ...string) *hosttest.Machine {
	t.Helper()
	hosttest.Require(t, programs...)
	m := hosttest.NewMachine(t)
	m.InstallTree(pamtest.Build(t), installed)
	m.AddUser("authn", hosttest.User{})
	m.AddUser("alice", hosttest.User{Password: "her own"})
	m.WriteFile("/etc/authn/passphrase.yaml", 0o600, pamtest.PhraseConfig)
	return m
}

func TestSSHLogsInWithThePassphrase(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", tree.Line("auth", "passphrase")+"account required pam_unix.so\nsession required pam_unix.so\n")
	s := m.SSHD(hosttest.SSHD{})

	c := s.Login(hosttest.Login{User: "alice", Command: "id -un"})
	c.Answer("Passphrase: ", pamtest.Phrase)
	c.Expect("alice")
	c.WantExit(0)
	m.WaitLog(`pam_authn\(sshd:auth\): provider=passphrase user=alice subject=alice rhost=127.0.0.1 .*result=success ms=\d+ id=[0-9a-f]{6}`)
	s.WaitNoSessions()
}

func TestSSHRefusesAWrongPassphrase(t *testing.T) {
	m := newMachine(t, "sshd")
	m.PAM("sshd", tree.Line("auth", "passphrase")+"account required pam_unix.so\nsession required pam_unix.so\n")
	s := m.SSHD(hosttest.SSHD{})

	c := s.Login(hosttest.Login{User: "alice", Command: "id -un"})
	c.Answer("Passphrase: ", "open barley")
	c.WantExit(255)
	m.WaitLog(`pam_authn\(sshd:auth\): provider=passphrase user=alice .*result=auth_err reason="wrong passphrase"`)
	s.WaitNoSessions()
}

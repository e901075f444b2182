// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

func TestALostPhoneIsOneCommand(t *testing.T) {
	m := newMachine(t)
	m.want(0, []string{"Nobody can approve."}, "list")
	m.want(refused, []string{"there is no approver " + subject}, "remove", "--subject", subject, "--all")
	lost, kept := m.site.Passkey(t), m.site.Passkey(t)
	tail := "# what is by hand stays\n" + kept.Line("other@example.com")
	m.WriteFile(folder+"/alice", 0o644, lost.Line(subject)+tail)
	m.WriteFile(folder+"/bob", 0o644, tail+lost.Line(subject)+"oidc "+subject+" https://id.example.com 7 by web\n")
	m.WriteFile(folder+"/carol", 0o644, tail)
	m.want(0, []string{"alice", "bob", "carol", "other@example.com", "by web", "https://id.example.com"}, "list")

	m.want(0, []string{"from alice: " + subject, "from bob: " + subject, "Sessions that are open stay open"},
		"remove", "--subject", subject, "--all")
	for _, account := range []string{"alice", "bob", "carol"} {
		if got := m.ReadFile(folder + "/" + account); got != tail {
			t.Errorf("%s has\n%s", account, got)
		}
	}
	if out := m.want(0, nil, "list"); strings.Contains(out, subject) {
		t.Errorf("still there:\n%s", out)
	}
	m.WaitLog("removed: account=bob subject=mittens@example.com credential=" + lost.Approver(subject).Fingerprint()[:12])
	m.want(refused, []string{"hint: see"}, "remove", "--all", "--subject="+subject)
}

func TestOneOfTwoIsRemoved(t *testing.T) {
	m := newMachine(t)
	old, fresh := m.site.Passkey(t), m.site.Passkey(t)
	m.WriteFile(folder+"/alice", 0o644, old.Line(subject)+fresh.Line(subject))
	m.WriteFile(folder+"/bob", 0o644, old.Line(subject))
	id := old.Approver(subject).Fingerprint()
	m.want(refused, nil, "remove", "alice", id[:11])
	m.want(refused, nil, "remove", "alice", "--subject", id)
	m.want(refused, nil, "remove", "alice", "")
	m.want(0, []string{"Removed " + id[:12] + " from alice"}, "remove", "alice", id[:12])
	if got := m.ReadFile(folder + "/alice"); got != fresh.Line(subject) {
		t.Errorf("alice has\n%s", got)
	}
	m.want(0, nil, "remove", "bob", subject)
	if got := m.ReadFile(folder + "/bob"); got != "" {
		t.Errorf("bob has\n%s", got)
	}
}

func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	m := newMachine(t)
	a := m.site.Passkey(t)
	m.WriteFile(folder+"/alice", 0o644, "passkey\n"+a.Line(subject))
	m.WriteFile(folder+"/bob", 0o666, a.Line(subject))
	m.WriteFile(folder+"/carol", 0o644, a.Line(subject))
	m.want(failed, []string{"alice: line 1: ", "bob can be written by others", "carol"}, "list")
	m.want(failed, []string{"from alice", "bob can be written", "from carol"}, "remove", "--subject", subject, "--all")
	if got := m.ReadFile(folder + "/alice"); got != "passkey\n" {
		t.Errorf("alice has\n%s", got)
	}
}

func TestUsage(t *testing.T) {
	m := newMachine(t)
	if out, code := m.run(); code != misused || !strings.HasPrefix(out, "authn-qrcode-enroll says whose phones") {
		t.Errorf("%d\n%s", code, out)
	}
	m.want(0, []string{"Usage:\n"}, "help")
	m.want(0, []string{"Usage:\n"}, "list", "-h")
	m.want(0, []string{"authn-qrcode-enroll devel"}, "version")
	for _, args := range [][]string{
		{"alice"}, {"--nonsense", "alice", subject}, {"../alice", subject}, {"alice", "two words"}, {"alice", subject, "b\xe4d"},
		{"list", "alice", "bob"}, {"remove", "alice"}, {"remove", "--all"}, {"remove", "--all", "alice", subject}, {"remove", "--subject", subject},
		{"remove", "--all", "--subject", subject, "alice"},
	} {
		m.want(misused, []string{"authn-qrcode-enroll: error: ", "authn-qrcode-enroll: hint: "}, args...)
	}
	for _, args := range [][]string{{"--", "list", subject}, {"alice", subject}} {
		m.want(failed, []string{"standard input is no terminal", "use ssh -t"}, args...)
	}
}

func TestOnlyRoot(t *testing.T) {
	m := newMachine(t)
	m.AddUser("alice", hosttest.User{})
	for _, args := range [][]string{{"alice", subject}, {"list"}, {"remove", "alice", subject}} {
		out, code := m.Run("alice", program, args...)
		if code != failed || !strings.Contains(out, "only root") {
			t.Errorf("%q: %d\n%s", args, code, out)
		}
	}
}

// What logins would be refused for, enrolling is refused for, in their words.
func TestTheConfigurationIsJudgedAsForLogins(t *testing.T) {
	m := newMachine(t)
	files := "authn: {files: {approvers: " + folder + "/%u}}\n"
	tests := []struct {
		name, text string
		mode       uint32
		want       string
	}{
		{"an_unknown_key", m.site.Config() + "hosts: x\n" + files, 0o600, "hosts"},
		{"a_key_of_the_frameworks", m.site.Config() + "authn: {runas: x}\n", 0o600, "authn.runas: unknown key"},
		{"a_secret_that_others_read", m.site.Config() + "relay_token: hunter2\n" + files, 0o644, "relay_token is a secret, and others can read it"},
		{"a_file_that_others_write", m.site.Config() + files, 0o602, "can be written by others"},
		{"a_value_that_is_wrong", m.site.Config() + "ttl: 1h\n" + files, 0o600, "ttl: wants"},
		{"no_approvers", m.site.Config(), 0o600, "authn.files.approvers: is missing"},
		{"approvers_without_accounts", m.site.Config() + "authn: {files: {approvers: /etc/approvers}}\n", 0o600, "authn.files.approvers: wants"},
		{"no_such_user", m.site.Config() + "authn: {run_as: stranger, files: {approvers: " + folder + "/%u}}\n", 0o600, "no user stranger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.WriteFile(config, 0o600, tt.text)
			if out, code := m.Run("root", "chmod", octal(tt.mode), config); code != 0 {
				t.Fatal(out)
			}
			c := m.Spawn("root", program, "alice", subject)
			c.Expect("authn-qrcode-enroll: error: ")
			c.WantExit(failed)
			if out := c.Transcript(); !strings.Contains(out, tt.want) || strings.Contains(out, "hunter2") {
				t.Errorf("want %q:\n%s", tt.want, out)
			}
		})
	}
	m.Run("root", "rm", config)
	for _, args := range [][]string{{"list"}, {"alice", subject}} {
		c := m.Spawn("root", program, args...)
		c.Expect(config)
		c.WantExit(failed)
	}
	m.configure("")
	for _, option := range []string{"--worker", "--provider"} {
		c := m.Spawn("root", program, "alice", subject, option, "/nowhere")
		c.Expect("/nowhere")
		c.WantExit(failed)
	}
}

// A lost phone is removed although no login is possible.
func TestABrokenConfigurationKeepsNobodyFromRemoving(t *testing.T) {
	m := newMachine(t)
	a := m.site.Passkey(t)
	m.WriteFile(folder+"/alice", 0o644, a.Line(subject))
	m.WriteFile("/etc/authn/other.yaml", 0o600, "relay_token_file: /nowhere\nhosts: x\nauthn: {files: {approvers: "+folder+"/%u}}\n")
	m.want(0, []string{subject}, "list", "--config", "/etc/authn/other.yaml")
	m.want(0, []string{"from alice"}, "remove", "--config", "/etc/authn/other.yaml", "alice", subject)
}

func octal(mode uint32) string {
	return string([]byte{'0' + byte(mode>>6&7), '0' + byte(mode>>3&7), '0' + byte(mode&7)})
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

func TestInstallLayout(t *testing.T) {
	t.Parallel()
	pamtest.Build(t)
	dest := t.TempDir()
	if err := pamtest.MakeInstall("install", dest); err != nil {
		t.Fatal(err)
	}
	multiarch, err := exec.Command("gcc", "-print-multiarch").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := list(t, dest)
	for _, want := range []string{
		"644 lib/" + strings.TrimSpace(string(multiarch)) + "/security/pam_authn.so",
		"755 usr/libexec/authn/authn-worker",
		"711 usr/libexec/authn/providers/authn-passphrase",
		"755 usr/bin/authnctl",
		"755 etc/authn/",
		"755 usr/libexec/authn/providers/",
	} {
		if !slices.Contains(files, want) {
			t.Errorf("there is no %s in\n%s", want, strings.Join(files, "\n"))
		}
	}
	for _, file := range files {
		if strings.Contains(file, "/providers/authn-") && !strings.HasPrefix(file, "711 ") {
			t.Errorf("a provider that can be read can be looked into by others of its uid: %s", file)
		}
	}

	// What is the administrator's stays.
	config := filepath.Join(dest, "etc/authn/passphrase.yaml")
	if err := os.WriteFile(config, []byte(pamtest.PhraseConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pamtest.MakeInstall("uninstall", dest); err != nil {
		t.Fatal(err)
	}
	for _, file := range list(t, dest) {
		if !strings.HasSuffix(file, "/") && file != "600 etc/authn/passphrase.yaml" {
			t.Errorf("uninstall left %s", file)
		}
	}
	if files := list(t, dest); !slices.Contains(files, "600 etc/authn/passphrase.yaml") {
		t.Error("uninstall took the configuration")
	}
}

// list returns all that is below dir, with modes.
func list(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, dir), "/")
		if info.IsDir() {
			name += "/"
		}
		all = append(all, fmt.Sprintf("%o %s", info.Mode().Perm(), name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestUninstallRefusesWhileAStackUsesTheModule(t *testing.T) {
	m := newMachine(t, "make")
	m.PAM("su", example(t, "su"))
	// The checkout may lie where the machine has folders of its own.
	const here = "/opt/checkout"
	m.Install("../../Makefile", here+"/Makefile", 0o644)
	m.Install("../adduser", here+"/pamshim/adduser", 0o755)
	out, code := m.Run("root", "make", "-s", "-C", here, "uninstall")
	if code == 0 || !strings.Contains(out, "/etc/pam.d/su\n") || !strings.Contains(out, "lock everybody out") {
		t.Errorf("%d %s", code, out)
	}
	if len(m.Glob("/usr/libexec/authn/authn-worker")) != 1 {
		t.Error("the worker is gone")
	}
	m.Run("root", "rm", "/etc/pam.d/su")
	if out, code := m.Run("root", "make", "-s", "-C", here, "uninstall"); code != 0 {
		t.Errorf("%d %s", code, out)
	}
	if left := append(m.Glob("/usr/libexec/authn/*"), m.Glob("/lib/*/security/pam_authn.so")...); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Providers run as a user of their own, whom the installation makes.
func TestAddUser(t *testing.T) {
	m := newMachine(t, "useradd", "userdel", "su")
	m.Install("../adduser", "/root/adduser", 0o755)
	m.Run("root", "userdel", "authn")
	m.shipped("su", "su")
	adduser := func(args ...string) string {
		t.Helper()
		out, code := m.Run("root", "/root/adduser", args...)
		if code != 0 {
			t.Fatalf("adduser %v: %d %s", args, code, out)
		}
		return out
	}
	entry := func(name string) string {
		out, _ := m.Run("root", "getent", "passwd", name)
		return strings.TrimSpace(out)
	}

	t.Run("without_the_user_a_login_fails_and_the_log_says_how_to_mend_it", func(t *testing.T) {
		c := m.Spawn("alice", "su", "bob", "-c", "true")
		c.Expect("This login is not possible at the moment")
		c.WantExit(1)
		m.WaitLog(`su:auth\): .*result=system_err reason="there is no user authn .*adduser`)
	})
	t.Run("it_makes_a_system_user_who_cannot_log_in", func(t *testing.T) {
		adduser("authn")
		fields := strings.Split(entry("authn"), ":")
		if len(fields) != 7 || fields[5] != "/nonexistent" || fields[6] != "/usr/sbin/nologin" {
			t.Errorf("made %v", fields)
		}
		if out, _ := m.Run("root", "passwd", "-S", "authn"); !strings.HasPrefix(out, "authn L ") {
			t.Errorf("the password is not locked: %s", out)
		}
		if out, _ := m.Run("root", "id", "authn"); strings.Count(out, "(authn)") != 3 {
			t.Errorf("it is in other groups, too: %s", out)
		}
		c := m.Spawn("alice", "su", "bob", "-c", "echo in")
		c.Answer("Passphrase: ", pamtest.Phrase)
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("a_second_time_it_changes_nothing", func(t *testing.T) {
		before := entry("authn")
		adduser("authn")
		if now := entry("authn"); now != before {
			t.Errorf("%s became %s", before, now)
		}
	})
	t.Run("it_removes_what_it_made", func(t *testing.T) {
		adduser("-r", "authn")
		if left := entry("authn"); left != "" {
			t.Errorf("left: %s", left)
		}
		adduser("-r", "authn") // and shrugs where there is nothing
	})
	t.Run("it_keeps_a_user_of_somebody_elses", func(t *testing.T) {
		m.AddUser("authn", hosttest.User{})
		if out := adduser("-r", "authn"); !strings.Contains(out, "stays") || entry("authn") == "" {
			t.Errorf("%s: %q", out, entry("authn"))
		}
	})
	m.WaitIdle()
}

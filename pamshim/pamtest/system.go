// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package pamtest

import (
	"os"
	"sync"
	"testing"
)

// installedIn is what MainSystem removes.
var installedIn string

var installSystem = sync.OnceValue(func() error {
	var err error
	if installedIn, err = os.MkdirTemp("", "authn-system"); err != nil {
		return err
	}
	return MakeInstall("install", installedIn)
})

// System returns a folder with what "make install" puts on a system, for
// hosttest's InstallTree. All tests of the process share it, and [MainSystem]
// removes it.
func System(t testing.TB) string {
	t.Helper()
	if err := installSystem(); err != nil {
		t.Fatal(err)
	}
	return installedIn
}

// MainSystem runs the tests of a package that uses [System]:
//
//	func TestMain(m *testing.M) { pamtest.MainSystem(m) }
func MainSystem(m *testing.M) {
	code := m.Run()
	if installedIn != "" {
		_ = os.RemoveAll(installedIn)
	}
	os.Exit(code)
}

// MakeInstall runs a target of the Makefile, install or uninstall, for dest,
// with the build that BuildEnv names.
func MakeInstall(target, dest string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	args := []string{"-s", "-C", root, target, "DESTDIR=" + dest}
	if dir := os.Getenv(BuildEnv); dir != "" {
		args = append(args, "BUILD="+dir)
	}
	return run("make", args...)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package pamtest gives tests a built pam_authn at a place where it may be
// used: owned by root, or by whoever runs the tests, and writable by nobody
// else.
package pamtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Tree is an installed build.
type Tree struct{ Dir string }

// Module is the path of pam_authn.so.
func (t Tree) Module() string { return filepath.Join(t.Dir, "pam_authn.so") }

// Worker is the path of authn-worker.
func (t Tree) Worker() string { return filepath.Join(t.Dir, "authn-worker") }

// Provider is the path of a provider's program.
func (t Tree) Provider(name string) string { return filepath.Join(t.Dir, "authn-"+name) }

// Line is a PAM line of pam_authn with the tree's module, worker and provider,
// and words behind it.
func (t Tree) Line(group, provider string, words ...string) string {
	return fmt.Sprintf("%s required %s worker=%s provider=%s %s\n",
		group, t.Module(), t.Worker(), t.Provider(provider), strings.Join(words, " "))
}

// BuildEnv names the folder with a finished build. "make test" sets it; without
// it, the first test that needs one runs "make build".
const BuildEnv = "AUTHN_BUILD"

var build = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(BuildEnv); dir != "" {
		return dir, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	// Test binaries run at the same time: one build, under a lock. (Not on
	// go.mod: the go command locks that itself.)
	cmd := exec.Command("flock", filepath.Join(root, "Makefile"), "make", "-s", "-C", root, "build") //nolint:gosec // our own Makefile
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(root, "build"), nil
})

func moduleRoot() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// Build returns the folder with the built programs, which may be anybody's.
func Build(t testing.TB) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Install copies the build to a new folder that can be trusted, and removes it
// when the test ends.
func Install(t testing.TB) Tree {
	t.Helper()
	tree := Tree{t.TempDir()}
	// TempDir's parents are 0755 or sticky, but its own mode follows the umask.
	if err := os.Chmod(tree.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(tree.Dir), 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(Build(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			CopyFile(t, filepath.Join(Build(t), e.Name()), filepath.Join(tree.Dir, e.Name()), 0o755)
		}
	}
	return tree
}

// CopyFile copies a file and gives the copy mode.
func CopyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open(from) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode) //nolint:gosec // as above
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, mode); err != nil {
		t.Fatal(err)
	}
}

// Phrase and PhraseConfig are a passphrase and a configuration of provider
// passphrase that knows it, with bcrypt's smallest cost.
const (
	Phrase       = "open sesame"
	PhraseConfig = `hash: "$2b$04$PcIXFHywIc53hJ9NwvpKre0IIVBPMPQciCld6k1CMqESlWkpNcN1i"` + "\n"
)

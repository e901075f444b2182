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
	return filepath.Join(root, "build"), locked(root, "make", "-s", "-C", root, "build")
})

var buildScenario = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	program := filepath.Join(root, "build", "test", "authn-scenario")
	return program, locked(root, "env", "CGO_ENABLED=0", "go", "build", "-C", root, "-buildvcs=false", "-tags", "osusergo,netgo,grpcnotrace",
		"-o", program, "./pamshim/pamtest/cmd/authn-scenario")
})

// locked runs a build. Test binaries run at the same time: one build, under a
// lock. (Not on go.mod: the go command locks that itself.)
func locked(root string, build ...string) error {
	return run("flock", append([]string{filepath.Join(root, "Makefile")}, build...)...)
}

// run runs a command, whose output is only of interest when it fails.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil { //nolint:gosec // our own builds
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

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

// ScenarioProgram returns the path of the built provider authn-scenario, which
// does what its configuration says; see its package comment. It is not part
// of a build.
func ScenarioProgram(t testing.TB) string {
	t.Helper()
	program, err := buildScenario()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Scenario puts provider scenario into the tree.
func Scenario(t testing.TB, tree Tree) {
	t.Helper()
	CopyFile(t, ScenarioProgram(t), tree.Provider("scenario"), 0o755)
}

// Install copies the build to a new folder that can be trusted, and removes it
// when the test ends.
func Install(t testing.TB) Tree {
	t.Helper()
	tree := Tree{Dir(t)}
	install(t, tree)
	return tree
}

var shared struct {
	once sync.Once
	dir  string // to be removed
	tree Tree
}

// Shared returns a tree with the build and provider scenario that all tests of
// the process share, which none of them may change. Main removes it.
func Shared(t testing.TB) Tree {
	t.Helper()
	shared.once.Do(func() {
		if shared.tree.Dir = os.Getenv(treeEnv); shared.tree.Dir != "" {
			return
		}
		dir, err := os.MkdirTemp("", "authn-tree-")
		if err != nil {
			t.Fatal(err)
		}
		shared.dir = dir
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // the module reads there
			t.Fatal(err)
		}
		install(t, Tree{dir})
		Scenario(t, Tree{dir})
		shared.tree = Tree{dir}
	})
	if shared.tree.Dir == "" {
		t.Fatal("there is no build: another test says why")
	}
	return shared.tree
}

func install(t testing.TB, tree Tree) {
	t.Helper()
	entries, err := os.ReadDir(Build(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type().IsRegular() {
			CopyFile(t, filepath.Join(Build(t), e.Name()), filepath.Join(tree.Dir, e.Name()), 0o755)
		}
	}
}

// Dir is t.TempDir, but trusted whatever the umask.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // the module reads there
			t.Fatal(err)
		}
	}
	return dir
}

// CopyFile copies a file and gives the copy mode.
func CopyFile(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open(from) //nolint:gosec // a test's own file
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()                                                      //nolint:errcheck // only read
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

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// The test binary is authnctl, too, where it has that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "authnctl" {
		main()
	}
	pamtest.Main(m)
}

// newTree makes a build with authnctl in it, which belongs to whoever runs the
// test.
func newTree(t *testing.T) pamtest.Tree {
	t.Helper()
	tree := pamtest.Tree{Dir: pamtest.Dir(t)}
	shared := pamtest.Shared(t)
	for _, file := range []string{shared.Module(), shared.Worker(), shared.Provider("passphrase"), shared.Provider("scenario")} {
		pamtest.CopyFile(t, file, filepath.Join(tree.Dir, filepath.Base(file)), 0o755)
	}
	pamtest.CopyFile(t, "/proc/self/exe", filepath.Join(tree.Dir, "authnctl"), 0o755)
	return tree
}

//go:embed testdata
var testdata embed.FS

// TestScripts runs testdata/script, as root and as alice, or as who runs the
// test. $BIN is a folder with a build. Scripts that begin with [root] or
// [!root] are for one of them.
func TestScripts(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Run("as_root", func(t *testing.T) { runScripts(t, "script") })
	}
	if pamtest.AsUser(t) {
		runScripts(t, "script")
	}
}

// TestSystemScripts runs testdata/system, whose scripts change what the others
// need, too.
func TestSystemScripts(t *testing.T) {
	pamtest.Root(t)
	runScripts(t, "system")
}

func runScripts(t *testing.T, name string) {
	dir := pamtest.Dir(t)
	if err := os.CopyFS(dir, testdata); err != nil {
		t.Fatal(err)
	}
	tree := newTree(t)
	testscript.Run(t, testscript.Params{
		Dir:         filepath.Join(dir, "testdata", name),
		WorkdirRoot: pamtest.Dir(t), // user authn looks into it, too
		Setup: func(env *testscript.Env) error {
			env.Setenv("BIN", tree.Dir)
			env.Setenv("PATH", tree.Dir+":"+env.Getenv("PATH"))
			env.Setenv("UID", strconv.Itoa(os.Geteuid()))
			return prepareWork(env)
		},
		Condition: func(condition string) (bool, error) {
			return condition == "root" && os.Geteuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "shows": shows},
	})
}

// prepareWork makes the files of a script what any umask could have made them,
// and puts paths into PAM files.
func prepareWork(env *testscript.Env) error {
	paths := strings.NewReplacer("$BIN", env.Getenv("BIN"), "$WORK", env.WorkDir)
	return filepath.WalkDir(env.WorkDir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o755) //nolint:gosec // a test's
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		switch name := d.Name(); {
		case strings.HasPrefix(name, "authn-"): // a provider
			mode = 0o755
		case !strings.HasSuffix(name, "-out"): // not what is to be shown
			data = []byte(paths.Replace(string(data)))
		}
		if err := os.WriteFile(path, data, mode); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	})
}

// exits CODE PROGRAM ARG... is exec with the exit code that is wanted.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

// shows stdout|stderr|findings FILE compares with a file in which $WORK, $BIN,
// $UID, ID and MS stand for what differs from run to run. The findings are the
// problems of authnctl check.
func shows(ts *testscript.TestScript, _ bool, args []string) {
	got := ""
	if args[0] == "findings" {
		for line := range strings.Lines(ts.ReadFile("stdout")) {
			if strings.HasPrefix(line, "/") && !strings.Contains(line, ": notice: ") {
				got += line
			}
		}
	} else {
		got = ts.ReadFile(args[0])
	}
	for _, r := range [][2]string{{ts.Getenv("WORK"), "$WORK"}, {ts.Getenv("BIN"), "$BIN"}, {"uid " + ts.Getenv("UID"), "uid $UID"}} {
		got = strings.ReplaceAll(got, r[0], r[1])
	}
	got = regexp.MustCompile(`(AUTHN_ID|id)=[0-9a-f]{6}`).ReplaceAllString(got, "${1}=ID")
	got = regexp.MustCompile(`ms=\d+`).ReplaceAllString(got, "ms=MS")
	if want := ts.ReadFile(args[1]); got != want {
		ts.Fatalf("shown:\n%s\nwant:\n%s", got, want)
	}
}

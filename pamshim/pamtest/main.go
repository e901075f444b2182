// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package pamtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// insideEnv tells the test binary that it runs in a view of its own.
const insideEnv = "AUTHN_TEST_INSIDE"

// noView is why the tests cannot have a view of their own.
var noView error

// Main runs the tests of a package that calls libpam in its own process:
//
//	func TestMain(m *testing.M) { pamtest.Main(m) }
//
// Under root it runs them in a copy of this process that sees /run, /var/lib,
// /dev/log and the accounts of its own: what the module and the worker leave
// behind, and whom the tests need, never reaches the system. [Log] reads what
// they log. Where that cannot be had it runs them as they are, and those that
// begin with [Root] are skipped.
func Main(m *testing.M) {
	switch {
	case os.Geteuid() != 0:
		noView = errors.New("needs root")
	case os.Getenv(insideEnv) != "":
		noView = enterView()
	default:
		code, err := again()
		if err == nil {
			os.Exit(code)
		}
		noView = fmt.Errorf("needs a mount namespace: %w", err)
	}
	code := m.Run()
	_ = os.RemoveAll(shared.dir)
	os.Exit(code)
}

// again runs this test binary in a mount namespace of its own and returns its
// exit code.
func again() (int, error) {
	runtime.LockOSThread() // Pdeathsig means this thread

	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:gosec // ourselves
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return 2, nil // a signal
}

// Root skips a test that needs root and [Main]'s view. With CI=true it fails
// instead: there, a test that never runs is a fault.
func Root(t testing.TB) {
	t.Helper()
	switch {
	case noView == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI must be able to run this test: %v", noView)
	default:
		t.Skip(noView)
	}
}

// treeEnv names the tree that the parent of this process shares.
const treeEnv = "AUTHN_TEST_TREE"

// AsUser runs the calling test once more, in a process of alice's, and reports
// whether this is it. Under another user than root it already is.
func AsUser(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v") //nolint:gosec // ourselves
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), treeEnv+"="+Shared(t).Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: AliceUID, Gid: AliceUID}}
	out, err := cmd.CombinedOutput()
	if err != nil || testing.Verbose() {
		t.Logf("as alice: %v\n%s", err, out)
	}
	if err != nil {
		t.Error("the test failed as alice")
	}
	return false
}

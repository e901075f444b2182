// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the program that gets killed, too.
func TestMain(m *testing.M) {
	if os.Getenv("HOSTTEST_VICTIM") != "" {
		fmt.Println(Run(os.Stderr, victim))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim fills a machine with processes of all kinds and waits to be killed.
func victim(tb TB) {
	m := NewMachine(tb)
	m.AddUser("alice", User{Password: "x"})
	m.PAM("sshd", "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so")
	m.PAM("sudo", UnixStack)
	c := m.SSHD(SSHD{}).Login(Login{User: "alice", Command: "setsid nohup sleep 1003 & echo up; exec sleep 1004"})
	c.Expect("up\n")
	m.Spawn("alice", "sudo", "id").Expect("password for alice: ")
	m.Run("alice", "sh", "-c", "trap '' HUP TERM; (setsid sleep 1005 >/dev/null 2>&1 &)")
	fmt.Println(m.ns)
	select {}
}

func TestKilledTestLeavesNothing(t *testing.T) {
	t.Parallel()
	Require(t, "sshd", "sudo")
	NoLeftovers(t)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			testKilledBy(t, sig)
		})
	}
}

func testKilledBy(t *testing.T, sig syscall.Signal) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "HOSTTEST_VICTIM=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ns, err := bufio.NewReader(out).ReadString('\n')
	ns = strings.TrimSpace(ns)
	before := processesIn(ns)
	// As a shell or a CI runner would: the whole group.
	syscall.Kill(-cmd.Process.Pid, sig)
	cmd.Wait()
	if err != nil || len(before) < 8 {
		t.Fatalf("the victim was not ready: %s %v; processes:\n%s", ns, err, list(before))
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := processesIn(ns)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind:\n%s", list(left))
		}
	}
}

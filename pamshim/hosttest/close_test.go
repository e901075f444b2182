// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// Not parallel: it counts what the whole process has.
func TestClosedMachinesLeaveNothingInThisProcess(t *testing.T) {
	Require(t, "sshd")
	use := func() {
		err := Run(io.Discard, func(tb TB) {
			m := NewMachine(tb)
			m.AddUser("alice", User{Password: "x"})
			m.SSHD(SSHD{}).Login(Login{User: "alice"})
			m.Spawn("alice", "cat")
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	use() // what is made once is made now
	before := inventory()
	before.strangers = 0
	for range 10 {
		use()
	}
	var after counts
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if after = inventory(); after == before || time.Now().After(deadline) {
			break
		}
	}
	if after != before {
		t.Errorf("before: %+v, after: %+v", before, after)
	}
}

type counts struct{ fds, goroutines, strangers int }

func inventory() (c counts) {
	fds, _ := os.ReadDir("/proc/self/fd")
	c.fds, c.goroutines = len(fds), runtime.NumGoroutine()
	own, _ := os.Readlink("/proc/self/ns/mnt")
	threads, _ := filepath.Glob("/proc/self/task/*/ns/mnt")
	for _, link := range threads {
		if ns, err := os.Readlink(link); err == nil && ns != own {
			c.strangers++ // a thread in a machine
		}
	}
	return c
}

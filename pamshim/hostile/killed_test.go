// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// delays are the moments of a call, in microseconds, at which its host ends:
// a call takes ten to twenty milliseconds up to its prompt.
func delays() []int {
	all := []int{0, 500, 1000, 2000, 4000, 7000, 10000, 20000}
	for i := 1; i < soak(); i++ {
		for j := range 10 {
			all = append(all, 371*i+1500*j)
		}
	}
	return all
}

func TestNoProcessOutlivesItsHost(t *testing.T) {
	for _, test := range []struct {
		name, how string
		remains   string // the command of what is left of the host
	}{
		{"killed", "k", ""},
		{"another thread exits", "e", ""},
		{"another thread executes a program", "x", "sleep"},
		{"another thread forks and the host exits", "f", "host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			for _, delay := range delays() {
				h := start(t, m, spec{traits: fmt.Sprintf("end=%s:%d", test.how, delay), calls: "a"})
				h.until("pause before")
				h.proceed()
				onlyLeft(t, m, test.remains, 3*time.Second)
				killAll(t, m)
				h.kill()
			}
			sweeps(t, m)
		})
	}
}

// onlyLeft waits until nothing but one process of that name, if any, runs in
// the machine.
func onlyLeft(t *testing.T, m *hosttest.Machine, name string, limit time.Duration) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		all := m.Processes()
		if name == "" && len(all) == 0 || name != "" && len(all) == 1 && comm(all[0].PID) == name {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v there is still, besides %q: %v", limit, name, all)
		}
		time.Sleep(2 * time.Millisecond) // the kernel does not tell
	}
}

// ended waits until none of the processes runs in the machine.
func ended(t *testing.T, m *hosttest.Machine, pids []int) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Second)
	for slices.ContainsFunc(m.Processes(), func(p hosttest.Process) bool { return slices.Contains(pids, p.PID) }) {
		if time.Now().After(deadline) {
			t.Fatalf("of %v there is still %v", pids, m.Processes())
		}
		time.Sleep(2 * time.Millisecond) // the kernel does not tell
	}
}

// killAll kills what is left of a host.
func killAll(t *testing.T, m *hosttest.Machine) {
	t.Helper()
	for _, p := range m.Processes() {
		_ = unix.Kill(p.PID, unix.SIGKILL)
	}
	onlyLeft(t, m, "", 3*time.Second)
}

// Should root or the kernel, out of memory, kill one of the call's processes.
func TestCallIsRefusedWhenOneOfItsProcessesIsKilled(t *testing.T) {
	for _, which := range []string{"waiter", "worker", "provider"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			h := start(t, m, spec{calls: "a", repeat: 3})
			for _, r := range h.play(func(_, text string) {
				if text != "Password: " {
					return // "This login is not possible", when all is over
				}
				f := relatives(t, m)
				victims := map[string][]int{
					"waiter":   f.pids(), // the others die with it
					"worker":   {f.worker, f.provider, f.waiter},
					"provider": {f.provider},
				}[which]
				if t.Failed() {
					return // lest we signal pid 0, which is us
				}
				_ = unix.Kill(victims[0], unix.SIGKILL)
				ended(t, m, victims)
			}) {
				if r.code != systemErr {
					t.Errorf("returned %d", r.code)
				}
				if len(r.foldersNow) == 1 {
					r.foldersNow = nil // the next call takes it
				}
				r.unchanged(t)
			}
			sweeps(t, m)
		})
	}
}

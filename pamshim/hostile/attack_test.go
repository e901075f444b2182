// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

const (
	setuidHost = "/opt/test/setuid-host"
	attacker   = "/opt/test/attack"
)

var compiledAttack = sync.OnceValues(func() (string, error) { return compile("attack", "testdata/attack.c") })

// newSetuidMachine makes a machine with a host that is setuid root, as su is.
func newSetuidMachine(t *testing.T) *hosttest.Machine {
	t.Helper()
	m := newMachine(t)
	m.Install(must(t, compiledHost), setuidHost, 0o4755)
	m.Install(must(t, compiledAttack), attacker, 0o755)
	return m
}

// ulimit wraps a host in limits of its user's.
func ulimit(words string) []string {
	return []string{"bash", "-c", "ulimit " + words + ` && exec "$@"`, "bash"}
}

func TestSetuidHostUnderLimitsOfItsUser(t *testing.T) {
	for _, test := range []struct {
		name, ulimit string
		codes        []int // one of them
	}{
		{"none", "-S -c 0", []int{success}},
		{"core unlimited", "-S -c unlimited", []int{success}},
		{"10 descriptors", "-n 10", []int{systemErr}},
		{"12 descriptors", "-n 12", []int{systemErr}},
		{"63 descriptors", "-n 63", []int{systemErr}},
		{"64 descriptors", "-n 64", []int{success}},
		{"empty files", "-f 0", []int{success}},
		{"1 MiB of data", "-d 1024", []int{systemErr}},
		{"100 MB of address space", "-v 100000", []int{systemErr}},
		{"1 process", "-u 1", []int{success, systemErr}},
		{"64 kB of stack", "-s 64", []int{success, systemErr}},
		{"1 s of processor", "-t 1", []int{success}},
		{"no signals queued", "-i 0", []int{success}},
		{"nothing locked", "-l 0", []int{success}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newSetuidMachine(t)
			h := start(t, m, spec{program: setuidHost, user: "alice", wrap: ulimit(test.ulimit), repeat: soak()})
			for _, r := range h.play(nil) {
				if !slices.Contains(test.codes, r.code) {
					t.Errorf("%s returned %d, not one of %v", r.call, r.code, test.codes)
				}
				r.unchanged(t)
			}
			if t.Failed() {
				t.Logf("%s", m.LogText())
			}
		})
	}
}

func TestSetuidHostHandsNothingOn(t *testing.T) {
	t.Parallel()
	m := newSetuidMachine(t)
	h := start(t, m, spec{program: setuidHost, user: "alice", env: hostileEnvironment})
	for _, r := range h.play(func(string, string) { pristine(t, m, 0, m.Account("alice").GID) }) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
		r.unchanged(t)
	}
}

// Setuid does not always mean root.
func TestSetuidHostOfAnotherUser(t *testing.T) {
	t.Parallel()
	m := newSetuidMachine(t)
	const host = "/opt/test/daemons-host"
	m.Install(must(t, compiledHost), host, 0o755)
	m.Chown(host, "daemon")
	if out, code := m.Run("root", "chmod", "4755", host); code != 0 {
		t.Fatal(out)
	}
	h := start(t, m, spec{program: host, user: "alice", env: []string{"PATH=/usr/bin:/bin", "TMPDIR=/home/alice"}})
	for _, r := range h.play(func(string, string) {
		pristine(t, m, m.Account("daemon").UID, m.Account("alice").GID)
		attack(t, m, "alice", relatives(t, m).pids()...)
	}) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
		r.unchanged(t)
	}
}

// The user of a setuid host owns nothing of what the call runs.
func TestUserOfASetuidHostCannotTouchTheCall(t *testing.T) {
	t.Parallel()
	m := newSetuidMachine(t)
	h := start(t, m, spec{program: setuidHost, user: "alice"})
	rounds := 0
	for _, r := range h.play(func(string, string) {
		rounds++
		f := relatives(t, m)
		for _, user := range []string{"alice", "nobody"} {
			attack(t, m, user, f.pids()...)
		}
		attack(t, m, "authn", f.waiter, f.worker)
		folder := m.Glob("/run/authn/*")
		for _, act := range []string{"rm -rf", "rmdir", "ls", "chmod 777", "touch -c"} {
			out, code := m.Run("alice", "sh", "-c", act+" /run/authn "+strings.Join(folder, " "))
			if code == 0 {
				t.Errorf("alice may %s the folders: %s", act, out)
			}
		}
		if now := m.Glob("/run/authn/*"); len(folder) != 1 || !slices.Equal(now, folder) {
			t.Errorf("the folders were %v and are %v", folder, now)
		}
	}) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
		r.unchanged(t)
	}
	if rounds < 3 {
		t.Errorf("only %d rounds", rounds)
	}
}

func attack(t *testing.T, m *hosttest.Machine, user string, pids ...int) {
	t.Helper()
	var args []string
	for _, pid := range pids {
		args = append(args, strconv.Itoa(pid))
	}
	out, code := m.Run(user, attacker, args...)
	if want := fmt.Sprintf("refused %d\n", 77*len(pids)); out != want || code != 0 {
		t.Errorf("%s, exit %d: %q, want %q", user, code, out, want)
	}
}

// What the user may do is to stop and kill the host, which is their own.
func TestNothingOutlivesAHostThatItsUserStopsAndKills(t *testing.T) {
	t.Parallel()
	m := newSetuidMachine(t)
	for range 3 * soak() {
		h := start(t, m, spec{program: setuidHost, user: "alice", calls: "a"})
		h.until("pause before")
		h.proceed()
		h.until("prompt")
		pid := strconv.Itoa(h.cmd.Process.Pid)
		for _, signal := range []string{"-STOP", "-KILL"} {
			if out, code := m.Run("alice", "bash", "-c", "kill "+signal+" "+pid); code != 0 {
				t.Fatalf("kill %s: %s", signal, out)
			}
		}
		h.kill()
		onlyLeft(t, m, "", 3*time.Second)
	}
	sweeps(t, m)
}

// sweeps checks that a call removes the folders that killed ones left.
func sweeps(t *testing.T, m *hosttest.Machine) {
	t.Helper()
	for _, r := range start(t, m, spec{calls: "a"}).play(nil) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
		r.unchanged(t)
	}
}

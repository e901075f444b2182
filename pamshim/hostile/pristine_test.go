// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// A family is the processes of one call.
type family struct{ waiter, worker, provider int }

func (f family) pids() []int { return []int{f.waiter, f.worker, f.provider} }

// relatives finds the processes of the call that now runs in the machine.
func relatives(t *testing.T, m *hosttest.Machine) family {
	t.Helper()
	var f family
	for _, p := range m.Processes() {
		switch {
		case comm(p.PID) == "authn-waiter":
			f.waiter = p.PID
		case p.Args[0] == "authn-worker":
			f.worker = p.PID
		case p.Args[0] == tree.Provider("scenario"):
			f.provider = p.PID
		}
	}
	if slices.Contains(f.pids(), 0) {
		t.Errorf("waiter, worker and provider are %v among %v", f.pids(), m.Processes())
	}
	return f
}

func comm(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(text))
}

// A process as /proc shows it.
type process struct {
	pid     int
	status  map[string]string
	environ []string
	fds     map[string]string
	cwd     string
	limits  string
}

func lookAt(t *testing.T, pid int) process {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	p := process{pid: pid, status: map[string]string{}, fds: map[string]string{}}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		p.status[key] = strings.Join(strings.Fields(value), " ")
	}
	environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
	p.environ = strings.FieldsFunc(string(environ), func(r rune) bool { return r == 0 })
	fds, _ := filepath.Glob(filepath.Join(dir, "fd", "*"))
	for _, fd := range fds {
		p.fds[filepath.Base(fd)], _ = os.Readlink(fd)
	}
	p.cwd, _ = os.Readlink(filepath.Join(dir, "cwd"))
	limits, _ := os.ReadFile(filepath.Join(dir, "limits"))
	p.limits = string(limits)
	return p
}

func (p process) want(t *testing.T, facts map[string]string) {
	t.Helper()
	for key, want := range facts {
		if got := p.status[key]; got != want {
			t.Errorf("%s (%d) has %s %q, not %q", p.status["Name"], p.pid, key, got, want)
		}
	}
}

// pristine checks that waiter, worker and provider have nothing of their
// host's: not its signals, folder, umask, environment or descriptors, and
// none of its ids.
func pristine(t *testing.T, m *hosttest.Machine, uid, gid int, environment ...string) {
	t.Helper()
	f := relatives(t, m)
	if t.Failed() {
		return
	}
	waiter, worker, provider := lookAt(t, f.waiter), lookAt(t, f.worker), lookAt(t, f.provider)
	waiter.want(t, map[string]string{"Uid": four(uid), "Gid": four(gid)})
	waiter.wantFDs(t, "/dev/null", "socket:", "anon_inode:[pidfd]")
	plain := map[string]string{
		"Uid": four(uid), "Gid": four(gid), "SigIgn": "0000000000000000", "SigBlk": "0000000000000000", "Umask": "0077",
	}
	worker.want(t, plain)
	worker.wantEnvironment(t, append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, environment...))
	if uid == 0 {
		authn := m.Account("authn")
		plain["Uid"], plain["Gid"] = four(authn.UID), four(authn.GID)
		plain["Groups"] = ""
		plain["CapEff"] = "0000000000000000"
	}
	plain["NoNewPrivs"] = "1"
	delete(plain, "SigBlk") // Go parks a main thread that ended with all signals blocked
	provider.want(t, plain)
	for _, p := range []process{worker, provider} {
		// Go reads how many processors there are to use, and the worker
		// keeps the call's folder locked.
		p.wantFDs(t, append(folders(m), "/dev/null", "socket:", "pipe:", "anon_inode:", "/sys/fs/cgroup/")...)
		p.confined(t)
	}
}

// four is an id as /proc shows the real, effective, saved and file system's.
func four(id int) string { return fmt.Sprintf("%[1]d %[1]d %[1]d %[1]d", id) }

// confined checks what both worker and provider must be.
func (p process) confined(t *testing.T) {
	t.Helper()
	if p.cwd != "/" {
		t.Errorf("%s is in %s", p.status["Name"], p.cwd)
	}
	for _, line := range []string{
		"Max core file size        0                    0 ",
		"Max open files            256                  256 ",
		"Max file size             1048576              1048576 ",
	} {
		if !strings.Contains(p.limits, line) {
			t.Errorf("%s has other limits than %q:\n%s", p.status["Name"], line, p.limits)
		}
	}
	for _, v := range p.environ {
		if strings.Contains(v, "hostile") {
			t.Errorf("%s has %s", p.status["Name"], v)
		}
	}
}

// wantFDs checks that every descriptor is one of these kinds.
func (p process) wantFDs(t *testing.T, kinds ...string) {
	t.Helper()
	for fd, target := range p.fds {
		if !slices.ContainsFunc(kinds, func(k string) bool { return strings.HasPrefix(target, k) }) {
			t.Errorf("%s has descriptor %s, which is %s", p.status["Name"], fd, target)
		}
	}
}

func (p process) wantEnvironment(t *testing.T, want []string) {
	t.Helper()
	if !slices.Equal(p.environ, want) {
		t.Errorf("%s has the environment %q, not %q", p.status["Name"], p.environ, want)
	}
}

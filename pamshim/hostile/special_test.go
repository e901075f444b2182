// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The provider leaves a process in a session of its own.
const orphans = `
authenticate:
  - spawn: [/usr/bin/sleep, "1000"]
  - secret: "Password: "
`

// Where /proc shows another pid namespace, its numbers mean other processes.
func TestStrangersAreNotKilled(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.WriteFile("/etc/authn/orphans.yaml", 0o644, orphans)
	service(m, "orphans", "timeout=20s", "config=/etc/authn/orphans.yaml")
	h := start(t, m, spec{traits: "strangers", service: "orphans", calls: "aaa", flags: unix.CLONE_NEWPID})
	for _, r := range h.play(nil) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
		if want := "made 5\nlive 5 of 5\n"; r.strangers != want {
			t.Errorf("strangers: %q, not %q", r.strangers, want)
		}
		r.unchanged(t)
	}
}

func TestDeadWorkerIsNoticedThoughCopiesOfItsSocketAreHeld(t *testing.T) {
	t.Parallel()
	g := garbage{"exits", systemErr, noAnswer}
	g.check(t, newGarbageMachine(t, "20s", g), spec{traits: "holds", calls: "aaaaaaaa"})
}

// No answer is not an empty one, with which somebody may ask for a push.
func TestNoAnswerIsNotAnEmptyOne(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.WriteFile("/etc/authn/any.yaml", 0o644, "authenticate:\n  - secret: \"Password: \"\n")
	service(m, "any", "timeout=20s", "config=/etc/authn/any.yaml")
	for traits, want := range map[string]int{"": success, "mute": convErr} {
		for _, r := range start(t, m, spec{traits: traits, service: "any", calls: "a"}).play(nil) {
			if r.code != want {
				t.Errorf("%q: %s returned %d, want %d", traits, r.call, r.code, want)
			}
			r.unchanged(t)
		}
	}
}

func TestThreadThatEndsLeavesNothingBehind(t *testing.T) {
	for _, test := range []struct{ name, traits string }{
		{"in its conversation", "leaves"},
		{"cancelled at once", "cancelled=1"},
		{"cancelled while the worker starts", "cancelled=3000"},
		{"cancelled while it waits", "cancelled=500000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.WriteFile("/etc/authn/slow.yaml", 0o644, "authenticate:\n  - sleep: 1s\n  - secret: \"Password: \"\n")
			service(m, "slow", "timeout=20s", "config=/etc/authn/slow.yaml")
			name := "slow"
			if test.traits == "leaves" {
				name = "host"
			}
			for _, r := range start(t, m, spec{traits: test.traits, calls: "a", repeat: 2, service: name}).play(nil) {
				for _, facts := range []map[string]string{r.before, r.after} {
					delete(facts, "threads")
					delete(facts, "Threads")
					delete(facts, "attributes") // a thread's own, in part
				}
				if len(r.foldersNow) == 1 {
					r.foldersNow = nil // the next call takes it
				}
				r.unchanged(t)
			}
		})
	}
}

// Threads of hosts may have little stack. What libpam itself needs to talk to
// the kernel's audit, 28 kB, is more than what we need, so it is kept from that.
func TestCallsNeedLittleStack(t *testing.T) {
	t.Parallel()
	g := garbage{"well_behaved", success, ""}
	m := newGarbageMachine(t, "20s", g)
	traits := "threads=65536," + refuse(unix.SYS_SOCKET, unix.EAFNOSUPPORT)
	for _, r := range start(t, m, spec{traits: traits, service: g.name, calls: "a"}).play(nil) {
		if r.code != success || r.stack < 1000 || r.stack > 10<<10 {
			t.Errorf("%s returned %d and took %d bytes of stack", r.call, r.code, r.stack)
		}
		r.unchanged(t)
	}
}

// A chroot, for example, may have no /proc.
func TestNoProc(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.WriteFile("/etc/authn/orphans.yaml", 0o644, orphans)
	service(m, "orphans", "timeout=20s", "config=/etc/authn/orphans.yaml")
	m.Mkdir("/run/proc", 0o755)
	for _, args := range [][]string{{"--bind", "/proc", "/run/proc"}, {"-t", "tmpfs", "none", "/proc"}} {
		if out, code := m.Run("root", "mount", args...); code != 0 {
			t.Fatal(out)
		}
	}
	for _, service := range []string{"host", "orphans"} {
		h := start(t, m, spec{traits: "proc=/run/proc", service: service, calls: "a"})
		for _, r := range h.play(nil) {
			if r.code != success {
				t.Errorf("%s returned %d", r.call, r.code)
			}
			r.unchanged(t)
		}
	}
}

// The host's stderr as a log may be a pipe that nobody reads any more.
func TestLogThatNobodyReads(t *testing.T) {
	for _, test := range []struct {
		name string
		pipe func(t *testing.T) *os.File
	}{
		{"its reader is gone", brokenPipe},
		{"it is full", fullPipe},
		{"it does not block", func(t *testing.T) *os.File { return pipe(t, unix.O_NONBLOCK)[1] }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			service(m, "stderr", "timeout=20s", "log=stderr")
			m.WriteFile(confdir+"/missing", 0o644,
				"auth required "+tree.Module()+" worker=/opt/missing provider=x log=stderr\n")
			for name, code := range map[string]int{"stderr": success, "missing": systemErr} {
				h := start(t, m, spec{calls: "a", service: name, stderr: test.pipe(t)})
				for _, r := range h.play(nil) {
					if r.code != code || r.ms > 2000 {
						t.Errorf("%s returned %d after %d ms", name, r.code, r.ms)
					}
					r.unchanged(t)
				}
			}
		})
	}
}

func pipe(t *testing.T, flags int) [2]*os.File {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|flags); err != nil {
		t.Fatal(err)
	}
	ends := [2]*os.File{os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")}
	t.Cleanup(func() { _, _ = ends[0].Close(), ends[1].Close() })
	return ends
}

func brokenPipe(t *testing.T) *os.File {
	ends := pipe(t, 0)
	_ = ends[0].Close()
	return ends[1]
}

func fullPipe(t *testing.T) *os.File {
	ends := pipe(t, 0)
	size, err := unix.FcntlInt(ends[1].Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ends[1].Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	return ends[1]
}

// Calls of several hosts sweep behind each other.
func TestHostsAtOnce(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	var hosts []*host
	for i := range 8 {
		s := spec{calls: "ao", repeat: 5 * soak()}
		if i%2 == 1 {
			s.wrap = namespace
		}
		hosts = append(hosts, start(t, m, s))
	}
	for i, h := range hosts {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			for _, r := range h.play(nil) {
				if r.code != success {
					t.Errorf("%s returned %d", r.call, r.code)
				}
			}
		})
	}
	t.Cleanup(func() {
		if left := folders(m); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		for _, e := range m.Log() {
			if !strings.Contains(e.Text, "result=success") && e.Tag == "host" && e.PID != 0 {
				t.Log(e)
			}
		}
	})
}

// namespace runs a host in a pid namespace of its own, with its own /proc.
var namespace = []string{"unshare", "--fork", "--pid", "--mount-proc"}

// Hosts in pid namespaces of their own share /run/authn.
func TestFolderOfAnotherPIDNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	h := start(t, m, spec{calls: "a"})
	h.until("pause before")
	h.proceed()
	h.until("prompt")
	before := m.Glob("/run/authn/*")
	inside := spec{wrap: namespace}
	for _, r := range start(t, m, inside).play(nil) {
		if r.code != success || r.before["proc"] == "" {
			t.Errorf("%s in another namespace returned %d; processes there: %q", r.call, r.code, r.before["proc"])
		}
		r.foldersNow, r.processesHere = nil, nil
		r.unchanged(t)
	}
	if now := m.Glob("/run/authn/*"); len(before) != 1 || !slices.Equal(before, now) {
		t.Errorf("the folders were %v and are %v", before, now)
	}
	h.proceed()
	if result := h.until("result"); !strings.HasPrefix(result, "authenticate 0 ") {
		t.Errorf("the other call ends with %s", result)
	}
	h.until("end")
	h.wait()
}

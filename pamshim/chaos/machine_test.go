// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most cases do nothing but wait for a deadline.
	_ = flag.Set("test.parallel", "10")
	pamtest.Main(m)
}

// A machine is an installed build with provider chaos. Every case has a user of
// its own for the provider, so that it can be seen what it left.
type machine struct {
	pamtest.Tree
	program  string // the provider
	services string // the folder with PAM's stacks

	mu    sync.Mutex
	cases int
}

var shared struct {
	once sync.Once
	m    *machine
}

// newMachine returns the machine, which all tests share.
func newMachine(t *testing.T) *machine {
	t.Helper()
	pamtest.Root(t)
	shared.once.Do(func() {
		m := &machine{Tree: pamtest.Shared(t), services: "/etc/authn/services"}
		m.program = m.Provider("chaos")
		build := exec.Command("go", "build", "-trimpath", "-tags", "osusergo,netgo,grpcnotrace", //nolint:gosec // our own
			"-ldflags", "-s -w", "-o", m.program, "./cmd/authn-chaos")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
		// As "make install" does: unreadable, hence not dumpable.
		if err := os.Chmod(m.program, 0o711); err != nil {
			t.Fatal(err)
		}
		// Without it, libpam itself writes to syslog.
		write(t, filepath.Join(m.services, "other"), 0o644, "auth required pam_deny.so\n")
		shared.m = m
	})
	if shared.m == nil {
		t.Fatal("there is no machine, as another test says")
	}
	return shared.m
}

// uids are handed out from here. Processes of the same uid can signal each
// other, so two runs of these tests at the same time need different ones.
var firstUID = 200_000 + os.Getpid()%1000*1000

// A place is where one case happens: a PAM service, a configuration and a user
// for the provider, all of the same name.
type place struct {
	m     *machine
	name  string
	uid   int
	words []string
	known []int // processes of the user that are the test's
}

// newPlace makes a place whose provider misbehaves as mode says.
func (m *machine) newPlace(t *testing.T, mode, arg string, words ...string) *place {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cases++
	p := &place{m: m, uid: firstUID + m.cases, words: words}
	p.name = fmt.Sprintf("chaos-%d", p.uid)
	addLine(t, "/etc/passwd", fmt.Sprintf("%s:x:%d:%d::/nonexistent:/usr/sbin/nologin\n", p.name, p.uid, p.uid))
	p.configure(t, mode, arg, "")
	p.use(t, m.program)
	return p
}

// use makes program the place's provider.
func (p *place) use(t *testing.T, program string) {
	t.Helper()
	stack := ""
	for _, group := range []string{"auth", "account", "session", "password"} {
		stack += fmt.Sprintf("%s required %s worker=%s provider=%s config=%s %s\n",
			group, p.m.Module(), p.m.Worker(), program, p.config(), strings.Join(p.words, " "))
	}
	write(t, filepath.Join(p.m.services, p.name), 0o644, stack)
}

func (p *place) config() string { return "/etc/authn/" + p.name + ".yaml" }

// configure writes the configuration anew.
func (p *place) configure(t *testing.T, mode, arg, more string) {
	t.Helper()
	write(t, p.config(), 0o600, fmt.Sprintf("authn:\n  run_as: %s\n  env: {CHAOS: %q, CHAOS_ARG: %q}\n%s", p.name, mode, arg, more))
}

func write(t *testing.T, path string, mode os.FileMode, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func addLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(line); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// processes lists what runs as the place's user, the dead that nobody has reaped
// included.
func (p *place) processes() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range all {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if field(dir+"/status", "Uid", 0) != strconv.Itoa(p.uid) || slices.Contains(p.known, pid) {
			continue
		}
		found = append(found, filepath.Base(dir)+" "+field(dir+"/status", "Name", 0)+" "+field(dir+"/status", "State", 0))
	}
	return found
}

// field returns the n-th word that a line of a file such as /proc/PID/status
// has behind its name.
func field(path, name string, n int) string {
	text, _ := os.ReadFile(path)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if words := strings.Fields(value); key == name && n < len(words) {
			return words[n]
		}
	}
	return ""
}

// folders lists the private folders that belong to uid.
func folders(uid int) (found []string) {
	entries, _ := os.ReadDir("/run/authn")
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) == uid {
			found = append(found, e.Name())
		}
	}
	return found
}

// purge kills whatever runs as uid, all at the same moment, for tests that
// failed to end it.
func purge(uid int) {
	kill := exec.Command("/bin/sh", "-c", "kill -KILL -1")
	kill.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	_ = kill.Run()
}

// children lists the child processes of a thread.
func children(pid, tid int) (pids []int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, tid))
	for _, word := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(word); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}

// repeats is how often a test does what it does.
func repeats() int {
	if os.Getenv("SOAK") != "" {
		return 20
	}
	return 1
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// UnixStack is a PAM stack that asks for the account's password, as Debian's do.
const UnixStack = "@include common-auth\n@include common-account\n@include common-password\n@include common-session\n"

// A Machine is a private view of the system: see the package comment. It has
// the system's own accounts (without their passwords and without people), and no
// PAM stack that lets anybody in.
//
// Its methods end the test when they fail; they may be called from several
// goroutines wherever the test's Fatalf may.
type Machine struct {
	// Timeout bounds everything that is waited for. NewMachine sets 30 seconds.
	Timeout time.Duration
	// Screen, if set, shows what people at the terminals see, as they see it.
	Screen io.Writer

	tb     TB
	thread *thread
	ns     string // the mount namespace, as in /proc/PID/ns/mnt
	keeper *keeper
	syslog *syslog

	screen sync.Mutex // held while writing to Screen

	mu        sync.Mutex
	services  map[int]string // what runs for the whole test, by pid
	servers   []*Server
	terminals []*Terminal
	atd       bool
	reported  bool
	closed    bool
}

// NewMachine makes a machine. It is gone, with all processes in it, when
// the test ends, and soon after this process is killed.
func NewMachine(tb TB) *Machine {
	tb.Helper()
	m := &Machine{Timeout: 30 * time.Second, tb: tb, services: map[int]string{}}
	t, err := startThread(func() error {
		if err := buildView(defaultHostname); err != nil {
			return err
		}
		return m.boot()
	})
	if err != nil {
		tb.Fatalf("make a machine: %v", err)
	}
	m.thread = t
	tb.Cleanup(m.Close)
	return m
}

// boot runs on the machine's thread.
func (m *Machine) boot() (err error) {
	if m.ns, err = os.Readlink("/proc/thread-self/ns/mnt"); err != nil {
		return err
	}
	if m.keeper, err = startKeeper(); err != nil {
		return fmt.Errorf("start the keeper: %w", err)
	}
	if m.syslog, err = listenSyslog("/dev/log"); err != nil {
		m.keeper.stop()
		return err
	}
	return nil
}

// Close kills whatever runs in the machine and forgets all its files. NewMachine
// arranges for it; calling it twice does nothing.
func (m *Machine) Close() {
	m.mu.Lock()
	closed, terminals, reported := m.closed, m.terminals, m.reported
	m.closed = true
	m.mu.Unlock()
	if closed {
		return
	}
	if m.tb.Failed() && !reported {
		m.tb.Logf("%s", m.report())
	}
	err := m.keeper.stop()
	if left := m.Processes(); err != nil || len(left) > 0 {
		m.tb.Errorf("close the machine: %v; left:\n%s", err, list(left))
	}
	for _, c := range terminals {
		<-c.done
	}
	m.syslog.close()
	m.thread.stop()
}

// PAM writes the stack of a service. "other" denies, and common-auth,
// common-account, common-password and common-session mean pam_unix, unless they
// are written over.
func (m *Machine) PAM(service, stack string) {
	m.tb.Helper()
	m.WriteFile("/etc/pam.d/"+service, 0o644, strings.TrimSuffix(stack, "\n")+"\n")
}

// WriteFile makes a file that belongs to root, and the folders above it. It
// replaces what has that name, and does not follow a link. The mode may be an
// octal number of four digits, such as 0o4755.
func (m *Machine) WriteFile(path string, mode fs.FileMode, content string) {
	m.tb.Helper()
	m.inside(func() error { return replaceFile(path, mode, []byte(content)) })
}

// Install copies the system's file src, a program that was just built for
// example, to dst in the machine, where it belongs to root.
func (m *Machine) Install(src, dst string, mode fs.FileMode) {
	m.tb.Helper()
	content, err := os.ReadFile(src)
	if err != nil {
		m.tb.Fatalf("install: %v", err)
	}
	m.inside(func() error { return replaceFile(dst, mode, content) })
}

// InstallTree copies all files below the system's folder src to dst, with the
// permission bits they have. It is for what "make install DESTDIR=src" wrote,
// with dst "/".
func (m *Machine) InstallTree(src, dst string) {
	m.tb.Helper()
	err := filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		m.Install(path, filepath.Join(dst, rel), info.Mode().Perm())
		return nil
	})
	if err != nil {
		m.tb.Fatalf("install: %v", err)
	}
}

// Mkdir makes a folder that belongs to root, and those above it.
func (m *Machine) Mkdir(path string, mode fs.FileMode) {
	m.tb.Helper()
	m.inside(func() error {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		return chmod(path, mode)
	})
}

// Chown gives a file or folder to the user and the user's primary group.
func (m *Machine) Chown(path, user string) {
	m.tb.Helper()
	a := m.Account(user)
	m.inside(func() error { return os.Chown(path, a.UID, a.GID) })
}

// ReadFile returns a file of the machine.
func (m *Machine) ReadFile(path string) string {
	m.tb.Helper()
	var content []byte
	m.inside(func() (err error) { content, err = os.ReadFile(path); return err })
	return string(content)
}

// Glob returns the machine's files that match the pattern; see [filepath.Glob].
func (m *Machine) Glob(pattern string) []string {
	m.tb.Helper()
	var names []string
	m.inside(func() (err error) { names, err = filepath.Glob(pattern); return err })
	return names
}

// Do runs fn on a thread of this process that lives in the machine: files that
// it opens, sockets that it makes, processes that it starts and PAM
// transactions that it runs are the machine's. Calls wait for each other. fn
// must not call the machine's methods, nor the test's Fatalf, nor pass work to
// other goroutines.
func (m *Machine) Do(fn func()) {
	m.tb.Helper()
	if !m.thread.do(fn) {
		m.tb.Fatalf("the machine is closed")
	}
}

func (m *Machine) inside(fn func() error) {
	m.tb.Helper()
	var err error
	m.Do(func() { err = fn() })
	if err != nil {
		m.tb.Fatalf("in the machine: %v", err)
	}
}

// fatalf ends the test with a message and what the machine's logs say.
func (m *Machine) fatalf(format string, args ...any) {
	m.tb.Helper()
	text := fmt.Sprintf(format, args...) + "\n" + m.report()
	m.mu.Lock()
	m.reported = true
	m.mu.Unlock()
	m.tb.Fatalf("%s", text)
}

// report says what a person who looks into a failure wants to know.
func (m *Machine) report() string {
	m.mu.Lock()
	servers := m.servers
	m.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "--- syslog\n%s", tail(joinEntries(m.syslog.entries()), 30))
	for _, s := range servers {
		fmt.Fprintf(&b, "--- %s on port %d\n%s", s.service, s.Port, tail(s.Log(), 40))
	}
	fmt.Fprintf(&b, "--- processes\n%s", list(m.Processes()))
	return b.String()
}

func tail(text string, lines int) string {
	all := strings.SplitAfter(text, "\n")
	if len(all) > lines+1 {
		all = append([]string{"...\n"}, all[len(all)-lines-1:]...)
	}
	return strings.Join(all, "")
}

// poll waits until cond holds, or for the machine's timeout; it is for what the
// kernel does not tell.
func (m *Machine) poll(cond func() bool) bool {
	for deadline := time.Now().Add(m.Timeout); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// A bell wakes those who wait for a change.
type bell struct {
	mu sync.Mutex
	ch chan struct{}
}

// next returns a channel that is closed at the next ring.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// await waits until cond holds, looking again whenever the bell rings.
func (b *bell) await(timeout time.Duration, cond func() bool) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		rung := b.next()
		if cond() {
			return true
		}
		select {
		case <-rung:
		case <-timer.C:
			return cond()
		}
	}
}

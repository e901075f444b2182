// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// soak is how often a host makes its calls.
func soak() int {
	if os.Getenv("SOAK") == "1" {
		return 50
	}
	return 1
}

// Where a machine has things.
const (
	installed = "/opt/authn"
	hostPath  = "/opt/test/host"
	confdir   = "/opt/test/pam.d"
)

var tree = pamtest.Tree{Dir: installed}

// temporary holds what is compiled once, for all tests.
var temporary string

func TestMain(m *testing.M) {
	flag.Parse()
	if !parallelGiven() { // most tests wait for something
		_ = flag.Set("test.parallel", "6")
	}
	var err error
	if temporary, err = os.MkdirTemp("", "hostile"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(temporary)
	os.Exit(code)
}

func parallelGiven() (given bool) {
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	return given
}

var warnings = []string{"-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror"}

// compile compiles a program of testdata. It is called once for each.
func compile(name string, args ...string) (string, error) {
	out := filepath.Join(temporary, name)
	args = append(append(slices.Clone(warnings), "-o", out), args...)
	if text, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return out, nil
}

var hostSources = []string{"testdata/host.c", "testdata/child.c", "testdata/state.c", "testdata/traits.c"}

var compiledHost = sync.OnceValues(func() (string, error) {
	return compile("host", append(slices.Clone(hostSources), "-lpam", "-pthread", "-ldl")...)
})

func must(t *testing.T, build func() (string, error)) string {
	t.Helper()
	program, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// The provider asks, or tells, wherever a call has a conversation.
const scenario = `
authenticate:
  - secret: "Password: "
    expect: open sesame
  - succeed: {subject: "%u@example.com", env: {AUTHN_DOOR: open}, ticket: abc}
account:
  - expect_ticket: abc
  - info: account
open_session:
  - expect_ticket: abc
  - info: session
change_password:
  - secret: "New: "
    expect: open sesame
`

// newMachine makes a machine with the build, the host and alice.
func newMachine(t *testing.T, programs ...string) *hosttest.Machine {
	t.Helper()
	hosttest.Require(t, append(programs, "gcc")...)
	m := hosttest.NewMachine(t)
	m.Install(filepath.Join(pamtest.Build(t), "pam_authn.so"), tree.Module(), 0o644)
	m.Install(filepath.Join(pamtest.Build(t), "authn-worker"), tree.Worker(), 0o755)
	m.Install(pamtest.ScenarioProgram(t), tree.Provider("scenario"), 0o711)
	m.Install(must(t, compiledHost), hostPath, 0o755)
	m.AddUser("authn", hosttest.User{})
	m.AddUser("alice", hosttest.User{})
	m.WriteFile("/etc/authn/scenario.yaml", 0o644, scenario)
	service(m, "host", "timeout=20s")
	return m
}

// service writes the stack of a service that has all four groups.
func service(m *hosttest.Machine, name string, words ...string) {
	var stack strings.Builder
	for _, group := range []string{"auth", "account", "session", "password"} {
		more := words
		if group == "auth" {
			more = append([]string{"setcred"}, words...)
		}
		stack.WriteString(tree.Line(group, "scenario", more...))
	}
	m.WriteFile(confdir+"/"+name, 0o644, stack.String())
}

// A spec says what host to run.
type spec struct {
	traits  string
	user    string   // who runs it; root if empty
	program string   // hostPath if empty
	service string   // "host" if empty
	calls   string   // all six if empty
	repeat  int      // once if 0
	env     []string // instead of a login's
	wrap    []string // a program and its arguments that execs the host
	flags   uintptr  // of clone
	stderr  *os.File // instead of a pipe that is read
}

const sixCalls = "asmocp"

// A host is a running host.
type host struct {
	t      *testing.T
	m      *hosttest.Machine
	cmd    *hosttest.Cmd
	conn   net.Conn
	lines  *bufio.Scanner
	output bytes.Buffer
	limit  time.Duration // for each line
	memory []int         // kilobytes in use, after each transaction
}

// start starts a host.
func start(t *testing.T, m *hosttest.Machine, s spec) *host {
	t.Helper()
	h := &host{t: t, m: m, limit: 40 * time.Second}
	ours, theirs := channel(t)
	defer theirs.Close()
	h.conn = ours
	h.lines = bufio.NewScanner(ours)
	h.lines.Buffer(nil, 1<<20)
	h.cmd = command(m, s)
	h.cmd.ExtraFiles = []*os.File{theirs}
	h.cmd.Stdout, h.cmd.Stderr = &h.output, &h.output
	if s.stderr != nil {
		h.cmd.Stderr = s.stderr
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatalf("start the host: %v", err)
	}
	return h
}

func command(m *hosttest.Machine, s spec) *hosttest.Cmd {
	words := append(slices.Clone(s.wrap), or(s.program, hostPath), s.traits, confdir, or(s.service, "host"), "alice",
		or(s.calls, sixCalls), fmt.Sprint(max(s.repeat, 1)))
	cmd := m.Command(or(s.user, "root"), words[0], words[1:]...)
	if s.env != nil {
		cmd.Env = s.env
	}
	cmd.SysProcAttr.Cloneflags = s.flags
	return cmd
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// channel makes a connection whose other end a host inherits.
func channel(t *testing.T) (ours net.Conn, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "channel")
	defer f.Close()
	ours, err = net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return ours, os.NewFile(uintptr(fds[1]), "host's channel")
}

// next reads what the host says: a word, and the rest of the line. At the
// host's end it returns nothing.
func (h *host) next() (word, rest string) {
	h.t.Helper()
	if err := h.conn.SetReadDeadline(time.Now().Add(h.limit)); err != nil {
		h.t.Fatal(err)
	}
	if !h.lines.Scan() {
		if err := h.lines.Err(); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			h.fatalf("the host says nothing: %v", err)
		}
		return "", ""
	}
	word, rest, _ = strings.Cut(h.lines.Text(), " ")
	if word == "fail" {
		h.fatalf("the host: %s", rest)
	}
	return word, rest
}

// proceed lets the host go on.
func (h *host) proceed() {
	h.t.Helper()
	if _, err := h.conn.Write([]byte("\n")); err != nil {
		h.fatalf("the host is gone: %v", err)
	}
}

// until reads up to a line that begins with the words, which it returns
// without them. The host's other questions are answered on the way.
func (h *host) until(words string) string {
	h.t.Helper()
	for {
		word, rest := h.next()
		if word == "" {
			h.fatalf("the host ended before %q", words)
		}
		if text, ok := strings.CutPrefix(word+" "+rest, words); ok {
			return strings.TrimSpace(text)
		}
		if word == "pause" || word == "prompt" {
			h.proceed()
		}
	}
}

func (h *host) fatalf(format string, args ...any) {
	h.t.Helper()
	h.kill()
	h.t.Fatalf("%s\n--- host (%v)\n%s--- log\n%s", fmt.Sprintf(format, args...), h.cmd.ProcessState, &h.output, h.m.LogText())
}

// kill kills the host.
func (h *host) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	_ = h.conn.Close()
}

// wait waits for the host's own end.
func (h *host) wait() {
	h.t.Helper()
	if err := h.cmd.Wait(); err != nil {
		h.fatalf("the host: %v", err)
	}
	_ = h.conn.Close()
}

// A report is what a host says about one call.
type report struct {
	call                      string
	code                      int
	ms, sigchld, stack        int
	before, after             map[string]string
	child, strangers          string
	processesHere, foldersNow []string // that were not there before the call
}

// play runs the host to its end and returns its calls. look, if set, is
// called at each prompt.
func (h *host) play(look func(call, text string)) []report {
	h.t.Helper()
	var all []report
	var now *report
	var processes []hosttest.Process
	for {
		word, rest := h.next()
		key, value, _ := strings.Cut(rest, " ")
		switch word {
		case "before":
			if now == nil {
				now = &report{before: map[string]string{}, after: map[string]string{}}
			}
			now.before[key] = value
		case "after":
			now.after[key] = value
		case "pause":
			if key == "before" {
				now.call = value
				processes = h.m.Processes()
			} else {
				now.processesHere, now.foldersNow = left(h.m, processes), folders(h.m)
			}
			h.proceed()
		case "prompt":
			if look != nil {
				look(now.call, value)
			}
			h.proceed()
		case "result":
			if _, err := fmt.Sscan(rest, &now.call, &now.code, &now.ms, &now.sigchld, &now.stack); err != nil {
				h.fatalf("result %s: %v", rest, err)
			}
		case "child":
			now.child = rest
			all, now = append(all, *now), nil
		case "strangers":
			now.strangers += rest + "\n"
		case "memory":
			n, _ := strconv.Atoi(rest)
			h.memory = append(h.memory, n)
		case "end":
			h.wait()
			return all
		case "":
			h.fatalf("the host died: %v", h.cmd.Wait())
		}
	}
}

// left lists the processes that were not there before.
func left(m *hosttest.Machine, before []hosttest.Process) []string {
	var new []string
	for _, p := range m.Processes() {
		if !slices.ContainsFunc(before, func(b hosttest.Process) bool { return b.PID == p.PID }) {
			new = append(new, p.String())
		}
	}
	return new
}

// folders lists the private folders that lie around.
func folders(m *hosttest.Machine) []string {
	return slices.Concat(m.Glob("/run/authn/*"), m.Glob("/tmp/*authn-*"), m.Glob("/home/alice/*authn-*"))
}

// Results by PAM's numbers.
const (
	success   = 0
	systemErr = 4
	convErr   = 19
)

// unchanged checks that a call left the host as it was.
func (r report) unchanged(t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(r.before)) {
		if r.before[name] != r.after[name] {
			t.Errorf("%s changed\nfrom %s\nto   %s", name, r.before[name], r.after[name])
		}
	}
	if len(r.before) != len(r.after) || len(r.before) < 20 && r.code == success {
		t.Errorf("the host tells %d facts before and %d after", len(r.before), len(r.after))
	}
	if r.sigchld > 0 {
		t.Errorf("the host heard %d SIGCHLD", r.sigchld)
	}
	if !strings.HasPrefix(r.child, "right") {
		t.Errorf("the host's own child: %s", r.child)
	}
	for _, p := range r.processesHere {
		t.Errorf("left behind: %s", p)
	}
	for _, f := range r.foldersNow {
		t.Errorf("left behind: %s", f)
	}
}

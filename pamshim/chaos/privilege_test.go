// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// told collects what the provider said in lines "name: value".
func told(who *person) map[string]string {
	facts := map[string]string{}
	for _, text := range who.saw(pam.TextInfo) {
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); ok {
				facts[name] = value
			}
		}
	}
	return facts
}

func TestAProviderHasOnlyWhatItNeeds(t *testing.T) {
	m := newMachine(t)
	p := m.newPlace(t, "probes", "", "timeout=10s")
	who := &person{}
	if o := p.call(t, who, authn.CallAuthenticate, nil); o.result != authn.Success {
		t.Fatalf("%s\n%s", o.result.Error(), strings.Join(o.lines, "\n"))
	}
	got := told(who)
	t.Logf("%s", list(got))

	dir := got["env TMPDIR"]
	if !regexp.MustCompile(`^/run/authn/\d+-\d+-\d+$`).MatchString(dir) {
		t.Errorf("TMPDIR is %q", dir)
	}
	if worker, _, _ := strings.Cut(filepath.Base(dir), "-"); got["parent"] != worker {
		t.Errorf("the parent is %s, the worker %s", got["parent"], worker)
	}
	want := map[string]string{
		"ids":                          fmt.Sprintf("%d %d %d %d [] <nil>", p.uid, p.uid, p.uid, p.uid),
		"session leader":               "true <nil>",
		"length of the working folder": "2 <nil>", // "/" and its end
		"umask":                        "0077",
		"dumpable":                     "0",
		"no_new_privs":                 "1",
		"securebits":                   "0",
		"signal of the parent's death": "9",
		"limit core":                   "0 0",
		"limit fsize":                  "1048576 1048576",
		"limit nofile":                 "256 256",
		"limit data":                   "536870912 536870912",
		"env AUTHN_PROVIDER_COOKIE":    "pam-authn provider",
		"env CHAOS":                    "probes",
		"env CHAOS_ARG":                "",
		"env LANG":                     "C.UTF-8",
		"env PATH":                     "/usr/sbin:/usr/bin:/sbin:/bin",
		"env PLUGIN_MIN_PORT":          "10000",
		"env PLUGIN_MAX_PORT":          "25000",
		"env PLUGIN_PROTOCOL_VERSIONS": "1",
		"env PLUGIN_UNIX_SOCKET_DIR":   dir,
		"env TMPDIR":                   dir,
	}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: %q, want %q", name, got[name], value)
		}
	}
	for name, value := range got {
		if _, known := want[name]; strings.HasPrefix(name, "env ") && !known {
			t.Errorf("%s is set", name)
		}
		if needed := regexp.MustCompile(`^(listen|resolve|write|read|execute) `); needed.MatchString(name) && value != "possible" && present(name) {
			t.Errorf("%s: %s", name, value)
		}
	}
}

// present reports whether the file that a fact is about exists here.
func present(name string) bool {
	path := name[strings.LastIndexByte(name, ' ')+1:]
	if !strings.HasPrefix(path, "/") {
		return true
	}
	_, err := os.Stat(path)
	return err == nil
}

func list(facts map[string]string) string {
	var lines []string
	for name, value := range facts {
		lines = append(lines, name+": "+value)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// What the kernel says of a provider that sets nothing up by itself: a script
// that became sleep.
func TestAProviderIsStartedClean(t *testing.T) {
	m := newMachine(t)
	p := m.newPlace(t, "", "", "timeout=2s")
	script := filepath.Join(pamtest.Dir(t), "authn-chaos")
	write(t, script, 0o755, "#!/bin/sh\n: >\"$TMPDIR/at-start\"\nexec sleep 1000\n")
	p.use(t, script)

	var status, fds string
	s := &step{at: "start", do: func(worker, provider int) {
		for field(fmt.Sprintf("/proc/%d/status", provider), "Name", 0) != "sleep" {
			time.Sleep(time.Millisecond)
		}
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", provider))
		status = string(text)
		fds = descriptors(provider)
	}}
	o := p.hostile(t, s)
	if o.result != authn.ErrSystem || !s.ran.Load() {
		t.Fatalf("%s\n%s", o.result.Error(), strings.Join(o.lines, "\n"))
	}
	want := map[string]string{
		"SigBlk": zero, "SigIgn": zero, "SigCgt": zero, "CapInh": zero, "CapPrm": zero, "CapEff": zero, "CapAmb": zero,
		"NoNewPrivs": "1", "Umask": "0077", "Groups": "", "Threads": "1", "Seccomp": "0",
		"Uid": fmt.Sprintf("%[1]d\t%[1]d\t%[1]d\t%[1]d", p.uid),
		"Gid": fmt.Sprintf("%[1]d\t%[1]d\t%[1]d\t%[1]d", p.uid),
	}
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if w, ok := want[name]; ok && strings.TrimSpace(value) != w {
			t.Errorf("%s is %q, want %q", name, strings.TrimSpace(value), w)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("/proc/PID/status does not say %v", want)
	}
	if fds != "0 /dev/null 1 pipe 2 pipe" {
		t.Errorf("the descriptors are %s", fds)
	}
}

const zero = "0000000000000000"

// hostile makes a call from a thread that ignores, blocks and keeps open what
// a child could inherit.
func (p *place) hostile(t *testing.T, s *step) outcome {
	t.Helper()
	keep, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0) // without CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(keep) //nolint:errcheck // only read
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGCHLD, syscall.SIGUSR1)
	defer signal.Reset(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGCHLD, syscall.SIGUSR1)
	umask := unix.Umask(0)
	defer unix.Umask(umask)
	return p.callFrom(t, &person{}, authn.CallAuthenticate, s, func() {
		all := unix.Sigset_t{Val: [16]uint64{1<<64 - 1}}
		_ = unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
	})
}

var anonymous = regexp.MustCompile(`:\[\d+\]`)

func descriptors(pid int) string {
	var all []string
	for fd := range 1024 {
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); err == nil {
			all = append(all, strconv.Itoa(fd), anonymous.ReplaceAllString(target, ""))
		}
	}
	return strings.Join(all, " ")
}

func TestAProviderThatWasBrokenIntoGetsNowhere(t *testing.T) {
	m := newMachine(t)
	abi := landlock(t)
	p := m.newPlace(t, "spies", "", "timeout=20s")
	abstract := fmt.Sprintf("chaos-%d", p.uid)
	l, err := net.Listen("unix", "@"+abstract)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // a test's end

	sibling := exec.Command("/bin/sleep", "1000")
	sibling.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // of which Pdeathsig speaks
	defer runtime.UnlockOSThread()
	if err := sibling.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- sibling.Wait() }()
	t.Cleanup(func() { _ = sibling.Process.Kill() })

	p.known = []int{sibling.Process.Pid}

	// Another provider of the same user, in the middle of a call, and the
	// user's home.
	other := fmt.Sprintf("/run/authn/%d-%s", os.Getpid(), startTime(t))
	home := "/var/lib/home-" + p.name
	for _, dir := range []string{other, home} {
		write(t, filepath.Join(dir, "secret"), 0o666, "hunter2")
		for _, path := range []string{dir, filepath.Join(dir, "secret")} {
			if err := os.Chown(path, p.uid, p.uid); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	hole, err := net.Listen("unix", other+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close() //nolint:errcheck // a test's end
	if err := os.Chmod(other+"/socket", 0o777); err != nil {
		t.Fatal(err)
	}

	arg := map[string]any{
		"Abstract": abstract, "Sibling": sibling.Process.Pid, "Other": other, "Key": "chaos-" + p.name, "SetUID": setUID(t),
		"Read": []string{
			"/etc/passwd", "/etc/shadow", "/etc/authn", p.config(), "/run/authn", other, other + "/secret", home, home + "/secret",
			"/root", "/home", "/tmp", "/var/log", "/proc", "/proc/self/status", "/proc/self/maps", "/proc/1/cmdline", "/sys", "/dev", "/dev/tty",
			"/etc/pam.d", "/etc/ssh", "/var/lib", "/", "/boot", "/opt", "/srv", "/run", m.services, m.Dir, m.Module(), m.Worker(),
		},
		"Write": []string{"/tmp", "/var/tmp", "/dev/shm", "/run", "/run/authn", other, home, "/etc", "/etc/authn", "/var/lib", m.Dir},
	}
	text, err := json.Marshal(arg)
	if err != nil {
		t.Fatal(err)
	}
	p.configure(t, "spies", string(text), "")

	who := &person{}
	o := p.callFrom(t, who, authn.CallAuthenticate, nil, func() { addKey(t, "chaos-"+p.name) })
	if o.result != authn.Success {
		t.Fatalf("%s\n%s", o.result.Error(), strings.Join(o.lines, "\n"))
	}
	got := told(who)
	t.Logf("%s", list(got))
	for name, value := range got {
		if value == "possible" && !slices.Contains(allowed, name) && (abi >= 6 || !scoped.MatchString(name)) {
			t.Errorf("it could %s", name)
		}
		if strings.HasSuffix(value, "no such file or directory") && present(name) {
			t.Errorf("%s: %s, which proves nothing", name, value)
		}
	}
	if len(got) < 120 {
		t.Errorf("only %d attempts", len(got))
	}
	select {
	case err := <-ended:
		if abi >= 6 {
			t.Errorf("it ended a process of the same user: %v", err)
		}
	default:
	}
}

// landlock returns the version of the kernel's, without which a provider can
// read whatever its user can.
func landlock(t *testing.T) int {
	t.Helper()
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch {
	case errno == 0:
	case os.Getenv("CI") == "true":
		t.Fatalf("CI must be able to run this test: this kernel has no Landlock: %v", errno)
	default:
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	return int(abi)
}

// scoped is what Landlock keeps from a provider from version 6 on, Linux 6.12.
var scoped = regexp.MustCompile(`^(signal \d+ to a process of the same user|connect to an abstract socket)$`)

// allowed is what looks bad. To all processes, kill(2) says that it worked where
// it was refused for each. The rest Landlock does not know: providers that shall
// not stop each other need users of their own (authn.run_as), and the socket is
// why both of its ends ask the kernel who is at the other.
var allowed = []string{
	"signal 0 to all", "signal 15 to all", "signal 19 to all", "signal 9 to all",
	"limit a process of the same user", "use another's socket",
}

// setUID installs id as a set-user-id program of root's where providers may
// execute programs.
func setUID(t *testing.T) string {
	t.Helper()
	const dir = "/usr/local/bin"
	if err := unix.Mount("chaos", dir, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	id := filepath.Join(dir, "id")
	pamtest.CopyFile(t, "/usr/bin/id", id, 0o755)
	if err := unix.Chmod(id, 0o4755); err != nil {
		t.Fatal(err)
	}
	return id
}

// addKey gives the thread a keyring with a key, as logins have one.
func addKey(t *testing.T, name string) {
	t.Helper()
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err == nil {
		_, err = unix.AddKey("user", name, []byte("hunter2"), unix.KEY_SPEC_SESSION_KEYRING)
	}
	switch {
	case err == nil:
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		t.Logf("there are no keys here: %v", err)
	default:
		t.Errorf("add a key: %v", err)
	}
}

// startTime is the part of /proc/self/stat that names this process for good.
func startTime(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.Fields(rest)[22-3]
}

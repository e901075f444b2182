// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sort"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/authn"
)

// What a provider that was broken into can find out and do. Each fact is told
// to the user as "name: value".
func init() {
	add(map[string]func(){
		"probes":      author(func(_ *authn.Request, c authn.Conversation) error { return tell(c, probes()) }),
		"spies":       author(func(_ *authn.Request, c authn.Conversation) error { return tell(c, spies(targets())) }),
		"waits_alive": author(func(*authn.Request, authn.Conversation) error { arrived("call"); forever(); return nil }),
		"peeks":       peeks,
	})
}

// death is the signal of the parent's death. It belongs to the thread that
// called exec, where this runs.
var death = func() (sig int32) {
	must(unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&sig)), 0, 0, 0))
	return sig
}()

// facts are what was found, by name.
type facts map[string]string

func tell(conv authn.Conversation, f facts) error {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	sort.Strings(names)
	for len(names) > 0 {
		var text strings.Builder
		for len(names) > 0 && text.Len() < 6000 {
			fmt.Fprintf(&text, "%s: %s\n", names[0], f[names[0]])
			names = names[1:]
		}
		if err := conv.Info(text.String()); err != nil {
			return err
		}
	}
	return nil
}

// try notes how an attempt ended.
func (f facts) try(name string, err error) {
	f[name] = "possible"
	if err != nil {
		f[name] = err.Error()
	}
}

func probes() facts {
	f := facts{}
	groups, err := syscall.Getgroups()
	f["ids"] = fmt.Sprint(syscall.Getuid(), syscall.Geteuid(), syscall.Getgid(), syscall.Getegid(), groups, err)
	sid, err := unix.Getsid(0)
	f["session leader"] = fmt.Sprint(sid == os.Getpid(), err)
	dir, err := syscall.Getcwd(make([]byte, 100))
	f["length of the working folder"] = fmt.Sprint(dir, err)
	f["umask"] = fmt.Sprintf("%04o", syscall.Umask(0o077))
	f["parent"] = fmt.Sprint(os.Getppid())
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		f["env "+name] = value
	}
	f["dumpable"] = prctl(unix.PR_GET_DUMPABLE, 0)
	f["no_new_privs"] = prctl(unix.PR_GET_NO_NEW_PRIVS, 0)
	f["securebits"] = prctl(unix.PR_GET_SECUREBITS, 0)
	f["signal of the parent's death"] = fmt.Sprint(death)
	for resource, name := range map[int]string{
		unix.RLIMIT_CORE: "core", unix.RLIMIT_FSIZE: "fsize", unix.RLIMIT_NOFILE: "nofile", unix.RLIMIT_DATA: "data",
		unix.RLIMIT_AS: "as", unix.RLIMIT_NPROC: "nproc",
	} {
		var l unix.Rlimit
		must(unix.Getrlimit(resource, &l))
		f["limit "+name] = fmt.Sprint(l.Cur, l.Max)
	}
	f.try("listen on the network and connect", loopback())
	_, err = net.LookupHost("localhost")
	f.try("resolve localhost", err)
	f.try("write its folder", os.WriteFile(folder()+"/x", nil, 0o600))
	f.try("write TMPDIR", os.WriteFile(os.Getenv("TMPDIR")+"/y", nil, 0o600))
	f.try("write /dev/null", os.WriteFile("/dev/null", []byte("x"), 0))
	for _, path := range []string{"/dev/urandom", "/etc/ssl/certs", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/usr/share", "/usr/bin/id"} {
		f.try("read "+path, read(path))
	}
	f.try("execute /usr/bin/id", exec.Command("/usr/bin/id").Run())
	return f
}

func prctl(option int, arg uintptr) string {
	n, err := unix.PrctlRetInt(option, arg, 0, 0, 0)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

func loopback() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // a probe
	c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

// read reads a byte of a file or a name of a folder.
func read(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	buf := make([]byte, 4096)
	_, err = unix.Read(fd, buf)
	if err == unix.EISDIR { //nolint:errorlint // an errno
		_, err = unix.Getdents(fd, buf)
	}
	return err
}

// A target is what there is to spy on; the test names it in CHAOS_ARG.
type target struct {
	Abstract string   // an abstract socket
	Sibling  int      // a process of the same user
	Other    string   // the folder of another provider
	Key      string   // a key in the application's keyring
	SetUID   string   // a program of root's that prints its effective uid
	Read     []string // what must not be read
	Write    []string // folders that must not be written
}

func targets() (t target) {
	must(json.Unmarshal([]byte(os.Getenv(argKey)), &t))
	return t
}

func spies(t target) facts {
	if syscall.Geteuid() == 0 {
		panic("root would do what is tried here")
	}
	f := facts{}
	for _, path := range t.Read {
		f.try("read "+path, read(path))
	}
	for _, path := range t.Write {
		f.try("write "+path, os.WriteFile(path+"/chaos", nil, 0o600))
		f.try("make a folder in "+path, os.Mkdir(path+"/chaos-folder", 0o700))
		f.try("listen in "+path, listenAt(path+"/chaos-socket"))
		f.try("rename into "+path, renameInto(path))
		f.try("link into "+path, os.Symlink("/", path+"/chaos-link"))
	}
	f.processes(t)
	f.privileges(t)
	c, err := net.Dial("unix", "@"+t.Abstract)
	if err == nil {
		_ = c.Close()
	}
	f.try("connect to an abstract socket", err)
	f.try("execute from its folder", executeCopy())
	f.try("change its own program", os.WriteFile(os.Args[0], nil, 0o755))
	f.try("use another's socket", dial(t.Other+"/socket"))
	_, err = unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", t.Key, 0)
	f.try("find a key of the application's", err)
	return f
}

func (f facts) processes(t target) {
	parent := os.Getppid()
	for _, sig := range []syscall.Signal{0, syscall.SIGTERM, syscall.SIGSTOP, syscall.SIGKILL} {
		f.try(fmt.Sprintf("signal %d to the worker", sig), syscall.Kill(parent, sig))
		for waiter := parent - 4; waiter < parent; waiter++ {
			if err := syscall.Kill(waiter, sig); err != syscall.ESRCH { //nolint:errorlint // an errno
				f.try(fmt.Sprintf("signal %d to %d before the worker", sig, parent-waiter), err)
			}
		}
		f.try(fmt.Sprintf("signal %d to a process of the same user", sig), syscall.Kill(t.Sibling, sig))
		f.try(fmt.Sprintf("signal %d to all", sig), syscall.Kill(-1, sig))
	}
	f.try("signal 0 to init", syscall.Kill(1, 0))
	for name, pid := range map[string]int{"the worker": parent, "a process of the same user": t.Sibling} {
		f.try("read the memory of "+name, read(fmt.Sprintf("/proc/%d/mem", pid)))
		f.try("read the environment of "+name, read(fmt.Sprintf("/proc/%d/environ", pid)))
		f.try("trace "+name, syscall.PtraceAttach(pid))
		local, remote := make([]byte, 1), unix.RemoteIovec{Base: 0x400000, Len: 1}
		_, err := unix.ProcessVMReadv(pid, []unix.Iovec{{Base: &local[0], Len: 1}}, []unix.RemoteIovec{remote}, 0)
		f.try("read across from "+name, err)
		f.try("take a descriptor of "+name, takeDescriptor(pid))
		var l unix.Rlimit
		f.try("limit "+name, unix.Prlimit(pid, unix.RLIMIT_CPU, &l, nil))
	}
}

func takeDescriptor(pid int) error {
	p, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	_, err = unix.PidfdGetfd(p, 0, 0)
	return err
}

func (f facts) privileges(t target) {
	f.try("become root", syscall.Setresuid(0, 0, 0))
	f.try("take root's group", syscall.Setresgid(0, 0, 0))
	f.try("take groups", syscall.Setgroups([]int{0}))
	f.try("mount", unix.Mount("none", folder(), "tmpfs", 0, ""))
	f.try("change the root", syscall.Chroot(folder()))
	f.try("make a device", syscall.Mknod(folder()+"/device", syscall.S_IFCHR|0o600, 1<<8|1))
	f.try("unshare mounts", inNamespace(syscall.CLONE_NEWNS))
	f.try("mount in a namespace of its own", inNamespace(syscall.CLONE_NEWUSER|syscall.CLONE_NEWNS))
	f.try("raise a limit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 16, Max: 1 << 16}))
	f.try("raise its priority", unix.Setpriority(unix.PRIO_PROCESS, 0, -5))
	f.try("give up no_new_privs", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0))
	f.try("open a raw socket", rawSocket())
	f.try("set the host's name", syscall.Sethostname([]byte("chaos")))
	out, err := exec.Command(t.SetUID, "-u").Output() //nolint:gosec // the test's own
	if err == nil && !bytes.Equal(bytes.TrimSpace(out), []byte("0")) {
		err = fmt.Errorf("a set-user-id program runs as %s", bytes.TrimSpace(out))
	}
	f.try("gain by a set-user-id program", err)
}

func rawSocket() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err == nil {
		_ = unix.Close(fd)
	}
	return err
}

// inNamespace mounts over its folder in namespaces of its own, where some of
// what root may do is possible.
func inNamespace(flags uintptr) error {
	cmd := exec.Command("/bin/mount", "-t", "tmpfs", "none", folder())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	return cmd.Run()
}

func listenAt(path string) error {
	l, err := net.Listen("unix", path)
	if err == nil {
		_ = l.Close()
	}
	return err
}

func renameInto(path string) error {
	from := folder() + "/renamed"
	must(os.WriteFile(from, nil, 0o600))
	return os.Rename(from, path+"/chaos-renamed")
}

func executeCopy() error {
	data, err := os.ReadFile("/usr/bin/id")
	must(err)
	copied := folder() + "/id"
	must(os.WriteFile(copied, data, 0o700)) //nolint:gosec // to be executed
	return exec.Command(copied).Run()       //nolint:gosec // as above
}

func dial(path string) error {
	c, err := net.Dial("unix", path)
	if err == nil {
		_ = c.Close()
	}
	return err
}

// peeks is not a provider: outside of any sandbox, it opens the memory of every
// new process of its user, until there is a line on its standard input. Then it
// says whose it could open.
func peeks() {
	stop := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(stop)
	}()
	fmt.Println("peeking")
	seen := map[int]string{}
	for {
		select {
		case <-stop:
			for pid, what := range seen {
				fmt.Println(pid, what)
			}
			return
		default:
		}
		last := lastPid()
		for pid := last - 30; pid < last+3; pid++ {
			var st unix.Stat_t
			if pid == os.Getpid() || seen[pid] != "" || unix.Stat(fmt.Sprintf("/proc/%d", pid), &st) != nil {
				continue
			}
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/mem", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			seen[pid] = string(bytes.TrimRight(name, "\x00"))
			_ = unix.Close(fd)
		}
	}
}

// lastPid is the newest process.
func lastPid() (pid int) {
	text, err := os.ReadFile("/proc/loadavg")
	must(err)
	words := strings.Fields(string(text))
	_, err = fmt.Sscan(words[len(words)-1], &pid)
	must(err)
	return pid
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes this binary one of the programs below.
const childEnv = "AUTHN_LAUNCH_CHILD"

// programs are what this binary does as a process of its own.
var programs = map[string]func(){
	"limits":  childLimits,
	"sandbox": childSandbox,
	"wait":    func() { _, _ = os.Stdin.Read(make([]byte, 1)) },
}

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	if name := os.Getenv(childEnv); name != "" {
		programs[name]()
		return
	}
	os.Exit(m.Run())
}

// child prepares this binary as a child.
func child(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// needRoot skips what only root can do. In CI that must not happen.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("CI must run these tests as root")
	default:
		t.Skip("only root has system folders and other users")
	}
}

func TestStartField(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for stat, want := range map[string]string{
		"42 (sshd)" + rest:                         "4711",
		"42 (a b)" + rest:                          "4711",
		"42 (a) R 1 2 3 4 5 6 7 8 9 10 11)" + rest: "4711",
		"42 ())" + rest:                            "4711",
		"42 (()" + rest:                            "4711",
		"42 ()" + rest:                             "4711",
		"42 (a\n) (b)" + rest:                      "4711",
		"42 () ) )" + rest:                         "4711",
		"":                                         "",
		"42":                                       "",
		"42 (sshd":                                 "",
		"42 (sshd)":                                "",
		"42 (sshd) S 1 2 3":                        "",
		")":                                        "",
		"42 sshd S 1 2":                            "",
	} {
		if got := startField(stat); got != want {
			t.Errorf("startField(%q) = %q, want %q", stat, got, want)
		}
	}
}

// A process may call itself as it likes.
func TestStartTimeOfOddNames(t *testing.T) {
	cmd := child(t, "wait")
	cmd.Env = append(cmd.Env, "X=1")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, want := cmd.Process.Pid, startTime(cmd.Process.Pid)
	for _, name := range []string{") R 1 1 1", "a b c", "())((", "\n"} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/comm", pid), []byte(name), 0); err != nil {
			t.Logf("it cannot be called %q: %v", name, err)
		}
		if got := startTime(pid); got != want || got == "" {
			t.Errorf("as %q it started at %q, was %q", name, got, want)
		}
		if ended(pid, want) || !ended(pid, want+"0") {
			t.Errorf("as %q it is taken for another process", name)
		}
	}
	_ = stdin.Close()
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if !ended(pid, want) {
		t.Error("a zombie is taken for alive")
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := startTime(pid); got != "" || !ended(pid, want) {
		t.Errorf("a process that is gone started at %q", got)
	}
}

func TestSweep(t *testing.T) {
	base := t.TempDir()
	self, start := os.Getpid(), startTime(os.Getpid())
	gone := child(t, "wait")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	dead := gone.Process.Pid
	dirs := map[string]bool{ // whether it stays
		fmt.Sprintf("%d-%s", self, start):   true,  // a live one
		fmt.Sprintf("%d-%s1", self, start):  false, // of an earlier process with our pid
		fmt.Sprintf("%d-%s", dead, start):   false,
		fmt.Sprintf("%d-7", dead):           true, // locked: in another pid namespace its process lives
		fmt.Sprintf("%d-", dead):            true, // made without /proc
		fmt.Sprintf("%d", dead):             true,
		fmt.Sprintf("x%d-%s", dead, start):  true,
		fmt.Sprintf("authn-%d-5", dead):     true, // has a prefix
		"-5":                                true,
		"other":                             true,
		fmt.Sprintf("%d-5-file", dead):      true, // a file, made below
		fmt.Sprintf("%d-5-link", dead):      true, // a link
		fmt.Sprintf("%d-%s-x", self, start): true, // as it is made
		fmt.Sprintf("%d-%s-x", dead, start): false,
	}
	for name := range dirs {
		path := filepath.Join(base, name)
		var err error
		switch {
		case strings.HasSuffix(name, "-file"):
			err = os.WriteFile(path, nil, 0o600)
		case strings.HasSuffix(name, "-link"):
			err = os.Symlink(base, path)
		default:
			err = errors.Join(os.MkdirAll(filepath.Join(path, "sub", "sub"), 0o700),
				os.WriteFile(filepath.Join(path, "sub", "f"), nil, 0), os.Symlink(base, filepath.Join(path, "l")))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	lock, taken := lockFolder(filepath.Join(base, fmt.Sprintf("%d-7", dead)))
	if taken {
		t.Fatal("a new folder is taken")
	}
	defer lock.Close()
	sweep(base, "")
	for name, stays := range dirs {
		if _, err := os.Lstat(filepath.Join(base, name)); (err == nil) != stays {
			t.Errorf("%s: stays %v, %v", name, stays, err)
		}
	}
	sweep(base, "authn-")
	if _, err := os.Lstat(filepath.Join(base, fmt.Sprintf("authn-%d-5", dead))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one with the prefix stays: %v", err)
	}
	sweep(filepath.Join(base, "none"), "") // is no matter
}

// Somebody who uses up all descriptors must not make live processes look dead.
func TestWithoutDescriptorsNobodyIsDead(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	self, start := os.Getpid(), startTime(os.Getpid())
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	got := ended(self, start)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if got {
		t.Error("this process is taken for a dead one")
	}
}

func TestAFolderIsLockedWhileItIsUsed(t *testing.T) {
	base := t.TempDir()
	f, err := makeFolder(base, "f-*")
	if err != nil {
		t.Fatal(err)
	}
	path := f.path
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("it is %v, %v", info, err)
	}
	if _, taken := lockFolder(path); !taken {
		t.Error("it can be locked twice")
	}
	if other, err := makeFolder(base, "f-*"); err != nil || other.path == path {
		t.Errorf("another one is %s: %v", other.path, err)
	}
	if flags, err := unix.FcntlInt(f.lock.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the provider would inherit the lock: %x, %v", flags, err)
	}
	f.remove(time.Now().Add(time.Minute))
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	folder{}.remove(time.Now()) // is no matter
}

func TestRemove(t *testing.T) {
	tests := []struct {
		name string
		fill func(dir string) error
	}{
		{"an_empty_folder", func(string) error { return nil }},
		{"a_deep_folder", func(dir string) error { return os.MkdirAll(dir+strings.Repeat("/d", 500), 0o700) }},
		{"a_wide_folder", func(dir string) error {
			for i := range 1000 {
				if err := os.WriteFile(fmt.Sprintf("%s/f%d", dir, i), nil, 0); err != nil {
					return err
				}
			}
			return nil
		}},
		{"what_remove_itself_could_have_left", func(dir string) error {
			return errors.Join(os.MkdirAll(dir+"/.moved-1/a/b", 0o700), os.MkdirAll(dir+"/a/.moved-1/x", 0o700), os.WriteFile(dir+"/.moved-2", nil, 0))
		}},
		{"folders_that_cannot_be_entered", func(dir string) error {
			return errors.Join(os.MkdirAll(dir+"/a/b", 0o700), os.Chmod(dir+"/a/b", 0), os.Chmod(dir+"/a", 0))
		}},
		{"fifos_sockets_and_links", func(dir string) error {
			return errors.Join(unix.Mkfifo(dir+"/p", 0), os.Symlink("none", dir+"/l"), os.Symlink("/", dir+"/root"), os.Symlink("..", dir+"/up"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			base := t.TempDir()
			keep := filepath.Join(base, "keep")
			dir := filepath.Join(base, "dir")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(keep, nil, 0o600), tt.fill(dir)); err != nil {
				t.Fatal(err)
			}
			remove(dir, time.Now().Add(time.Minute))
			if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			if _, err := os.Lstat(keep); err != nil {
				t.Errorf("more was removed: %v", err)
			}
		})
	}
}

func TestRemoveStopsAtItsDeadline(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0); err != nil {
		t.Fatal(err)
	}
	remove(dir, time.Now())
	if _, err := os.Lstat(filepath.Join(dir, "f")); err != nil {
		t.Errorf("it was removed after the deadline: %v", err)
	}
}

func TestEnsureDir(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name  string
		make  func(dir string) error
		umask int
		mode  fs.FileMode
		want  fs.FileMode
		err   string // part of the refusal
	}{
		{"a_missing_one_is_made", func(string) error { return nil }, 0o022, 0o711, 0o711, ""},
		{"whatever_the_umask_is", func(string) error { return nil }, 0o777, 0o711, 0o711, ""},
		{"one_that_is_there_is_fine", func(d string) error { return os.Mkdir(d, 0o700) }, 0o022, 0o700, 0o700, ""},
		{"one_that_was_left_half_made_is_completed", func(d string) error { return os.Mkdir(d, 0) }, 0o022, 0o711, 0o711, ""},
		{"one_that_all_can_write_is_refused", func(d string) error { return errors.Join(os.Mkdir(d, 0), os.Chmod(d, 0o777)) }, 0o022, 0o700, 0, "is not a folder of root's alone: remove it"},
		{"so_is_one_that_the_group_can_write", func(d string) error { return errors.Join(os.Mkdir(d, 0), os.Chmod(d, 0o770)) }, 0o022, 0o700, 0, "is not a folder of root's alone"},
		{"even_a_sticky_one", func(d string) error {
			return errors.Join(os.Mkdir(d, 0), os.Chmod(d, 0o777|os.ModeSticky))
		}, 0o022, 0o700, 0, "is not a folder of root's alone"},
		{"anothers_is_refused", func(d string) error { return errors.Join(os.Mkdir(d, 0o700), os.Chown(d, 47110, 47110)) }, 0o022, 0o700, 0, "is not a folder of root's alone"},
		{"a_link_is_refused", func(d string) error { return os.Symlink("/", d) }, 0o022, 0o700, 0, "is not a folder of root's alone"},
		{"a_link_to_nothing_is_refused", func(d string) error { return os.Symlink("none", d) }, 0o022, 0o700, 0, "is not a folder of root's alone"},
		{"a_file_is_refused", func(d string) error { return os.WriteFile(d, nil, 0o600) }, 0o022, 0o700, 0, "is not a folder of root's alone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			old := unix.Umask(tt.umask)
			err := EnsureDir(dir, tt.mode)
			unix.Umask(old)
			switch info, statErr := os.Lstat(dir); {
			case tt.err == "" && (err != nil || statErr != nil || info.Mode() != fs.ModeDir|tt.want):
				t.Errorf("%v, %v, %v", err, info, statErr)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), dir+" "+tt.err)):
				t.Errorf("accepted: %v", err)
			}
		})
	}
	if err := EnsureDir(filepath.Join(t.TempDir(), "none", "dir"), 0o700); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder in a missing one: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	tests := []struct {
		name  string
		extra map[string]string
		want  []string
	}{
		{"is_made_from_nothing", nil, []string{"LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/d"}},
		{"has_what_the_configuration_says", map[string]string{"HTTPS_PROXY": "http://x", "LANG": "de"},
			[]string{"HTTPS_PROXY=http://x", "LANG=de", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR=/d"}},
	}
	t.Setenv("LD_PRELOAD", "")
	t.Setenv("SECRET", "x")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := environment(tt.extra, "/d"); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	for _, change := range []bool{false, true} {
		cmd := command(Spec{Program: "/p/authn-x"}, "/d", user{uid: 7, gid: 8, change: change})
		a := cmd.SysProcAttr
		if cmd.Path != "/p/authn-x" || !slices.Equal(cmd.Args, []string{"/p/authn-x"}) || cmd.Dir != "/" ||
			!a.Setsid || a.Pdeathsig != syscall.SIGKILL || len(cmd.Env) != 3 {
			t.Errorf("%+v", cmd)
		}
		switch c := a.Credential; {
		case (c != nil) != change:
			t.Errorf("credential %+v", c)
		case change && (c.Uid != 7 || c.Gid != 8 || c.Groups == nil || len(c.Groups) > 0 || c.NoSetGroups):
			t.Errorf("credential %+v", c)
		}
	}
}

func TestIdentity(t *testing.T) {
	if os.Geteuid() != 0 {
		who, err := identity("daemon")
		if want := (user{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}); who != want || err != nil {
			t.Errorf("where nobody can be become, it is %+v, %v", who, err)
		}
	}
	needRoot(t)
	daemon, err := osuser.Lookup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	who, err := identity("daemon")
	if err != nil || fmt.Sprint(who.uid) != daemon.Uid || fmt.Sprint(who.gid) != daemon.Gid || !who.change {
		t.Errorf("daemon is %+v, %v", who, err)
	}
	for name, want := range map[string]string{
		"root":                  "user root (uid 0, gid 0) is nobody for a provider to run as: make one with: adduser --system --group --no-create-home NAME, and authn.run_as",
		"nobody":                "is nobody for a provider to run as",
		"no-such-user-of-ours":  "there is no user no-such-user-of-ours for the provider to run as: make one with: adduser --system --group --no-create-home no-such-user-of-ours",
		"0":                     "there is no user 0",
		"daemon:x:0:0::/:/bin/": "there is no user",
	} {
		if who, err := identity(name); err == nil || !strings.Contains(err.Error(), want) || who.change {
			t.Errorf("%s is %+v, %v", name, who, err)
		}
	}
}

func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "authn-x")
	want := "the provider: " + missing + ": cannot open it: No such file or directory: install " + missing + ", or correct provider="
	if err := CheckProgram(missing); err == nil || err.Error() != want {
		t.Errorf("a missing one: %v", err)
	}
	if err := os.WriteFile(missing, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CheckProgram(missing); err == nil || !strings.Contains(err.Error(), "is not executable: chmod a+x") {
		t.Errorf("one that is not executable: %v", err)
	}
	if _, err := Start(t.Context(), Spec{Program: missing}); err == nil {
		t.Error("it was started")
	}
}

func TestHandledAccess(t *testing.T) {
	const (
		v1 = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
			unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
			unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
			unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
			unix.LANDLOCK_ACCESS_FS_MAKE_SYM
		v2 = v1 | unix.LANDLOCK_ACCESS_FS_REFER
		v3 = v2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
		v5 = v3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	)
	for abi, want := range map[int]uint64{1: v1, 2: v2, 3: v3, 4: v3, 5: v5, 6: v5, 7: v5, 99: v5} {
		if got := handledAccess(abi); got != want {
			t.Errorf("version %d: %#x, want %#x", abi, got, want)
		}
	}
	for abi, want := range map[int]uintptr{1: 8, 2: 8, 3: 8, 4: 16, 5: 16, 6: 24, 7: 24, 99: 24} {
		if got := rulesetSize(abi); got != want {
			t.Errorf("version %d: attributes of %d bytes, want %d", abi, got, want)
		}
	}
}

// childSandbox confines itself as a provider in os.Args[1] with its folder
// os.Args[2], and tries the rest.
func childSandbox() {
	program, dir, outside := os.Args[1], os.Args[2], os.Args[3]
	box, err := newSandbox(program, dir)
	fmt.Println("rules", err)
	runtime.LockOSThread()
	fmt.Println("enter", box.enter())
	box.close()
	try := func(what string, err error) { fmt.Println(what, err == nil) }
	_, err = os.ReadFile(program)
	try("program", err)
	_, err = os.ReadDir("/usr")
	try("usr", err)
	_, err = os.ReadFile("/etc/hosts")
	try("hosts", err)
	try("null", os.WriteFile("/dev/null", []byte("x"), 0))
	try("own", os.WriteFile(dir+"/f", []byte("x"), 0o600))
	try("own folder", os.Mkdir(dir+"/d", 0o700))
	_, err = os.ReadFile("/etc/passwd")
	try("passwd", err)
	_, err = os.ReadFile(outside)
	try("outside", err)
	try("write outside", os.WriteFile(outside, nil, 0o600))
	_, err = os.ReadDir("/")
	try("root", err)
	privs, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	fmt.Println("no_new_privs", privs, err)
}

func TestSandbox(t *testing.T) {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must run these tests with Landlock: %v", errno)
		}
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	dir := t.TempDir()
	program, own, outside := filepath.Join(dir, "authn-x"), filepath.Join(dir, "own"), filepath.Join(dir, "outside")
	if err := errors.Join(os.WriteFile(program, []byte("\x7fELF"), 0o755), os.Mkdir(own, 0o700), os.WriteFile(outside, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	out, err := child(t, "sandbox", program, own, outside).Output()
	want := "rules <nil>\nenter <nil>\nprogram true\nusr true\nhosts true\nnull true\nown true\nown folder true\n" +
		"passwd false\noutside false\nwrite outside false\nroot false\nno_new_privs 1 <nil>\n"
	if err != nil || string(out) != want {
		t.Errorf("%v, got\n%swant\n%s", err, out, want)
	}
}

// One rule that cannot be had is reported, and the others hold all the same.
func TestASandboxWithAMissingRuleStillConfines(t *testing.T) {
	dir := t.TempDir()
	box, err := newSandbox(filepath.Join(dir, "none"), dir)
	defer box.close()
	if box.ruleset < 0 {
		t.Skip("this kernel has no Landlock")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("newSandbox: %v", err)
	}
	out, childErr := child(t, "sandbox", filepath.Join(dir, "none"), dir, os.Args[0]).Output()
	for _, want := range []string{"enter <nil>", "usr true", "own true", "passwd false", "outside false"} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("%v\n%swithout %s", childErr, out, want)
		}
	}
}

func TestIsScript(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]bool{"#!/bin/sh\n": true, "#!": true, "#": false, "": false, "\x7fELF": false, " #!": false} {
		path := filepath.Join(dir, "x")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := isScript(path); got != want {
			t.Errorf("isScript(%q) = %v", text, got)
		}
	}
	if isScript(filepath.Join(dir, "none")) {
		t.Error("a missing program is a script")
	}
}

// childLimits sets the limits, given RLIMIT_NOFILE, and prints what it has.
func childLimits() {
	var files uint64
	if _, err := fmt.Sscan(os.Args[1], &files); err != nil {
		panic(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files}); err != nil {
		panic(err)
	}
	if err := LimitSelf(); err != nil {
		fmt.Println(err)
		return
	}
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE, unix.RLIMIT_DATA} {
		var l unix.Rlimit
		if err := unix.Getrlimit(resource, &l); err != nil {
			panic(err)
		}
		fmt.Print(l.Cur, "/", l.Max, " ")
	}
	// What is started inherits them: the runtime would restore NOFILE.
	out, err := exec.Command("/bin/sh", "-c", "ulimit -n").CombinedOutput()
	fmt.Printf("%s%v\n", out, err)
}

func TestLimitSelf(t *testing.T) {
	const rest = "0/0 1048576/1048576 %d/%[1]d 536870912/536870912 %[1]d\n<nil>\n"
	for files, want := range map[int]string{
		1024: fmt.Sprintf(rest, 256),
		256:  fmt.Sprintf(rest, 256),
		100:  fmt.Sprintf(rest, 100),
		64:   fmt.Sprintf(rest, 64),
		63:   "only 63 file descriptors are allowed here: raise RLIMIT_NOFILE to 64\n",
		20:   "only 20 file descriptors are allowed here: raise RLIMIT_NOFILE to 64\n",
	} {
		out, err := child(t, "limits", fmt.Sprint(files)).Output()
		if err != nil || string(out) != want {
			t.Errorf("with %d descriptors: %v\n%swant\n%s", files, err, out, want)
		}
	}
}

func TestHead(t *testing.T) {
	var h Head
	if h.Len() != 0 || h.String() != "" {
		t.Error("there is something in a new one")
	}
	long := strings.Repeat("x", maxHead-1)
	for _, text := range []string{"a", long, "cut", "lost"} {
		if n, err := h.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	if h.String() != "a"+long || h.Len() != maxHead {
		t.Errorf("it keeps %d bytes", h.Len())
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// The module lives in sshd and sudo: it brings nothing with it but PAM's six
// functions, and needs nothing but libpam and libc.
func TestModule(t *testing.T) {
	path := pamtest.Shared(t).Module()
	info, err := os.Stat(path)
	must(t, err)
	if info.Size() > 60<<10 {
		t.Errorf("the module has %d bytes, want at most 60 kB", info.Size())
	}
	f, err := elf.Open(path)
	must(t, err)
	defer f.Close() //nolint:errcheck // only read
	libraries, err := f.ImportedLibraries()
	must(t, err)
	for _, library := range libraries {
		name, _, _ := strings.Cut(library, ".so")
		if name != "libpam" && name != "libc" && !strings.HasPrefix(name, "ld-linux") {
			t.Errorf("the module needs %s", library)
		}
	}
	symbols, err := f.DynamicSymbols()
	must(t, err)
	var exported []string
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF {
			exported = append(exported, s.Name)
		}
	}
	slices.Sort(exported)
	want := []string{
		"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_chauthtok",
		"pam_sm_close_session", "pam_sm_open_session", "pam_sm_setcred",
	}
	if !slices.Equal(exported, want) {
		t.Errorf("the module exports %q, want %q", exported, want)
	}
	for _, tag := range []elf.DynTag{elf.DT_TEXTREL, elf.DT_RPATH, elf.DT_RUNPATH} {
		if values, err := f.DynValue(tag); err == nil && len(values) > 0 {
			t.Errorf("the module has %v", tag)
		}
	}
	if flags, err := f.DynValue(elf.DT_FLAGS_1); err != nil || len(flags) == 0 || flags[0]&uint64(elf.DF_1_NOW) == 0 {
		t.Errorf("the module is not bound at once: %v %v", flags, err)
	}
}

// state is what a call must leave as it was, as far as a thread can see it.
type state struct {
	Signals, Cwd, Umask, Fds, Children string
	Environ                            []string
}

func stateNow(t testing.TB) state {
	t.Helper()
	status, err := os.ReadFile("/proc/thread-self/status")
	must(t, err)
	var s state
	for line := range strings.Lines(string(status)) {
		switch name, _, _ := strings.Cut(line, ":"); name {
		case "SigBlk", "SigIgn", "SigCgt", "Umask":
			s.Signals += line
		}
	}
	s.Cwd, err = os.Getwd()
	must(t, err)
	entries, err := filepath.Glob("/proc/self/fd/*")
	must(t, err)
	for _, e := range entries {
		if target, err := os.Readlink(e); err == nil { // the folder's own is gone
			s.Fds += filepath.Base(e) + " " + target + "\n"
		}
	}
	s.Children = fmt.Sprint(children("/proc/thread-self/children"))
	s.Environ = os.Environ()
	return s
}

// Package hostile does this for hosts that make it hard.
func TestACallLeavesTheHostAsItWas(t *testing.T) {
	pamtest.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, config := range map[string]string{
		"success": "{}", "refusal": "authenticate: [{result: auth_err}]", "crash": "authenticate: [{exit: 1}]",
		"grandchild": "authenticate: [{spawn: [/bin/sleep, '1000']}]", "bad_config": "nosuchkey: 1",
	} {
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			a := newApp(t, "alice", "auth required $AUTHN setcred\naccount required $AUTHN\nsession required $AUTHN\npassword required $AUTHN\n", config+"\n")
			before := stateNow(t)
			for _, c := range pamCalls {
				_ = c.make(a.tx)
			}
			after := stateNow(t)
			if fmt.Sprintf("%+v", before) != fmt.Sprintf("%+v", after) {
				t.Errorf("before\n%+v\nafter\n%+v", before, after)
			}
			if left, _ := filepath.Glob("/run/authn/*"); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// A provider has what it needs, and no more.
func TestTheProviderRunsWithLittle(t *testing.T) {
	pamtest.Root(t)
	t.Parallel()
	a := newApp(t, "alice", "auth required $AUTHN\n", "authn: {env: {TZ: Europe/Berlin}}\nauthenticate: [{prompt: 'Look: '}]\n")
	a.answerWith(func() (string, error) {
		worker := a.worker()
		provider := a.child(worker)
		status := statusOf(t, provider)
		for field, want := range map[string]string{
			"Uid": "19990 19990 19990 19990", "Gid": "19990 19990 19990 19990", "Groups": "", "NoNewPrivs": "1",
			"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000",
			"CapAmb": "0000000000000000", "Umask": "0077", "SigIgn": "0000000000000000",
		} {
			if got := strings.Join(strings.Fields(status[field]), " "); got != want {
				t.Errorf("the provider's %s is %q, want %q", field, got, want)
			}
		}
		if got, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", provider)); got != "/" {
			t.Errorf("the provider works in %s", got)
		}
		if sid, _ := unix.Getsid(provider); sid != provider {
			t.Errorf("the provider's session is %d, and not its own", sid)
		}
		checkEnviron(t, worker, provider)
		checkLimits(t, provider)
		checkFDs(t, provider)
		return "", nil
	})
	a.want("success", a.tx.Authenticate(0))
}

func statusOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Error(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

func checkEnviron(t *testing.T, worker, provider int) {
	t.Helper()
	names := func(pid int) string {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			t.Error(err)
		}
		var names []string
		for _, v := range strings.Split(strings.TrimRight(string(data), "\x00"), "\x00") {
			name, _, _ := strings.Cut(v, "=")
			if !strings.HasPrefix(name, "PLUGIN_") { // go-plugin's
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got := names(worker); got != "PATH" {
		t.Errorf("the worker's environment has %s", got)
	}
	if got := names(provider); got != "AUTHN_PROVIDER_COOKIE LANG PATH TMPDIR TZ" {
		t.Errorf("the provider's environment has %s", got)
	}
}

func checkLimits(t *testing.T, pid int) {
	t.Helper()
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		t.Error(err)
	}
	for name, value := range map[string]int{
		"Max core file size": 0, "Max file size": 1 << 20, "Max open files": 256, "Max data size": 512 << 20,
	} {
		want := regexp.MustCompile(fmt.Sprintf(`(?m)^%s +%d +%d `, name, value, value))
		if !want.Match(limits) {
			t.Errorf("the provider's limits have no line that matches %s:\n%s", want, limits)
		}
	}
}

// checkFDs fails if the provider has a file of the host's.
func checkFDs(t *testing.T, pid int) {
	t.Helper()
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if err == nil && strings.HasPrefix(target, "/") && target != "/dev/null" {
			t.Errorf("the provider has %s open", target)
		}
	}
}

func TestThreads(t *testing.T) {
	pamtest.Root(t)
	const threads, calls = 32, 20
	var done sync.WaitGroup
	var successes atomic.Int32
	began := time.Now()
	for range threads {
		a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{secret: 'P: ', expect: right}]\n")
		done.Go(func() {
			runtime.LockOSThread()
			for range calls {
				a.answer("right")
				if err := a.tx.Authenticate(0); err != nil {
					t.Errorf("%s: %v", a.service, err)
				} else {
					successes.Add(1)
				}
			}
		})
	}
	done.Wait()
	t.Logf("%d of %d in %v", successes.Load(), threads*calls, time.Since(began).Round(time.Millisecond))
	if n := successes.Load(); n != threads*calls {
		t.Errorf("%d of %d calls succeeded", n, threads*calls)
	}
}

// TestGrowth calls from one process for a long time; SOAK=1 makes it longer.
func TestGrowth(t *testing.T) {
	pamtest.Root(t)
	calls := 500
	if os.Getenv("SOAK") == "1" {
		calls = 10_000
	}
	a := newApp(t, "alice", "auth required $AUTHN\n", "{}\n")
	program := a.path("grow")
	if out, err := exec.Command("cc", "-o", program, "testdata/grow.c", "-lpam").CombinedOutput(); err != nil { //nolint:gosec // our own program
		t.Fatalf("cc: %v\n%s", err, out)
	}
	out, err := exec.Command(program, a.path("pam.d"), a.service, fmt.Sprint(calls)).CombinedOutput() //nolint:gosec // as above
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type row struct{ calls, successes, resident, threads, fds, children, sigchlds int }
	var rows [2]row
	for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		r := &rows[i]
		if _, err := fmt.Sscan(line, &r.calls, &r.successes, &r.resident, &r.threads, &r.fds, &r.children, &r.sigchlds); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		t.Logf("%+v", *r)
	}
	first, last := rows[0], rows[1]
	if last.successes != calls || last.threads != 1 || last.children != 0 || last.sigchlds != 0 || last.fds != first.fds {
		t.Errorf("after %d calls %+v, after %d %+v", first.calls, first, last.calls, last)
	}
	if grown, allowed := last.resident-first.resident, 100+100*(last.calls-first.calls)/1000; grown > allowed {
		t.Errorf("grown by %d kB in %d calls", grown, last.calls-first.calls)
	}
}

// Lockers and developers are not root.
func TestAsUser(t *testing.T) {
	if !pamtest.AsUser(t) {
		return
	}
	t.Run("a_login", func(t *testing.T) {
		a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{secret: 'P: ', expect: right}, {prompt: 'Look: '}]\n")
		a.answer("right")
		a.answerWith(func() (string, error) {
			provider := a.child(a.worker())
			if got, want := statusOf(t, provider)["Uid"], fmt.Sprint(os.Geteuid()); !strings.HasPrefix(got, want) {
				t.Errorf("the provider runs as %s, want %s", got, want)
			}
			return "", nil
		})
		a.want("success", a.tx.Authenticate(0))
	})
	t.Run("nobody_counts", func(t *testing.T) {
		a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{allow: k, n: 1000, window: 1h}]\n")
		a.want("system_err", a.tx.Authenticate(0))
	})
	t.Run("run_as_changes_nothing", func(t *testing.T) {
		a := newApp(t, "alice", "auth required $AUTHN\n", "authn: {run_as: authn}\n")
		a.want("success", a.tx.Authenticate(0))
	})
	t.Run("another_user's_config_is_refused", func(t *testing.T) {
		a := newApp(t, "alice", "auth required $BARE config=/etc/hostname/none.yaml\n", "{}\n")
		a.want("system_err", a.tx.Authenticate(0))
		a.wantOneSentence()
	})
	t.Run("no_folder_is_left", func(t *testing.T) {
		left, _ := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("authn-%d-*", os.Geteuid())))
		if len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

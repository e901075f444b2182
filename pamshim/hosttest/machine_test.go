// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

func TestNothingIsWrittenOutside(t *testing.T) {
	m := newMachine(t)
	for _, dir := range []string{"/etc", "/usr/bin", "/usr/libexec", "/opt", "/var/lib", "/var/log", "/run", "/home", "/root", "/tmp", "/dev"} {
		file := fmt.Sprintf("%s/hosttest-%d", dir, os.Getpid())
		m.WriteFile(file, 0o644, "inside")
		if got := m.ReadFile(file); got != "inside" {
			t.Errorf("%s reads %q", file, got)
		}
		if _, err := os.Lstat(file); !os.IsNotExist(err) {
			t.Errorf("%s is on the system: %v", file, err)
		}
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{here, "/", "/srv", "/mnt", "/boot"} {
		if out, code := m.Run("root", "mkdir", filepath.Join(dir, "hosttest-mkdir")); code == 0 {
			t.Errorf("%s can be written from inside: %s", dir, out)
			os.Remove(filepath.Join(dir, "hosttest-mkdir"))
		}
	}
	hostname, _ := os.Hostname()
	if out, _ := m.Run("root", "hostname"); out != "testhost\n" || hostname == "testhost" {
		t.Errorf("inside the host is called %q, outside %q", out, hostname)
	}
}

func TestMachinesCoexist(t *testing.T) {
	one := newMachine(t, "sshd")
	two := hosttest.NewMachine(t)
	two.AddUser("carol", hosttest.User{})
	two.AddUser("alice", hosttest.User{Password: "another"})
	for _, m := range []*hosttest.Machine{one, two} {
		m.PAM("sshd", hosttest.UnixStack)
	}
	srv1, srv2 := one.SSHD(hosttest.SSHD{}), two.SSHD(hosttest.SSHD{})
	c1 := srv1.Login(hosttest.Login{User: "alice", Command: "id -u"})
	c2 := srv2.Login(hosttest.Login{User: "alice", Command: "id -u"})
	c1.Answer("Password: ", phrase)
	c2.Answer("Password: ", "another")
	c1.Expect(fmt.Sprint(one.Account("alice").UID))
	if one.Account("alice").UID == two.Account("alice").UID {
		t.Error("the machines' users share a uid")
	}
	c2.Expect(fmt.Sprint(two.Account("alice").UID))
	c1.WantExit(0)
	c2.WantExit(0)
	one.Close()
	if log := two.LogText(); strings.Count(log, "session opened") != 1 {
		t.Errorf("the second machine's log:\n%s", log)
	}
	c2 = srv2.Login(hosttest.Login{User: "alice", Command: "id -u"})
	c2.Answer("Password: ", "another")
	c2.WantExit(0)
}

func TestAccounts(t *testing.T) {
	m := newMachine(t)
	a := m.AddUser("carol", hosttest.User{Shell: "/bin/bash", UID: 31000, Groups: []string{"cats", "sudo"}})
	if a.UID != 31000 || a.GID != 31000 || a.Home != "/home/carol" || len(a.Groups) != 2 {
		t.Errorf("carol is %+v", a)
	}
	if out, _ := m.Run("carol", "id", "-Gn"); strings.TrimSpace(out) != "carol sudo cats" {
		t.Errorf("carol's groups are %q", out)
	}
	if out, _ := m.Run("carol", "pwd"); out != "/home/carol\n" {
		t.Errorf("carol starts in %q", out)
	}
	m.AddUser("nobodys", hosttest.User{Home: "/nonexistent", Shell: "/usr/sbin/nologin"})
	if out, code := m.Run("nobodys", "pwd"); out != "/\n" || code != 0 {
		t.Errorf("who has no home starts in %q, exit code %d", out, code)
	}
	if out, code := m.Run("carol", "cat", "/etc/shadow"); code == 0 {
		t.Errorf("anybody can read shadow: %s", out)
	}
}

func TestLogHasWhatWasWrittenBefore(t *testing.T) {
	m := newMachine(t, "logger")
	for i := range 50 {
		m.Run("alice", "logger", "-p", "authpriv.warning", "-t", "purr", fmt.Sprintf("line %d\x01", i))
		log := m.Log()
		if len(log) != i+1 {
			t.Fatalf("after %d lines the log has %d", i+1, len(log))
		}
		e := log[i]
		if e.Facility != "authpriv" || e.Severity != "warning" || e.Tag != "purr" || !strings.HasPrefix(e.Text, fmt.Sprintf("line %d", i)) {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
}

func TestInstall(t *testing.T) {
	m := newMachine(t)
	dest := t.TempDir()
	for name, mode := range map[string]os.FileMode{"usr/libexec/purr/meow": 0o711, "etc/purr/purr.yaml": 0o600} {
		file := filepath.Join(dest, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("#!/bin/true\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	m.InstallTree(dest, "/")
	m.Install(filepath.Join(dest, "etc/purr/purr.yaml"), "/opt/x/y", 0o755|os.ModeSetuid)
	m.Mkdir("/run/purr", 0o1730)
	m.Chown("/run/purr", "alice")
	out, _ := m.Run("root", "stat", "-c", "%a %U %n", "/usr/libexec/purr/meow", "/usr/libexec/purr",
		"/etc/purr/purr.yaml", "/opt/x/y", "/run/purr")
	const want = "711 root /usr/libexec/purr/meow\n755 root /usr/libexec/purr\n" +
		"600 root /etc/purr/purr.yaml\n4755 root /opt/x/y\n1730 alice /run/purr\n"
	if out != want {
		t.Errorf("installed:\n%swant:\n%s", out, want)
	}
}

func TestDoIsInside(t *testing.T) {
	m := newMachine(t)
	var inside string
	m.Do(func() {
		out, err := exec.Command("/usr/bin/id", "-un", "alice").CombinedOutput()
		inside = fmt.Sprint(string(out), err)
	})
	if inside != "alice\n<nil>" {
		t.Errorf("inside, alice is %q", inside)
	}
	if out, err := exec.Command("id", "-u", "alice").Output(); err == nil && string(out) == fmt.Sprintln(m.Account("alice").UID) {
		t.Error("alice is outside")
	}
}

func TestTerminal(t *testing.T) {
	m := newMachine(t)
	t.Run("hang_up_reaches_the_program", func(t *testing.T) {
		c := m.Spawn("alice", "sh", "-c", "echo ready; exec cat")
		c.Expect("ready\n")
		c.HangUp()
		c.WantExit(128 + int(syscall.SIGHUP))
	})
	t.Run("a_process_in_the_background_does_not_keep_it_open", func(t *testing.T) {
		c := m.Spawn("alice", "sh", "-c", "setsid sleep 1000 & echo done")
		c.WantExit(0)
		c.Expect("done\n")
		for _, p := range m.Processes() {
			if p.Args[0] == "sleep" {
				m.Run("root", "kill", fmt.Sprint(p.PID))
			}
		}
		m.WaitIdle()
	})
	t.Run("parts_of_a_match_are_returned", func(t *testing.T) {
		c := m.Spawn("alice", "sh", "-c", "printf 'a\nyour code is 1234, '; printf 'b\n'")
		if got := c.ExpectMatch(`code is (\d+)(x)?,`); !slices.Equal(got, []string{"code is 1234,", "1234", ""}) {
			t.Errorf("matched %q", got)
		}
		if got := c.Expect("\n"); got != " b\n" {
			t.Errorf("the rest is %q", got)
		}
	})
	t.Run("it_is_the_users_own", func(t *testing.T) {
		c := m.Spawn("alice", "sh", "-c", `stat -c %U "$(tty)"; : >/dev/tty && echo open`)
		c.Expect("alice\nopen\n")
		c.WantExit(0)
	})
	t.Run("much_output_is_kept_to_the_last_byte", func(t *testing.T) {
		c := m.Spawn("alice", "seq", "1", "20000")
		c.Expect("\n20000\n")
		c.WantExit(0)
	})
}

// What a failed test prints is what somebody has to mend it by.
func TestFailuresTellWhatHappened(t *testing.T) {
	t.Parallel()
	hosttest.Require(t, "sshd")
	fail := func(fn func(m *hosttest.Machine)) error {
		return hosttest.Run(io.Discard, func(tb hosttest.TB) {
			m := hosttest.NewMachine(tb)
			m.AddUser("alice", hosttest.User{Password: phrase})
			m.PAM("sshd", hosttest.UnixStack)
			m.Timeout = time.Second
			fn(m)
		})
	}
	cases := map[string]struct {
		fn   func(m *hosttest.Machine)
		want []string
	}{
		"timeout": {
			func(m *hosttest.Machine) {
				m.Timeout = 3 * time.Second
				m.SSHD(hosttest.SSHD{}).Login(hosttest.Login{User: "alice"}).Expect("Passphrase: ")
			},
			[]string{`alice@127.0.0.1: did not show "Passphrase: " in 3s`, "shows\n(alice@127.0.0.1) Password:", "--- sshd on port", "debug1: "},
		},
		"early end": {
			func(m *hosttest.Machine) { m.Spawn("alice", "sh", "-c", "echo oops; exit 3").Expect("root") },
			[]string{`ended with exit code 3 and never showed "root"`, "oops"},
		},
		"exit code": {
			func(m *hosttest.Machine) { m.Spawn("alice", "false").WantExit(0) },
			[]string{"ended with exit code 1, want 0"},
		},
		"stray": {
			func(m *hosttest.Machine) {
				m.Run("alice", "sh", "-c", "setsid sleep 1001 >/dev/null 2>&1 &")
				m.WaitIdle()
			},
			[]string{"after 1s there are still processes:", "sleep 1001"},
		},
		"log": {
			func(m *hosttest.Machine) {
				m.Run("alice", "logger", "hello")
				m.WaitLog("goodbye")
			},
			[]string{`nothing in the log matches "goodbye"`, "user.notice alice: hello"},
		},
		"no end": {
			func(m *hosttest.Machine) { m.Run("alice", "sh", "-c", "echo so far; exec sleep 1002") },
			[]string{"no end after 1s", "so far"},
		},
		"typo": {
			func(m *hosttest.Machine) { m.Spawn("alyce", "id") },
			[]string{`no user "alyce"`},
		},
		"missing program": {
			func(m *hosttest.Machine) { m.Spawn("alice", "no-such-program") },
			[]string{`no program "no-such-program" in /usr/local/sbin`},
		},
		"bad config": {
			func(m *hosttest.Machine) { m.SSHD(hosttest.SSHD{Options: []string{"Purr yes"}}) },
			[]string{"sshd does not start", "Bad configuration option: Purr"},
		},
	}
	for name, c := range cases {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			err := fail(c.fn)
			if err == nil {
				t.Fatal("it did not fail")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the message lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestRun(t *testing.T) {
	var steps []string
	note := func(s string) func() { return func() { steps = append(steps, s) } }
	err := hosttest.Run(io.Discard, func(tb hosttest.TB) {
		tb.Cleanup(note("first"))
		tb.Cleanup(func() { note("second")(); tb.Fatalf("in a cleanup") })
		tb.Cleanup(note("third"))
		tb.Fatalf("no %s", "luck")
	})
	if err == nil || err.Error() != "no luck" {
		t.Errorf("Run returned %v", err)
	}
	if want := []string{"third", "second", "first"}; !slices.Equal(steps, want) {
		t.Errorf("cleanups ran as %v", steps)
	}
	if err := hosttest.Run(io.Discard, func(hosttest.TB) {}); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

func TestRequire(t *testing.T) {
	need := func() error {
		return hosttest.Run(io.Discard, func(tb hosttest.TB) { hosttest.Require(tb, "sh", "no-such-program") })
	}
	t.Setenv("CI", "")
	if err := need(); !errors.Is(err, hosttest.ErrSkipped) || !strings.Contains(err.Error(), "no-such-program") && os.Geteuid() == 0 {
		t.Errorf("without CI: %v", err)
	}
	t.Setenv("CI", "true")
	if err := need(); err == nil || errors.Is(err, hosttest.ErrSkipped) {
		t.Errorf("with CI: %v", err)
	}
}

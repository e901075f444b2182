// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package safefile_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// child takes the real and the effective uid "R E" and prints for each pair of
// a use and a path "ok" or the reason.
func child(ids string, args []string) {
	var ruid, euid int
	if _, err := fmt.Sscan(ids, &ruid, &euid); err != nil {
		panic(err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		panic(err)
	}
	if err := syscall.Setresgid(ruid, euid, euid); err != nil {
		panic(err)
	}
	if err := syscall.Setresuid(ruid, euid, euid); err != nil {
		panic(err)
	}
	for i := 0; i+1 < len(args); i += 2 {
		if err := try(args[i], args[i+1]); err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
}

// as tries path in a process with these ids.
func as(t *testing.T, ruid, euid int, use, path string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, use, path)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", childEnv, ruid, euid), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSuffix(string(out), "\n")
}

// "Root" and "the user" are effective ids: in su and sudo the real ones are
// the attacker's.
func TestIDs(t *testing.T) {
	needRoot(t)
	const other = stranger + 1
	tests := []struct {
		name       string
		ruid, euid int
		use        string
		make       func(tr tree) string
		want       string // "@" as in cases
	}{
		{"roots_file_is_fine_for_a_user", stranger, stranger, read, func(tr tree) string { return tr.file("a/f", 0o644) }, "ok"},
		{"a_users_own_file_is_fine", stranger, stranger, read, func(tr tree) string {
			f := tr.file("a/f", 0o600)
			tr.give("a")
			tr.give("a/f")
			return f
		}, "ok"},
		{"so_is_one_behind_an_own_link", stranger, stranger, read, func(tr tree) string {
			tr.file("a/f", 0o644)
			tr.link("a", "l")
			tr.give("l")
			return tr.path("l/f")
		}, "ok"},
		{"an_own_file_that_others_can_write_is_not", stranger, stranger, read, func(tr tree) string {
			f := tr.file("f", 0o664)
			tr.give("f")
			return f
		}, "@/f can be written by others (mode 0664): chmod go-w '@/f'"},
		{"another_users_file_is_not", other, other, read, func(tr tree) string {
			f := tr.file("f", 0o644)
			tr.give("f")
			return f
		}, "@/f belongs to user 47110; it must be root's: chown root '@/f'"},
		{"a_file_that_a_user_cannot_read_is_not", stranger, stranger, read, func(tr tree) string { return tr.file("f", 0o600) },
			"@/f: cannot open it: Permission denied"},
		{"a_file_in_a_folder_that_a_user_cannot_enter_is_not", stranger, stranger, read, func(tr tree) string {
			f := tr.file("a/f", 0o644)
			tr.folder("a", 0o700)
			return f
		}, "@/a/f: cannot open it: Permission denied"},
		{"a_program_of_roots_is_fine_for_a_user", stranger, stranger, run, func(tr tree) string { return tr.file("f", 0o711) }, "ok"},
		{"a_program_for_root_alone_is_not", stranger, stranger, run, func(tr tree) string { return tr.file("f", 0o700) },
			"@/f: cannot execute it: Permission denied"},

		{"in_su_roots_file_is_fine", stranger, 0, read, func(tr tree) string { return tr.file("f", 0o600) }, "ok"},
		{"in_su_the_callers_file_is_not", stranger, 0, read, func(tr tree) string {
			f := tr.file("f", 0o644)
			tr.give("f")
			return f
		}, "@/f belongs to user 47110; it must be root's: chown root '@/f'"},
		{"in_su_a_program_for_root_alone_is_fine", stranger, 0, run, func(tr tree) string { return tr.file("f", 0o700) }, "ok"},
		{"under_a_user_root_is_not_the_caller", 0, stranger, read, func(tr tree) string { return tr.file("f", 0o600) },
			"@/f: cannot open it: Permission denied"},
		{"under_a_user_a_program_for_root_alone_is_not_fine", 0, stranger, run, func(tr tree) string { return tr.file("f", 0o700) },
			"@/f: cannot execute it: Permission denied"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			path := tt.make(tr)
			if got, want := as(t, tt.ruid, tt.euid, tt.use, path), strings.ReplaceAll(tt.want, "@", tr.dir); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// All of it holds for whoever runs the tests, not for root alone.
func TestOpenAsAUser(t *testing.T) {
	needRoot(t)
	tr := newTree(t)
	self, err := os.Executable()
	tr.must(err)
	pamtest.CopyFile(t, self, tr.path("safefile.test"), 0o755)
	home := tr.folder("home", 0o700)
	tr.give("home")
	cmd := exec.Command(tr.path("safefile.test"), "-test.run", "^(TestOpen|TestRead|TestCheckFolder|TestNothingButARegularFileIsOpened|FuzzPath)$", "-test.v")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "CI=", "TMPDIR="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: TestOpen/") < 50 {
		t.Errorf("%v\n%s", err, out)
	}
	if left, err := filepath.Glob(home + "/*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

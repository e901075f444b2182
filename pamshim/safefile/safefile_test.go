// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package safefile_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
)

// stranger is a uid that owns nothing here but what the tests give it.
const stranger = 47110

// childEnv makes this binary a process under other ids: see child.
const childEnv = "AUTHN_SAFEFILE_CHILD"

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	if ids := os.Getenv(childEnv); ids != "" {
		child(ids, os.Args[1:])
		return
	}
	os.Exit(m.Run())
}

// needRoot skips what only root can set up. In CI that must not happen.
func needRoot(t testing.TB) {
	t.Helper()
	switch {
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("CI must run these tests as root: they give files to others")
	default:
		t.Skip("only root can give files to others")
	}
}

// A tree is a folder that can be trusted, and makes things in it.
type tree struct {
	t   testing.TB
	dir string
}

func newTree(t testing.TB) tree {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tr := tree{t, dir}
	tr.chmod(filepath.Dir(dir), 0o755)
	return tr
}

func (tr tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

func (tr tree) path(rel string) string { return tr.dir + "/" + rel }

func (tr tree) chmod(path string, mode os.FileMode) { tr.must(os.Chmod(path, mode)) }

// file makes rel with mode, and the folders above it.
func (tr tree) file(rel string, mode os.FileMode) string {
	tr.t.Helper()
	tr.folder(filepath.Dir(rel), 0o755)
	tr.must(os.WriteFile(tr.path(rel), []byte(rel), 0o600))
	tr.chmod(tr.path(rel), mode)
	return tr.path(rel)
}

func (tr tree) folder(rel string, mode os.FileMode) string {
	tr.t.Helper()
	tr.must(os.MkdirAll(tr.path(rel), 0o755))
	tr.chmod(tr.path(rel), mode)
	return tr.path(rel)
}

func (tr tree) link(target, rel string) string {
	tr.t.Helper()
	tr.must(os.Symlink(target, tr.path(rel)))
	return tr.path(rel)
}

func (tr tree) give(rel string) {
	tr.t.Helper()
	needRoot(tr.t)
	tr.must(os.Lchown(tr.path(rel), stranger, stranger))
}

// The uses of a file.
const (
	read   = "read"
	strict = "strict"
	run    = "run"
)

func try(use, path string) error {
	var f *os.File
	var err error
	switch use {
	case run:
		return safefile.CheckProgram(path)
	case strict:
		f, err = safefile.OpenStrict(path)
	default:
		f, err = safefile.Open(path)
	}
	if err == nil {
		err = f.Close()
	}
	return err
}

// cases are files and what safefile makes of them. In why, "@" is the path of
// the tree.
var cases = []struct {
	name string
	use  string
	make func(tr tree) (path string)
	why  []string // parts of the reason; nil: it is opened
	is   error
}{
	{"a_file_is_opened", read, func(tr tree) string { return tr.file("f", 0o644) }, nil, nil},
	{"an_empty_name_in_the_way_is_none", read, func(tr tree) string { tr.file("a/f", 0o644); return tr.path("//a///f") }, nil, nil},
	{"a_dot_stays", read, func(tr tree) string { tr.file("a/f", 0o644); return tr.path("./a/././f") }, nil, nil},
	{"two_dots_go_up", read, func(tr tree) string { tr.file("f", 0o644); tr.folder("a/b", 0o755); return tr.path("a/b/../../f") }, nil, nil},
	{"above_the_root_is_the_root", read, func(tr tree) string { return "/../.." + tr.file("f", 0o644) }, nil, nil},
	{"a_name_may_begin_with_dots", read, func(tr tree) string { return tr.file("...a/..f", 0o644) }, nil, nil},
	{"a_deep_path_is_walked", read, func(tr tree) string { return tr.file(strings.Repeat("deep/", 100)+"f", 0o644) }, nil, nil},
	{"the_longest_name_is_found", read, func(tr tree) string { return tr.file(strings.Repeat("n", 255), 0o644) }, nil, nil},
	{"the_longest_path_is_walked", read, func(tr tree) string {
		f := tr.file("f", 0o644)
		return strings.Repeat("/", 4095-len(f)) + f
	}, nil, nil},
	{"a_sticky_folder_may_be_everybodys", read, func(tr tree) string { tr.folder("tmp", 0o777|os.ModeSticky); return tr.file0("tmp/f") }, nil, nil},
	{"a_link_in_the_way_is_followed", read, func(tr tree) string { tr.file("a/f", 0o644); return tr.link("a", "l") + "/f" }, nil, nil},
	{"so_is_one_from_the_root_on", read, func(tr tree) string { tr.file("a/f", 0o644); return tr.link(tr.path("a"), "l") + "/f" }, nil, nil},
	{"so_is_one_to_a_folder_with_a_slash", read, func(tr tree) string { tr.file("a/f", 0o644); return tr.link("a//", "l") + "/f" }, nil, nil},
	{"a_link_is_followed_from_where_it_lies", read, func(tr tree) string {
		tr.file("a/b/f", 0o644)
		tr.folder("c/d", 0o755)
		tr.link("../../a/./b", "c/d/l")
		return tr.path("c/../c/d/l/f")
	}, nil, nil},
	{"forty_links_are_followed", read, func(tr tree) string { return tr.chain(40) }, nil, nil},
	{"two_dots_behind_a_link_go_up_from_its_target", read, func(tr tree) string {
		tr.file("a/f", 0o644)
		tr.folder("a/b", 0o755)
		return tr.link("a/b", "l") + "/../f"
	}, nil, nil},
	{"strict_opens_what_has_no_link", strict, func(tr tree) string { return tr.file("a/b/f", 0o644) }, nil, nil},
	{"a_program_is_fine", run, func(tr tree) string { return tr.file("a/f", 0o755) }, nil, nil},
	{"a_program_may_be_unreadable", run, func(tr tree) string { return tr.file("a/f", 0o711) }, nil, nil},

	{"a_relative_path_is_refused", read, func(tree) string { return "etc/passwd" }, []string{"'etc/passwd' is not an absolute path"}, syscall.EINVAL},
	{"no_path_is_refused", read, func(tree) string { return "" }, []string{"'' is not an absolute path"}, syscall.EINVAL},
	{"a_nul_is_refused", read, func(tr tree) string { return tr.file("f", 0o644) + "\x00.yaml" }, []string{`f\x00.yaml" has a NUL`}, syscall.EINVAL},
	{"a_slash_at_the_end_is_refused", read, func(tr tree) string { return tr.file("f", 0o644) + "/" }, []string{"'@/f/' names a folder"}, syscall.ENOTDIR},
	{"a_dot_at_the_end_of_a_file_is_refused", read, func(tr tree) string { return tr.file("f", 0o644) + "/." }, []string{"@/f is not a folder"}, syscall.ENOTDIR},
	{"a_folder_is_refused", read, func(tr tree) string { return tr.folder("a", 0o755) }, []string{"@/a is not a regular file"}, syscall.EINVAL},
	{"a_folder_with_a_dot_is_refused", read, func(tr tree) string { return tr.folder("a", 0o755) + "/." }, []string{"@/a is a folder"}, syscall.EISDIR},
	{"a_folder_with_two_dots_is_refused", read, func(tr tree) string { return tr.folder("a", 0o755) + "/.." }, []string{"@/a/.. is not a regular file"}, syscall.EINVAL},
	{"the_root_is_refused", read, func(tree) string { return "/" }, []string{"'/' names a folder"}, syscall.ENOTDIR},
	{"the_root_with_a_dot_is_refused", read, func(tree) string { return "/." }, []string{"/ is a folder"}, syscall.EISDIR},
	{"a_file_as_a_folder_is_refused", read, func(tr tree) string { return tr.file("f", 0o644) + "/g" }, []string{"@/f is not a folder"}, syscall.ENOTDIR},
	{"a_missing_file_is_refused", read, func(tr tree) string { return tr.path("none") }, []string{"@/none: cannot open it: No such file"}, fs.ErrNotExist},
	{"a_missing_folder_is_refused", read, func(tr tree) string { return tr.path("none/f") }, []string{"@/none: cannot open it: No such file"}, fs.ErrNotExist},
	{"two_dots_need_the_folder_before_them", read, func(tr tree) string { tr.file("f", 0o644); return tr.path("none/../f") }, []string{"@/none: cannot open it"}, fs.ErrNotExist},
	{"a_name_too_long_is_not_its_beginning", read, func(tr tree) string {
		return tr.file(strings.Repeat("n", 255), 0o644) + "n"
	}, []string{"@: the name of 256 bytes that follows is too long"}, syscall.ENAMETOOLONG},
	{"nor_is_the_name_of_a_folder", read, func(tr tree) string {
		tr.file(strings.Repeat("n", 255)+"/f", 0o644)
		return tr.path(strings.Repeat("n", 300) + "/f")
	}, []string{"@: the name of 300 bytes that follows is too long"}, syscall.ENAMETOOLONG},
	{"a_path_too_long_is_refused", read, func(tr tree) string {
		f := tr.file("f", 0o644)
		return strings.Repeat("/", 4096-len(f)) + f
	}, []string{"the path of 4096 bytes is too long"}, syscall.ENAMETOOLONG},
	{"a_path_far_too_long_is_refused", read, func(tree) string { return strings.Repeat("/a", 1<<15) }, []string{"the path of 65536 bytes is too long"}, syscall.ENAMETOOLONG},
	{"a_path_that_links_make_too_long_is_refused", read, func(tr tree) string {
		tr.link(strings.Repeat("./", 2000)+"a", "l")
		tr.file("a/f", 0o644)
		return tr.path("l/" + strings.Repeat("./", 100) + "f")
	}, []string{"@/l: the path is too long from here on"}, syscall.ENAMETOOLONG},

	{"a_link_as_the_file_is_refused", read, func(tr tree) string { tr.file("f", 0o644); return tr.link("f", "l") }, []string{"@/l is a symbolic link: name the file itself"}, syscall.ELOOP},
	{"a_link_to_nothing_is_refused", read, func(tr tree) string { return tr.link("none", "l") }, []string{"@/l is a symbolic link"}, syscall.ELOOP},
	{"a_link_as_the_program_is_refused", run, func(tr tree) string { tr.file("f", 0o755); return tr.link("f", "l") }, []string{"@/l is a symbolic link"}, syscall.ELOOP},
	{"a_link_to_a_link_to_nothing_is_refused", read, func(tr tree) string { tr.link("none", "a"); return tr.link("a", "l") + "/f" }, []string{"@/none: cannot open it"}, fs.ErrNotExist},
	{"a_link_to_itself_is_refused", read, func(tr tree) string { return tr.link("l", "l") + "/f" }, []string{"@/l: more than 40 symbolic links"}, syscall.ELOOP},
	{"links_in_a_circle_are_refused", read, func(tr tree) string { tr.link("b", "a"); return tr.link("a", "b") + "/f" }, []string{"more than 40 symbolic links"}, syscall.ELOOP},
	{"links_that_grow_are_refused", read, func(tr tree) string { return tr.link("l/l", "l") + "/f" }, []string{"more than 40 symbolic links"}, syscall.ELOOP},
	{"a_forty_first_link_is_refused", read, func(tr tree) string { return tr.chain(41) }, []string{"more than 40 symbolic links"}, syscall.ELOOP},
	{"strict_follows_no_link", strict, func(tr tree) string { tr.file("a/f", 0o644); return tr.link("a", "l") + "/f" }, []string{"@/l is a symbolic link, and none is followed here"}, syscall.ELOOP},
	{"strict_opens_no_link", strict, func(tr tree) string { tr.file("f", 0o644); return tr.link("f", "l") }, []string{"@/l is a symbolic link"}, syscall.ELOOP},

	{"a_file_that_the_group_can_write_is_refused", read, func(tr tree) string { return tr.file("f", 0o664) }, []string{"@/f can be written by others (mode 0664): chmod go-w '@/f'"}, syscall.EPERM},
	{"a_file_that_all_can_write_is_refused", read, func(tr tree) string { return tr.file("f", 0o602) }, []string{"@/f can be written by others (mode 0602): chmod go-w '@/f'"}, syscall.EPERM},
	{"a_sticky_file_that_all_can_write_is_refused", read, func(tr tree) string { return tr.file("f", 0o666|os.ModeSticky) }, []string{"(mode 1666): chmod go-w '@/f'"}, syscall.EPERM},
	{"a_folder_that_the_group_can_write_is_refused", read, func(tr tree) string { tr.file("a/f", 0o644); tr.folder("a", 0o775); return tr.path("a/f") }, []string{"@/a can be written by others (mode 0775): chmod go-w '@/a'"}, syscall.EPERM},
	{"a_setgid_folder_that_the_group_can_write_is_refused", read, func(tr tree) string {
		tr.file("a/f", 0o644)
		tr.folder("a", 0o775|os.ModeSetgid)
		return tr.path("a/f")
	}, []string{"(mode 2775): chmod go-w '@/a'"}, syscall.EPERM},
	{"so_is_one_farther_above", read, func(tr tree) string { tr.file("a/b/c/f", 0o644); tr.folder("a", 0o757); return tr.path("a/b/c/f") }, []string{"@/a can be written by others (mode 0757)"}, syscall.EPERM},
	{"so_is_one_that_two_dots_leave", read, func(tr tree) string { tr.file("f", 0o644); tr.folder("a", 0o777); return tr.path("a/../f") }, []string{"@/a can be written by others"}, syscall.EPERM},
	{"so_is_one_that_a_link_leads_to", read, func(tr tree) string {
		tr.file("a/f", 0o644)
		tr.folder("a", 0o777)
		return tr.link("a", "l") + "/f"
	}, []string{"@/a can be written by others"}, syscall.EPERM},
	{"a_file_in_a_sticky_folder_must_be_safe_itself", read, func(tr tree) string {
		tr.folder("tmp", 0o777|os.ModeSticky)
		f := tr.file0("tmp/f")
		tr.chmod(f, 0o666)
		return f
	}, []string{"@/tmp/f can be written by others"}, syscall.EPERM},
	{"an_acl_that_lets_another_write_is_refused", read, func(tr tree) string { return tr.acl("f") }, []string{"@/f can be written by others (mode 0664)"}, syscall.EPERM},
	{"a_reason_about_a_long_path_has_its_mend", read, func(tr tree) string { return tr.file(strings.Repeat("deep/", 200)+"f", 0o666) }, []string{"deep/f can be written by others (mode 0666): chmod go-w '", "deep/f'"}, syscall.EPERM},

	{"a_fifo_is_refused_at_once", read, func(tr tree) string { tr.must(unix.Mkfifo(tr.path("p"), 0o600)); return tr.path("p") }, []string{"@/p is not a regular file"}, syscall.EINVAL},
	{"a_fifo_is_no_program", run, func(tr tree) string { tr.must(unix.Mkfifo(tr.path("p"), 0o700)); return tr.path("p") }, []string{"@/p is not a regular file"}, syscall.EINVAL},
	{"a_socket_is_refused", read, func(tr tree) string { return tr.socket("s") }, []string{"@/s is not a regular file"}, syscall.EINVAL},
	{"a_device_is_refused", read, func(tree) string { return "/dev/null" }, []string{"/dev/null is not a regular file"}, syscall.EINVAL},
	{"a_program_that_is_not_executable_is_refused", run, func(tr tree) string { return tr.file("f", 0o644) }, []string{"@/f is not executable: chmod a+x '@/f'"}, syscall.EACCES},
	{"a_folder_is_no_program", run, func(tr tree) string { return tr.folder("a", 0o755) }, []string{"@/a is not a regular file"}, syscall.EINVAL},

	{"anothers_file_is_refused", read, func(tr tree) string { f := tr.file("f", 0o644); tr.give("f"); return f }, []string{"@/f belongs to user 47110; it must be root's: chown root '@/f'"}, syscall.EPERM},
	{"anothers_folder_is_refused", read, func(tr tree) string { f := tr.file("a/f", 0o644); tr.give("a"); return f }, []string{"@/a belongs to user 47110", "chown root '@/a'"}, syscall.EPERM},
	{"anothers_sticky_folder_is_refused", read, func(tr tree) string {
		tr.folder("tmp", 0o777|os.ModeSticky)
		f := tr.file0("tmp/f")
		tr.give("tmp")
		return f
	}, []string{"@/tmp belongs to user 47110"}, syscall.EPERM},
	{"anothers_file_in_a_sticky_folder_is_refused", read, func(tr tree) string {
		tr.folder("tmp", 0o777|os.ModeSticky)
		f := tr.file0("tmp/f")
		tr.give("tmp/f")
		return f
	}, []string{"@/tmp/f belongs to user 47110"}, syscall.EPERM},
	{"anothers_link_in_the_way_is_refused", read, func(tr tree) string {
		tr.file("a/f", 0o644)
		tr.link("a", "l")
		tr.give("l")
		return tr.path("l/f")
	}, []string{"@/l belongs to user 47110; it must be root's: chown -h root '@/l'"}, syscall.EPERM},
	{"a_link_to_anothers_folder_is_refused", read, func(tr tree) string {
		tr.file("a/f", 0o644)
		tr.give("a")
		return tr.link("a", "l") + "/f"
	}, []string{"@/a belongs to user 47110"}, syscall.EPERM},
	{"anothers_program_is_refused", run, func(tr tree) string { f := tr.file("f", 0o755); tr.give("f"); return f }, []string{"@/f belongs to user 47110"}, syscall.EPERM},
}

// file0 is file in a folder whose mode is to stay.
func (tr tree) file0(rel string) string {
	tr.t.Helper()
	tr.must(os.WriteFile(tr.path(rel), []byte(rel), 0o600))
	return tr.path(rel)
}

// chain makes n links, each to the one before, and returns a file behind all.
func (tr tree) chain(n int) string {
	tr.file("l0/f", 0o644)
	for i := range n {
		tr.link(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1))
	}
	return tr.path(fmt.Sprintf("l%d/f", n))
}

func (tr tree) socket(rel string) string {
	l, err := net.Listen("unix", tr.path(rel))
	tr.must(err)
	tr.t.Cleanup(func() { _ = l.Close() })
	return tr.path(rel)
}

// acl makes a file that a named user may write.
func (tr tree) acl(rel string) string {
	f := tr.file(rel, 0o644)
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, 0xffffffff}, {2, 6, stranger}, {4, 4, 0xffffffff}, {16, 6, 0xffffffff}, {32, 4, 0xffffffff}} {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	if err := unix.Setxattr(f, "system.posix_acl_access", list, 0); errors.Is(err, unix.ENOTSUP) {
		tr.t.Skip("this file system has no access control lists")
	} else {
		tr.must(err)
	}
	return f
}

func TestOpen(t *testing.T) {
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			err := try(tt.use, tt.make(tr))
			if !errors.Is(err, tt.is) {
				t.Errorf("got %v (errno %v), want %v", err, errors.Unwrap(err), tt.is)
			}
			for _, part := range tt.why {
				if part = strings.ReplaceAll(part, "@", tr.dir); err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the reason is\n%v\nwithout\n%s", err, part)
				}
			}
			if err != nil && tt.why == nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}

// The same files, and the C by itself under ASan and UBSan.
func TestOpenIsCleanUnderSanitizers(t *testing.T) {
	program := driver(t)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			path := tt.make(newTree(t))
			if strings.ContainsRune(path, 0) {
				t.Skip("C has no such strings")
			}
			out, err := exec.Command(program, tt.use, path).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			want := "ok"
			if err := try(tt.use, path); err != nil {
				want = err.Error()
			}
			if got := strings.TrimSuffix(string(out), "\n"); got != want {
				t.Errorf("C says\n%s\nGo says\n%s", got, want)
			}
		})
	}
}

func driver(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "driver")
	cmd := exec.Command("gcc", "-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
		"-I.", "-o", program, "testdata/sanitize/driver.c", "safefile.c")
	out, err := cmd.CombinedOutput()
	missing := errors.Is(err, exec.ErrNotFound) || strings.Contains(string(out), "cannot find") // -lasan
	if missing && os.Getenv("CI") != "true" {
		t.Skipf("gcc with its sanitizers is needed (packages gcc and libc6-dev): %v\n%s", err, out)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

func TestRead(t *testing.T) {
	tr := newTree(t)
	f := tr.file("f", 0o640) // holds its own name
	data, mode, err := safefile.Read(f, 1)
	if string(data) != "f" || mode != 0o640 || err != nil {
		t.Errorf("Read = %q, %v, %v", data, mode, err)
	}
	if data, err := safefile.ReadStrict(f, 1); string(data) != "f" || err != nil {
		t.Errorf("ReadStrict = %q, %v", data, err)
	}
	if _, _, err := safefile.Read(f, 0); err == nil || !strings.Contains(err.Error(), f+" has more than 0 bytes") {
		t.Errorf("a file larger than the limit: %v", err)
	}
	if _, err := safefile.ReadStrict(f, 0); err == nil {
		t.Error("ReadStrict knows no limit")
	}
	if _, _, err := safefile.Read(tr.path("none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := safefile.ReadStrict(tr.path("none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestCheckFolder(t *testing.T) {
	tr := newTree(t)
	tr.file("a/f", 0o644)
	tr.link("a", "l")
	for path, want := range map[string]error{
		"a": nil, "a/": nil, ".": nil, "a/f": syscall.ENOTDIR, "none": fs.ErrNotExist, "l": syscall.ELOOP,
	} {
		if err := safefile.CheckFolder(tr.path(path)); !errors.Is(err, want) {
			t.Errorf("CheckFolder(%s) = %v, want %v", path, err, want)
		}
	}
	tr.folder("a", 0o777)
	if err := safefile.CheckFolder(tr.path("a")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("CheckFolder of what all can write = %v", err)
	}
}

func TestADescriptorIsNotInherited(t *testing.T) {
	f, err := safefile.Open(newTree(t).file("f", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %x, %v", flags, err)
	}
}

// Opening a FIFO wakes who waits to write into it, and opening a device may do
// anything: neither is opened just to be refused.
func TestNothingButARegularFileIsOpened(t *testing.T) {
	tr := newTree(t)
	tr.must(unix.Mkfifo(tr.path("p"), 0o600))
	tr.file("f", 0o644)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	tr.must(err)
	defer unix.Close(watch)
	_, err = unix.InotifyAddWatch(watch, tr.dir, unix.IN_OPEN)
	tr.must(err)
	for _, use := range []string{read, strict, run} {
		if try(use, tr.path("p")) == nil {
			t.Errorf("%s of a FIFO is allowed", use)
		}
	}
	buf := make([]byte, 4096)
	if n, err := unix.Read(watch, buf); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("it was opened: %q, %v", buf[:max(n, 0)], err)
	}
	tr.must(try(read, tr.path("f")))
	if _, err := unix.Read(watch, buf); err != nil {
		t.Errorf("the watch sees nothing: %v", err)
	}
}

// FuzzPath holds the walk against the kernel's, in a tree that can be trusted:
// each byte is one component of a path.
func FuzzPath(f *testing.F) {
	parts := []string{"a", "b", "f", "..", ".", "", "up", "far", "self", "none", "c1", "long"}
	for _, seed := range []string{"", "\x00\x02", "\x00\x01\x03\x02", "\x06\x02", "\x07\x07\x02", "\x08\x02", "\x0a\x0a\x02", "\x0b\x02\x05", "\x04\x05\x02"} {
		f.Add([]byte(seed))
	}
	root := newTree(f).grow()
	f.Fuzz(func(t *testing.T, path []byte) {
		all := []string{root}
		for _, b := range path[:min(len(path), 60)] {
			all = append(all, parts[int(b)%len(parts)])
		}
		compare(t, strings.Join(all, "/"))
	})
}

// grow makes FuzzPath's tree.
func (tr tree) grow() string {
	tr.file("f", 0o644)
	tr.file("a/f", 0o644)
	tr.file("a/b/f", 0o644)
	tr.file("b/f", 0o644)
	for _, in := range []string{"", "a/", "a/b/", "b/"} {
		tr.link("..", in+"up")
		tr.link(tr.path("a"), in+"far")
		tr.link("self", in+"self")
		tr.link("./c2", in+"c1")
		tr.link("c1/../a", in+"c2")
		tr.link(strings.Repeat("./", 600)+".", in+"long")
	}
	return tr.dir
}

// compare opens path here and by the kernel.
func compare(t *testing.T, path string) {
	t.Helper()
	want, wantErr := os.Stat(path)
	if link, err := os.Lstat(path); err == nil && link.Mode()&fs.ModeSymlink != 0 {
		wantErr = syscall.ELOOP
	}
	if wantErr == nil && (!want.Mode().IsRegular() || strings.HasSuffix(path, "/")) {
		wantErr = syscall.EISDIR
	}
	f, err := safefile.Open(path)
	if errors.Is(err, syscall.ENAMETOOLONG) {
		return // the kernel does not join what links add
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("Open(%s) = %v, the kernel says %v", path, err, wantErr)
	}
	if err != nil {
		return
	}
	defer f.Close()
	if got, err := f.Stat(); err != nil || !os.SameFile(got, want) {
		t.Fatalf("Open(%s) is another file than the kernel's, %v", path, err)
	}
}

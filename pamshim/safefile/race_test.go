// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package safefile_test

import (
	"io"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
)

// Somebody swaps what lies on the way, as fast as the kernel can, while it is
// walked: what is opened is the trusted file or nothing. (They could not swap
// what is root's, in a folder of root's: the walk holds against more.)
func TestSwapsOnTheWay(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name string
		swap func(tr tree) (path, a, b string) // path is opened while a and b are exchanged
	}{
		{"a_folder_with_anothers", func(tr tree) (string, string, string) {
			return tr.trusted("a/f"), tr.path("a"), tr.theirs("evil", "evil/f")
		}},
		{"a_folder_with_anothers_link", func(tr tree) (string, string, string) {
			tr.theirs("evil", "evil/f")
			tr.link("evil", "l")
			tr.give("l")
			return tr.trusted("a/f"), tr.path("a"), tr.path("l")
		}},
		{"a_folder_farther_above", func(tr tree) (string, string, string) {
			tr.theirs("evil", "evil/b", "evil/b/c", "evil/b/c/f")
			return tr.trusted("a/b/c/f"), tr.path("a"), tr.path("evil")
		}},
		{"a_folder_of_roots_with_one_that_holds_anothers_file", func(tr tree) (string, string, string) {
			tr.folder("b", 0o755)
			tr.theirs("b/f")
			return tr.trusted("a/f"), tr.path("a"), tr.path("b")
		}},
		{"a_link_with_anothers_link", func(tr tree) (string, string, string) {
			tr.theirs("evil", "evil/f")
			tr.trusted("a/f")
			tr.link("a", "l")
			tr.link("evil", "m")
			tr.give("m")
			return tr.path("l/f"), tr.path("l"), tr.path("m")
		}},
		{"the_file_with_anothers", func(tr tree) (string, string, string) {
			return tr.trusted("f"), tr.path("f"), tr.theirs("g")
		}},
		{"the_file_with_one_that_all_can_write", func(tr tree) (string, string, string) {
			return tr.trusted("f"), tr.path("f"), tr.file("g", 0o666)
		}},
		{"the_file_with_anothers_link_to_theirs", func(tr tree) (string, string, string) {
			tr.theirs("g")
			tr.link("g", "l")
			tr.give("l")
			return tr.trusted("f"), tr.path("f"), tr.path("l")
		}},
		{"the_file_with_a_fifo", func(tr tree) (string, string, string) {
			tr.must(unix.Mkfifo(tr.path("p"), 0o600))
			return tr.trusted("f"), tr.path("f"), tr.path("p")
		}},
		{"the_file_with_a_folder", func(tr tree) (string, string, string) {
			return tr.trusted("f"), tr.path("f"), tr.folder("d", 0o755)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			path, a, b := tt.swap(tr)
			stop := exchange(t, a, b)
			opened, refused := 0, 0
			for n := 0; n < 3000 || (opened == 0 || refused == 0) && n < 300000; n++ {
				f, err := safefile.Open(path)
				if err != nil {
					refused++
					continue
				}
				opened++
				judge(t, f)
			}
			stop()
			if opened == 0 || refused == 0 {
				t.Errorf("opened %d times, refused %d times: no race was run", opened, refused)
			}
		})
	}
}

const secret = "root's own"

func (tr tree) trusted(rel string) string {
	path := tr.file(rel, 0o644)
	tr.must(os.WriteFile(path, []byte(secret), 0o644))
	return path
}

// theirs makes folders and, as the last one, a file of the stranger's. It
// returns the path of the first.
func (tr tree) theirs(rels ...string) string {
	tr.file(rels[len(rels)-1], 0o644)
	for _, rel := range rels {
		tr.give(rel)
	}
	return tr.path(rels[0])
}

// exchange swaps a and b until the function that it returns is called.
func exchange(t *testing.T, a, b string) (stop func()) {
	done := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() {
		close(done)
		swapping.Wait()
	}
}

func judge(t *testing.T, f *os.File) {
	t.Helper()
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 || !info.Mode().IsRegular() ||
		info.Mode().Perm()&0o022 != 0 || string(data) != secret || err != nil {
		t.Fatalf("opened %v of user %d: %q, %v", info.Mode(), owner, data, err)
	}
}

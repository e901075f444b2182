// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tracked are the repository's: those that git tracks, and those that it would.
func tracked(t *testing.T) []string {
	t.Helper()
	t.Chdir("..")
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI must run this in a git checkout: %v", err)
		}
		t.Skipf("this is no git checkout: %v", err)
	}
	var all []string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
			all = append(all, name)
		}
	}
	if len(all) < 100 {
		t.Fatalf("git knows %d files only", len(all))
	}
	return all
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) { // somebody is working here
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// unlicensed are files that can hold no comment, or none that would stay.
func unlicensed(name string) bool {
	switch filepath.Base(name) {
	case "LICENSE", "go.mod", "go.sum", ".gitignore":
		return true
	}
	source := []string{".go", ".c", ".h", ".py", ".sh", ".js", ".mjs", ".ts"}
	other := []string{".md", ".json", ".lock", ".txt", ".svg", ".png", ".ico", ".webmanifest"}
	ext := filepath.Ext(name)
	return strings.Contains(name, "testdata/") && !slices.Contains(source, ext) || slices.Contains(other, ext)
}

func TestEveryFileNamesItsLicence(t *testing.T) {
	for _, name := range tracked(t) {
		if unlicensed(name) {
			continue
		}
		head := read(t, name)
		if i := bytes.Index(head, []byte("\n\n")); i >= 0 {
			head = head[:i]
		}
		for _, want := range []string{"SPDX-FileCopyrightText: The pam-authn authors", "SPDX-License-Identifier: Apache-2.0"} {
			if len(head) > 0 && !bytes.Contains(head, []byte(want)) {
				t.Errorf("%s does not begin with %q", name, want)
			}
		}
	}
}

// What is built or written here must not end up in the repository with the name
// of this folder in it.
func TestNoFileNamesThisMachine(t *testing.T) {
	all := tracked(t) // goes to the top of the checkout
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(here, "/") < 2 {
		t.Skipf("%s is a name that anything may have", here)
	}
	for _, name := range all {
		text := string(read(t, name))
		for i := strings.Index(text, here); i >= 0; {
			rest := text[i+len(here):]
			if rest == "" || !isName(rest[0]) {
				t.Errorf("%s names this folder, %s", name, here)
				break
			}
			next := strings.Index(rest, here)
			if next < 0 {
				break
			}
			i += len(here) + next
		}
	}
}

// isName reports whether c goes on with a name that began before it.
func isName(c byte) bool {
	return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func TestNoFunctionOfCIsLong(t *testing.T) {
	const longest = 40
	functions := 0
	for _, name := range tracked(t) {
		if ext := filepath.Ext(name); ext != ".c" && ext != ".h" || strings.Contains(name, "testdata/") {
			continue
		}
		begin, what, last := 0, "", ""
		for i, line := range strings.Split(string(read(t, name)), "\n") {
			switch {
			case line == "{":
				begin, what = i, last
			case line == "}" && begin > 0:
				functions++
				if n := i - begin + 1; n > longest {
					t.Errorf("%s:%d: %q has %d lines, at most %d are readable", name, begin, what, n, longest)
				}
				begin = 0
			}
			last = line
		}
	}
	if functions < 50 {
		t.Errorf("only %d functions were found", functions)
	}
}

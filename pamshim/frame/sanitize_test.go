// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The C of this package, by itself under ASan and UBSan: through cgo neither
// could see it.
func TestTheCodecIsCleanUnderSanitizers(t *testing.T) {
	dir := t.TempDir()
	args := []string{rounds()}
	for _, in := range inputs(t) {
		path := filepath.Join(dir, strconv.Itoa(len(args)))
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.Command(driver(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("of %d files and their mutations, %s bodies were as they must be", len(args)-1, strings.TrimSpace(string(out)))
}

// rounds is how often each seed is mutated at random.
func rounds() string {
	if os.Getenv("SOAK") != "" {
		return "50000"
	}
	return "2000"
}

// inputs are all seeds, with the frames' bodies for those that are frames.
func inputs(t *testing.T) [][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "fuzz", "Fuzz*", "*"))
	if err != nil || len(files) < 100 {
		t.Fatalf("only %d seeds are there: %v", len(files), err)
	}
	var all [][]byte
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, unquote(t, path, string(text)))
	}
	return all
}

// unquote reads a seed file, which is a Go expression.
func unquote(t *testing.T, path, text string) []byte {
	t.Helper()
	text = strings.TrimSpace(strings.TrimPrefix(text, "go test fuzz v1\n"))
	_, quoted, _ := strings.Cut(text, "(")
	value, err := strconv.Unquote(strings.TrimSuffix(quoted, ")"))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return []byte(value)
}

// driver compiles testdata/sanitize/driver.c with the codec.
func driver(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "driver")
	cmd := exec.Command("gcc", "-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Wconversion", "-Werror",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
		"-I.", "-o", program, "testdata/sanitize/driver.c", "frame.c", "duration.c")
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

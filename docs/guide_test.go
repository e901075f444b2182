// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the documentation to what it says.
package docs_test

import (
	"encoding/json"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	// What the guide's provider is built from: go test caches by imports.
	_ "github.com/pam-authn/pam-authn/authn/authntest"
	_ "github.com/pam-authn/pam-authn/authn/plugin"
)

// block is a fenced block of a page whose info string has a language and a
// file.
var block = regexp.MustCompile("(?ms)^```(\\w+) ([\\w.]+)\n(.*?)^```$")

// files puts together the files that a page is made of.
func files(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string][]string{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		parts[m[2]] = append(parts[m[2]], m[3])
	}
	all := map[string]string{}
	for name, p := range parts {
		all[name] = strings.Join(p, "\n")
	}
	return all
}

// The guide's provider is compiled inside this module, where nothing of it is
// on disk: go reads it through an overlay.
func TestTheGuidesProviderWorks(t *testing.T) {
	guide := files(t, "writing-a-provider.md")
	dir, here := t.TempDir(), absolute(t, "guide")
	replace := map[string]string{}
	for name, text := range guide {
		if filepath.Ext(name) != ".go" {
			continue
		}
		if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
			t.Errorf("%s of the guide is not as gofmt writes it (%v)", name, err)
		}
		write(t, filepath.Join(dir, name), text)
		replace[filepath.Join(here, name)] = filepath.Join(dir, name)
	}
	if len(replace) != 2 {
		t.Fatalf("the guide has the Go files %v, want main.go and main_test.go", replace)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "overlay.json"), string(overlay))
	binary := filepath.Join(dir, "guide.test")
	run(t, ".", "go", "test", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-c", "-o", binary, "./guide")
	run(t, dir, binary)
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...) //nolint:gosec // the test's own words
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

var (
	link   = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)\s]*)?\)`)
	fenced = regexp.MustCompile("(?ms)^```.*?^```$")
)

// A document that names a test as its proof must not outlive the test.
func TestLinksLeadSomewhere(t *testing.T) {
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "build"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path) //nolint:gosec // our own documents
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// proof is a link whose text is code and whose target is a test.
var proof = regexp.MustCompile("\\[`([^`]+)`\\]\\(([^)]+)\\)")

func TestTheThreatModelsProofsExist(t *testing.T) {
	text, err := os.ReadFile("threat-model.md")
	if err != nil {
		t.Fatal(err)
	}
	proofs := proof.FindAllStringSubmatch(string(text), -1)
	if len(proofs) == 0 {
		t.Error("the threat model names no test")
	}
	for _, m := range proofs {
		name, path := m[1], m[2]
		source, err := os.ReadFile(path)
		if err != nil {
			continue // TestLinksLeadSomewhere says so
		}
		if filepath.Ext(path) == ".txtar" && strings.TrimSuffix(filepath.Base(path), ".txtar") == name {
			continue
		}
		for part := range strings.SplitSeq(name, "/") {
			if !strings.Contains(string(source), "func "+part+"(") && !strings.Contains(string(source), `"`+part+`"`) {
				t.Errorf("%s has no %s, which the threat model names", path, part)
			}
		}
	}
}

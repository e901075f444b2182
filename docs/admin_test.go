// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// messages are the folders whose messages reach an administrator, and the
// files there whose messages do not, or are details of one that the page has.
var messages = map[string][]string{
	"../pamshim/worker":   {"byhand.go", "main.go"},
	"../pamshim/module":   nil,
	"../pamshim/safefile": nil,
	"../authn/plugin":     {"conversation.go", "inprocess.go", "peercred.go"},
	"../authn":            {"allow.go"},
}

// internal are messages that nobody sees, by themselves at least.
var internal = []string{
	"not a provider of ours", "unrecognized remote plugin message", "the first message is not Start",
	"another call sweeps it away", "this process", "descriptor 3 is not a unix socket",
	"%s: the configuration on the wire is not JSON", "%s: the configuration is not a list of keys and values",
}

var (
	literal = regexp.MustCompile(`(?:Errorf|errors\.New|[.]problem|[.]fault|refuse|reason = |c->why), ?[^"\n]*("(?:[^"\\\n]|\\.)*")|` +
		`(?:Errorf|errors\.New|[.]problem|[.]fault|refuse)\([^"\n` + "`" + `]*("(?:[^"\\\n]|\\.)*"|` + "`[^`\n]*`" + `)|reason = ("(?:[^"\\\n]|\\.)*")`)
	verb = regexp.MustCompile(`%[-+# 0-9.*]*z?[a-zA-Z]|%%`)
	stop = regexp.MustCompile(`[:;,(]`)
)

// TestAdminListsEveryMessage looks for each message of the worker, the module
// and the wire in the page's tables, by the first words that are always the
// same.
func TestAdminListsEveryMessage(t *testing.T) {
	page, err := os.ReadFile("admin.md")
	if err != nil {
		t.Fatal(err)
	}
	_, tables, ok := strings.Cut(string(page), "\n## Messages\n")
	if !ok {
		t.Fatal("no messages in admin.md")
	}
	tables = strings.ReplaceAll(tables, "`", "")
	found := 0
	for _, text := range sources(t) {
		needle := constantWords(text)
		if needle == "" {
			continue
		}
		found++
		if !strings.Contains(tables, needle) && !slices.Contains(internal, text) {
			t.Errorf("admin.md does not list %q (by %q)", text, needle)
		}
	}
	if found < 100 {
		t.Errorf("only %d messages were found: the test is blind", found)
	}
}

// sources are the message literals of all folders.
func sources(t *testing.T) (all []string) {
	t.Helper()
	for dir, skip := range messages {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != dir && (dir == "../authn" || d.Name() == "testdata" || d.Name() == "wire"):
				return fs.SkipDir
			case d.IsDir() || slices.Contains(skip, d.Name()) || strings.HasSuffix(path, "_test.go"):
				return nil
			case filepath.Ext(path) != ".go" && filepath.Ext(path) != ".c":
				return nil
			}
			text, err := os.ReadFile(path)
			for _, m := range literal.FindAllStringSubmatch(string(text), -1) {
				if s, err := strconv.Unquote(m[1] + m[2] + m[3]); err == nil {
					all = append(all, s)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// constantWords are the first words of a format's longest constant part, at
// most four and up to a comma, or "" if there is next to none.
func constantWords(format string) string {
	longest := ""
	for _, part := range verb.Split(format, -1) {
		part = strings.Trim(part, " .:,;'\"()")
		if len(part) > len(longest) {
			longest = part
		}
	}
	words := strings.Fields(longest)
	if len(words) < 2 {
		return ""
	}
	if short := strings.Fields(stop.Split(longest, 2)[0]); len(short) >= 2 {
		words = short
	}
	return strings.TrimRight(strings.Join(words[:min(4, len(words))], " "), ":;,")
}

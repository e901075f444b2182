// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestGraceTime(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write("part.conf", "# a part\nPort 22\nlogingracetime=\"5m\"\n")
	for text, want := range map[string]time.Duration{
		"":                                     120 * time.Second,
		"LoginGraceTime 300":                   300 * time.Second,
		"LoginGraceTime 2m30 # a remark":       150 * time.Second,
		"LoginGraceTime 1h":                    time.Hour,
		"#LoginGraceTime 7":                    120 * time.Second,
		"Match User x\nLoginGraceTime 7":       120 * time.Second,
		"LoginGraceTime 0":                     0,
		"LoginGraceTime soon":                  0,
		"LoginGraceTime 10\nLoginGraceTime 20": 10 * time.Second,
		"Include " + dir + "/*.conf\nLoginGraceTime 20":        5 * time.Minute,
		"Include /nowhere/*.conf\nLoginGraceTime 20":           20 * time.Second,
		"LoginGraceTime 20\nInclude " + dir + "/part.conf":     20 * time.Second,
		"Include " + dir + "/itself\nLoginGraceTime 20\n":      20 * time.Second,
		"Include \"" + dir + "/part.conf\"\nLoginGraceTime 20": 5 * time.Minute,
	} {
		got, ok := graceTime(write("itself", text))
		if got != want || ok != (want > 0) {
			t.Errorf("%q: %s, %v; want %s", text, got, ok, want)
		}
	}
	if _, ok := graceTime(filepath.Join(dir, "none")); ok {
		t.Error("there is a limit without an sshd")
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// NoLeftovers makes the test fail if, at its end, the system's accounts or PAM,
// sudo or ssh configuration are others than now, or if a mount of a machine has
// reached the system. Call it before [NewMachine]; that no process outlives its
// machine is checked by [Machine.Close], always.
func NoLeftovers(tb TB) {
	tb.Helper()
	before := fingerprint()
	tb.Cleanup(func() {
		tb.Helper()
		for path, now := range fingerprint() {
			if before[path] != now {
				tb.Errorf("%s of the system has changed", path)
			}
			delete(before, path)
		}
		for path := range before {
			tb.Errorf("%s of the system is gone", path)
		}
		for _, line := range ourMounts() {
			tb.Errorf("a mount has reached the system: %s", line)
		}
	})
}

// fingerprint maps the files that decide who may log in to what is in them.
func fingerprint() map[string]string {
	sums := map[string]string{}
	for _, pattern := range []string{
		"/etc/passwd*", "/etc/shadow*", "/etc/group*", "/etc/gshadow*", "/etc/pam.d/*",
		"/etc/sudoers", "/etc/sudoers.d/*", "/etc/ssh/*", "/etc/authn/*", "/etc/at.*",
	} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if content, err := os.ReadFile(name); err == nil {
				sums[name] = fmt.Sprintf("%x", sha256.Sum256(content))
			}
		}
	}
	return sums
}

// ourMounts returns the lines of mountinfo that speak of us. There should be
// none: /proc/self is the main thread, which is never a machine's.
func ourMounts() []string {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, " "+mountSource+" ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

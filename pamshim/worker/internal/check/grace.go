// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
)

const sshdConfig = "/etc/ssh/sshd_config"

// sshd's own numbers, from sshd_config(5).
const (
	defaultGrace = 120 * time.Second
	attempts     = 3                // of keyboard-interactive on one connection
	typing       = 10 * time.Second // for each of them
)

// grace tells when sshd ends a connection before its people have had the time
// that the line gives them: they see no more than a closed connection.
func (c *checker) grace(s *service) {
	if !strings.HasPrefix(filepath.Base(s.file), "sshd") || filepath.Dir(s.file) != pamDir {
		return
	}
	for _, l := range s.stacks["auth"] {
		if !l.ours() {
			continue
		}
		words, err := line.Parse(l.words)
		if err != nil {
			continue // a problem already
		}
		want := attempts * (words.Timeout + typing)
		if got, ok := graceTime(sshdConfig); ok && got < want {
			c.notice(l.where(), fmt.Sprintf("LoginGraceTime %d in %s ends a connection before %d attempts of timeout=%s are over: "+
				"set LoginGraceTime %d, or a smaller timeout=", int(got.Seconds()), sshdConfig, attempts, words.Timeout, int(want.Seconds())))
		}
	}
}

// graceTime reads LoginGraceTime as sshd does: the first one counts. It is not
// ok where there is no sshd, or no limit.
func graceTime(file string) (time.Duration, bool) {
	value, err := firstSetting(file, "logingracetime", 0)
	if err != nil {
		return 0, false
	}
	if value == "" {
		return defaultGrace, true
	}
	d, ok := sshTime(value)
	return d, ok && d > 0
}

// firstSetting returns the first value of a keyword outside of Match blocks, in
// file or what it includes.
func firstSetting(file, keyword string, depth int) (string, error) {
	data, err := os.ReadFile(file) //nolint:gosec // sshd's own
	if err != nil || depth > maxDepth {
		return "", err
	}
	for text := range strings.Lines(string(data)) {
		text, _, _ = strings.Cut(text, "#")
		words := strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n=\"", r) })
		if len(words) < 2 {
			continue
		}
		switch strings.ToLower(words[0]) {
		case keyword:
			return words[1], nil
		case "match":
			return "", nil
		case "include":
			if value := firstIncluded(file, words[1:], keyword, depth+1); value != "" {
				return value, nil
			}
		}
	}
	return "", nil
}

func firstIncluded(file string, patterns []string, keyword string, depth int) string {
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(sshdConfig), pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue // sshd refuses it, too
		}
		for _, name := range names {
			if value, err := firstSetting(name, keyword, depth); err == nil && value != "" {
				return value
			}
		}
	}
	return ""
}

// sshTime reads a time of sshd_config(5): 120, 2m, 1h30m.
func sshTime(text string) (time.Duration, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * time.Second, n >= 0
	}
	total := time.Duration(0)
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	for text = strings.ToLower(text); text != ""; {
		i := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
		if i < 0 { // seconds behind a unit
			text, i = text+"s", len(text)
		}
		n, err := strconv.Atoi(text[:i])
		unit, ok := units[text[i]]
		if err != nil || !ok {
			return 0, false
		}
		total += time.Duration(n) * unit
		text = text[i+1:]
	}
	return total, true
}

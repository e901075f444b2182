// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// stack writes the PAM files of the trial to a new folder. In them, whatever
// the module answers becomes the stack's answer (default=ok), even ignore.
func (t *trial) stack() (dir string, err error) {
	words := append(t.line(), "log=stderr")
	if t.worker != installedWorker {
		words = append(words, "worker="+t.worker)
	}
	var line []string
	for _, word := range append([]string{t.module}, words...) {
		quoted, err := quote(word)
		if err != nil {
			return "", err
		}
		line = append(line, quoted)
	}
	if dir, err = os.MkdirTemp("", "authnctl-"); err != nil {
		return "", err
	}
	rules := strings.Builder{}
	for _, group := range []string{"auth", "account", "session", "password"} {
		_, _ = fmt.Fprintf(&rules, "%s [default=ok] %s\n", group, strings.Join(line, " "))
	}
	for _, name := range []string{"other", t.service} { // libpam wants an "other"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(rules.String()), 0o600); err != nil { //nolint:gosec // a plain name, in our folder
			_ = os.RemoveAll(dir)
			return "", err
		}
	}
	return dir, nil
}

// line is the words that matter in /etc/pam.d too.
func (t *trial) line() []string {
	words := []string{"provider=" + t.provider}
	if t.config != "" {
		words = append(words, "config="+t.config)
	}
	if slices.Contains(t.calls, "setcred") {
		words = append(words, "setcred")
	}
	return append(words, t.words...)
}

// quote writes a word so that libpam reads it: "[...]" is one word, and #
// begins a comment everywhere.
func quote(word string) (string, error) {
	if strings.ContainsAny(word, "#\n\x00") {
		return "", withHint(fmt.Errorf("%q cannot be written in a PAM file", word), "use a path or value without # and line breaks")
	}
	if word != "" && !strings.ContainsAny(word, " \t\\[]") {
		return word, nil
	}
	return "[" + strings.ReplaceAll(word, "]", `\]`) + "]", nil
}

// showLines says how to have the same in an application.
func (t *trial) showLines(calls []string) {
	var words []string
	for _, word := range t.line() {
		quoted, _ := quote(word) // it was quoted before
		words = append(words, quoted)
	}
	fmt.Printf("\nThe same in /etc/pam.d:\n\n")
	for _, call := range calls {
		switch call {
		case "setcred": // called behind auth's line, if that has the word
		case "auth":
			fmt.Printf("    %-8s required  pam_authn.so  %s\n", call, strings.Join(words, " "))
		default:
			rest := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return w == "setcred" })
			fmt.Printf("    %-8s required  pam_authn.so  %s\n", groupOf(call), strings.Join(rest, " "))
		}
	}
	if filepath.IsAbs(t.provider) && os.Geteuid() != 0 && !rootsAlone(t.provider) {
		fmt.Printf("\nApplications that run as root want the files to be root's: install them first.\n")
	}
}

func groupOf(call string) string {
	if call == "chauthtok" {
		return "password"
	}
	return call
}

// rootsAlone guesses whether root would use the program.
func rootsAlone(program string) bool {
	info, err := os.Stat(program) //nolint:gosec // the caller's own
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Uid == 0
}

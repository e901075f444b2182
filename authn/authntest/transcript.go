// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"fmt"
	"strings"
	"time"
)

// A transcript is what a person saw and typed. Texts are quoted, so that
// blanks at the end of a line and control characters are seen; a text of
// several lines has a line for each, one below the other.
type transcript struct {
	lines []string
	texts []string // what was shown, as it was
}

func (r *transcript) shown(k kind, text string) {
	r.texts = append(r.texts, text)
	label := string(k)
	for line := range strings.SplitSeq(text, "\n") {
		r.lines = append(r.lines, fmt.Sprintf("%-7s %q", label, line))
		label = ""
	}
}

func (r *transcript) answer(k kind, answer string) {
	if k == kindSecret {
		r.lines = append(r.lines, "  hidden answer")
		return
	}
	r.lines = append(r.lines, fmt.Sprintf("  answer %q", answer))
}

func (r *transcript) waiting(limit time.Duration) {
	r.lines = append(r.lines, fmt.Sprintf("waiting %s", limit))
}

func (r *transcript) left() { r.lines = append(r.lines, "the user left") }

func (r *transcript) String() string {
	if len(r.lines) == 0 {
		return ""
	}
	return strings.Join(r.lines, "\n") + "\n"
}

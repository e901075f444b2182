// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"sync"

	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

// A screen is a terminal of 80x24 with a shell, in tmux.
type screen struct {
	m     machine
	user  string
	light bool // dark text on a light ground
	close func()
}

// screen gives the user a terminal. It is closed at the test's end, if not
// before.
func (m machine) screen(user string) *screen {
	m.t.Helper()
	s := &screen{m: m, user: user}
	s.tmux("start-server", ";", "set", "-g", "status", "off", ";", "set", "-g", "default-terminal", "screen", ";",
		"new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=$ ", "ENV=", "sh")
	s.close = sync.OnceFunc(func() { s.tmux("kill-server") })
	m.t.Cleanup(s.close)
	s.wait("$")
	return s
}

func (s *screen) tmux(args ...string) string {
	s.m.t.Helper()
	out, code := s.m.Run(s.user, "tmux", append([]string{"-u", "-f", "/dev/null"}, args...)...)
	if code != 0 {
		s.m.t.Fatalf("tmux %q: %s", args, out)
	}
	return out
}

// text is what stands on the screen: 24 lines, without spaces at their ends.
func (s *screen) text() string {
	s.m.t.Helper()
	return s.tmux("capture-pane", "-p")
}

// wait waits until the last line that is not empty is what is said, with lines
// somewhere above it, and returns the screen.
func (s *screen) wait(last string, lines ...string) (text string) {
	s.m.t.Helper()
	above := strings.Join(append([]string{""}, lines...), "\n")
	if !s.m.until(func() bool {
		text = s.text()
		all := "\n" + strings.TrimRight(text, "\n")
		return strings.HasSuffix(all, "\n"+last) && strings.Contains(all, above)
	}) {
		s.m.t.Fatalf("no %q at the end of\n%s\nthe log:\n%s", last, text, s.m.LogText())
	}
	return text
}

// enter types text and the Enter key.
func (s *screen) enter(text string) {
	s.m.t.Helper()
	s.tmux("send-keys", "-l", text, ";", "send-keys", "Enter")
}

// scan holds the phone's camera in front of the screen once the question
// stands there, and returns the view that the code leads to.
func (s *screen) scan(question string) string {
	s.m.t.Helper()
	text := s.wait(strings.TrimSpace(question))
	if lines := strings.Count(text, "\n"); lines != 24 {
		s.m.t.Errorf("%d lines on the screen", lines)
	}
	s.m.page()
	return s.m.phone.Scan(s.m.phone.Photograph(text, browsertest.Screen{Size: 24, Light: s.light}))
}

// login approves with the phone what the screen asks for, and types the digits.
func (s *screen) login(want map[string]string) {
	s.m.t.Helper()
	s.m.state("details", s.scan(prompt))
	fields := s.m.phone.Fields()
	for name, value := range want {
		if fields[name] != value {
			s.m.t.Errorf("the phone shows %s %q, want %q", name, fields[name], value)
		}
	}
	s.m.state("digits", s.m.phone.Approve())
	s.enter(s.m.digits())
}

// config writes the user's own ssh_config, so that what is typed is short.
func (s *screen) config(port int, lines ...string) {
	s.m.t.Helper()
	a := s.m.Account(s.user)
	file := a.Home + "/.ssh/config"
	s.m.WriteFile(file, 0o644, fmt.Sprintf("Host db7\nHostName 127.0.0.1\nPort %d\nNumberOfPasswordPrompts 1\n%s\n", port, strings.Join(lines, "\n")))
}

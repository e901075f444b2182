// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Terminal is a person at a terminal on which one program runs. Its
// Timeout bounds each wait; it begins as the machine's.
type Terminal struct {
	Timeout time.Duration

	m       *Machine
	cmd     *Cmd
	pty     *os.File
	changed bell
	done    chan struct{} // closed once the program has ended and all was read

	mu    sync.Mutex
	clean newlines
	text  []byte
	read  int // how much of text has been expected
}

// Spawn runs a program as user on a new terminal.
func (m *Machine) Spawn(user, name string, args ...string) *Terminal {
	m.tb.Helper()
	return m.SpawnCmd(m.Command(user, name, args...))
}

// SpawnCmd runs a prepared command on a new terminal.
func (m *Machine) SpawnCmd(cmd *Cmd) *Terminal {
	m.tb.Helper()
	c := &Terminal{Timeout: m.Timeout, m: m, cmd: cmd, done: make(chan struct{})}
	m.inside(c.start)
	m.mu.Lock()
	m.terminals = append(m.terminals, c)
	m.mu.Unlock()
	ended := make(chan struct{})
	go c.show(ended)
	go c.reap(ended)
	return c
}

// start runs on the machine's thread: the terminal is one of the machine's.
func (c *Terminal) start() error {
	ptmx, tty, err := openPTY()
	if err != nil {
		return err
	}
	defer tty.Close()
	if err := c.startOn(tty); err != nil {
		ptmx.Close()
		return err
	}
	c.pty = ptmx
	return nil
}

// openPTY differs from what packages for it do in that ptmx is left
// non-blocking: it can be closed, and given deadlines, while it is read.
func openPTY() (ptmx, tty *os.File, err error) {
	ptmx, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	conn, err := ptmx.SyscallConn()
	if err == nil {
		err = errors.Join(conn.Control(func(fd uintptr) { tty, err = openTTY(int(fd)) }), err)
	}
	if err != nil {
		ptmx.Close()
		return nil, nil, err
	}
	return ptmx, tty, nil
}

// openTTY opens the other end of a pty.
func openTTY(ptmx int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(ptmx, unix.TIOCSPTLCK, 0); err != nil {
		return nil, fmt.Errorf("unlock the terminal: %w", err)
	}
	if err := unix.IoctlSetWinsize(ptmx, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 100}); err != nil {
		return nil, fmt.Errorf("size the terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(ptmx, unix.TIOCGPTN)
	if err != nil {
		return nil, fmt.Errorf("find the terminal: %w", err)
	}
	return os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
}

func (c *Terminal) startOn(tty *os.File) error {
	attr := c.cmd.SysProcAttr
	if err := tty.Chown(int(attr.Credential.Uid), -1); err != nil {
		return err
	}
	attr.Setsid, attr.Setctty = true, true
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	return c.cmd.Cmd.Start()
}

// show reads the terminal until nobody has it open any more.
func (c *Terminal) show(ended chan<- struct{}) {
	defer close(ended)
	buf := make([]byte, 4096)
	for {
		n, err := c.pty.Read(buf)
		c.append(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *Terminal) append(raw []byte) {
	c.mu.Lock()
	shown := c.clean.convert(raw)
	c.text = append(c.text, shown...)
	c.mu.Unlock()
	c.m.show(shown)
	c.changed.ring()
}

func (m *Machine) show(text []byte) {
	m.screen.Lock()
	defer m.screen.Unlock()
	if m.Screen != nil {
		m.Screen.Write(text)
	}
}

func (c *Terminal) reap(shown <-chan struct{}) {
	c.cmd.Wait()
	// A process in the background may keep the terminal open for ever.
	c.pty.SetReadDeadline(time.Now().Add(time.Second))
	<-shown
	c.pty.Close()
	close(c.done)
	c.changed.ring()
}

// Expect waits until text is shown, after what was expected before, and returns
// all from there up to the end of text. Lines end with "\n", as in a file. The
// test ends if the program does, or the Timeout, before text is shown.
func (c *Terminal) Expect(text string) string {
	c.m.tb.Helper()
	seen := c.expect(fmt.Sprintf("%q", text), func(rest []byte) []int {
		if i := bytes.Index(rest, []byte(text)); i >= 0 {
			return []int{i, i + len(text)}
		}
		return nil
	})
	return seen[0]
}

// ExpectMatch is Expect for a regular expression. It returns the match and what
// the parenthesized subexpressions matched.
func (c *Terminal) ExpectMatch(pattern string) []string {
	c.m.tb.Helper()
	re, err := regexp.Compile(pattern)
	if err != nil {
		c.m.tb.Fatalf("%v", err)
	}
	return c.expect("a match of "+pattern, re.FindSubmatchIndex)[1:]
}

// expect waits for a match. It returns what was shown up to the match's end, and
// then the match and its parts.
func (c *Terminal) expect(what string, find func(rest []byte) []int) []string {
	c.m.tb.Helper()
	var parts []string
	over := false
	c.changed.await(c.Timeout, func() bool {
		over = c.over() // before the look: what is shown last is looked at too
		parts = c.take(find)
		return parts != nil || over
	})
	switch {
	case parts != nil:
	case over:
		c.fail("ended with exit code %d and never showed %s", exitCode(c.cmd.ProcessState), what)
	default:
		c.fail("did not show %s in %v", what, c.Timeout)
	}
	return parts
}

// take looks for a match in what has not been expected yet.
func (c *Terminal) take(find func(rest []byte) []int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.text[c.read:]
	at := find(rest)
	if at == nil {
		return nil
	}
	parts := []string{string(rest[:at[1]])}
	for i := 0; i < len(at); i += 2 {
		part := ""
		if at[i] >= 0 { // else this part took no part in the match
			part = string(rest[at[i]:at[i+1]])
		}
		parts = append(parts, part)
	}
	c.read += at[1]
	return parts
}

func (c *Terminal) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Send types text; "\n" is the Enter key. For Ctrl-C see [Terminal.Interrupt].
func (c *Terminal) Send(text string) {
	c.m.tb.Helper()
	if _, err := io.WriteString(c.pty, text); err != nil {
		c.fail("cannot be typed at: %v", err)
	}
}

// Answer waits for the prompt, then types text and Enter.
func (c *Terminal) Answer(prompt, text string) {
	c.m.tb.Helper()
	c.Expect(prompt)
	c.Send(text + "\n")
}

// Interrupt presses Ctrl-C once the program waits for input. A program that has
// shown its prompt and does not wait yet may miss the key (sudo does), which no
// person is quick enough to see.
func (c *Terminal) Interrupt() {
	c.m.tb.Helper()
	if !c.m.poll(c.isReading) {
		c.fail("does not wait for input")
	}
	c.Send("\x03")
}

// isReading reports whether a process in the terminal's foreground sleeps in
// read(2).
func (c *Terminal) isReading() bool {
	group := 0
	conn, err := c.pty.SyscallConn()
	if err != nil {
		return false
	}
	conn.Control(func(fd uintptr) { group, _ = unix.IoctlGetInt(int(fd), unix.TIOCGPGRP) })
	read := fmt.Sprintf("%d ", unix.SYS_READ)
	for _, p := range c.m.Processes() {
		if pgid, err := unix.Getpgid(p.PID); err != nil || pgid != group {
			continue
		}
		call, _ := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", p.PID))
		if strings.HasPrefix(string(call), read) {
			return true
		}
	}
	return false
}

// Transcript returns what the person has seen so far. Hidden input is not in it.
func (c *Terminal) Transcript() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// Wait waits for the program's end and returns its exit code: that of a shell,
// 128 and the signal's number if one killed it.
func (c *Terminal) Wait() int {
	c.m.tb.Helper()
	if !c.changed.await(c.Timeout, c.over) {
		c.fail("did not end in %v", c.Timeout)
	}
	return exitCode(c.cmd.ProcessState)
}

// WantExit waits for the program's end and ends the test if its exit code is
// another than code.
func (c *Terminal) WantExit(code int) {
	c.m.tb.Helper()
	if got := c.Wait(); got != code {
		c.fail("ended with exit code %d, want %d", got, code)
	}
}

// PID returns the process id of the program.
func (c *Terminal) PID() int { return c.cmd.Process.Pid }

// HangUp closes the terminal, as closing its window does: the program and what
// else runs in its session get SIGHUP.
func (c *Terminal) HangUp() {
	c.pty.Close()
	c.changed.ring()
}

// Signal sends a signal to the program and to nothing that it started: an ssh
// client that is killed has vanished, one that is stopped has gone silent.
func (c *Terminal) Signal(sig os.Signal) {
	c.m.tb.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil {
		c.fail("cannot be sent %v: %v", sig, err)
	}
}

func (c *Terminal) fail(format string, args ...any) {
	c.m.tb.Helper()
	what := fmt.Sprintf(format, args...)
	c.m.fatalf("%s: %s\n--- the terminal shows\n%s\n", strings.Join(c.cmd.Args, " "), what, c.Transcript())
}

// newlines turns a terminal's line ends, "\r\n" or even "\r\r\n", into "\n", and
// drops a carriage return that moves nothing: ssh writes one before a prompt.
type newlines struct {
	held   int  // carriage returns whose follower is not known yet
	inLine bool // something stands on the line before them
}

func (n *newlines) convert(raw []byte) []byte {
	out := make([]byte, 0, len(raw)+n.held)
	for _, b := range raw {
		if b == '\r' {
			n.held++
			continue
		}
		if b != '\n' && n.inLine {
			out = append(out, bytes.Repeat([]byte{'\r'}, n.held)...)
		}
		n.held = 0
		n.inLine = b != '\n'
		out = append(out, b)
	}
	return out
}

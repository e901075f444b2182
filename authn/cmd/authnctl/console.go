// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/msteinert/pam/v2"
	"golang.org/x/sys/unix"
)

// A console is the person who tries: a terminal, or lines on standard input.
// While it is open, standard error is a pipe into which pam_authn logs.
type console struct {
	in       *bufio.Reader
	terminal bool

	mu    sync.Mutex
	saved *unix.Termios // while input is hidden

	stderr  *os.File // the real one
	flushed chan struct{}
	signals chan os.Signal
}

// newConsole also makes Ctrl-C leave the terminal as it was, after tidy.
func newConsole(tidy func()) *console {
	_, err := unix.IoctlGetTermios(0, unix.TCGETS)
	c := &console{in: bufio.NewReader(os.Stdin), terminal: err == nil, stderr: os.Stderr,
		flushed: make(chan struct{}), signals: make(chan os.Signal, 1)}
	signal.Notify(c.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-c.signals; ok {
			c.show()
			tidy()
			os.Exit(cancelled)
		}
	}()
	c.catchLog()
	return c
}

func (c *console) close() {
	signal.Stop(c.signals)
	close(c.signals)
	if c.stderr != os.Stderr {
		_ = unix.Dup3(int(c.stderr.Fd()), 2, 0)
	}
}

// name is the terminal's, as applications tell PAM.
func (c *console) name() string {
	if !c.terminal {
		return ""
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return ""
	}
	return name
}

// RespondPAM shows one message of PAM's, and returns the answer.
func (c *console) RespondPAM(style pam.Style, text string) (string, error) {
	c.flush() // what was logged before belongs above it
	switch style {
	case pam.PromptEchoOff:
		c.hide()
		defer c.show()
		return c.ask(text, true)
	case pam.PromptEchoOn:
		return c.ask(text, false)
	case pam.ErrorMsg, pam.TextInfo:
		fmt.Println(strings.TrimSuffix(text, "\n"))
		return "", nil
	}
	return "", fmt.Errorf("a message of style %d", style)
}

func (c *console) ask(text string, hidden bool) (string, error) {
	fmt.Print(text)
	line, err := c.in.ReadString('\n')
	if hidden || !c.terminal {
		fmt.Println() // the one that was typed is not seen
	}
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// hide turns off echo before the prompt is shown: who types at once is not
// seen either.
func (c *console) hide() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, err := unix.IoctlGetTermios(0, unix.TCGETS)
	if err != nil {
		return
	}
	saved := *t
	t.Lflag &^= unix.ECHO
	if unix.IoctlSetTermios(0, unix.TCSETS, t) == nil {
		c.saved = &saved
	}
}

func (c *console) show() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.saved != nil {
		_ = unix.IoctlSetTermios(0, unix.TCSETS, c.saved)
	}
	c.saved = nil
}

// mark ends what was logged so far. No line of a log has it.
const mark = "\x00flush\x00\n"

// catchLog puts a pipe in the place of standard error: the module logs there,
// and to nothing that is a file.
func (c *console) catchLog() {
	dup, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		_ = unix.Close(dup)
		return
	}
	c.stderr = os.NewFile(uintptr(dup), "stderr")
	_ = unix.Dup3(int(w.Fd()), 2, 0)
	_ = w.Close()
	go c.readLog(r)
}

// readLog shows what is logged.
func (c *console) readLog(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		text, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		text, marked := strings.CutSuffix(text, mark)
		if text != "" {
			_, _ = io.WriteString(c.stderr, "log: "+shorter(text)+"\n")
		}
		if marked {
			c.flushed <- struct{}{}
		}
	}
}

// shorter takes off a line what syslog needs: the program and its process.
func shorter(line string) string {
	line = strings.TrimSuffix(line, "\n")
	if head, rest, ok := strings.Cut(line, ": "); ok && strings.HasSuffix(head, "]") {
		return rest
	}
	return line
}

// flush waits until all that was logged is shown.
func (c *console) flush() {
	if c.stderr == os.Stderr {
		return
	}
	if _, err := os.Stderr.WriteString(mark); err == nil {
		<-c.flushed
	}
}

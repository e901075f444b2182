// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"syscall"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

// captured runs f with file descriptors 1 and 2 on a file, and returns what
// was written there. A crash meanwhile is still told on the real descriptor 2.
func captured(f func()) (string, error) {
	file, err := os.CreateTemp("", "authntest")
	if err != nil {
		return "", err
	}
	defer file.Close() //nolint:errcheck // read already
	if err := os.Remove(file.Name()); err != nil {
		return "", err
	}
	putBack, err := divert(file, 1, 2)
	if err != nil {
		return "", err
	}
	func() {
		defer putBack()
		f()
	}()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	text, err := io.ReadAll(file)
	return string(text), err
}

// divert makes fds the same as file's, until putBack.
func divert(file *os.File, fds ...int) (putBack func(), err error) {
	var undo []func()
	putBack = func() {
		for _, f := range undo {
			f()
		}
	}
	for _, fd := range fds {
		saved, err := dup(fd)
		if err != nil {
			putBack()
			return nil, err
		}
		undo = append(undo, func() {
			_ = syscall.Dup3(int(saved.Fd()), fd, 0)
			_ = saved.Close()
		})
		if err := syscall.Dup3(int(file.Fd()), fd, 0); err != nil {
			putBack()
			return nil, err
		}
		if fd == 2 {
			_ = debug.SetCrashOutput(saved, debug.CrashOptions{})
			undo = append(undo, func() { _ = debug.SetCrashOutput(nil, debug.CrashOptions{}) })
		}
	}
	return putBack, nil
}

func dup(fd int) (*os.File, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		return nil, errno
	}
	return os.NewFile(n, fmt.Sprintf("saved descriptor %d", fd)), nil
}

// opened is what is open at a time, by name.
type opened map[string]string

// openNow lists goroutines with their stacks, and file descriptors.
func openNow() opened {
	now := opened{}
	for id, stack := range goroutines() {
		now["goroutine "+id] = stack
	}
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(target, "/proc/") {
			now["file descriptor "+e.Name()+" "+target] = ""
		}
	}
	return now
}

var goroutineLine = regexp.MustCompile(`^goroutine (\d+) `)

func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	found := map[string]string{}
	for _, stack := range strings.Split(string(buf[:n]), "\n\n") {
		if m := goroutineLine.FindStringSubmatch(stack); m != nil {
			found[m[1]] = stack
		}
	}
	return found
}

// leftOpen says what is open now and was not before, once that is nothing or
// patience is at its end: a goroutine may need a moment to return.
func leftOpen(before opened, patience time.Duration) string {
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		left := newSince(before)
		if len(left) == 0 {
			return ""
		}
		select {
		case <-deadline:
			return strings.Join(left, "\n\n")
		case <-tick.C:
			runtime.GC() // descriptors of files that nobody holds any more
		}
	}
}

func newSince(before opened) []string {
	var left []string
	for what, stack := range openNow() {
		if _, was := before[what]; !was {
			left = append(left, strings.TrimSpace(what+"\n"+stack))
		}
	}
	sort.Strings(left)
	return left
}

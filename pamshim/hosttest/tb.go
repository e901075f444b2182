// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
)

// TB is the part of [testing.TB] that this package needs. Fatalf and Skipf must
// end the calling goroutine.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// ErrSkipped is what [Run] returns, wrapped, for a function that called Skipf.
var ErrSkipped = errors.New("skipped")

// Run calls fn with a TB for programs that are no test. It writes what fn logs
// to w, runs fn's cleanups, and returns fn's first Errorf, Fatalf or Skipf as
// an error.
func Run(w io.Writer, fn func(TB)) error {
	p := &program{log: w}
	done := make(chan struct{})
	go func() { // Fatalf ends this goroutine, not the caller's
		defer close(done)
		defer p.clean()
		fn(p)
	}()
	<-done
	return p.err
}

// program is the TB of [Run].
type program struct {
	log io.Writer

	mu       sync.Mutex
	err      error
	cleanups []func()
}

func (p *program) Helper() {}

func (p *program) Logf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(p.log, strings.TrimSuffix(text, "\n"))
}

func (p *program) Errorf(format string, args ...any) { p.fail(fmt.Errorf(format, args...)) }

func (p *program) Fatalf(format string, args ...any) {
	p.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

func (p *program) Skipf(format string, args ...any) {
	p.fail(fmt.Errorf("%w: %s", ErrSkipped, fmt.Sprintf(format, args...)))
	runtime.Goexit()
}

func (p *program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil
}

func (p *program) Cleanup(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, fn)
}

func (p *program) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// clean runs the cleanups, last one first; each may add more, and one that
// calls Fatalf does not keep the others from running.
func (p *program) clean() {
	p.mu.Lock()
	if len(p.cleanups) == 0 {
		p.mu.Unlock()
		return
	}
	last := len(p.cleanups) - 1
	fn := p.cleanups[last]
	p.cleanups = p.cleanups[:last]
	p.mu.Unlock()

	defer p.clean()
	fn()
}

// Require skips the test, and says why, unless it runs as root on a system that
// can make a [Machine] and has the named programs ("sshd" and "at" stand for
// their clients and servers, too). With CI=true in the
// environment it fails instead: there, a test that never runs is a fault.
func Require(tb TB, programs ...string) {
	tb.Helper()
	err := missing(programs)
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		tb.Fatalf("CI must be able to run this test: %v", err)
	default:
		tb.Skipf("%v", err)
	}
}

func missing(programs []string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	var errs []error
	needed := []string{"openssl"}
	for _, name := range programs {
		needed = append(append(needed, name), companions[name]...)
	}
	for _, name := range needed {
		if _, err := lookPath(name); err != nil {
			errs = append(errs, err)
		}
	}
	if err := probe(); err != nil {
		errs = append(errs, fmt.Errorf("cannot make a private machine: %w", err))
	}
	return errors.Join(errs...)
}

var companions = map[string][]string{"sshd": {"ssh", "ssh-keygen"}, "at": {"atd"}}

// probe makes a private view and throws it away. Its answer holds for as long
// as this process runs.
var probe = sync.OnceValue(func() error {
	t, err := startThread(func() error { return buildView(defaultHostname) })
	if err == nil {
		t.stop()
	}
	return err
})

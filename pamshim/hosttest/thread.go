// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"os"
	"os/signal"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A thread is one OS thread of this process, kept for functions that must run
// inside a machine's namespaces. What it starts is born there, so no helper
// program has to enter them; and as the thread lives until the machine is
// closed, Pdeathsig (which belongs to the thread that forked) means what one
// thinks it means.
type thread struct {
	calls chan func()
	quit  chan struct{}
	ended chan struct{}
}

// startThread starts a thread that has run setup. The thread may change itself
// as it likes: it ends when its work does and never serves another goroutine.
func startThread(setup func() error) (*thread, error) {
	defaultSignals()
	t := &thread{calls: make(chan func()), quit: make(chan struct{}), ended: make(chan struct{})}
	ready := make(chan error, 1)
	go t.run(setup, ready)
	if err := <-ready; err != nil {
		<-t.ended
		return nil, err
	}
	return t, nil
}

// defaultSignals lets Ctrl-C and a hang-up reach the programs of a machine where
// this process was told to ignore them, by nohup or a shell's "&": children
// would inherit that. This process goes on ignoring them.
var defaultSignals = sync.OnceFunc(func() {
	for _, sig := range []os.Signal{unix.SIGINT, unix.SIGHUP} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
})

func (t *thread) run(setup func() error, ready chan<- error) {
	runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
	if unix.Gettid() == os.Getpid() {
		// The main thread cannot end, and /proc shows its namespaces as the
		// whole process's. Hold it until another thread has been found.
		found := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(found)
			t.serve(setup, ready)
		}()
		<-found
		runtime.UnlockOSThread()
		return
	}
	t.serve(setup, ready)
}

func (t *thread) serve(setup func() error, ready chan<- error) {
	defer close(t.ended)
	err := setup()
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case fn := <-t.calls:
			fn()
		case <-t.quit:
			return
		}
	}
}

// do runs fn on the thread and reports whether it ran to its end.
func (t *thread) do(fn func()) bool {
	done := make(chan struct{})
	select {
	case t.calls <- func() { fn(); close(done) }:
	case <-t.ended:
		return false
	}
	select {
	case <-done:
		return true
	case <-t.ended: // fn called runtime.Goexit
		return false
	}
}

func (t *thread) stop() {
	close(t.quit)
	<-t.ended
}

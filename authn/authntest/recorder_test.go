// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// A recorder stands for a testing.T whose failures are notes.
type recorder struct {
	testing.TB // for everything that is no failure
	notes      *notes
	check      string
}

type notes struct {
	mu     sync.Mutex
	failed map[string][]string // by check
}

func record(t testing.TB) *recorder {
	return &recorder{TB: t, notes: &notes{failed: map[string][]string{}}}
}

func (r *recorder) note(text string) {
	r.notes.mu.Lock()
	defer r.notes.mu.Unlock()
	r.notes.failed[r.check] = append(r.notes.failed[r.check], text)
}

func (r *recorder) Errorf(format string, args ...any) { r.note(fmt.Sprintf(format, args...)) }
func (r *recorder) Error(args ...any)                 { r.note(fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

// run makes Fatal end f alone.
func (r *recorder) run(name string, f func(testing.TB)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(&recorder{TB: r.TB, notes: r.notes, check: name})
	}()
	<-done
}

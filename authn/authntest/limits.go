// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn/internal/limit"
)

// Limits is a store for [authn.Request.Allow] in memory, with a clock that
// stands still unless it is advanced. The zero value is empty and ready.
type Limits struct {
	mu   sync.Mutex
	now  time.Duration // since the store began
	uses map[string][]time.Duration
	err  error
}

// Context returns a context whose calls of Allow are counted in l.
func (l *Limits) Context(ctx context.Context) context.Context { return limit.With(ctx, l.count) }

// Advance lets d pass on the clock.
func (l *Limits) Advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now += d
}

// Fail has every Allow from now on return err, as a store does that cannot be
// used. Fail(nil) mends it.
func (l *Limits) Fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

// Uses returns how many uses of key were ever allowed.
func (l *Limits) Uses(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.uses[key])
}

// Keys returns how many keys have been counted.
func (l *Limits) Keys() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.uses)
}

func (l *Limits) count(_ context.Context, key string, n int, window time.Duration) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return false, l.err
	}
	recent := 0
	for _, at := range l.uses[key] {
		if at > l.now-window {
			recent++
		}
	}
	if recent >= n {
		return false, nil
	}
	if l.uses == nil {
		l.uses = map[string][]time.Duration{}
	}
	l.uses[key] = append(l.uses[key], l.now)
	return true, nil
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Why a call is ended before the provider is done.
var (
	errTimeout = errors.New("the line's timeout has passed")
	errGaveUp  = errors.New("the user could not be asked or gave up")
)

// clock ends a context when the line's machine time is used up. It stands
// still while the host's conversation is open.
type clock struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	timer  *time.Timer
	left   time.Duration
	since  time.Time
}

func newClock(ctx context.Context, timeout time.Duration) (context.Context, *clock) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &clock{cancel: cancel, left: timeout, since: time.Now()}
	c.timer = time.AfterFunc(timeout, func() { cancel(errTimeout) })
	return ctx, c
}

// stop stops the clock.
func (c *clock) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	c.left -= time.Since(c.since)
}

// start starts it again.
func (c *clock) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since = time.Now()
	c.timer.Reset(max(c.left, 0))
}

// pace makes what a user can see happen at times that tell nothing: a stretch
// reaches from a user's answer to the next prompt or result.
type pace struct {
	mu    sync.Mutex
	step  time.Duration // 0: no padding
	begin time.Time     // of the stretch
	limit time.Duration // a person decides elsewhere, until begin + limit

	asking bool          // a prompt is open, with which this stretch ends
	next   time.Duration // limit of the stretch that its answer begins
}

// ask says that a prompt is open from now until restart.
func (p *pace) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking = true
}

func (p *pace) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begin, p.limit = time.Now(), p.next
	p.asking, p.next = false, 0
}

func (p *pace) setStep(step time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step = step
}

func (p *pace) stepping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.step > 0
}

// wait declares the stretch, or with a prompt open the next one, to be one in
// which a person decides elsewhere.
func (p *pace) wait(limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking {
		p.next = max(limit, p.next)
	} else {
		p.limit = max(limit, p.limit)
	}
}

// waiting reports whether a person decides elsewhere.
func (p *pace) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit > 0
}

// nextStep is the time from now to the next multiple of the step.
func (p *pace) nextStep(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.toStep(now.Sub(p.begin))
}

func (p *pace) toStep(spent time.Duration) time.Duration {
	if p.step == 0 {
		return 0
	}
	return (p.step - spent%p.step) % p.step
}

// due says how long to hold back what would be shown at time now. Success of a
// waiting stretch is shown at once, anything else of it exactly at its limit.
// Otherwise, and where the limit has passed, all is shown at the next
// multiple of the step, right or wrong.
func (p *pace) due(now time.Time, success bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	spent := now.Sub(p.begin)
	if spent < p.limit {
		if success {
			return 0
		}
		return p.limit - spent
	}
	return p.toStep(spent)
}

// hold waits until what is to be shown may be.
func (p *pace) hold(ctx context.Context, success bool) error {
	d := p.due(time.Now(), success)
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

// after is the time at which ctx ends, since began.
func after(ctx context.Context, began time.Time) time.Duration {
	<-ctx.Done()
	return time.Since(began)
}

func TestTheClockCountsMachineTimeOnly(t *testing.T) {
	tests := []struct {
		name string
		use  func(c *clock)
		want time.Duration // after which the call of 10 s ends
	}{
		{"a_call_that_asks_nothing_ends_with_its_time", func(*clock) {}, 10 * s},
		{"a_conversation_costs_nothing", func(c *clock) {
			time.Sleep(2 * s)
			c.stop()
			time.Sleep(time.Hour)
			c.start()
		}, time.Hour + 10*s},
		{"neither_do_two", func(c *clock) {
			for range 2 {
				time.Sleep(4 * s)
				c.stop()
				time.Sleep(100 * s)
				c.start()
			}
		}, 210 * s},
		{"at_the_last_moment_it_can_stop", func(c *clock) {
			time.Sleep(10*s - 1)
			c.stop()
			time.Sleep(100 * s)
			c.start()
		}, 110 * s},
		{"what_is_over_stays_over", func(c *clock) {
			time.Sleep(11 * s)
			c.stop()
			time.Sleep(100 * s)
			c.start()
		}, 10 * s},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, c := newClock(t.Context(), 10*s)
				ended := make(chan time.Duration, 1)
				go func() { ended <- after(ctx, began) }()
				tt.use(c)
				if got := <-ended; got != tt.want {
					t.Errorf("it ended after %v, want %v", got, tt.want)
				}
				if cause := context.Cause(ctx); !errors.Is(cause, errTimeout) {
					t.Errorf("it ended with %v", cause)
				}
			})
		})
	}
}

func TestDue(t *testing.T) {
	tests := []struct {
		name        string
		step, limit time.Duration
		spent       time.Duration
		success     time.Duration // how long success is held back
		refusal     time.Duration
	}{
		{"without_a_step_nothing_is_held_back", 0, 0, 700 * ms, 0, 0},
		{"with_a_step_all_is_held_back_alike", 1500 * ms, 0, 700 * ms, 800 * ms, 800 * ms},
		{"at_the_beginning_nothing_is", 1500 * ms, 0, 0, 0, 0},
		{"just_after_it_a_whole_step", 1500 * ms, 0, 1, 1500*ms - 1, 1500*ms - 1},
		{"on_a_multiple_nothing_is", 1500 * ms, 0, 3 * s, 0, 0},
		{"behind_it_up_to_the_next", 1500 * ms, 0, 3*s + 1, 1500*ms - 1, 1500*ms - 1},
		{"a_slow_stretch_goes_on_in_steps", 1500 * ms, 0, 100 * s, 500 * ms, 500 * ms},

		{"while_a_person_decides_success_is_shown_at_once", 0, 45 * s, 10 * s, 0, 35 * s},
		{"also_with_a_step", 1500 * ms, 45 * s, 10 * s, 0, 35 * s},
		{"a_refusal_at_the_limit_only", 1500 * ms, 44 * s, 1, 0, 44*s - 1},
		{"at_the_limit_there_is_no_difference", 1500 * ms, 44 * s, 44 * s, s, s},
		{"nor_behind_it", 1500 * ms, 44 * s, 44*s + 1, s - 1, s - 1},
		{"nor_behind_it_without_a_step", 0, 44 * s, 44*s + 1, 0, 0},
		{"no_limit_is_none", 1500 * ms, 0, 1400 * ms, 100 * ms, 100 * ms},
		{"a_negative_limit_is_none", 1500 * ms, -5 * s, 1400 * ms, 100 * ms, 100 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Now()
			p := &pace{begin: begin}
			p.setStep(tt.step)
			p.wait(tt.limit)
			for success, want := range map[bool]time.Duration{true: tt.success, false: tt.refusal} {
				if got := p.due(begin.Add(tt.spent), success); got != want {
					t.Errorf("due(success %v) = %v, want %v", success, got, want)
				}
			}
		})
	}
}

func TestTheLongestLimitCounts(t *testing.T) {
	begin := time.Now()
	p := &pace{begin: begin}
	for _, limit := range []time.Duration{5 * s, 30 * s, 10 * s} {
		p.wait(limit)
	}
	if got := p.due(begin, false); got != 30*s {
		t.Errorf("due = %v", got)
	}
	p.restart()
	if p.waiting() {
		t.Error("it outlives the stretch")
	}
}

func TestALimitDeclaredDuringAPromptIsThatOfItsAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{begin: time.Now()}
		p.wait(5 * s)
		p.ask()
		p.wait(30 * s)
		p.wait(20 * s)
		time.Sleep(time.Hour)
		p.restart()
		time.Sleep(10 * s)
		if got := p.due(time.Now(), false); got != 20*s {
			t.Errorf("due = %v, want 20s", got)
		}
		p.ask()
		p.restart()
		if p.waiting() {
			t.Error("it outlives the stretch")
		}
	})
}

func TestHold(t *testing.T) {
	tests := []struct {
		name    string
		step    time.Duration
		spent   time.Duration
		timeout time.Duration
		want    time.Duration // since the beginning
		err     error
	}{
		{"it_lasts_until_the_step", 2 * s, 500 * ms, 10 * s, 2 * s, nil},
		{"it_does_not_last_without_one", 0, 500 * ms, 10 * s, 500 * ms, nil},
		{"it_ends_with_the_time_of_the_line", 30 * s, 500 * ms, 10 * s, 10 * s, errTimeout},
		{"it_says_that_the_time_is_over", 0, 11 * s, 10 * s, 11 * s, errTimeout},
		{"it_does_not_last_when_the_time_is_over", 30 * s, 11 * s, 10 * s, 11 * s, errTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ctx, _ := newClock(t.Context(), tt.timeout)
				p := &pace{begin: began}
				p.setStep(tt.step)
				time.Sleep(tt.spent)
				err := p.hold(ctx, false)
				if got := time.Since(began); got != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("it lasted until %v, %v; want %v, %v", got, err, tt.want, tt.err)
				}
			})
		})
	}
}

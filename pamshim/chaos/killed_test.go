// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// Somebody kills or stops the worker or the provider, at every step of a call.
func TestWhoeverIsKilledTheCallIsRefused(t *testing.T) {
	m := newMachine(t)
	rows := &table{}
	t.Cleanup(func() { rows.print(t) })
	steps := []struct{ name, mode, mark string }{
		{"before_the_handshake", "waits_to_be_ended", "start"},
		{"before_describe_is_answered", "describe_waits", "describe"},
		{"in_the_call", "waits_in_call", "call"},
		{"in_a_prompt", "waits_in_an_open_prompt", "prompt"},
		{"after_a_prompt", "waits_after_reply", "answer"},
	}
	ways := []struct {
		name   string
		do     func(worker, provider int)
		reason string
		within time.Duration
	}{
		{"worker_killed", func(w, _ int) { _ = syscall.Kill(w, syscall.SIGKILL) }, "^the worker ended without an answer$", timeout},
		{"worker_stopped", func(w, _ int) { _ = syscall.Kill(w, syscall.SIGSTOP) }, "^the worker did not answer in time$", 0},
		{"worker_and_provider_stopped", func(w, p int) {
			_ = syscall.Kill(p, syscall.SIGSTOP)
			_ = syscall.Kill(w, syscall.SIGSTOP)
		}, "^the worker did not answer in time$", 0},
		{"provider_killed", func(_, p int) { _ = syscall.Kill(p, syscall.SIGKILL) }, "died|exited", timeout},
		{"provider_stopped", func(_, p int) { _ = syscall.Kill(p, syscall.SIGSTOP) }, "the line's timeout has passed", 0},
	}
	for _, s := range steps {
		for _, w := range ways {
			name := w.name + "_" + s.name
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				taken := make(chan struct{})
				step := &step{at: s.mark, do: func(worker, provider int) {
					w.do(worker, provider)
					close(taken)
				}}
				f := fact{mode: s.mode, reason: w.reason, within: w.within, step: step}
				if s.mark == "prompt" {
					f.who = func(string) (string, error) {
						select {
						case <-taken:
							return "a password", nil
						case <-time.After(10 * time.Second):
							return "", fmt.Errorf("nobody was killed")
						}
					}
				}
				o, reason := f.prove(t, m)
				if !step.ran.Load() {
					t.Error("the step was never reached")
				}
				rows.add(name, o, reason)
			})
		}
	}
}

// The waiter is the last who could end the rest.
func TestAWaiterThatIsKilledTakesTheOthersAlong(t *testing.T) {
	m := newMachine(t)
	p := m.newPlace(t, "waits_in_call", "", "timeout=5s")
	s := &step{at: "call", do: func(worker, _ int) {
		var waiter int
		_, _ = fmt.Sscan(field(fmt.Sprintf("/proc/%d/status", worker), "PPid", 0), &waiter)
		_ = syscall.Kill(waiter, syscall.SIGKILL)
	}}
	o := p.run(t, &person{}, authn.CallAuthenticate, s, func() {})
	if o.result != authn.ErrSystem || o.took > 2*time.Second {
		t.Errorf("%s after %s", o.result.Error(), o.took)
	}
	for deadline := time.Now().Add(5 * time.Second); len(p.processes()) > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %s", p.processes())
		}
	}
}

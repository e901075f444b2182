// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// late is what a loaded machine may add to a time. Lower bounds are exact.
const late = 15 * time.Second

// A stopwatch measures stretches as a user sees them: from an answer to the
// next prompt or result.
type stopwatch struct {
	t     testing.TB
	since time.Time
}

func (w *stopwatch) start() { w.since = time.Now() }

// want fails unless the stretch was between from and late more.
func (w *stopwatch) want(what string, from time.Duration) {
	w.t.Helper()
	d := time.Since(w.since)
	if d < from || d > from+late {
		w.t.Errorf("%s after %v, want %v", what, d, from)
	}
}

// wantBefore fails if the stretch was not shorter than limit.
func (w *stopwatch) wantBefore(what string, limit time.Duration) {
	w.t.Helper()
	if d := time.Since(w.since); d >= limit {
		w.t.Errorf("%s after %v, want it before %v", what, d, limit)
	}
}

func TestStepPadsWhateverHappens(t *testing.T) {
	t.Parallel()
	const step = 400 * time.Millisecond
	for name, c := range map[string]struct {
		config string
		result string
		steps  int // of the stretch from the answer to the result
	}{
		"the_right_answer":     {"authenticate: [{secret: 'P: ', expect: right}]", "success", 1},
		"a_wrong_answer":       {"authenticate: [{secret: 'P: ', expect: wrong}]", "auth_err", 1},
		"an_error":             {"authenticate: [{secret: 'P: '}, {result: system_err}]", "system_err", 1},
		"a_panic":              {"authenticate: [{secret: 'P: '}, {panic: x}]", "system_err", 1},
		"a_crash":              {"authenticate: [{secret: 'P: '}, {exit: 1}]", "system_err", 1},
		"an_outage":            {"authenticate: [{secret: 'P: '}, {result: authinfo_unavail}]", "authinfo_unavail", 1},
		"a_slow_success":       {"authenticate: [{secret: 'P: '}, {sleep: 401ms}]", "success", 2},
		"a_slow_refusal":       {"authenticate: [{secret: 'P: '}, {sleep: 401ms}, {result: auth_err}]", "auth_err", 2},
		"a_stretch_in_between": {"authenticate: [{secret: 'P: '}, {secret: 'Q: '}]", "success", 1},
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, "alice", "auth required $AUTHN\n", "authn: {timing: {step: 400ms}}\n"+c.config+"\n")
			w := stopwatch{t: t}
			for range strings.Count(c.config, "secret:") {
				a.answerWith(func() (string, error) {
					w.want("a prompt", step)
					w.start()
					return "right", nil
				})
			}
			w.start()
			a.want(c.result, a.tx.Authenticate(0))
			w.want("the result", time.Duration(c.steps)*step)
		})
	}
}

func TestStepPadsWhereNobodyIsAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, result string }{
		"the_framework's_key":   {"authn: {timing: {step: 400ms}}\nauthenticate: [{result: auth_err}]\n", "auth_err"},
		"the_provider's_key":    {"step: 400ms\nauthenticate: [{result: auth_err}]\n", "auth_err"},
		"a_provider_that_fails": {"authn: {timing: {step: 400ms}}\nnosuchkey: 1\n", "system_err"},
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, "alice", "auth required $AUTHN\n", c.config)
			w := stopwatch{t: t}
			w.start()
			a.want(c.result, a.tx.Authenticate(0))
			w.want("the result", 400*time.Millisecond)
		})
	}
}

// A step that does not fit into the timeout must not lock everybody out.
func TestStepEndsAtTheTimeout(t *testing.T) {
	t.Parallel()
	for result, config := range map[string]string{
		"success": "authenticate: []", "auth_err": "authenticate: [{result: auth_err}]",
	} {
		t.Run(result, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, "alice", "auth required $AUTHN timeout=3s\n", "authn: {timing: {step: 1m}}\n"+config+"\n")
			w := stopwatch{t: t}
			w.start()
			a.want(result, a.tx.Authenticate(0))
			w.want("the result", 3*time.Second)
		})
	}
}

// The time of a text tells as much as that of a prompt.
func TestStepHoldsTextsBack(t *testing.T) {
	pamtest.Root(t)
	t.Parallel()
	a := newApp(t, "alice", "auth required $AUTHN\n", `
authn: {timing: {step: 500ms}}
authenticate:
  - info: first
  - error: second
  - secret: "P: "
  - info: third
  - result: auth_err
`)
	w := stopwatch{t: t}
	var order []string
	a.heard = func(what string) {
		w.want(what, 500*time.Millisecond)
		order = append(order, what)
	}
	a.answerWith(func() (string, error) {
		a.heard("P: ")
		w.start()
		return "", nil
	})
	w.start()
	a.want("auth_err", a.tx.Authenticate(0))
	w.want("the result", 500*time.Millisecond)
	if got := strings.Join(order, " "); got != "first second P:  third" {
		t.Errorf("the user saw %q", got)
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for name, c := range map[string]struct {
		config string
		result string
		from   time.Duration // 0: long before the limit
		word   string
	}{
		"a_refusal_comes_at_the_limit":             {"authenticate: [{waiting: 1s}, {result: auth_err}]", "auth_err", limit, ""},
		"an_error_comes_at_the_limit":              {"authenticate: [{waiting: 1s}, {sleep: 500ms}, {exit: 1}]", "system_err", limit, ""},
		"a_crash_after_the_limit_comes_at_once":    {"authenticate: [{waiting: 1s}, {sleep: 1100ms}, {exit: 1}]", "system_err", 1100 * time.Millisecond, ""},
		"a_refusal_with_a_step_too":                {"step: 300ms\nauthenticate: [{waiting: 1s}, {result: auth_err}]", "auth_err", limit, ""},
		"what_is_late_comes_at_the_next_step":      {"step: 700ms\nauthenticate: [{waiting: 1s}, {sleep: 1100ms}, {result: auth_err}]", "auth_err", 1400 * time.Millisecond, ""},
		"a_late_success_comes_at_the_next_step":    {"step: 700ms\nauthenticate: [{waiting: 1s}, {sleep: 1100ms}]", "success", 1400 * time.Millisecond, ""},
		"the_longer_of_two_limits_counts":          {"authenticate: [{waiting: 1s}, {waiting: 10ms}, {result: auth_err}]", "auth_err", limit, ""},
		"success_comes_at_once":                    {"authenticate: [{waiting: 30s}]", "success", 0, ""},
		"success_comes_at_once_even_with_a_step":   {"step: 20s\nauthenticate: [{waiting: 30s}]", "success", 0, ""},
		"a_limit_is_over_with_the_user's_answer":   {"authenticate: [{waiting: 1s}, {secret: 'P: '}, {result: auth_err}]", "auth_err", 0, ""},
		"a_limit_does_not_outlast_the_timeout":     {"authenticate: [{waiting: 60s}, {result: auth_err}]", "auth_err", 4 * time.Second, "timeout=4s"},
		"a_crash_does_not_outlast_the_timeout":     {"authenticate: [{waiting: 60s}, {sleep: 500ms}, {exit: 1}]", "system_err", 4 * time.Second, "timeout=4s"},
		"success_needs_no_limit_but_the_timeout's": {"authenticate: [{waiting: 60s}, {sleep: 60s}]", "system_err", 4 * time.Second, "timeout=4s"},
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, "alice", "auth required $AUTHN "+c.word+"\n", c.config+"\n")
			w := stopwatch{t: t}
			if strings.Contains(c.config, "secret:") {
				a.answerWith(func() (string, error) {
					w.want("the prompt", limit)
					w.start()
					return "", nil
				})
			}
			w.start()
			a.want(c.result, a.tx.Authenticate(0))
			if c.from == 0 {
				w.wantBefore("the result", late)
			} else {
				w.want("the result", c.from)
			}
		})
	}
}

// More is held back than fits into one exchange.
func TestStepHoldsManyTextsBack(t *testing.T) {
	pamtest.Root(t)
	t.Parallel()
	long := strings.Repeat("x", authn.MaxPrompt)
	config := fmt.Sprintf("  - info: &long %q\n", long) + strings.Repeat("  - info: *long\n", 9)
	want := slices.Repeat([]string{fmt.Sprintf("info %q", long)}, 10)
	for i := range 40 {
		config += fmt.Sprintf("  - info: '%d'\n", i)
		want = append(want, fmt.Sprintf("info \"%d\"", i))
	}
	a := newApp(t, "alice", "auth required $AUTHN\n",
		"authn: {timing: {step: 200ms}}\nauthenticate:\n"+config+"  - secret: 'P: '\n")
	a.answer("")
	a.want("success", a.tx.Authenticate(0))
	want = append(want, `secret "P: ", typed ""`)
	if got := a.saw(); !slices.Equal(got, want) {
		t.Errorf("the user saw %d texts, want %d", len(got), len(want))
	}
}

// What the user must know while a person decides elsewhere does not wait for
// that.
func TestWaitingShowsWhatWasSaid(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]string{
		"before_it_until_the_result": "{info: look at your phone}, {waiting: 20s}, {result: auth_err}",
		"before_it_until_a_prompt":   "{info: look at your phone}, {waiting: 20s}, {secret: 'P: '}",
		"before_it_said_again":       "{waiting: 20s}, {info: look at your phone}, {waiting: 20s}, {result: auth_err}",
		"in_it":                      "{waiting: 20s}, {info: look at your phone}, {sleep: 20s}",
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, "alice", "auth required $AUTHN\n", `
authn: {timing: {step: 300ms}}
authenticate: [`+steps+`]
`)
			w := stopwatch{t: t}
			a.heard = func(what string) {
				a.heard = nil
				w.want(what, 300*time.Millisecond)
				w.wantBefore(what, 19*time.Second)
				a.kill(a.worker()) // has shown what it is tested for
			}
			w.start()
			a.want("system_err", a.tx.Authenticate(0))
			if a.heard != nil {
				t.Error("nothing was shown")
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	t.Run("refuses", func(t *testing.T) {
		pamtest.Root(t)
		t.Parallel()
		a := newApp(t, "alice", "auth required $AUTHN timeout=1s\n", "authenticate: [{sleep: 60s}]\n")
		w := stopwatch{t: t}
		w.start()
		a.want("system_err", a.tx.Authenticate(0))
		w.want("the refusal", time.Second)
		a.wantOneSentence()
		if log := a.lastLog(); !strings.Contains(log, `reason="the line's timeout has passed (1s)"`) {
			t.Errorf("the log says %s", log)
		}
	})
	t.Run("counts_no_human_time", func(t *testing.T) {
		pamtest.Root(t)
		t.Parallel()
		a := newApp(t, "alice", "auth required $AUTHN timeout=3s\n", "authenticate: [{secret: 'P: '}, {info: thanks}]\n")
		a.answerWith(func() (string, error) {
			time.Sleep(5500 * time.Millisecond) // longer than the worker's time and the module's
			return "", nil
		})
		a.want("success", a.tx.Authenticate(0))
	})
	t.Run("goes_on_after_an_answer", func(t *testing.T) {
		pamtest.Root(t)
		t.Parallel()
		a := newApp(t, "alice", "auth required $AUTHN timeout=3s\n", "authenticate: [{secret: 'P: '}, {sleep: 60s}]\n")
		w := stopwatch{t: t}
		a.answerWith(func() (string, error) { w.start(); return "", nil })
		a.want("system_err", a.tx.Authenticate(0))
		w.wantBefore("the refusal", late)
		a.wantOneSentence()
	})
	t.Run("holds_for_a_stopped_provider", func(t *testing.T) {
		pamtest.Root(t)
		t.Parallel()
		a := newApp(t, "alice", "auth required $AUTHN timeout=1s\n", fmt.Sprintf("authenticate: [{signal: %d}, {sleep: 60s}]\n", syscall.SIGSTOP))
		w := stopwatch{t: t}
		w.start()
		a.want("system_err", a.tx.Authenticate(0))
		w.want("the refusal", time.Second)
		a.wantOneSentence()
	})
	t.Run("holds_for_a_stopped_worker", func(t *testing.T) {
		pamtest.Root(t)
		t.Parallel()
		a := newApp(t, "alice", "auth required $AUTHN timeout=3s\n", "authenticate: [{secret: 'P: '}]\n")
		w := stopwatch{t: t}
		var worker, provider int
		a.answerWith(func() (string, error) {
			worker = a.worker()
			provider = a.child(worker)
			if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
				t.Error(err)
			}
			w.start()
			return "", nil
		})
		a.want("system_err", a.tx.Authenticate(0))
		w.want("the refusal", 2*time.Second) // of what is left of three seconds and two more
		a.wantOneSentence()
		if log := a.lastLog(); !strings.Contains(log, `reason="the worker did not answer in time"`) {
			t.Errorf("the log says %s", log)
		}
		for _, pid := range []int{worker, provider} {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
				t.Errorf("process %d is left", pid)
			}
		}
	})
}

// wantOneSentence fails unless the last thing that the user saw, and the only
// one but prompts, is that it is not their fault.
func (a *app) wantOneSentence() {
	a.t.Helper()
	var said []string
	for _, line := range a.shown {
		if !strings.HasPrefix(line, "secret ") && !strings.HasPrefix(line, "prompt ") {
			said = append(said, line)
		}
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], `error "This login is not possible at the moment (reference `) {
		a.t.Errorf("the user saw %q", a.shown)
	}
}

// worker is the pid of the worker of the call that this thread is in: the
// waiter's child. Only a conversation can ask.
func (a *app) worker() int {
	a.t.Helper()
	waiters := children("/proc/thread-self/children")
	if len(waiters) != 1 {
		a.t.Errorf("%d children of this thread, want the waiter", len(waiters))
		return -1
	}
	return a.child(waiters[0])
}

// child is the one child of pid.
func (a *app) child(pid int) int {
	a.t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var all []int
	for _, task := range tasks {
		all = append(all, children(task)...)
	}
	if len(all) != 1 {
		a.t.Errorf("process %d has %d children, want 1", pid, len(all))
		return -1
	}
	return all[0]
}

func children(path string) []int {
	data, _ := os.ReadFile(path)
	var all []int
	for _, f := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(f); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func (a *app) kill(pid int) {
	a.t.Helper()
	if pid <= 1 {
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		a.t.Error(err)
	}
}

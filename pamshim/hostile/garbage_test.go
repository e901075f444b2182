// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

var compiledWorker = sync.OnceValues(func() (string, error) {
	return compile("fakeworker", "testdata/fakeworker.c", "../frame/frame.c")
})

// A garbage is a worker that does not speak as it should; its name says how.
type garbage struct {
	name   string
	code   int
	reason string // in the log
}

const (
	noAnswer = "the worker ended without an answer"
	inTime   = "the worker did not answer in time"
	bad      = "garbage from the worker"
	notOurs  = "the worker's result is not one of this call"
)

// These end at once.
var quickGarbage = []garbage{
	{"well_behaved", success, ""},
	{"success_then_lingers", success, ""},
	{"success_byte_by_byte", success, ""},
	{"success_with_a_thousand_children", success, ""},
	{"success_with_a_descriptor", success, ""},
	{"exits", systemErr, noAnswer},
	{"aborts", systemErr, noAnswer},
	{"missing", systemErr, "cannot open it"},
	{"length_zero", systemErr, bad},
	{"length_64k_and_1", systemErr, bad},
	{"length_4g", systemErr, bad},
	{"length_64k_of_garbage", systemErr, bad},
	{"half_a_header_then_exits", systemErr, noAnswer},
	{"half_a_frame_then_exits", systemErr, noAnswer},
	{"type_unknown", systemErr, bad},
	{"type_zero", systemErr, bad},
	{"type_start", systemErr, bad},
	{"type_reply", systemErr, bad},
	{"type_alone", systemErr, bad},
	{"result_as_conv", systemErr, bad},
	{"conv_of_nothing", systemErr, bad},
	{"conv_of_33", systemErr, bad},
	{"conv_of_4g", systemErr, bad},
	{"conv_with_fewer_than_said", systemErr, bad},
	{"conv_with_more_than_said", systemErr, bad},
	{"conv_of_unknown_style", systemErr, bad},
	{"conv_with_a_nul", systemErr, bad},
	{"field_past_the_end", systemErr, bad},
	{"field_without_its_nul", systemErr, bad},
	{"field_of_4g", systemErr, bad},
	{"asks_and_exits", systemErr, noAnswer},
	{"result_new_authtok_reqd", systemErr, notOurs},
	{"result_session_err", systemErr, notOurs},
	{"result_module_unknown", systemErr, notOurs},
	{"result_incomplete", systemErr, notOurs},
	{"result_32", systemErr, notOurs},
	{"result_minus_1", systemErr, notOurs},
	{"success_without_a_subject", systemErr, "success without a subject"},
	{"subject_with_a_nul", systemErr, bad},
	{"variable_ld_preload", systemErr, bad},
	{"variable_without_a_value", systemErr, bad},
	{"variable_empty", systemErr, bad},
	{"variables_41", systemErr, bad},
	{"result_with_a_tail", systemErr, bad},
	{"code_of_three_bytes", systemErr, bad},
	{"conv_for_ever", systemErr, "the worker asks without end"},
}

// These are ended by the module's deadline.
var slowGarbage = []garbage{
	{"stops", systemErr, inTime},
	{"is_silent", systemErr, inTime},
	{"never_reads", systemErr, inTime},
	{"half_a_frame_then_silence", systemErr, inTime},
	{"slow_drip", systemErr, inTime},
	{"conv_flood", systemErr, ""},
}

// newGarbageMachine makes a machine that has these workers, each with a
// service of its name.
func newGarbageMachine(t *testing.T, timeout string, all ...garbage) *hosttest.Machine {
	t.Helper()
	m := newMachine(t)
	for _, g := range all {
		worker := "/opt/fake/" + g.name
		if g.name != "missing" {
			m.Install(must(t, compiledWorker), worker, 0o755)
		}
		var stack strings.Builder
		for _, group := range []string{"auth", "account", "session", "password"} {
			fmt.Fprintf(&stack, "%s required %s worker=%s provider=x timeout=%s", group, tree.Module(), worker, timeout)
			if group == "auth" {
				stack.WriteString(" setcred")
			}
			stack.WriteString("\n")
		}
		m.WriteFile(confdir+"/"+g.name, 0o644, stack.String())
	}
	return m
}

// check runs a host with the garbage.
func (g garbage) check(t *testing.T, m *hosttest.Machine, s spec) {
	t.Helper()
	s.service, s.repeat = g.name, soak()
	before := len(m.Log())
	for _, r := range start(t, m, s).play(nil) {
		if r.code != g.code {
			t.Errorf("%s returned %d instead of %d", r.call, r.code, g.code)
		}
		if r.ms > 10000 {
			t.Errorf("%s took %d ms", r.call, r.ms)
		}
		r.unchanged(t)
	}
	if log := m.Log()[before:]; g.reason != "" {
		for _, e := range log {
			if strings.Contains(e.Text, "result=system_err") && strings.Contains(e.Text, g.reason) {
				return
			}
		}
		t.Errorf("the log does not say %q: %v", g.reason, log)
	}
}

func TestGarbageFromTheWorkerIsRefused(t *testing.T) {
	t.Parallel()
	m := newGarbageMachine(t, "20s", quickGarbage...)
	for _, g := range quickGarbage {
		t.Run(g.name, func(t *testing.T) { g.check(t, m, spec{calls: "a"}) })
	}
	t.Run("in_every_call", func(t *testing.T) {
		for _, name := range []string{"exits", "type_unknown", "result_module_unknown"} {
			garbage{name, systemErr, ""}.check(t, m, spec{})
		}
	})
}

func TestTheDeadlineEndsACall(t *testing.T) {
	for _, g := range slowGarbage {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			g.check(t, newGarbageMachine(t, "100ms", g), spec{calls: "a"})
		})
	}
}

func TestHostDoesNotGrow(t *testing.T) {
	for _, g := range []garbage{{"well_behaved", success, ""}, {"exits", systemErr, ""}, {"type_unknown", systemErr, ""}} {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			m := newGarbageMachine(t, "20s", g)
			h := start(t, m, spec{service: g.name, calls: "a", repeat: 100 * soak()})
			for _, r := range h.play(nil) {
				if r.code != g.code {
					t.Errorf("returned %d", r.code)
				}
			}
			early, late := h.memory[10], h.memory[len(h.memory)-1]
			if late > early+64 {
				t.Errorf("the host had %d kB after ten calls and has %d after %d", early, late, len(h.memory))
			}
		})
	}
}

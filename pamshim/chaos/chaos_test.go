// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
)

// Reasons that are given again and again.
const (
	unready    = `^the provider did not get ready: the line's timeout has passed \(3s\)$`
	late       = `^the line's timeout has passed \(3s\)$`
	gone       = `^the provider did not start: it exited at once, without go-plugin's handshake line`
	noProvider = `^the provider did not start: it is not a provider: it did not begin with go-plugin's handshake line$`
	unheard    = `^Describe: the connection broke`
	died       = `^the provider died \((signal: killed|exit status \d)\): `
	garbled    = `: garbage on the wire$`
	violation  = `^the provider broke the protocol: `
)

// refused are the ways to misbehave that PAM hears system_err of.
var refused = []fact{
	// Before the handshake.
	{mode: "never_handshakes", reason: unready},
	{mode: "exits_with_0", reason: gone},
	{mode: "exits_with_1", reason: gone},
	{mode: "exits_with_2", reason: gone},
	{mode: "kills_itself", reason: gone},
	{mode: "stops_itself", reason: unready},
	{mode: "greets", reason: noProvider},
	{mode: "greets_with_bytes", reason: gone},
	{mode: "half_a_line", reason: unready},
	{mode: "a_line_of_separators", reason: noProvider},
	{mode: "endless_lines", reason: noProvider},
	{mode: "endless_line", reason: gone},
	{mode: "endless_stderr", reason: unready},
	{mode: "closes_stdout", reason: gone},
	{mode: "closes_all", reason: gone},
	{mode: "leaves_a_child_and_dies", reason: unready}, // the child holds the pipes
	{mode: "leaves_a_daemon_and_dies", reason: unready},
	{mode: "leaves_a_child_to_answer", reason: "."},

	// In the handshake.
	{mode: "another_core", reason: noProvider},
	{mode: "another_version", reason: "it speaks another version of the protocol than 1"},
	{mode: "net_rpc", reason: "it does not speak gRPC$"},
	{mode: "no_protocol", reason: "it does not speak gRPC$"},
	{mode: "a_certificate", reason: noProvider},
	{mode: "no_certificate", reason: noProvider},
	{mode: "another_network", reason: noProvider},
	{mode: "tcp", reason: violation + "it listens on tcp "},
	{mode: "elsewhere", arg: "/dev/log", reason: elsewhere},
	{mode: "elsewhere", arg: "/run/authn/x/../socket", reason: elsewhere},
	{mode: "elsewhere", arg: "@chaos", reason: elsewhere},
	{mode: "elsewhere", arg: "socket", reason: elsewhere},
	{mode: "elsewhere", arg: "", reason: elsewhere},

	// At its socket.
	{mode: "exits_after_handshake", reason: died + "(Describe|the provider's socket): the connection broke"},
	{mode: "stops_after_handshake", reason: unready},
	{mode: "no_socket", reason: unheard},
	{mode: "a_file", reason: unheard},
	{mode: "a_fifo", reason: unheard},
	{mode: "its_folder", reason: unheard},
	{mode: "datagrams", reason: unheard},
	{mode: "a_child_listens", reason: violation + `the socket belongs to process \d+ of uid \d+, not to the provider$`},
	{mode: "never_accepts", reason: unready},
	{mode: "never_answers", reason: unready},
	{mode: "hangs_up", reason: unheard},
	{mode: "talks_garbage", reason: unheard},
	{mode: "talks_http1", reason: unheard},
	{mode: "talks_endlessly", reason: unheard},
	{mode: "says_goodbye", reason: "."},
	{mode: "answers_before_asked", reason: "."},
	{mode: "floods_settings", reason: unready},
	{mode: "floods_pings", reason: unready},
	{mode: "floods_headers", reason: unheard},
	{mode: "floods_the_broker", reason: late},
	{mode: "floods_the_stdio", reason: late},

	// In Describe.
	{mode: "describe_hangs", reason: unready},
	{mode: "describe_stops", reason: unready},
	{mode: "describe_dies", reason: died + "Describe"},
	{mode: "describe_fails", reason: "^Describe: an error of the provider's own$"},
	{mode: "describe_is_huge", reason: "^Describe: a message of more than 262144 bytes$"},

	// In the call.
	{mode: "hangs", reason: late},
	{mode: "hangs_at_once", reason: late},
	{mode: "hangs", kind: authn.CallAccount, reason: late},
	{mode: "hangs", kind: authn.CallOpenSession, reason: late},
	{mode: "hangs", kind: authn.CallCloseSession, reason: late},
	{mode: "hangs", kind: authn.CallPassword, reason: late},
	{mode: "hangs", kind: authn.CallSetCred, words: []string{"setcred"}, reason: late},
	{mode: "waits_in_prompt", reason: late},
	{mode: "stops_in_call", reason: late},
	{mode: "stops_in_prompt", reason: late},
	{mode: "dies_in_call", reason: died},
	{mode: "dies_in_call", kind: authn.CallAccount, reason: died},
	{mode: "dies_in_call", kind: authn.CallOpenSession, reason: died},
	{mode: "dies_in_call", kind: authn.CallCloseSession, reason: died},
	{mode: "dies_in_call", kind: authn.CallPassword, reason: died},
	{mode: "dies_in_call", kind: authn.CallSetCred, words: []string{"setcred"}, reason: died},
	{mode: "dies_at_its_end", reason: died},
	{mode: "dies_after_unavailable", reason: died},
	{mode: "stays_at_its_end", reason: late},
	{mode: "burns", reason: late},
	{mode: "is_late", reason: late},
	{mode: "ends_without_result", reason: "^the provider ended the call without a result$"},
	{mode: "ends_with_an_error", reason: "without a result: an error of the provider's own$"},
	{mode: "ends_unavailable", reason: "without a result: the connection broke"},
	{mode: "errs_after_success", reason: "^after the result: an error of the provider's own$"},
	{mode: "errs_after_unavailable", reason: "^after the result: an error of the provider's own$"},
	{mode: "unavailable_after_it", reason: "^after the result: the connection broke"},
	{mode: "two_results", reason: violation + "a message after the result$"},
	{mode: "success_then_refusal", reason: violation + "a message after the result$"},
	{mode: "talks_after_success", reason: violation + "a message after the result$"},
	{mode: "logs_after_success", reason: violation + "a message after the result$"},
	{mode: "success_before_started", reason: violation + "success before Started$"},
	{mode: "prompt_before_started", reason: violation + "Prompt before Started$"},
	{mode: "waiting_before_started", reason: violation + "Waiting before Started$"},
	{mode: "allow_before_started", reason: violation + "Allow before Started$"},
	{mode: "started_twice", reason: violation + "Started twice$"},
	{mode: "a_huge_step", reason: "a time step of more than a minute$"},
	{mode: "says_nothing_at_all", reason: violation + "an unknown message$"},
	{mode: "says_what_nobody_knows", reason: violation + "an unknown message$"},
	{mode: "says_no_protobuf", reason: garbled},
	{mode: "a_gigabyte", reason: ": a message of more than 262144 bytes$"},
	{mode: "a_message_too_large", reason: ": a message of more than 262144 bytes$"},
	{mode: "a_compressed_bomb", reason: garbled},
	{mode: "leaves_a_child_and_hangs", reason: late},
	{mode: "leaves_pipes_to_a_child", reason: "without a result: the connection broke"},
	{mode: "leaves_depth_in_a_call", reason: late},

	// What it says.
	{mode: "a_prompt_too_large", reason: violation + "a prompt of 9216 bytes$"},
	{mode: "nul_in_a_prompt", reason: violation + "a NUL in a prompt$"},
	{mode: "broken_prompt", reason: garbled},
	{mode: "broken_subject", reason: garbled},
	{mode: "broken_env", reason: garbled},
	{mode: "broken_reason", reason: garbled},
	{mode: "broken_log", reason: garbled},
	{mode: "an_unknown_style", reason: violation + "a prompt of unknown style$"},
	{mode: "a_negative_style", reason: violation + "a prompt of unknown style$"},
	{mode: "two_prompts_at_once", reason: violation + "a second prompt while one is open$"},
	{mode: "infos_without_waiting", reason: violation + "a second prompt while one is open$"},
	{mode: "many_prompts", reason: violation + "more than 64 prompts$"},
	{mode: "many_infos", reason: violation + "more than 64 prompts$"},
	{mode: "waits_absurdly_then_asks", reason: late},
	{mode: "floods_waiting", reason: violation + "more than 64 times Waiting$"},
	{mode: "floods_waiting_with_a_text", config: "  timing: {step: 1s}\n", reason: violation + "more than 64 times Waiting$"},
	{mode: "floods_log", reason: late, check: wantLogLines(64)},
	{mode: "floods_log_with_much", reason: late, check: wantLogLines(64)},
	{mode: "floods_allow", reason: violation + "more than 64 questions of Allow$"},
	{mode: "nine_allows_at_once", reason: violation + "more than "},
	{mode: "an_allow_without_key", reason: violation + "an Allow out of bounds$"},
	{mode: "an_allow_for_a_long_key", reason: violation + "an Allow out of bounds$"},
	{mode: "an_allow_of_too_many", reason: violation + "an Allow out of bounds$"},
	{mode: "an_allow_for_ever", reason: violation + "an Allow out of bounds$"},
	{mode: "ignores_the_answer", who: leaves, gaveUp: true, reason: violation + "success after the user could not be asked$"},

	// Its result.
	{mode: "no_code", reason: violation + "a result without a code$"},
	{mode: "the_code", arg: "-1", reason: "which this call cannot have"},
	{mode: "the_code", arg: "12", reason: "^new_authtok_reqd, which this call cannot have"},
	{mode: "the_code", arg: "14", reason: "^session_err, which this call cannot have"},
	{mode: "the_code", arg: "31", reason: "which this call cannot have"},
	{mode: "the_code", arg: "256", reason: "which this call cannot have"},
	{mode: "the_code", arg: "-2147483648", reason: "which this call cannot have"},
	{mode: "the_code", arg: "9", kind: authn.CallOpenSession, reason: "^authinfo_unavail, which this call cannot have"},
	{mode: "the_code", arg: "9", kind: authn.CallPassword, reason: "^authinfo_unavail, which this call cannot have"},
	{mode: "no_subject", reason: "without saying who$"},
	{mode: "a_long_subject", reason: "^the subject is not printable text"},
	{mode: "a_subject_of_lines", reason: "^the subject is not printable text"},
	{mode: "nul_in_the_subject", reason: "^the subject is not printable text"},
	{mode: "a_large_ticket", reason: "^the ticket has more than 4096 bytes$"},
	{mode: "env_of_the_framework", reason: "AUTHN_SUBJECT is the framework's$"},
	{mode: "env_of_the_loader", reason: `"LD_PRELOAD" is not AUTHN_`},
	{mode: "env_with_an_equals", reason: `is not AUTHN_`},
	{mode: "env_without_a_name", reason: `"" is not AUTHN_`},
	{mode: "a_long_env", reason: "^the value of AUTHN_X is not printable"},
	{mode: "nul_in_env", reason: "^the value of AUTHN_X is not printable"},
	{mode: "many_envs", reason: "^more than 32 environment variables$"},

	// What authors do, with package plugin.
	{mode: "panics", reason: `^panic \(string\) in main\.`},
	{mode: "panics_with_nil_map", reason: `^panic \(runtime\.\w+\) in main\.`},
	{mode: "panics_in_a_goroutine", reason: died},
	{mode: "fatal_error", reason: died},
	{mode: "overflows_its_stack", reason: died + "|" + late},
	{mode: "ends_its_goroutine", reason: late},
	{mode: "exits_in_the_call", reason: died},
	{mode: "forgets_the_deadline", reason: late},
	{mode: "forgets_an_error", who: leaves, gaveUp: true, reason: "success after the user could not be asked"},
	{mode: "says_a_bare_error", reason: "^something$"},
	{mode: "a_new_that_panics", reason: `^panic \(string\) in main\.`},
	{mode: "a_new_that_hangs", reason: late},
	{mode: "allocates_much", reason: died},
	{mode: "writes_much", reason: "file too large$"},
	{mode: "opens_many", reason: "^opened 2[0-9]{2}: too many open files$"},
	{mode: "prints_in_a_call", reason: "^printed$"},
	{mode: "floods_its_stdout", reason: late},
	{mode: "floods_its_stderr", reason: late, words: []string{"debug"}, check: wantLogLines(0)},
	{mode: "prints_a_secret", reason: died, words: []string{"debug"}, check: wantNoPassword},
}

const elsewhere = violation + `it listens on unix ".*", not on a unix socket in its own folder$`

// heard are those whose own result stands, however odd they are.
var heard = []fact{
	{mode: "behaves", want: success},
	{mode: "describe_lies", want: success},
	{mode: "describe_many_keys", want: success},
	{mode: "a_main_that_chatters", want: success},
	{mode: "the_largest_ticket", want: success},
	{mode: "success_beside_a_prompt", want: success}, // once the user has answered
	{mode: "waits_absurdly_then_succeeds", want: success},
	{mode: "logs_much_then_succeeds", want: success, check: wantLogLines(64)},

	{mode: "refuses", want: authn.ErrAuth, reason: "^as always$"},
	{mode: "the_code", arg: "9", want: authn.ErrAuthInfoUnavail, reason: "^because$"},
	{mode: "waits_absurdly_then_refuses", want: authn.ErrAuth, reason: "^no$"},
	{mode: "burns_when_done", want: authn.ErrAuth, reason: "^done$"},
	{mode: "the_largest_prompt", want: authn.ErrAuth, reason: "^read$"},
	{mode: "large_infos", want: authn.ErrAuth, reason: "^read$"},
	{mode: "large_infos", config: "  timing: {step: 100ms}\n", want: authn.ErrAuth, reason: "^read$"},
	{mode: "control_in_a_prompt", want: authn.ErrAuth, reason: "^shown$", check: wantCalmPrompt},
	{mode: "logs_much_then_refuses", want: authn.ErrAuth, reason: "^logged$", check: wantLogLines(64)},
	{mode: "logs_controls", want: authn.ErrAuth, reason: `^a\?\[2Jb; result=success "c"\?$`},
	{mode: "a_long_reason", want: authn.ErrAuth, reason: `^x{500}x{400}x*(\.\.\.)?$`},

	{mode: "leaves_a_child", want: authn.ErrAuth},
	{mode: "leaves_a_daemon", want: authn.ErrAuth},
	{mode: "leaves_a_stopped_child", want: authn.ErrAuth},
	{mode: "leaves_a_writer", want: authn.ErrAuth},
	{mode: "leaves_a_namespace", want: authn.ErrAuth},
	{mode: "leaves_a_subreaper", want: authn.ErrAuth},
	{mode: "leaves_a_sibling", want: authn.ErrAuth},

	{mode: "leaves_a_mess", want: authn.ErrAuth},
	{mode: "leaves_depth", want: authn.ErrAuth},
	{mode: "leaves_long_paths", want: authn.ErrAuth},
	{mode: "leaves_many_files", want: authn.ErrAuth},
	{mode: "leaves_links", arg: kept, want: authn.ErrAuth, check: wantKept},
	{mode: "removes_its_folder", want: authn.ErrAuth},
	{mode: "locks_its_folder", want: authn.ErrAuth},
}

// forkers take processes away from whatever else runs.
var forkers = []fact{
	{mode: "leaves_many", want: authn.ErrAuth},
	{mode: "leaves_a_fork_chain", want: authn.ErrAuth},
	{mode: "leaves_fork_chains", want: authn.ErrAuth},
	{mode: "leaves_fork_sessions", want: authn.ErrAuth},
	{mode: "forks_in_a_call", reason: "^the worker ended without an answer$|" + late},
}

func TestAProviderIsRefusedThat(t *testing.T) { proveAll(t, refused) }

func TestAProviderIsHeardThat(t *testing.T) {
	newMachine(t)
	write(t, kept+"/file", 0o600, "kept")
	proveAll(t, heard)
}

func TestAProviderIsEndedThat(t *testing.T) {
	m := newMachine(t)
	rows := &table{}
	for range repeats() {
		for _, f := range forkers {
			t.Run(f.name(), func(t *testing.T) {
				o, reason := f.prove(t, m)
				rows.add(f.name(), o, reason)
			})
		}
	}
	rows.print(t)
}

func proveAll(t *testing.T, facts []fact) {
	m := newMachine(t)
	rows := &table{}
	t.Cleanup(func() { rows.print(t) })
	for round := range repeats() {
		for _, f := range facts {
			name := f.name()
			if round > 0 {
				name = fmt.Sprintf("%s/round_%d", name, round)
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				o, reason := f.prove(t, m)
				if o.peak > maxPeak {
					t.Errorf("the worker needed %d MB", o.peak>>10)
				}
				rows.add(name, o, reason)
			})
		}
	}
}

// maxPeak is how much memory, in kB, a worker may have, whatever it is sent.
const maxPeak = 128 << 10

// leaves is a person who gives up.
func leaves(string) (string, error) { return "", fmt.Errorf("the terminal is gone") }

// wantLogLines wants n lines of the provider's own in the log.
func wantLogLines(n int) func(*testing.T, outcome, *person) {
	return func(t *testing.T, o outcome, _ *person) {
		t.Helper()
		got := 0
		for _, line := range o.lines {
			if strings.Contains(line, " log=") {
				got++
			}
			if len(line) > 4096 {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
		if got != n {
			t.Errorf("%d of the provider's lines are in the log, want %d", got, n)
		}
	}
}

func wantNoPassword(t *testing.T, o outcome, _ *person) {
	t.Helper()
	all := strings.Join(o.lines, "\n")
	if !strings.Contains(all, "the password is") || strings.Contains(all, "a password") {
		t.Errorf("the log:\n%s", all)
	}
}

func wantCalmPrompt(t *testing.T, _ outcome, who *person) {
	t.Helper()
	if got := who.saw(pam.PromptEchoOff); len(got) != 1 || got[0] != "?[2J?Pass?word?: " {
		t.Errorf("the user sees %q", got)
	}
}

// kept is a folder that a provider's links point to.
const kept = "/var/lib/kept"

func wantKept(t *testing.T, _ outcome, _ *person) {
	t.Helper()
	for _, path := range []string{kept + "/file", "/etc/passwd", "/etc/authn"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
)

// A Suite says what [Conformance] must know of a provider. Config and Succeeds
// are needed; every other field makes more of the provider tested.
type Suite struct {
	// Config is a configuration with which everything below works: the
	// provider's part of its file, as YAML or JSON. It should set every key
	// that holds a secret.
	Config string

	// Request is what the application tells PAM. User defaults to
	// "mittens", an account whose owner gets in; Service to "sshd".
	Request authn.Request

	// Succeeds are the ways to get in.
	Succeeds []Case

	// Refuses are ways not to get in, besides wrong answers to the hidden
	// questions of Succeeds, which are tried anyway.
	Refuses []Case

	// BadConfigs are configurations that New refuses.
	BadConfigs []BadConfig

	// UnknownUser is an account that the provider knows nothing of.
	// Defaults to "nobody-of-this-name".
	UnknownUser string

	// Setup, if set, is called before every call or group of simultaneous
	// calls: it puts an emulator back to its beginning.
	Setup func(t testing.TB)

	// CloseIdle, if set, closes connections that are kept for later, before
	// what was left open is looked for. New makes a provider for each call,
	// so this is about emulators and http.DefaultTransport.
	CloseIdle func()

	// Mask, if set, takes out of a transcript what differs from call to
	// call: a QR code, a number, a time.
	Mask func(transcript string) string

	// Patience is how long something that should happen at once may take on
	// a busy machine. Defaults to 10 s.
	Patience time.Duration
}

// A Case is one call of Authenticate and how it must end.
type Case struct {
	Name  string // a fact: "wrong_code_is_refused"
	Steps []Step // what the user sees and does

	// Subject is who is expected in a Case of Succeeds; empty: anybody.
	Subject string

	// Result is what is expected in a Case of Refuses. Defaults to
	// [authn.ErrAuth].
	Result authn.Result

	// Change, if set, changes a copy of the suite's Request for this call.
	Change func(req *authn.Request)
}

// A BadConfig is a configuration that must be refused, with an error that
// names Key as the file would: "oidc[0].issuer".
type BadConfig struct {
	Config string
	Key    string
}

// Conformance tests what every provider must do, each point first with the
// provider called directly and then again over the real wire:
//
//   - right answers open, and say who;
//   - wrong answers do not: those of s.Refuses, and changed ones of s.Succeeds;
//   - a call that is cancelled while a question is open returns at once;
//   - a user who leaves at a question is conv_err;
//   - what is typed hidden, and what the configuration holds in an
//     [authn.Secret], is in no error, log line, text for the user or identity;
//   - nothing is written to standard output or standard error;
//   - no goroutine and no file descriptor outlives its call;
//   - an unknown user is asked the same as a known one, and refused the same;
//   - simultaneous calls do not mix (run the tests with -race);
//   - an error about the configuration names the key, and repeats no secret;
//   - the capabilities announced are those that the provider has.
//
// It needs no root and no network. It looks at the whole process, so the test
// that calls it must not be parallel to others.
func Conformance[C any, P authn.Authenticator](t *testing.T, newProvider func(C, *slog.Logger) (P, error), s Suite) {
	t.Helper()
	conform(testRunner{t}, inprocess.Of(newProvider), s)
}

// A runner is the part of testing.T that the suite needs. Its own tests have
// another one, which takes notes.
type runner interface {
	testing.TB
	run(name string, f func(t testing.TB))
}

type testRunner struct{ *testing.T }

func (r testRunner) run(name string, f func(testing.TB)) {
	r.Run(name, func(t *testing.T) { f(t) })
}

// checks are the points of Conformance.
var checks = []struct {
	name  string
	check func(testing.TB, *bench)
}{
	{"right_answers_open", rightAnswersOpen},
	{"wrong_answers_do_not_open", wrongAnswersDoNotOpen},
	{"a_cancelled_call_returns_at_once", cancelledCallReturns},
	{"a_user_who_left_is_conv_err", userWhoLeftIsConvErr},
	{"secrets_stay_hidden", secretsStayHidden},
	{"nothing_is_printed", nothingIsPrinted},
	{"nothing_is_left_open", nothingIsLeftOpen},
	{"unknown_users_are_asked_the_same", unknownUsersAreAskedTheSame},
	{"simultaneous_calls_do_not_mix", simultaneousCallsDoNotMix},
	{"config_errors_name_the_key", configErrorsNameTheKey},
	{"capabilities_are_those_announced", capabilitiesAreThoseAnnounced},
}

func conform(t runner, p inprocess.Provider, s Suite) {
	t.Helper()
	s.fillIn(t)
	for _, make := range []func(inprocess.Provider, *Suite) (*bench, error){directly, overTheWire} {
		b, err := make(p, &s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.stop)
		for _, c := range checks {
			t.run(b.name+"/"+c.name, func(t testing.TB) { c.check(t, b) })
		}
	}
}

func (s *Suite) fillIn(t testing.TB) {
	t.Helper()
	if len(s.Succeeds) == 0 {
		t.Fatal("authntest: Suite.Succeeds is empty; what never opens proves nothing by staying shut")
	}
	defaults := []struct {
		field *string
		value string
	}{{&s.Request.User, "mittens"}, {&s.Request.Service, "sshd"}, {&s.UnknownUser, "nobody-of-this-name"}}
	for _, d := range defaults {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if s.Request.Timeout == 0 {
		s.Request.Timeout = 90 * time.Second
	}
	if s.Patience == 0 {
		s.Patience = 10 * time.Second
	}
	if s.Mask == nil {
		s.Mask = func(transcript string) string { return transcript }
	}
}

// request is a copy that the provider may spoil.
func (s *Suite) request(c Case) *authn.Request {
	req := s.Request
	req.Args = append([]string(nil), req.Args...)
	if c.Change != nil {
		c.Change(&req)
	}
	return &req
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
)

// results are all that a provider may return, with Linux-PAM's numbers and the
// calls that they are possible in.
var results = []struct {
	result authn.Result
	number int
	word   string
	calls  []authn.Call
}{
	{authn.Success, 0, "success", anyCall},
	{authn.ErrService, 3, "service_err", anyCall},
	{authn.ErrSystem, 4, "system_err", anyCall},
	{authn.ErrPermDenied, 6, "perm_denied", anyCall},
	{authn.ErrAuth, 7, "auth_err", calls(authn.CallAuthenticate, authn.CallAccount)},
	{authn.ErrCredInsufficient, 8, "cred_insufficient", calls(authn.CallAuthenticate)},
	{authn.ErrAuthInfoUnavail, 9, "authinfo_unavail", calls(authn.CallAuthenticate, authn.CallAccount)},
	{authn.ErrUserUnknown, 10, "user_unknown", anyCall},
	{authn.ErrMaxTries, 11, "maxtries", calls(authn.CallAuthenticate)},
	{authn.ErrNewAuthtokRequired, 12, "new_authtok_reqd", calls(authn.CallAccount)},
	{authn.ErrAcctExpired, 13, "acct_expired", calls(authn.CallAuthenticate, authn.CallAccount)},
	{authn.ErrSession, 14, "session_err", calls(authn.CallOpenSession, authn.CallCloseSession)},
	{authn.ErrCredUnavail, 15, "cred_unavail", calls(authn.CallSetCred)},
	{authn.ErrCredExpired, 16, "cred_expired", calls(authn.CallSetCred)},
	{authn.ErrCred, 17, "cred_err", calls(authn.CallSetCred)},
	{authn.ErrConv, 19, "conv_err", anyCall},
	{authn.ErrAuthtok, 20, "authtok_err", calls(authn.CallPassword)},
	{authn.ErrAuthtokRecovery, 21, "authtok_recover_err", calls(authn.CallPassword)},
	{authn.ErrAuthtokLockBusy, 22, "authtok_lock_busy", calls(authn.CallPassword)},
	{authn.ErrAuthtokDisableAging, 23, "authtok_disable_aging", calls(authn.CallPassword)},
	{authn.ErrTryAgain, 24, "try_again", calls(authn.CallPassword)},
	{authn.ErrIgnore, 25, "ignore", anyCall},
	{authn.ErrAbort, 26, "abort", anyCall},
}

var anyCall = calls(authn.CallAuthenticate, authn.CallSetCred, authn.CallAccount,
	authn.CallOpenSession, authn.CallCloseSession, authn.CallPassword)

func calls(list ...authn.Call) []authn.Call { return list }

func TestResultsAreThoseOfLinuxPAM(t *testing.T) {
	for _, r := range results {
		if int(r.result) != r.number || r.result.Error() != r.word {
			t.Errorf("%s is number %d with word %s, want %d", r.word, int(r.result), r.result.Error(), r.number)
		}
		if got, ok := authn.ParseResult(r.word); got != r.result || !ok {
			t.Errorf("ParseResult(%s) = %v, %v", r.word, got, ok)
		}
	}
	if got, ok := authn.ParseResult("open sesame"); got != authn.ErrSystem || ok {
		t.Errorf("ParseResult of no word = %v, %v, want system_err, false", got, ok)
	}
	for _, r := range []authn.Result{-1, 32, 1 << 20} {
		if got, want := r.Error(), fmt.Sprintf("Result(%d)", int(r)); got != want {
			t.Errorf("Error() = %s, want %s", got, want)
		}
	}
}

func TestAllowed(t *testing.T) {
	known := map[authn.Result][]authn.Call{}
	for _, r := range results {
		known[r.result] = r.calls
	}
	for r := authn.Result(-1); r < 40; r++ {
		for call := authn.Call(-1); call < 102; call++ {
			if got, want := r.Allowed(call), slices.Contains(known[r], call); got != want {
				t.Errorf("%s.Allowed(%s) = %v, want %v", r.Error(), call, got, want)
			}
		}
	}
}

// A foreign error may say that it is anything.
type liar struct{}

func (liar) Error() string        { return "liar" }
func (liar) Is(target error) bool { return true }
func (liar) As(target any) bool {
	if r, ok := target.(*authn.Result); ok {
		*r = authn.ErrIgnore
	}
	return true
}

type nilUnwrapper struct{}

func (nilUnwrapper) Error() string { return "nothing inside" }
func (nilUnwrapper) Unwrap() error { return nil }

type nilsUnwrapper struct{}

func (nilsUnwrapper) Error() string   { return "nothing inside" }
func (nilsUnwrapper) Unwrap() []error { return []error{nil, authn.ErrAuth} }

func TestResultOf(t *testing.T) {
	bare := errors.New("bare")
	tests := []struct {
		name string
		err  error
		want authn.Result
	}{
		{"nil_is_success", nil, authn.Success},
		{"a_result_is_itself", authn.ErrAuth, authn.ErrAuth},
		{"a_wrapped_result_is_found", fmt.Errorf("no: %w", fmt.Errorf("no: %w", authn.ErrAuth)), authn.ErrAuth},
		{"a_result_beside_another_error_is_found", fmt.Errorf("%w: %w", bare, authn.ErrAuth), authn.ErrAuth},
		{"a_joined_result_is_found", errors.Join(bare, authn.ErrAuth), authn.ErrAuth},
		{"the_same_result_twice_is_that_result", errors.Join(authn.ErrAuth, fmt.Errorf("no: %w", authn.ErrAuth)), authn.ErrAuth},
		{"nil_among_joined_errors_is_passed_over", nilsUnwrapper{}, authn.ErrAuth},
		{"no_result_is_system_err", bare, authn.ErrSystem},
		{"nothing_inside_is_system_err", nilUnwrapper{}, authn.ErrSystem},
		{"two_results_are_system_err", errors.Join(authn.ErrAuth, authn.ErrIgnore), authn.ErrSystem},
		{"two_results_in_one_format_are_system_err", fmt.Errorf("%w: %w", authn.ErrAuthInfoUnavail, authn.ErrAuth), authn.ErrSystem},
		{"two_results_at_different_depths_are_system_err", fmt.Errorf("%w: %w", authn.ErrIgnore, fmt.Errorf("x: %w", authn.ErrAuth)), authn.ErrSystem},
		{"success_as_an_error_is_system_err", authn.Success, authn.ErrSystem},
		{"a_wrapped_success_is_system_err", fmt.Errorf("fine: %w", authn.Success), authn.ErrSystem},
		{"success_joined_with_a_refusal_is_system_err", errors.Join(authn.Success, authn.ErrAuth), authn.ErrSystem},
		{"a_negative_number_is_system_err", authn.Result(-1), authn.ErrSystem},
		{"a_number_that_pam_lacks_is_system_err", authn.Result(32), authn.ErrSystem},
		{"what_claims_to_be_a_result_is_system_err", liar{}, authn.ErrSystem},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := authn.ResultOf(tt.err); got != tt.want {
				t.Errorf("ResultOf(%v) = %s, want %s", tt.err, got.Error(), tt.want.Error())
			}
		})
	}
}

func TestNames(t *testing.T) {
	for call, want := range map[authn.Call]string{
		authn.CallAuthenticate: "auth", authn.CallSetCred: "setcred", authn.CallAccount: "account",
		authn.CallOpenSession: "open_session", authn.CallCloseSession: "close_session",
		authn.CallPassword: "chauthtok", 0: "Call(0)", 7: "Call(7)",
	} {
		if got := call.String(); got != want {
			t.Errorf("Call(%d) is %q, want %q", int(call), got, want)
		}
		if call.Valid() != slices.Contains(anyCall, call) {
			t.Errorf("Call(%d).Valid() = %v", int(call), call.Valid())
		}
	}
	for op, want := range map[authn.CredentialOp]string{
		authn.Establish: "establish", authn.Delete: "delete",
		authn.Reinitialize: "reinitialize", authn.Refresh: "refresh", 5: "CredentialOp(5)",
	} {
		if got := op.String(); got != want {
			t.Errorf("CredentialOp(%d) is %q, want %q", int(op), got, want)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn

import "fmt"

// A Result is what PAM hears. As an error it says why not: wrap one with %w,
// and test for one with [errors.Is]. The numbers are Linux-PAM's, and Error
// returns the word that pam.conf(5) uses for it.
type Result int

// The results that a provider may return. Others are Linux-PAM's own business
// and count as [ErrSystem], as does a result in a call that cannot have it:
// see [Result.Allowed].
const (
	// Success is never wrapped in an error: return nil.
	Success Result = 0

	// ErrService: the provider could not do its work for a reason of its own.
	ErrService Result = 3

	// ErrSystem: something broke. It is what every accident becomes.
	ErrSystem Result = 4

	// ErrPermDenied: the person is known and may not do this.
	ErrPermDenied Result = 6

	// ErrAuth: not proven. The usual refusal.
	ErrAuth Result = 7

	// ErrCredInsufficient: the provider may not look at what it needs.
	ErrCredInsufficient Result = 8

	// ErrAuthInfoUnavail: nobody who could decide was reached. Administrators
	// map it to a fallback, so whoever can cause it can choose the fallback:
	// return it only through [Unreachable].
	ErrAuthInfoUnavail Result = 9

	// ErrUserUnknown: no such user. It tells strangers who exists; prefer
	// [ErrAuth].
	ErrUserUnknown Result = 10

	// ErrMaxTries: asked too often; the application should not ask again.
	ErrMaxTries Result = 11

	// ErrNewAuthtokRequired: the password is too old. From CheckAccount only.
	ErrNewAuthtokRequired Result = 12

	// ErrAcctExpired: the account may no longer be used.
	ErrAcctExpired Result = 13

	// ErrSession: the session could not be opened or closed.
	ErrSession Result = 14

	// ErrCredUnavail, ErrCredExpired and ErrCred are for SetCredentials.
	ErrCredUnavail Result = 15
	ErrCredExpired Result = 16
	ErrCred        Result = 17

	// ErrConv: the user could not be asked, or gave up. Conversations return
	// it; sudo and su then stop asking.
	ErrConv Result = 19

	// ErrAuthtok, ErrAuthtokRecovery, ErrAuthtokLockBusy and
	// ErrAuthtokDisableAging are for changing a password.
	ErrAuthtok             Result = 20
	ErrAuthtokRecovery     Result = 21
	ErrAuthtokLockBusy     Result = 22
	ErrAuthtokDisableAging Result = 23

	// ErrTryAgain: from CanChangePassword, come back later.
	ErrTryAgain Result = 24

	// ErrIgnore: this provider has no say here; the rest of the stack
	// decides. Linux-PAM refuses where nothing else decides either.
	ErrIgnore Result = 25

	// ErrAbort: stop at once.
	ErrAbort Result = 26
)

// resultWords are pam.conf's words, by number.
var resultWords = [...]string{
	"success", "open_err", "symbol_err", "service_err", "system_err", "buf_err",
	"perm_denied", "auth_err", "cred_insufficient", "authinfo_unavail",
	"user_unknown", "maxtries", "new_authtok_reqd", "acct_expired",
	"session_err", "cred_unavail", "cred_expired", "cred_err",
	"no_module_data", "conv_err", "authtok_err", "authtok_recover_err",
	"authtok_lock_busy", "authtok_disable_aging", "try_again", "ignore",
	"abort", "authtok_expired", "module_unknown", "bad_item", "conv_again",
	"incomplete",
}

// Error returns pam.conf's word for r: "auth_err".
func (r Result) Error() string {
	if r >= 0 && int(r) < len(resultWords) {
		return resultWords[r]
	}
	return fmt.Sprintf("Result(%d)", int(r))
}

// ParseResult returns the result that pam.conf(5) calls word.
func ParseResult(word string) (Result, bool) {
	for i, w := range resultWords {
		if w == word {
			return Result(i), true
		}
	}
	return ErrSystem, false
}

// ResultOf says what PAM hears for err: [Success] for nil, the one Result that
// err wraps, and [ErrSystem] for anything unclear: none, several different
// ones, or an error that wraps Success.
func ResultOf(err error) Result {
	if err == nil {
		return Success
	}
	found := map[Result]bool{}
	collect(err, found)
	if len(found) != 1 {
		return ErrSystem
	}
	for r := range found {
		if r != Success && int(r) < len(resultWords) && r > 0 {
			return r
		}
	}
	return ErrSystem
}

// collect walks the whole tree of err: two results joined into one error
// contradict each other, and the first one found must not win.
func collect(err error, found map[Result]bool) {
	if r, ok := err.(Result); ok { //nolint:errorlint // the walk unwraps by itself
		found[r] = true
		return
	}
	switch w := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() error }:
		if inner := w.Unwrap(); inner != nil {
			collect(inner, found)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range w.Unwrap() {
			if inner != nil {
				collect(inner, found)
			}
		}
	}
}

// A Call is one of PAM's service functions.
type Call int

// The calls, in the order of pam.conf's groups.
const (
	CallAuthenticate Call = 1
	CallSetCred      Call = 2
	CallAccount      Call = 3
	CallOpenSession  Call = 4
	CallCloseSession Call = 5
	CallPassword     Call = 6
)

// Valid reports whether c is one of the six calls.
func (c Call) Valid() bool { return c >= CallAuthenticate && c <= CallPassword }

// String returns the name that log lines use: auth, setcred, account,
// open_session, close_session or chauthtok.
func (c Call) String() string {
	names := [...]string{"", "auth", "setcred", "account", "open_session", "close_session", "chauthtok"}
	if c.Valid() {
		return names[c]
	}
	return fmt.Sprintf("Call(%d)", int(c))
}

// Allowed reports whether r can be the outcome of call. It matters:
// pam.conf's "required" takes new_authtok_reqd for success in every group, so
// an Authenticate that returned it would let everybody in.
func (r Result) Allowed(call Call) bool {
	switch r {
	case Success, ErrService, ErrSystem, ErrPermDenied, ErrIgnore, ErrAbort, ErrConv, ErrUserUnknown:
		return call.Valid()
	case ErrAuth, ErrAuthInfoUnavail, ErrAcctExpired:
		return call == CallAuthenticate || call == CallAccount
	case ErrCredInsufficient, ErrMaxTries:
		return call == CallAuthenticate
	case ErrNewAuthtokRequired:
		return call == CallAccount
	case ErrSession:
		return call == CallOpenSession || call == CallCloseSession
	case ErrCredUnavail, ErrCredExpired, ErrCred:
		return call == CallSetCred
	case ErrAuthtok, ErrAuthtokRecovery, ErrAuthtokLockBusy, ErrAuthtokDisableAging, ErrTryAgain:
		return call == CallPassword
	}
	return false
}

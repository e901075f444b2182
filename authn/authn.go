// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"fmt"
	"time"
)

// An Authenticator proves who is at the prompt and that they may use the
// account req.User.
//
// Calls run in different processes: keep nothing in memory between them.
type Authenticator interface {
	// Authenticate says who was proven to be at the prompt: an [Identity]
	// with a Subject, and no error. To refuse, it returns an error wrapping a
	// [Result], usually [ErrAuth]. An error that wraps none is a fault, and so
	// is success without a subject: PAM hears [ErrSystem].
	//
	// The text of the error goes to the log and never to the user; talk to
	// the user with conv.Error. ctx ends with the PAM line's timeout or when
	// the application gives up; return soon after, since the process is
	// killed.
	Authenticate(ctx context.Context, req *Request, conv Conversation) (Identity, error)
}

// An Identity is the person behind the account.
type Identity struct {
	// Subject says who was proven: "mittens@example.com". It is logged and
	// put into the PAM environment as AUTHN_SUBJECT. At most
	// [MaxSubject] bytes, printable.
	Subject string

	// Env is added to the PAM environment of the login. Names start with
	// AUTHN_ and are not AUTHN_PROVIDER, AUTHN_SUBJECT or AUTHN_ID; values
	// are printable and at most [MaxEnvValue] bytes long.
	Env map[string]string

	// Ticket is given back to later calls of this transaction, in
	// [Request.Ticket]. At most [MaxTicket] bytes. It stays in the memory of
	// the PAM application, which is root's: put no secret into it that is
	// worth more than this login.
	Ticket []byte
}

// Limits of what a provider may send. Whatever is larger is a fault and
// refused with [ErrSystem].
const (
	MaxSubject  = 256       // bytes of Identity.Subject
	MaxEnv      = 32        // entries of Identity.Env
	MaxEnvValue = 256       // bytes of one value of Identity.Env
	MaxTicket   = 4 << 10   // bytes of Identity.Ticket
	MaxPrompt   = 8 << 10   // bytes of one text of a Conversation
	MaxPrompts  = 64        // exchanges with the user in one call
	MaxMessage  = 256 << 10 // bytes of one message on the wire
)

// An AccountManager can turn away a proven user: locked, expired, out of
// hours. Without one, PAM's account phase answers PAM_IGNORE.
type AccountManager interface {
	// CheckAccount returns nil to let req.User in. [ErrIgnore] leaves the
	// decision to the rest of the stack; [ErrNewAuthtokRequired] has the
	// application ask for a new password first.
	CheckAccount(ctx context.Context, req *Request, conv Conversation) error
}

// A CredentialSetter gives or takes what a login needs (tickets, tokens), as
// op says. It is called only where the PAM line has the word setcred. Without
// one, pam_setcred answers PAM_SUCCESS.
type CredentialSetter interface {
	SetCredentials(ctx context.Context, req *Request, op CredentialOp) error
}

// A CredentialOp is what pam_setcred asks for.
type CredentialOp int

// The operations of pam_setcred(3).
const (
	Establish    CredentialOp = 1 // PAM_ESTABLISH_CRED
	Delete       CredentialOp = 2 // PAM_DELETE_CRED
	Reinitialize CredentialOp = 3 // PAM_REINITIALIZE_CRED
	Refresh      CredentialOp = 4 // PAM_REFRESH_CRED
)

// String returns the operation's name in lower case.
func (op CredentialOp) String() string {
	switch op {
	case Establish:
		return "establish"
	case Delete:
		return "delete"
	case Reinitialize:
		return "reinitialize"
	case Refresh:
		return "refresh"
	}
	return fmt.Sprintf("CredentialOp(%d)", int(op))
}

// A SessionManager hears of a session's start and end. sshd logs a session
// that could not be opened and goes on: to keep somebody out, refuse in
// [AccountManager].
type SessionManager interface {
	OpenSession(ctx context.Context, req *Request, conv Conversation) error

	// CloseSession must cope with a session whose start it never saw.
	CloseSession(ctx context.Context, req *Request) error
}

// A PasswordChanger serves PAM's two passes over the password stack.
type PasswordChanger interface {
	// CanChangePassword is the first pass. It changes nothing and says
	// whether the second one could work.
	CanChangePassword(ctx context.Context, req *Request) error

	// ChangePassword asks for what it needs and changes the password.
	ChangePassword(ctx context.Context, req *Request, conv Conversation) error
}

// A Conversation talks to the user for the length of one call. Return its
// errors as they are: they already carry the right [Result].
//
// Prompt and PromptSecret block until the user has answered, and nothing can
// take a shown prompt back: work that must go on meanwhile belongs into a
// goroutine, which the provider cancels and waits for before it returns (see
// the example). One exchange happens at a time; the others wait for it.
//
// Texts are UTF-8 of at most [MaxPrompt] bytes. Control characters other than
// newline and tab reach the user as "?".
type Conversation interface {
	// Prompt shows text, and what the user types is shown too.
	Prompt(text string) (string, error)

	// PromptSecret shows text, and what the user types is hidden.
	PromptSecret(text string) (Secret, error)

	// Info shows text that asks nothing. It may only appear together with
	// the next prompt (sshd before 10.3): what the user must read before
	// answering belongs into the prompt.
	Info(text string) error

	// Error shows text that says what went wrong, in the user's words. It is
	// never logged. It may appear as late as Info does.
	Error(text string) error

	// Waiting declares that from now until the next prompt or the result a
	// person decides elsewhere, for at most limit since the user's last
	// answer (since the start of the call if there was none). Success then
	// reaches the user at once; a refusal or another prompt reaches them
	// exactly at limit, so that nobody can tell a refusal from an
	// approval that never came. Call it for unknown persons too.
	Waiting(limit time.Duration)
}

// A Request is what the application told PAM. Treat every field as typed by a
// stranger, RHost above all; Args and the names of Files come from the
// administrator. Strings may hold any byte but NUL.
type Request struct {
	Service string // PAM_SERVICE: "sshd"
	User    string // PAM_USER: the account to be used, which may not exist
	RHost   string // PAM_RHOST: where from, as the application says
	TTY     string // PAM_TTY
	RUser   string // PAM_RUSER

	// Args are the words NAME.KEY=VALUE of the PAM line, where NAME is this
	// provider, as KEY=VALUE.
	Args []string

	// Subject is the Identity.Subject of this transaction's Authenticate.
	// It is empty where nobody was authenticated by this provider in this
	// process: public key logins, sshd's session.
	Subject string

	// ClaimedSubject is who the PAM environment says it is, where Subject is
	// not known. The user may have forged it: good for a log line, decides
	// nothing.
	ClaimedSubject string

	// Ticket is the Identity.Ticket of this transaction's Authenticate, or
	// nil as for Subject.
	Ticket []byte

	// Files holds what the configuration's authn.files named, by name. A
	// file that is missing or unsafe is absent.
	Files map[string][]byte

	Silent  bool // PAM_SILENT: say nothing that is not asked for
	Expired bool // PAM_CHANGE_EXPIRED_AUTHTOK: change expired tokens only

	// Timeout is the PAM line's: machine time for the whole call, not
	// counting what the user needs to answer.
	Timeout time.Duration
}

// As reports whether a has the capability T, and returns it. What wraps an
// Authenticator answers for what it wraps with a method As(target any) bool;
// so does the client that stands for a provider in another process.
func As[T any](a Authenticator) (T, bool) {
	if w, ok := a.(interface{ As(target any) bool }); ok {
		var t T
		ok := w.As(&t)
		return t, ok
	}
	t, ok := a.(T)
	return t, ok
}

// WithStep returns a with the uniform time step that its configuration asked
// for: each stretch from an answer of the user to the next prompt or result
// lasts a multiple of step, in Authenticate and ChangePassword: whoever gets to
// the other calls is known already. It is what authn.timing.step in the
// configuration means, and setting both is refused. A step of zero changes nothing; a
// negative one is refused when the call starts.
func WithStep(a Authenticator, step time.Duration) Authenticator {
	return stepped{a, step, false}
}

// WithDefaultStep is [WithStep] for a step that the configuration did not ask
// for: authn.timing.step, where it is given, replaces it.
func WithDefaultStep(a Authenticator, step time.Duration) Authenticator {
	return stepped{a, step, true}
}

type stepped struct {
	Authenticator
	step      time.Duration
	byDefault bool
}

// Step and DefaultStep are read by package plugin. A provider may have them
// itself and stay the type that it is.
func (s stepped) Step() time.Duration { return s.step }

// DefaultStep reports whether authn.timing.step may replace the step.
func (s stepped) DefaultStep() bool { return s.byDefault }

// As answers for the wrapped provider.
func (s stepped) As(target any) bool {
	switch t := target.(type) {
	case *AccountManager:
		v, ok := As[AccountManager](s.Authenticator)
		*t = v
		return ok
	case *CredentialSetter:
		v, ok := As[CredentialSetter](s.Authenticator)
		*t = v
		return ok
	case *SessionManager:
		v, ok := As[SessionManager](s.Authenticator)
		*t = v
		return ok
	case *PasswordChanger:
		v, ok := As[PasswordChanger](s.Authenticator)
		*t = v
		return ok
	}
	return false
}

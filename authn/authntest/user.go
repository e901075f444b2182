// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pam-authn/pam-authn/authn"
)

// A User is a scripted person at the prompt, who fails the test on any
// question that the script does not have at that point. It is an
// [authn.Conversation] with the rules of the real one: one exchange at a time,
// the same limits, and after a failure nothing but failures.
type User struct {
	// complain reports what is wrong with the conversation.
	complain func(format string, args ...any)

	// act, if set, takes the place of the script for the n-th question,
	// counted from 1, unless it says that it has no business there.
	act func(n int, k kind, shown string) (answer string, err error, ok bool)

	exchange sync.Mutex // held for the length of one exchange

	mu     sync.Mutex
	steps  []Step
	asked  int
	said   int
	gone   bool
	wrong  bool // the script and the conversation have parted
	record transcript
	typed  []reply
}

// A reply is what the user typed.
type reply struct {
	kind kind
	text string
}

var _ authn.Conversation = (*User)(nil)

// Conversation returns a user who answers each question, whatever it is, with
// the next one of answers. A question too many fails the test, and so does an
// answer that nobody asked for.
func Conversation(t testing.TB, answers ...string) *User {
	t.Helper()
	var steps []Step
	for _, a := range answers {
		steps = append(steps, Answer(a))
	}
	return Expect(t, steps...)
}

// Expect returns a user who goes through steps in their order. A question
// that is not the next step fails the test, and so does a step left over at
// its end.
func Expect(t testing.TB, steps ...Step) *User {
	t.Helper()
	u := &User{steps: steps, complain: func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
	}}
	t.Cleanup(u.finish)
	return u
}

// Transcript tells what was shown and typed so far, for comparison with a
// golden file. It has no line that begins with "--", so that it may be a file
// of a txtar archive, and never an answer that was typed hidden.
func (u *User) Transcript() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.record.String()
}

// Prompt implements [authn.Conversation].
func (u *User) Prompt(text string) (string, error) { return u.ask(kindPrompt, text) }

// PromptSecret implements [authn.Conversation].
func (u *User) PromptSecret(text string) (authn.Secret, error) {
	answer, err := u.ask(kindSecret, text)
	return authn.NewSecret(answer), err
}

// Info implements [authn.Conversation].
func (u *User) Info(text string) error { return u.tell(kindInfo, text) }

// Error implements [authn.Conversation].
func (u *User) Error(text string) error { return u.tell(kindError, text) }

// Waiting implements [authn.Conversation].
func (u *User) Waiting(limit time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.record.waiting(limit)
	u.hears(kindWaiting, "", limit)
}

func (u *User) tell(k kind, text string) error {
	u.exchange.Lock()
	defer u.exchange.Unlock()
	if err := u.shows(k, text); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return errGone
	}
	u.hears(k, text, 0)
	return nil
}

// hears moves on if the next step expects this; otherwise it is let pass.
func (u *User) hears(k kind, text string, limit time.Duration) {
	if len(u.steps) > 0 && u.steps[0].meets(k, text, limit) {
		u.steps = u.steps[1:]
	}
}

func (u *User) ask(k kind, text string) (string, error) {
	u.exchange.Lock()
	defer u.exchange.Unlock()
	if err := u.shows(k, text); err != nil {
		return "", err
	}
	n, step, ok := u.next(k, text)
	if n == 0 {
		return "", errGone
	}
	answer, err, acted := "", error(nil), false
	if u.act != nil {
		answer, err, acted = u.act(n, k, text)
	}
	if !acted {
		if !ok {
			u.unexpected(k, text, step)
			return "", errUnexpected
		}
		answer, err = step.answer(u, text)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		if !u.gone {
			u.gone = true
			u.record.left()
		}
		return "", err
	}
	u.record.answer(k, answer)
	u.typed = append(u.typed, reply{k, answer})
	return answer, nil
}

// typedAt is what the user typed at the n-th question, if they came so far.
func (u *User) typedAt(n int) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n > len(u.typed) {
		return ""
	}
	return u.typed[n-1].text
}

// hiddenAnswers is what the user typed hidden.
func (u *User) hiddenAnswers() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var answers []string
	for _, r := range u.typed {
		if r.kind == kindSecret {
			answers = append(answers, r.text)
		}
	}
	return answers
}

// next counts the question and takes the step that expects it.
func (u *User) next(k kind, text string) (n int, step *Step, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		return 0, nil, false
	}
	u.asked++
	if len(u.steps) == 0 {
		return u.asked, nil, false
	}
	step = &u.steps[0]
	ok = step.kind.question() && step.meets(k, text, 0)
	if ok {
		u.steps = u.steps[1:]
	}
	return u.asked, step, ok
}

func (u *User) unexpected(k kind, text string, step *Step) {
	want := "nothing more"
	if step != nil {
		want = step.String()
	}
	u.mu.Lock()
	u.wrong, u.gone = true, true
	u.record.left()
	u.mu.Unlock()
	u.complain("the user was asked %s %q, the script has %s", k, text, want)
}

// shows writes down what is shown, or refuses what the real conversation
// would refuse.
func (u *User) shows(k kind, text string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.said++
	bad := ""
	switch {
	case len(text) > authn.MaxPrompt:
		bad = fmt.Sprintf("%d bytes, at most %d are possible", len(text), authn.MaxPrompt)
	case strings.ContainsRune(text, 0):
		bad = "a NUL"
	case !utf8.ValidString(text):
		bad = "invalid UTF-8"
	case u.said > authn.MaxPrompts:
		bad = fmt.Sprintf("more than %d exchanges", authn.MaxPrompts)
	}
	if bad != "" {
		u.wrong = true
		u.complain("a text for the user has %s: %s %.100q", bad, k, text)
		return fmt.Errorf("authntest: a text for the user has %s: %w", bad, authn.ErrSystem)
	}
	u.record.shown(k, text)
	return nil
}

// leave is the answer of a user who is gone.
func (u *User) leave() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.gone {
		u.gone = true
		u.record.left()
	}
	return errGone
}

// finish complains about what was expected and did not happen.
func (u *User) finish() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wrong || u.gone {
		return
	}
	for _, s := range u.steps {
		u.complain("the conversation ended without %s", s)
	}
}

var (
	errGone       = fmt.Errorf("authntest: the user is gone: %w", authn.ErrConv)
	errUnexpected = fmt.Errorf("authntest: the user has no answer to this: %w", authn.ErrConv)
)

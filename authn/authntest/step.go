// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A Step is one thing that a scripted user sees or does.
type Step struct {
	kind   kind
	text   string // must be contained in what is shown
	limit  time.Duration
	answer func(u *User, shown string) (string, error)
}

type kind string

const (
	kindPrompt  kind = "prompt"
	kindSecret  kind = "secret"
	kindAny     kind = "question" // either of the two
	kindInfo    kind = "info"
	kindError   kind = "error"
	kindWaiting kind = "waiting"
)

func (k kind) question() bool { return k == kindPrompt || k == kindSecret || k == kindAny }

// Prompt expects a question whose answer is shown, and answers it. The
// question must contain text.
func Prompt(text, answer string) Step {
	return Step{kind: kindPrompt, text: text, answer: typed(answer)}
}

// PromptSecret expects a question whose answer is hidden, and answers it. The
// question must contain text.
func PromptSecret(text, answer string) Step {
	return Step{kind: kindSecret, text: text, answer: typed(answer)}
}

// Answer answers whatever is asked next.
func Answer(answer string) Step { return Step{kind: kindAny, answer: typed(answer)} }

// PromptFunc is Prompt with an answer that depends on what is shown, or on
// what happens meanwhile: a telephone that shows a code, say.
func PromptFunc(text string, answer func(shown string) string) Step {
	return Step{kind: kindPrompt, text: text, answer: computed(answer)}
}

// PromptSecretFunc is PromptSecret with an answer as for PromptFunc.
func PromptSecretFunc(text string, answer func(shown string) string) Step {
	return Step{kind: kindSecret, text: text, answer: computed(answer)}
}

// Info expects an Info that contains text. One that no step expects is let
// pass.
func Info(text string) Step { return Step{kind: kindInfo, text: text} }

// Error expects an Error that contains text. One that no step expects is let
// pass.
func Error(text string) Step { return Step{kind: kindError, text: text} }

// Waiting expects a Waiting with exactly this limit. One that no step expects
// is let pass.
func Waiting(limit time.Duration) Step { return Step{kind: kindWaiting, limit: limit} }

// Leave has the user go away at the next question: it and whatever is said
// after it fails with conv_err.
func Leave() Step {
	return Step{kind: kindAny, answer: func(u *User, _ string) (string, error) { return "", u.leave() }}
}

// NoAnswer has the user leave the next question open until ctx ends; it then
// fails with conv_err. Once the question is shown, asked is called if it is
// not nil: it can be what ends ctx.
func NoAnswer(ctx context.Context, asked func()) Step {
	return Step{kind: kindAny, answer: func(u *User, _ string) (string, error) {
		if asked != nil {
			asked()
		}
		<-ctx.Done()
		return "", u.leave()
	}}
}

func typed(answer string) func(*User, string) (string, error) {
	return func(*User, string) (string, error) { return answer, nil }
}

func computed(answer func(string) string) func(*User, string) (string, error) {
	return func(_ *User, shown string) (string, error) { return answer(shown), nil }
}

// meets reports whether what was said or asked is what s expects.
func (s Step) meets(k kind, text string, limit time.Duration) bool {
	same := s.kind == k || s.kind == kindAny && k.question()
	return same && strings.Contains(text, s.text) && s.limit == limit
}

func (s Step) String() string {
	switch s.kind {
	case kindWaiting:
		return fmt.Sprintf("waiting %s", s.limit)
	case kindAny:
		return "any question"
	}
	return fmt.Sprintf("%s %q", s.kind, s.text)
}

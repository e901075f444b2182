// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// complaints runs talk with a user of steps and returns what the user had to
// complain of.
func complaints(t *testing.T, talk func(*User), steps ...Step) []string {
	t.Helper()
	r := record(t)
	user := Expect(testing.TB(r), steps...)
	talk(user)
	user.finish()
	user.steps = nil // or the test's end complains again
	return r.notes.failed[""]
}

func TestConversationAnswersInOrder(t *testing.T) {
	user := Conversation(t, "mittens", "open sesame")
	name, err := user.Prompt("Name: ")
	if name != "mittens" || err != nil {
		t.Errorf("Prompt: %q, %v", name, err)
	}
	code, err := user.PromptSecret("Code: ")
	if code.Reveal() != "open sesame" || err != nil {
		t.Errorf("PromptSecret: %q, %v", code.Reveal(), err)
	}
}

func TestUserComplains(t *testing.T) {
	tests := []struct {
		name  string
		steps []Step
		talk  func(*User)
		want  string // in the one complaint; empty: none
	}{
		{"of_a_question_too_many", nil, func(u *User) { _, _ = u.Prompt("Name: ") },
			`asked prompt "Name: ", the script has nothing more`},
		{"of_another_text", []Step{Prompt("Name", "x")}, func(u *User) { _, _ = u.Prompt("Code: ") },
			`asked prompt "Code: ", the script has prompt "Name"`},
		{"of_an_answer_that_would_be_shown", []Step{PromptSecret("Code", "x")}, func(u *User) { _, _ = u.Prompt("Code: ") },
			`asked prompt "Code: ", the script has secret "Code"`},
		{"of_a_question_before_an_info", []Step{Info("hello"), Answer("x")}, func(u *User) { _, _ = u.Prompt("Code: ") },
			`the script has info "hello"`},
		{"of_an_answer_nobody_asked_for", []Step{Answer("x")}, func(*User) {}, "without any question"},
		{"of_an_error_never_shown", []Step{Error("wrong")}, func(u *User) { _ = u.Error("no") }, `without error "wrong"`},
		{"of_another_waiting", []Step{Waiting(time.Minute)}, func(u *User) { u.Waiting(time.Second) }, "without waiting 1m0s"},
		{"of_a_huge_text", []Step{Answer("x")}, func(u *User) { _, _ = u.Prompt(strings.Repeat("x", authn.MaxPrompt+1)) },
			"8193 bytes"},
		{"of_a_nul", nil, func(u *User) { _ = u.Info("a\x00b") }, "a NUL"},
		{"of_invalid_utf8", nil, func(u *User) { _ = u.Info("a\xffb") }, "invalid UTF-8"},
		{"of_too_many_texts", nil, func(u *User) {
			for range authn.MaxPrompts + 1 {
				_ = u.Info("again")
			}
		}, "more than 64 exchanges"},
		{"not_of_what_the_script_says", []Step{Info("hello"), Waiting(time.Second), Answer("x"), Error("wrong")}, func(u *User) {
			_ = u.Info("hello there")
			u.Waiting(time.Second)
			_, _ = u.Prompt("Code: ")
			_ = u.Error("wrong code")
		}, ""},
		{"not_of_texts_it_does_not_name", []Step{Answer("x")}, func(u *User) {
			_ = u.Info("hello")
			_, _ = u.Prompt("Code: ")
			u.Waiting(time.Second)
		}, ""},
		{"not_after_leaving", []Step{Leave(), Answer("x")}, func(u *User) {
			_, _ = u.Prompt("Name: ")
			_, _ = u.Prompt("Code: ")
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := complaints(t, tt.talk, tt.steps...)
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("complaints %q, want %q", got, tt.want)
			}
		})
	}
}

func TestUnexpectedQuestionIsConvErr(t *testing.T) {
	complaints(t, func(u *User) {
		if _, err := u.Prompt("Name: "); !errors.Is(err, authn.ErrConv) {
			t.Errorf("got %v, want conv_err", err)
		}
		if err := u.Info("hello"); !errors.Is(err, authn.ErrConv) {
			t.Errorf("afterwards got %v, want conv_err", err)
		}
	})
}

func TestNoAnswerEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	user := Expect(t, NoAnswer(ctx, cancel))
	if _, err := user.Prompt("Name: "); !errors.Is(err, authn.ErrConv) {
		t.Errorf("got %v, want conv_err", err)
	}
}

func TestPromptFuncSeesWhatIsShown(t *testing.T) {
	last := func(shown string) string { return shown[len(shown)-1:] }
	user := Expect(t, PromptFunc("", last), PromptSecretFunc("", last))
	if got, _ := user.Prompt("type 7"); got != "7" {
		t.Errorf("Prompt: %q", got)
	}
	if got, _ := user.PromptSecret("type 8"); got.Reveal() != "8" {
		t.Errorf("PromptSecret: %q", got.Reveal())
	}
}

func TestTranscript(t *testing.T) {
	user := Expect(t, Prompt("Name", "mittens"), PromptSecret("-- x", "open sesame"), Leave())
	_ = user.Info("hello")
	_, _ = user.Prompt("Name: ")
	_, _ = user.PromptSecret("█▀\n-- x --\nCode: ")
	user.Waiting(45 * time.Second)
	_ = user.Error("wrong\a")
	_, _ = user.Prompt("Again: ")
	const want = `info    "hello"
prompt  "Name: "
  answer "mittens"
secret  "█▀"
        "-- x --"
        "Code: "
  hidden answer
waiting 45s
error   "wrong\a"
prompt  "Again: "
the user left
`
	if got := user.Transcript(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

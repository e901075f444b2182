// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"context"
	"crypto/subtle"
	"fmt"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// desk is a provider: somebody reads a code out over the telephone, and a
// service knows which.
type desk struct {
	// fetch asks the service. It returns soon after ctx has ended.
	fetch func(ctx context.Context, account string) (code string, err error)
}

// Authenticate has the service look for the code while the person is asked for
// it. A prompt cannot be interrupted, so the work goes on beside it.
func (d desk) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	type answer struct {
		code string
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer, 1) // room for one: the goroutine ends though nobody receives
	var work sync.WaitGroup
	work.Go(func() {
		code, err := d.fetch(ctx, req.User)
		answers <- answer{code, err}
	})
	defer work.Wait() // behind cancel: nothing goes on when we return
	defer cancel()

	typed, err := conv.Prompt("Code that was read out to you: ")
	if err != nil {
		return authn.Identity{}, err // as it is; what goes on is given up
	}
	got := <-answers
	if got.err != nil {
		return authn.Identity{}, authn.Unreachable(got.err)
	}
	if subtle.ConstantTimeCompare([]byte(typed), []byte(got.code)) != 1 {
		return authn.Identity{}, fmt.Errorf("wrong code: %w", authn.ErrAuth)
	}
	return authn.Identity{Subject: req.User}, nil
}

// typist answers every prompt with the same text, or leaves if it is empty.
type typist string

func (t typist) Prompt(text string) (string, error) {
	if t == "" {
		fmt.Println(text + "(leaves)")
		return "", authn.ErrConv
	}
	fmt.Println(text + string(t))
	return string(t), nil
}

func (t typist) PromptSecret(text string) (authn.Secret, error) {
	answer, err := t.Prompt(text)
	return authn.NewSecret(answer), err
}

func (typist) Info(string) error     { return nil }
func (typist) Error(string) error    { return nil }
func (typist) Waiting(time.Duration) {}

// Work in the background while a prompt is open: start it, ask, receive; cancel
// it and wait for its end before returning.
func ExampleConversation() {
	quick := desk{func(context.Context, string) (string, error) { return "042917", nil }}
	slow := desk{func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done()
		fmt.Println("(given up)")
		return "", ctx.Err()
	}}
	login := func(d desk, t typist) {
		id, err := d.Authenticate(context.Background(), &authn.Request{User: "mittens"}, t)
		fmt.Printf("subject %q, PAM hears %v\n", id.Subject, authn.ResultOf(err))
	}
	login(quick, "042917")
	login(quick, "123456")
	login(slow, "") // the person leaves before the service has answered

	// Output:
	// Code that was read out to you: 042917
	// subject "mittens", PAM hears success
	// Code that was read out to you: 123456
	// subject "", PAM hears auth_err
	// Code that was read out to you: (leaves)
	// (given up)
	// subject "", PAM hears conv_err
}

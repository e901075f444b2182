// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// A person is a conversation for tests: answer says what is typed, and shown
// keeps what was on the screen. (Package authntest has a better one, and
// imports this package.)
type person struct {
	answer func(text string) (string, error)

	mu      sync.Mutex
	shown   []string
	waiting []time.Duration
}

func types(answer string) *person {
	return &person{answer: func(string) (string, error) { return answer, nil }}
}

func gone() *person {
	return &person{answer: func(string) (string, error) { return "", authn.ErrConv }}
}

func (p *person) see(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shown = append(p.shown, text)
}

func (p *person) Prompt(text string) (string, error) {
	p.see(text)
	return p.answer(text)
}

func (p *person) PromptSecret(text string) (authn.Secret, error) {
	p.see(text)
	answer, err := p.answer(text)
	return authn.NewSecret(answer), err
}

func (p *person) Info(text string) error  { p.see(text); return nil }
func (p *person) Error(text string) error { p.see(text); return nil }

func (p *person) Waiting(limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, limit)
}

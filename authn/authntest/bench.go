// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// A bench is one of the ways to call the provider under test.
type bench struct {
	name   string
	suite  *Suite
	under  inprocess.Provider
	config *wire.Config
	remote *plugin.Remote // nil: called directly
	stop   func()

	// open returns the provider as a call would find it.
	open func(*wire.Config) (authn.Authenticator, error)
	logs logbook
}

func directly(p inprocess.Provider, s *Suite) (*bench, error) {
	config, err := wireConfig(s.Config)
	if err != nil {
		return nil, err
	}
	b := &bench{name: "directly", suite: s, under: p, config: config, stop: func() {}}
	b.open = func(c *wire.Config) (authn.Authenticator, error) {
		log := slog.New(slog.NewTextHandler(&b.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
		a, err := inprocess.Open(p, c, log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", err.Error(), authn.ErrSystem)
		}
		return a, nil
	}
	return b, nil
}

func overTheWire(p inprocess.Provider, s *Suite) (*bench, error) {
	remote, stop, err := serve(p, s.Config)
	if err != nil {
		return nil, err
	}
	b := &bench{name: "over_the_wire", suite: s, under: p, config: remote.Config, remote: remote, stop: stop}
	remote.Log = func(_ wire.Level, text string) { _, _ = b.logs.Write([]byte(text + "\n")) }
	b.open = func(c *wire.Config) (authn.Authenticator, error) {
		r := *remote
		r.Config = c
		return &r, nil
	}
	return b, nil
}

// A logbook keeps log lines.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// An outcome is how a call ended.
type outcome struct {
	result authn.Result
	id     authn.Identity
	err    error
}

func (o outcome) String() string {
	if o.err != nil {
		return fmt.Sprintf("%s (%v)", o.result.Error(), o.err)
	}
	return fmt.Sprintf("%s for subject %q", o.result.Error(), o.id.Subject)
}

// call makes one call with a store of its own for Allow.
func (b *bench) call(ctx context.Context, t testing.TB, req *authn.Request, conv authn.Conversation) outcome {
	if b.suite.Setup != nil {
		b.suite.Setup(t)
	}
	a, err := b.open(b.config)
	if err != nil {
		return judged(authn.Identity{}, err)
	}
	return authenticate(ctx, a, req, conv)
}

// authenticate does what the provider's process does around the call.
func authenticate(ctx context.Context, a authn.Authenticator, req *authn.Request, conv authn.Conversation) (o outcome) {
	defer func() {
		if p := recover(); p != nil {
			o = judged(authn.Identity{}, fmt.Errorf("panic: %v: %w", p, authn.ErrSystem))
		}
	}()
	var limits Limits
	return judged(a.Authenticate(limits.Context(ctx), req, conv))
}

func judged(id authn.Identity, err error) outcome {
	if err == nil {
		err = id.Check()
	}
	return outcome{authn.ResultOf(err), id, err}
}

// scripted is a user who goes through the case's steps and reports nothing:
// whether the script fits is for one check to say.
func scripted(c Case) *User { return &User{steps: c.Steps, complain: func(string, ...any) {}} }

// play makes the case's call, with the user's departures from the script.
func (b *bench) play(t testing.TB, c Case, act func(n int, k kind, shown string) (string, error, bool)) (outcome, *User) {
	user := scripted(c)
	user.act = act
	return b.call(context.Background(), t, b.suite.request(c), user), user
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// conversation is the provider's side of a call: it numbers what it asks and
// hands each answer to the one who waits for it.
type conversation struct {
	ctx    context.Context
	stream grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]
	cancel context.CancelCauseFunc

	asking   sync.Mutex    // held for the length of one exchange with the user
	allowing chan struct{} // has as many places as Allows may be unanswered

	mu      sync.Mutex
	sending sync.Mutex
	next    uint32
	answers map[uint32]chan *wire.FromWorker
}

var _ authn.Conversation = (*conversation)(nil)

func newConversation(ctx context.Context, stream grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider], cancel context.CancelCauseFunc) *conversation {
	return &conversation{
		ctx: ctx, stream: stream, cancel: cancel,
		allowing: make(chan struct{}, maxAllows),
		answers:  map[uint32]chan *wire.FromWorker{},
	}
}

var errWorkerGone = errors.New("the worker has ended the call")

// receive hands out answers until the worker closes its side.
func (c *conversation) receive() {
	for {
		m, err := c.stream.Recv()
		if err != nil {
			c.cancel(errWorkerGone)
			return
		}
		id := m.GetAnswer().GetId()
		if r := m.GetAllowReply(); r != nil {
			id = r.GetId()
		}
		c.mu.Lock()
		ch := c.answers[id]
		delete(c.answers, id)
		c.mu.Unlock()
		if ch != nil {
			ch <- m
		}
	}
}

// send serializes writers: a gRPC stream takes one at a time.
func (c *conversation) send(m *wire.FromProvider) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.stream.Send(m)
}

func (c *conversation) started(step time.Duration, byDefault bool) error {
	return c.send(&wire.FromProvider{Message: &wire.FromProvider_Started{
		Started: &wire.Started{StepMs: toMillis(step), DefaultStep: byDefault},
	}})
}

// ask sends the message that build makes for a fresh id, and waits for its
// answer or for the end of ctx or of the call.
func (c *conversation) ask(ctx context.Context, build func(id uint32) *wire.FromProvider) (*wire.FromWorker, error) {
	ch := make(chan *wire.FromWorker, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.answers[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.answers, id)
		c.mu.Unlock()
	}()
	if err := c.send(build(id)); err != nil {
		return nil, errWorkerGone
	}
	select {
	case m := <-ch:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
}

// exchange shows one text to the user. A text that the worker would refuse is
// refused here already, where the author sees which one it was.
func (c *conversation) exchange(style wire.Style, text string) ([]byte, error) {
	if len(text) > authn.MaxPrompt {
		return nil, fmt.Errorf("a text of %d bytes for the user, at most %d are possible: %w", len(text), authn.MaxPrompt, authn.ErrSystem)
	}
	if strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("a NUL in a text for the user: %w", authn.ErrSystem)
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	m, err := c.ask(c.ctx, func(id uint32) *wire.FromProvider {
		return &wire.FromProvider{Message: &wire.FromProvider_Prompt{
			Prompt: &wire.Prompt{Id: id, Style: style, Text: strings.ToValidUTF8(text, "?")},
		}}
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, authn.ErrConv)
	}
	a := m.GetAnswer()
	switch {
	case a.GetFailure() == int32(authn.ErrAuth):
		return nil, fmt.Errorf("use_first_pass forbids another question: %w", authn.ErrAuth)
	case a == nil || a.GetFailure() != 0:
		return nil, fmt.Errorf("the user could not be asked or gave up: %w", authn.ErrConv)
	}
	return a.GetText(), nil
}

func (c *conversation) Prompt(text string) (string, error) {
	answer, err := c.exchange(wire.Style_STYLE_PROMPT, text)
	return string(answer), err
}

func (c *conversation) PromptSecret(text string) (authn.Secret, error) {
	answer, err := c.exchange(wire.Style_STYLE_PROMPT_SECRET, text)
	return authn.NewSecret(string(answer)), err
}

func (c *conversation) Info(text string) error {
	_, err := c.exchange(wire.Style_STYLE_INFO, text)
	return err
}

func (c *conversation) Error(text string) error {
	_, err := c.exchange(wire.Style_STYLE_ERROR, text)
	return err
}

func (c *conversation) Waiting(limit time.Duration) {
	// A worker that is gone ends the call elsewhere.
	_ = c.send(&wire.FromProvider{Message: &wire.FromProvider_Waiting{
		Waiting: &wire.Waiting{LimitMs: toMillis(limit)},
	}})
}

// allow is what authn.Request.Allow calls.
func (c *conversation) allow(ctx context.Context, key string, n int, window time.Duration) (bool, error) {
	select {
	case c.allowing <- struct{}{}:
		defer func() { <-c.allowing }()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	m, err := c.ask(ctx, func(id uint32) *wire.FromProvider {
		return &wire.FromProvider{Message: &wire.FromProvider_Allow{Allow: &wire.Allow{
			Id: id, Key: strings.ToValidUTF8(key, "?"), N: uint32(n), WindowMs: toMillis(window), //nolint:gosec // bounded by Allow
		}}}
	})
	if err != nil {
		return false, err
	}
	reply := m.GetAllowReply()
	switch {
	case reply == nil:
		return false, errors.New("the worker's answer is not one to Allow")
	case reply.GetError() != "":
		return false, errors.New(reply.GetError())
	}
	return reply.GetAllowed(), nil
}

// logHandler sends the provider's log lines to the worker.
func (c *conversation) logHandler() slog.Handler {
	return slog.NewTextHandler(logWriter{c}, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
				return slog.Attr{}
			}
			return a
		},
	})
}

// logWriter takes the lines of slog's text handler, whose first word is the
// level.
type logWriter struct{ c *conversation }

func (w logWriter) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	level := wire.Level_LEVEL_INFO
	if word, rest, ok := strings.Cut(strings.TrimPrefix(text, "level="), " "); ok {
		text = rest
		switch {
		case strings.HasPrefix(word, "DEBUG"):
			level = wire.Level_LEVEL_DEBUG
		case strings.HasPrefix(word, "WARN"):
			level = wire.Level_LEVEL_WARN
		case strings.HasPrefix(word, "ERROR"):
			level = wire.Level_LEVEL_ERROR
		}
	}
	err := w.c.send(&wire.FromProvider{Message: &wire.FromProvider_Log{
		Log: &wire.Log{Level: level, Text: wireText(text, maxLogText)},
	}})
	return len(line), err
}

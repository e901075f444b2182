// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// conversation reaches the user through the module. It is what the provider's
// prompts end in, and where they are paced.
type conversation struct {
	ctx    context.Context
	clock  *clock
	pace   *pace
	module io.ReadWriter
	silent bool

	token    *string // the host's password, for the first PromptSecret
	useFirst bool    // and no other PromptSecret is answered
	asked    bool    // a PromptSecret was answered

	mu     sync.Mutex      // held for the length of one exchange
	held   []frame.Message // texts that wait for the next exchange
	broken error           // the module is gone, or the user is

	typedMu sync.Mutex
	typed   []string // what the user typed, to be kept from the log
}

var _ authn.Conversation = (*conversation)(nil)

func (c *conversation) Prompt(text string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ask(frame.Message{Style: frame.PromptEchoOn, Text: text})
}

func (c *conversation) PromptSecret(text string) (authn.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.asked
	c.asked = true
	switch {
	case first && c.token != nil && *c.token != "": // an empty one is nobody's answer to this question
		c.remember(*c.token)
		return authn.NewSecret(*c.token), nil
	case c.useFirst && first:
		return authn.Secret{}, fmt.Errorf("use_first_pass, and no password was asked for before: %w", authn.ErrAuth)
	case c.useFirst:
		return authn.Secret{}, fmt.Errorf("use_first_pass forbids another question: %w", authn.ErrAuth)
	}
	answer, err := c.ask(frame.Message{Style: frame.PromptEchoOff, Text: text})
	return authn.NewSecret(answer), err
}

func (c *conversation) Info(text string) error {
	return c.tell(frame.Message{Style: frame.TextInfo, Text: text})
}

func (c *conversation) Error(text string) error {
	return c.tell(frame.Message{Style: frame.ErrorMsg, Text: text})
}

// Waiting also shows what waits to be shown: there may be no prompt for a long
// time. Where a prompt is open, it begins with the answer.
func (c *conversation) Waiting(limit time.Duration) {
	c.pace.wait(limit)
	// While a prompt is open nothing is held, and the lock is not to be had
	// before the user has answered.
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if len(c.held) > 0 {
		c.flushAtStep()
	}
}

// flushAtStep shows at the next step what waits to be shown.
func (c *conversation) flushAtStep() { time.AfterFunc(c.pace.nextStep(time.Now()), c.flush) }

// tell shows text that asks nothing. With uniform time it is held back until
// the next exchange, or step if a person decides elsewhere: when it appears
// would tell as much as when a prompt does.
func (c *conversation) tell(m frame.Message) error {
	if c.silent {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.full(m) {
		if c.await() == nil {
			_, _ = c.exchange(nil)
		}
		c.held = nil // what could not be shown is lost
	}
	c.held = append(c.held, m)
	switch {
	case !c.pace.stepping():
		// An application without a screen, such as cron, cannot show it;
		// whether it can ask is for a prompt to find out.
		_, _ = c.exchange(nil)
	case c.pace.waiting():
		c.flushAtStep()
	}
	return c.broken
}

// full reports whether m and a prompt would fit no more into one frame with
// the texts that are held.
func (c *conversation) full(m frame.Message) bool {
	size := len(m.Text)
	for _, h := range c.held {
		size += len(h.Text)
	}
	return len(c.held) > 0 && (len(c.held)+2 > frame.Messages || size > frame.Max-authn.MaxPrompt-1024)
}

// await waits until something may be shown. It gives the lock away meanwhile:
// what Waiting shows need not wait.
func (c *conversation) await() error {
	ctx := c.ctx
	c.mu.Unlock()
	defer c.mu.Lock()
	return c.pace.hold(ctx, false)
}

// ask shows one prompt and returns the answer. The next stretch begins with
// it.
func (c *conversation) ask(m frame.Message) (string, error) {
	if err := c.await(); err != nil {
		return "", fmt.Errorf("%w: %w", err, authn.ErrConv)
	}
	c.pace.ask()
	answers, err := c.exchange(&m)
	c.pace.restart()
	if err != nil {
		if c.ctx.Err() == nil { // else it was not the user
			c.giveUp(err)
		}
		return "", err
	}
	answer := answers[len(answers)-1]
	c.remember(answer)
	return answer, nil
}

// giveUp ends the call soon after the user did: the provider gets a moment to
// end by itself, and nobody is asked again.
func (c *conversation) giveUp(err error) {
	const grace = time.Second
	if c.broken == nil {
		c.broken = err
		time.AfterFunc(grace, func() { c.clock.cancel(errGaveUp) })
	}
}

// outlive makes the conversation go on after the end of the call's time.
func (c *conversation) outlive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx = context.Background()
}

// flush shows what waits to be shown.
func (c *conversation) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.exchange(nil) // a module that is gone has nobody to tell
}

// over says why nobody can be asked any more, or nil.
func (c *conversation) over() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// exchange sends the held texts and m, if any, to the module as one
// conversation, and reads the host's reply.
func (c *conversation) exchange(m *frame.Message) ([]string, error) {
	messages := c.held
	if m != nil {
		messages = append(messages, *m)
	}
	if c.broken != nil || len(messages) == 0 {
		return nil, c.broken
	}
	if err := c.ctx.Err(); err != nil { // the texts are for explain to show
		return nil, fmt.Errorf("%w: %w", context.Cause(c.ctx), authn.ErrConv)
	}
	c.held = nil
	c.clock.stop()
	defer c.clock.start()
	reply, err := c.roundTrip(messages)
	if err != nil {
		c.broken = fmt.Errorf("the module: %w: %w", err, authn.ErrConv)
		return nil, c.broken
	}
	if reply.Code != 0 {
		return nil, fmt.Errorf("the application's conversation failed (%s): %w", authn.Result(reply.Code).Error(), authn.ErrConv)
	}
	return reply.Answers, nil
}

func (c *conversation) roundTrip(messages []frame.Message) (frame.Reply, error) {
	out, err := frame.Conv(messages)
	if err != nil {
		return frame.Reply{}, err
	}
	if _, err := c.module.Write(out); err != nil {
		return frame.Reply{}, err
	}
	kind, body, err := frame.Read(c.module)
	if err != nil {
		return frame.Reply{}, err
	}
	reply, err := frame.ParseReply(kind, body)
	clear(body)
	if err == nil && reply.Code == 0 && len(reply.Answers) != len(messages) {
		err = errors.New("another number of answers than of questions")
	}
	return reply, err
}

func (c *conversation) remember(answer string) {
	c.typedMu.Lock()
	defer c.typedMu.Unlock()
	c.typed = append(c.typed, answer)
}

// redact takes what the user typed out of a text for the log: people type
// passwords at every prompt. Very short answers stay, since they would turn
// any text into noise and give nothing away.
func (c *conversation) redact(text string) string {
	const short, typed = 6, "<typed>"
	c.typedMu.Lock()
	defer c.typedMu.Unlock()
	// The longest first: one may be the beginning of another.
	slices.SortStableFunc(c.typed, func(a, b string) int { return len(b) - len(a) })
	for _, t := range c.typed {
		if len(t) < short {
			continue
		}
		text = strings.ReplaceAll(text, t, typed)
		// As %q and slog write it.
		quoted := strconv.Quote(t)
		text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], typed)
	}
	return text
}

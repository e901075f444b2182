// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/onelogin/internal/tenant"
)

// Reasons to refuse that are no single request's. They are for the log: the
// user never sees them.
var (
	errUnmapped   = errors.New("user_roles has no such account")
	errNoChoice   = errors.New("answered the menu with what is not on it")
	errNoFactor   = errors.New("no factor that could take this answer")
	errEmpty      = errors.New("an empty code")
	errNoCode     = errors.New("what was typed cannot be a code")
	errWrongCode  = errors.New("wrong code")
	errWrongPass  = errors.New("wrong password")
	errTooOften   = errors.New("3 pushes or codes in 10 minutes: nothing was sent")
	errRejected   = errors.New("rejected on the phone")
	errExpired    = errors.New("expired before anybody approved")
	errUnanswered = errors.New("nobody approved in time")
	errNothing    = errors.New("nothing was sent that could be approved")
)

// What one person can have sent to them.
const (
	maxTriggers   = 3
	triggerWindow = 10 * time.Minute
)

// Authenticate asks for a name and an OTP, and whatever else the configuration
// says, in the same order and at the same pace whoever is asked. What OneLogin
// has to be asked meanwhile is asked while people type.
func (p *Provider) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{p: p, req: req, conv: conv, t: p.tenant(req), allowed: p.Factors}
	defer a.t.Close()
	defer a.running.Wait()
	defer cancel()
	return a.run(ctx)
}

// An attempt is one call of Authenticate.
type attempt struct {
	p       *Provider
	req     *authn.Request
	conv    authn.Conversation
	t       *tenant.Tenant
	allowed []Kind // what this attempt may use
	running sync.WaitGroup

	// why is the first reason to refuse that came up. All that follows goes
	// on as it would without one, but submits and sends nothing.
	why error
}

// refuse notes a reason to refuse.
func (a *attempt) refuse(why error) {
	if a.why == nil {
		a.why = why
	}
}

func (a *attempt) run(ctx context.Context) (authn.Identity, error) {
	open := inBackground(a, func() (struct{}, error) { return struct{}{}, a.t.Open(ctx) })
	name, err := a.conv.Prompt(a.p.Prompts.Name)
	if err != nil {
		return authn.Identity{}, err
	}
	if err := a.menu(); err != nil {
		return authn.Identity{}, err
	}
	if _, err := open(ctx); err != nil {
		return a.fault(err)
	}
	if _, ok := a.p.UserRoles[a.req.User]; !ok {
		a.refuse(errUnmapped)
	}
	var password authn.Secret
	if a.p.RequirePassword {
		if password, err = a.conv.PromptSecret(a.p.Prompts.Password); err != nil {
			return authn.Identity{}, err
		}
	}
	find := inBackground(a, func() (*person, error) { return a.find(ctx, name, password) })
	return a.factor(ctx, find)
}

// fault ends an attempt for a reason that lies with nobody's name.
func (a *attempt) fault(err error) (authn.Identity, error) {
	return authn.Identity{}, a.t.Fault(err)
}

// menu lets the user choose among the allowed kinds, if the configuration says
// so. It is the same for everybody, and chooses nothing but the prompts.
func (a *attempt) menu() error {
	if !a.p.AskFactor {
		return nil
	}
	var items []string
	for i, k := range a.allowed {
		items = append(items, fmt.Sprintf("%d %s", i+1, k))
	}
	answer, err := a.conv.Prompt(fmt.Sprintf("%s (%s; Enter for your default): ", a.p.Prompts.Factor, strings.Join(items, ", ")))
	if err != nil {
		return err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer == "" {
		return nil
	}
	for i, k := range a.allowed {
		if answer == string(k) || answer == strconv.Itoa(i+1) {
			a.allowed = []Kind{k}
			return nil
		}
	}
	a.refuse(errNoChoice)
	return nil
}

// factor asks for the second factor while the person is being found.
func (a *attempt) factor(ctx context.Context, find func(context.Context) (*person, error)) (authn.Identity, error) {
	prompt := a.p.Prompts.OTP
	if prompt == "" {
		prompt = otpPrompt(a.allowed)
	}
	otp, err := a.conv.PromptSecret(prompt)
	if err != nil {
		return authn.Identity{}, err
	}
	sends := otp.IsZero() && slices.ContainsFunc(a.allowed, Kind.sends)
	if sends && !slices.ContainsFunc(a.allowed, Kind.sendsCode) {
		return a.sendAndWait(ctx, find)
	}
	who, err := find(ctx)
	if err != nil {
		return a.fault(err)
	}
	a.refuse(who.why)
	if sends {
		return a.sendAndAsk(ctx, who)
	}
	return a.code(ctx, who, sending{}, otp)
}

// sendAndWait sends a push and waits until it is approved, all of it within the
// limit.
func (a *attempt) sendAndWait(ctx context.Context, find func(context.Context) (*person, error)) (authn.Identity, error) {
	bounded, cancel := a.waiting(ctx)
	defer cancel()
	who, err := find(bounded)
	switch {
	case errors.Is(err, errUnanswered):
		return authn.Identity{}, fmt.Errorf("%w: %w", err, authn.ErrAuth)
	case err != nil:
		return a.fault(err)
	}
	a.refuse(who.why)
	sent := a.send(bounded, who)
	return a.approved(ctx, bounded, who, sent)
}

// pushTimeout is how long an approval is waited for: what the configuration
// says, unless the PAM line gives the whole call less.
func (a *attempt) pushTimeout() time.Duration {
	if line := a.req.Timeout; line > 0 {
		return min(a.p.Push.Timeout, max(line-5*time.Second, line/2))
	}
	return a.p.Push.Timeout
}

// waiting declares that somebody elsewhere is waited for from now on. What is
// asked meanwhile ends with the returned context, a little before the limit: or
// a refusal would come a time step after it, and tell that there was somebody to
// wait for.
func (a *attempt) waiting(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := a.pushTimeout()
	a.conv.Waiting(limit)
	return context.WithTimeoutCause(ctx, limit-min(time.Second, limit/5), errUnanswered)
}

// code submits what was typed, once, if there is somebody to submit it for.
func (a *attempt) code(ctx context.Context, who *person, sent sending, typed authn.Secret) (authn.Identity, error) {
	text := strings.ReplaceAll(typed.Reveal(), " ", "")
	switch {
	case typed.IsZero():
		a.refuse(errEmpty)
	case !isCode(text):
		a.refuse(errNoCode)
	}
	c, verification := sent.choice, sent.verification
	if !sent.done || !c.kind.sendsCode() {
		c, verification = a.takesCode(ctx, who), tenant.Verification{}
	}
	if a.why != nil {
		_ = a.t.VerifyCode(ctx, nobodysID, nobodysDevice, tenant.Verification{}, nobodysCode) // a stand-in
		return a.conclude(ctx, who)
	}
	switch err := a.t.VerifyCode(ctx, who.id, c.device, verification, text); {
	case tenant.Is(err, tenant.Unauthorized):
		a.refuse(errWrongCode)
	case err != nil:
		a.refuse(err)
	}
	return a.conclude(ctx, who)
}

// takesCode is the factor for a code where none was sent to it in this call. A
// code that was sent in an earlier one may still be good; but as OneLogin might
// take the question for a wish to send, it counts like one.
func (a *attempt) takesCode(ctx context.Context, who *person) choice {
	c, ok := forCode(who.devices, a.allowed)
	if !ok {
		a.refuse(errNoFactor)
	}
	if c.kind.sendsCode() {
		a.allow(ctx, who)
	}
	return c
}

// isCode reports whether text could be a code: OneLogin's have letters, too.
func isCode(text string) bool {
	for _, c := range []byte(text) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return text != "" && len(text) <= 64
}

// A sending is what was sent to a person.
type sending struct {
	choice
	verification tenant.Verification
	asked        bool // OneLogin was asked to send it
	done         bool // and has
}

// allow counts one thing that may reach the person, and refuses where it is one
// too many.
func (a *attempt) allow(ctx context.Context, who *person) {
	if a.why != nil {
		return
	}
	switch ok, err := a.req.Allow(ctx, fmt.Sprintf("send:%d", who.id), maxTriggers, triggerWindow); {
	case err != nil:
		a.refuse(fmt.Errorf("nothing was sent: %w", opaque(err)))
	case !ok:
		a.refuse(errTooOften)
	}
}

// send sends a push or a code to the person, if there is one and it is not too
// often.
func (a *attempt) send(ctx context.Context, who *person) sending {
	c, ok := choose(who.devices, a.allowed, Kind.sends)
	if !ok {
		a.refuse(errNoFactor)
	}
	a.allow(ctx, who)
	if a.why != nil {
		return sending{}
	}
	v, err := a.t.Trigger(ctx, who.id, c.device)
	if err != nil {
		a.refuse(err)
	}
	return sending{choice: c, verification: v, asked: true, done: err == nil}
}

// sendAndAsk sends, and asks for the code that may have been sent.
func (a *attempt) sendAndAsk(ctx context.Context, who *person) (authn.Identity, error) {
	sent := a.send(ctx, who)
	if !sent.asked {
		_, _ = a.t.Trigger(ctx, nobodysID, nobodysDevice) // a stand-in
	}
	typed, err := a.conv.PromptSecret(a.p.Prompts.Code)
	if err != nil {
		return authn.Identity{}, err
	}
	if typed.IsZero() {
		bounded, cancel := a.waiting(ctx)
		defer cancel()
		return a.approved(ctx, bounded, who, sent)
	}
	return a.code(ctx, who, sent, typed)
}

// approved waits until the person has approved what was sent, or has not, or
// bounded ends. It returns at once where nothing can be approved: the framework
// shows every refusal at the limit.
func (a *attempt) approved(ctx, bounded context.Context, who *person, sent sending) (authn.Identity, error) {
	if !sent.done || !sent.kind.approves() {
		a.refuse(errNothing)
	}
	if a.why == nil {
		a.refuse(a.poll(bounded, who, sent))
	}
	if a.why != nil {
		return authn.Identity{}, a.refusal(who)
	}
	return a.conclude(ctx, who)
}

// poll returns nil once the person has approved. An answer that is none is
// bridged: the push is on the phone all the same.
func (a *attempt) poll(ctx context.Context, who *person, sent sending) error {
	tick := time.NewTicker(a.p.Push.Interval)
	defer tick.Stop()
	last := errUnanswered
	for {
		outcome, err := a.t.Poll(ctx, who.id, sent.device, sent.verification)
		switch {
		case err == nil && outcome == tenant.Accepted:
			return nil
		case ctx.Err() != nil:
			return ended(ctx, last)
		case tenant.Is(err, tenant.Unauthorized), tenant.Is(err, tenant.Unscoped):
			return err
		case err != nil:
			last = fmt.Errorf("%w; lately: %w", errUnanswered, err)
		case outcome == tenant.Rejected:
			return errRejected
		case outcome == tenant.Expired:
			return errExpired
		default:
			last = errUnanswered
		}
		select {
		case <-ctx.Done():
			return ended(ctx, last)
		case <-tick.C:
		}
	}
}

// ended says why a poll was given up: last, if its time was over.
func ended(ctx context.Context, last error) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errUnanswered) {
		return cause
	}
	return last
}

// conclude looks at the person once more, now that the factor is proven or not,
// and decides.
func (a *attempt) conclude(ctx context.Context, who *person) (authn.Identity, error) {
	user, err := a.t.User(ctx, who.id)
	switch {
	case err == nil:
		a.refuse(standing(user))
		a.refuse(a.p.role(a.req.User, user))
	case personal(err):
		a.refuse(err)
	default:
		return a.fault(err)
	}
	if a.why != nil {
		return authn.Identity{}, a.refusal(who)
	}
	kept, err := json.Marshal(ticket{user.ID})
	if err != nil {
		return authn.Identity{}, err
	}
	return authn.Identity{Subject: subject(user), Ticket: kept}, nil
}

// refusal is what the log says: who it was, if that is somebody, and why. The
// number is there because the framework takes out of the log what was typed, and
// that was often the name.
func (a *attempt) refusal(who *person) error {
	if who.known {
		return fmt.Errorf("%s (id %d): %w: %w", subject(who.user), who.id, opaque(a.why), authn.ErrAuth)
	}
	return fmt.Errorf("%w: %w", opaque(a.why), authn.ErrAuth)
}

// opaque keeps the text of an error and nothing else: a refusal is auth_err
// whatever came before.
func opaque(err error) error { return errors.New(err.Error()) }

// inBackground runs f. The returned function waits for it, or for the end of a
// context.
func inBackground[T any](a *attempt, f func() (T, error)) func(context.Context) (T, error) {
	type result struct {
		value T
		err   error
	}
	ch := make(chan result, 1)
	a.running.Go(func() {
		value, err := f()
		ch <- result{value, err}
	})
	return func(ctx context.Context) (T, error) {
		select {
		case r := <-ch:
			return r.value, r.err
		case <-ctx.Done():
			var zero T
			return zero, context.Cause(ctx)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package call serves one call of PAM: it reads the line and the
// configuration, has the provider decide, and says what the module is to
// return.
package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/journal"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
)

// startTimeout bounds the start of a provider, which takes milliseconds.
const startTimeout = 10 * time.Second

// Call is one call of PAM.
type Call struct {
	Start   frame.Start
	Module  io.ReadWriter // the frame socket
	Journal *journal.Journal
	Began   time.Time

	line   line.Line
	conv   *conversation
	pace   pace
	config *config.Config
	stderr launch.Head
}

// Serve serves the call and returns what the module is to do.
func (c *Call) Serve(ctx context.Context) frame.Result {
	var lineErr error
	c.line, lineErr = line.Parse(c.Start.Words)
	c.Journal.Debug = c.line.Debug
	c.pace.begin = c.Began

	ctx, clock := newClock(ctx, c.line.Timeout)
	c.conv = &conversation{
		ctx: ctx, clock: clock, pace: &c.pace, module: c.Module,
		silent:   c.Start.Flags&frame.Silent != 0,
		useFirst: c.line.UseFirstPass,
	}
	if c.line.TryFirstPass || c.line.UseFirstPass {
		c.conv.token = c.Start.Token
	}
	if !c.Start.Exists { // people type passwords where a name is asked for
		c.conv.remember(c.Start.User)
	}
	id, err := c.decide(ctx, lineErr)
	result := authn.ResultOf(err)
	// Who gave up need not wait: their own doing tells them nothing.
	if c.conv.over() == nil {
		_ = c.pace.hold(ctx, err == nil) // at most until the line's timeout, which ends no success
	}
	c.log(id, result, err)
	c.explain(result)
	return c.result(id, result)
}

// decide has the provider decide.
func (c *Call) decide(ctx context.Context, lineErr error) (authn.Identity, error) {
	if lineErr != nil {
		return authn.Identity{}, fault(lineErr)
	}
	var err error
	if c.config, err = config.Load(c.line.Config); err != nil {
		return authn.Identity{}, fault(err)
	}
	c.setStep(c.config.Framework.Step)
	p, err := launch.Start(ctx, launch.Spec{
		Program: c.line.Program, Framework: c.config.Framework, Stderr: &c.stderr,
		Timeout: min(startTimeout, c.line.Timeout), // go-plugin's start knows no context
	})
	defer p.Close() //nolint:staticcheck // with an error, too: there may be a process
	if p.Sandbox != "" {
		c.Journal.Line(journal.Warning, "provider", c.line.Name, "log", p.Sandbox)
	}
	if err != nil {
		err = p.Died(err)
		p.Kill()
		p.Ended() // what it wrote to standard error comes with its end
		return authn.Identity{}, unready(c.ended(ctx, fault(err)))
	}
	c.Journal.Debugf("provider %s version %s runs as process %d", c.line.Program, p.Description().Version, p.Pid())
	if err := c.config.CheckSecrets(p.Description().SecretKeys); err != nil {
		return authn.Identity{}, fault(err)
	}
	p.Config, p.Started, p.Log = c.config.Provider, c.started, c.providerLog
	id, err := c.dispatch(withLimits(ctx, c.line.Name), p)
	return id, c.ended(ctx, p.Died(err))
}

// fault makes err a system_err, whatever it wraps.
func fault(err error) error {
	return fmt.Errorf("%s: %w", strings.TrimSuffix(err.Error(), ": "+authn.ErrSystem.Error()), authn.ErrSystem)
}

// unready says that the time was over before the provider had its say.
func unready(err error) error {
	if errors.Is(err, errTimeout) {
		return fmt.Errorf("the provider did not get ready: %w", err)
	}
	return err
}

// ended says so where err comes from our ending the call, which reaches us as
// some broken connection.
func (c *Call) ended(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case errors.Is(cause, errTimeout):
		return fmt.Errorf("%w (%s): %w", errTimeout, c.line.Timeout, authn.ErrSystem)
	case errors.Is(cause, errGaveUp):
		return fmt.Errorf("%w: %w", errGaveUp, authn.ErrConv)
	}
	return err
}

// started hears which time step the provider's configuration asks for, or the
// provider by default.
func (c *Call) started(step time.Duration, byDefault bool) error {
	if err := c.config.CheckStep(step, byDefault); err != nil {
		return fault(err)
	}
	if step > 0 && c.config.Framework.Step == 0 {
		c.setStep(step)
	}
	return nil
}

// setStep makes time uniform where a stranger may be asking. Who gets to the
// account and session phases is known to the application already.
func (c *Call) setStep(step time.Duration) {
	if c.Start.Call == frame.Authenticate || c.Start.Call == frame.Password {
		c.pace.setStep(step)
	}
}

// log writes the one line of this call.
func (c *Call) log(id authn.Identity, result authn.Result, err error) {
	if c.stderr.Len() > 0 {
		c.Journal.Debugf("the provider wrote to standard error: %s", c.conv.redact(c.stderr.String()))
	}
	user := "?"
	if result == authn.Success || c.Start.Exists {
		user = c.Start.User
	}
	if id.Subject == "" && result == authn.Success && !c.Start.Claimed {
		id.Subject = c.Start.Subject
	}
	claimed := ""
	if c.Start.Claimed {
		claimed = c.Start.Subject
	}
	c.Journal.Line(level(result),
		"provider", c.line.Name, "user", user, "subject", id.Subject, "claimed_subject", claimed,
		"rhost", c.Start.RHost, "tty", c.Start.TTY, "ruser", c.Start.RUser,
		"result", result.Error(), "reason", c.reason(err, result),
		"ms", strconv.FormatInt(time.Since(c.Began).Milliseconds(), 10))
}

// reason is why a call was refused, without what PAM's word says anyway.
func (c *Call) reason(err error, result authn.Result) string {
	if err == nil {
		return ""
	}
	text := strings.TrimSuffix(c.conv.redact(err.Error()), ": "+result.Error())
	if text == result.Error() {
		return ""
	}
	return strings.ReplaceAll(text, "\n", "; ")
}

func level(r authn.Result) journal.Level {
	switch r {
	case authn.Success, authn.ErrIgnore:
		return journal.Info
	case authn.ErrAuthInfoUnavail:
		return journal.Alert // administrators let it choose a fallback
	case authn.ErrSystem, authn.ErrService, authn.ErrCredInsufficient:
		return journal.Err
	}
	return journal.Notice
}

// explain tells the user that it is not their fault.
func (c *Call) explain(r authn.Result) {
	// The time may be over, but what there is to say is for the user to read.
	c.conv.outlive()
	switch r {
	case authn.ErrSystem, authn.ErrService, authn.ErrCredInsufficient, authn.ErrAuthInfoUnavail:
		_ = c.conv.Error(fmt.Sprintf("This login is not possible at the moment (reference %s).", c.Start.ID))
	}
	c.conv.flush()
}

// result is what the module hears. What a login gets, it gets only with
// success.
func (c *Call) result(id authn.Identity, r authn.Result) frame.Result {
	res := frame.Result{Code: int(r)}
	if r != authn.Success || authn.Call(c.Start.Call) != authn.CallAuthenticate {
		return res
	}
	res.Subject, res.Ticket = id.Subject, id.Ticket
	for name, value := range id.Env {
		res.Variables = append(res.Variables, name+"="+value)
	}
	sort.Strings(res.Variables)
	res.Variables = append(res.Variables,
		authn.EnvProvider+"="+c.line.Name, authn.EnvSubject+"="+id.Subject, authn.EnvID+"="+c.Start.ID)
	return res
}

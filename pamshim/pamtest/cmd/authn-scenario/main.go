// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-scenario is a provider for tests: its configuration says, call by
// call, what it does.
//
//	authenticate:
//	  - info: "the door is guarded"
//	  - secret: "Password: "
//	    expect: open sesame           # else auth_err
//	  - succeed: {subject: "%u@example.com", env: {AUTHN_X: "1"}, ticket: abc}
//	account:
//	  - result: new_authtok_reqd
//	    reason: too old
//
// Steps run in order until one ends the call. A call whose steps do not end it
// succeeds, Authenticate for the account's name. It is never installed; package
// pamtest builds it for tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
)

// Config says what each call does.
type Config struct {
	Authenticate      []Step `yaml:"authenticate"`
	Account           []Step `yaml:"account"`
	SetCred           []Step `yaml:"setcred"`
	OpenSession       []Step `yaml:"open_session"`
	CloseSession      []Step `yaml:"close_session"`
	CanChangePassword []Step `yaml:"can_change_password"` // chauthtok's first pass
	ChangePassword    []Step `yaml:"change_password"`     // and its second

	Step   time.Duration `yaml:"step"`   // authn.WithStep
	Secret authn.Secret  `yaml:"secret"` // has no use but to be one
}

// A Step is one thing to do: one of the first group, with what it needs of the
// second.
type Step struct {
	Prompt  *string        `yaml:"prompt"`  // ask, shown as typed
	Hidden  *string        `yaml:"secret"`  // ask, hidden
	Info    *string        `yaml:"info"`    // tell
	Error   *string        `yaml:"error"`   // tell that something is wrong
	Waiting *time.Duration `yaml:"waiting"` // a person decides elsewhere
	Sleep   *time.Duration `yaml:"sleep"`   // deaf to the end of the call
	Allow   *string        `yaml:"allow"`   // count this key; auth_err if it is not among the first n of window
	Log     *string        `yaml:"log"`     // a line of level
	Echo    bool           `yaml:"echo"`    // a log line with the request and the credential operation
	Ticket  *string        `yaml:"expect_ticket"`
	Stderr  *string        `yaml:"stderr"` // write there
	Panic   *string        `yaml:"panic"`
	Exit    *int           `yaml:"exit"`
	Signal  *int           `yaml:"signal"` // to this process; 19 stops it
	Spawn   []string       `yaml:"spawn"`  // start a program in a session of its own, and leave it
	Result  *string        `yaml:"result"` // end the call with pam.conf's word
	Succeed *Identity      `yaml:"succeed"`

	Expect *string       `yaml:"expect"` // the right answer; without it, any
	Forget bool          `yaml:"forget"` // go on although the step failed
	N      int           `yaml:"n"`
	Window time.Duration `yaml:"window"`
	Level  slog.Level    `yaml:"level"`
	Reason string        `yaml:"reason"`
}

// An Identity is what a successful Authenticate says. In Subject, %u is the
// account's name.
type Identity struct {
	Subject string            `yaml:"subject"`
	Env     map[string]string `yaml:"env"`
	Ticket  string            `yaml:"ticket"`
}

// Provider plays the scenario.
type Provider struct {
	config Config
	log    *slog.Logger
}

var (
	_ authn.AccountManager   = (*Provider)(nil)
	_ authn.CredentialSetter = (*Provider)(nil)
	_ authn.SessionManager   = (*Provider)(nil)
	_ authn.PasswordChanger  = (*Provider)(nil)
)

// New returns the scenario's provider.
func New(c Config, log *slog.Logger) (authn.Authenticator, error) {
	return authn.WithStep(&Provider{c, log}, c.Step), nil
}

// Authenticate implements [authn.Authenticator].
func (p *Provider) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	s := p.scene(ctx, req, conv)
	s.id.Subject = req.User
	err := s.play(p.config.Authenticate)
	return s.id, err
}

// CheckAccount implements [authn.AccountManager].
func (p *Provider) CheckAccount(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return p.scene(ctx, req, conv).play(p.config.Account)
}

// SetCredentials implements [authn.CredentialSetter].
func (p *Provider) SetCredentials(ctx context.Context, req *authn.Request, op authn.CredentialOp) error {
	s := p.scene(ctx, req, nil)
	s.op = op.String()
	return s.play(p.config.SetCred)
}

// OpenSession implements [authn.SessionManager].
func (p *Provider) OpenSession(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return p.scene(ctx, req, conv).play(p.config.OpenSession)
}

// CloseSession implements [authn.SessionManager].
func (p *Provider) CloseSession(ctx context.Context, req *authn.Request) error {
	return p.scene(ctx, req, nil).play(p.config.CloseSession)
}

// CanChangePassword implements [authn.PasswordChanger].
func (p *Provider) CanChangePassword(ctx context.Context, req *authn.Request) error {
	return p.scene(ctx, req, nil).play(p.config.CanChangePassword)
}

// ChangePassword implements [authn.PasswordChanger].
func (p *Provider) ChangePassword(ctx context.Context, req *authn.Request, conv authn.Conversation) error {
	return p.scene(ctx, req, conv).play(p.config.ChangePassword)
}

// A scene is one call.
type scene struct {
	ctx  context.Context
	req  *authn.Request
	conv authn.Conversation // nil where the call has none
	log  *slog.Logger
	op   string
	id   authn.Identity
}

func (p *Provider) scene(ctx context.Context, req *authn.Request, conv authn.Conversation) *scene {
	return &scene{ctx: ctx, req: req, conv: conv, log: p.log}
}

// errEnd ends a scene with success.
var errEnd = errors.New("end")

func (s *scene) play(steps []Step) error {
	for _, step := range steps {
		err := s.step(step)
		if errors.Is(err, errEnd) {
			return nil
		}
		if err != nil && !step.Forget {
			return err
		}
	}
	return nil
}

func (s *scene) step(t Step) error {
	switch {
	case t.Prompt != nil:
		answer, err := s.conv.Prompt(*t.Prompt)
		return judge(t, answer, err)
	case t.Hidden != nil:
		answer, err := s.conv.PromptSecret(*t.Hidden)
		return judge(t, answer.Reveal(), err)
	case t.Info != nil:
		return s.conv.Info(*t.Info)
	case t.Error != nil:
		return s.conv.Error(*t.Error)
	case t.Waiting != nil:
		s.conv.Waiting(*t.Waiting)
	case t.Sleep != nil:
		time.Sleep(*t.Sleep)
	case t.Allow != nil:
		return s.allow(t)
	case t.Log != nil:
		s.log.Log(s.ctx, t.Level, *t.Log)
	case t.Echo:
		s.echo()
	case t.Ticket != nil:
		return s.ticket(*t.Ticket)
	case t.Result != nil:
		return result(t)
	case t.Succeed != nil:
		subject := strings.ReplaceAll(t.Succeed.Subject, "%u", s.req.User)
		s.id = authn.Identity{Subject: subject, Env: t.Succeed.Env, Ticket: []byte(t.Succeed.Ticket)}
		return errEnd
	default:
		return s.misbehave(t)
	}
	return nil
}

func judge(t Step, answer string, err error) error {
	if err != nil {
		return err
	}
	if t.Expect != nil && answer != *t.Expect {
		return fmt.Errorf("wrong answer: %w", authn.ErrAuth)
	}
	return nil
}

func (s *scene) allow(t Step) error {
	ok, err := s.req.Allow(s.ctx, *t.Allow, t.N, t.Window)
	if err != nil {
		return fmt.Errorf("%w: %w", err, authn.ErrSystem)
	}
	if !ok {
		return fmt.Errorf("too often: %w", authn.ErrAuth)
	}
	return nil
}

func (s *scene) ticket(want string) error {
	if string(s.req.Ticket) != want {
		return fmt.Errorf("another ticket than expected, of %d bytes: %w", len(s.req.Ticket), authn.ErrSystem)
	}
	return nil
}

// echo logs what the call was given; of the ticket, which is nobody's
// business, only its size.
func (s *scene) echo() {
	r := s.req
	s.log.Info("request", "service", r.Service, "user", r.User, "rhost", r.RHost, "tty", r.TTY, "ruser", r.RUser,
		"args", r.Args, "subject", r.Subject, "claimed", r.ClaimedSubject, "ticket", len(r.Ticket),
		"files", fmt.Sprintf("%q", r.Files), "silent", r.Silent, "expired", r.Expired, "timeout", r.Timeout, "op", s.op)
}

func result(t Step) error {
	r, ok := authn.ParseResult(*t.Result)
	if !ok {
		return fmt.Errorf("the scenario has an unknown result %q", *t.Result)
	}
	if t.Reason == "" {
		return r
	}
	return fmt.Errorf("%s: %w", t.Reason, r)
}

func (s *scene) misbehave(t Step) error {
	switch {
	case t.Stderr != nil:
		_, err := syscall.Write(2, []byte(*t.Stderr+"\n")) // go-plugin keeps os.Stderr
		return err
	case t.Panic != nil:
		panic(*t.Panic)
	case t.Exit != nil:
		os.Exit(*t.Exit)
	case t.Signal != nil:
		return syscall.Kill(os.Getpid(), syscall.Signal(*t.Signal))
	case t.Spawn != nil:
		cmd := exec.Command(t.Spawn[0], t.Spawn[1:]...) //nolint:gosec // the test's own
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Start()
	}
	return errors.New("the scenario has an empty step")
}

func main() { plugin.Main(New) }

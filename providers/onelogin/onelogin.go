// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package onelogin is the provider that logs people in to shared accounts with
// their OneLogin name and an OTP or push. Which account somebody may use is
// decided by their roles.
//
// It goes to some length to treat everybody alike: for a name that nobody has,
// that is locked, or that has no factor, the same requests go to OneLogin, the
// same prompts are shown, and the same time passes as for one that gets in, up
// to the first thing that needs a real device. See README.md.
package onelogin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/onelogin/internal/tenant"
)

// defaultStep is the uniform time step where the configuration says nothing:
// the predecessor's.
const defaultStep = 1500 * time.Millisecond

// Provider asks OneLogin.
type Provider struct {
	settings
	log *slog.Logger
}

var (
	_ authn.Authenticator  = (*Provider)(nil)
	_ authn.AccountManager = (*Provider)(nil)
	_ authn.SessionManager = (*Provider)(nil)
)

// New reports every problem of the configuration at once. It asks nobody.
func New(c Config, log *slog.Logger) (*Provider, error) {
	s, err := c.check()
	if err != nil {
		return nil, err
	}
	return &Provider{s, log}, nil
}

// Step is the uniform time step: see [authn.WithStep].
func (p *Provider) Step() time.Duration { return p.step }

// DefaultStep reports whether the configuration left the step open: see
// [authn.WithDefaultStep].
func (p *Provider) DefaultStep() bool { return p.RequestDuration == nil }

// tenant returns the connection for one call.
func (p *Provider) tenant(req *authn.Request) *tenant.Tenant {
	return tenant.New(tenant.Options{
		Base:         p.base,
		ClientID:     p.ClientID,
		ClientSecret: p.ClientSecret,
		Roots:        p.roots,
		Proxy:        p.proxy,
		Patience:     req.Timeout / 2,
		Log:          p.log,
	})
}

// A ticket is what CheckAccount needs to know of a login.
type ticket struct {
	ID int64 `json:"id"` // the user's, at OneLogin
}

// CheckAccount asks once more whether the person who logged in may be here.
// Where this provider logged nobody in, as after a public key, it has no say.
func (p *Provider) CheckAccount(ctx context.Context, req *authn.Request, _ authn.Conversation) error {
	if len(req.Ticket) == 0 {
		return authn.ErrIgnore
	}
	var who ticket
	if err := json.Unmarshal(req.Ticket, &who); err != nil || who.ID <= 0 {
		return fmt.Errorf("the ticket of this login is not ours: %w", authn.ErrPermDenied)
	}
	t := p.tenant(req)
	defer t.Close()
	user, err := t.User(ctx, who.ID)
	if err != nil && !tenant.Is(err, tenant.NotFound) {
		return t.Fault(err)
	}
	if err == nil {
		err = standing(user)
	}
	if err == nil {
		err = p.role(req.User, user)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", req.Subject, err, authn.ErrPermDenied)
	}
	return nil
}

// OpenSession notes who is behind the account. The call's own log line names
// them, too; this one says so in OneLogin's terms.
func (p *Provider) OpenSession(_ context.Context, req *authn.Request, _ authn.Conversation) error {
	p.session("session opened", req)
	return nil
}

// CloseSession notes who was.
func (p *Provider) CloseSession(_ context.Context, req *authn.Request) error {
	p.session("session closed", req)
	return nil
}

func (p *Provider) session(what string, req *authn.Request) {
	switch {
	case req.Subject != "":
		p.log.Info(what, "account", req.User, "subject", req.Subject)
	case req.ClaimedSubject != "":
		p.log.Info(what, "account", req.User, "claimed_subject", req.ClaimedSubject)
	default:
		p.log.Info(what, "account", req.User)
	}
}

// standing says why OneLogin would not let the user in; nil: it would.
func standing(u tenant.User) error {
	switch {
	case u.Status != 1:
		return fmt.Errorf("status %s, not active", word(u.Status, statuses))
	case u.State != 1:
		return fmt.Errorf("state %s, not approved", word(u.State, states))
	case u.Unread:
		return errors.New("locked until a time that cannot be read")
	case u.Locked.After(time.Now()):
		return fmt.Errorf("locked until %s", u.Locked.UTC().Format(time.RFC3339))
	}
	return nil
}

// What OneLogin's pages call the numbers.
var (
	statuses = map[int64]string{
		0: "unactivated", 1: "active", 2: "suspended", 3: "locked", 4: "password expired",
		5: "awaiting password reset", 7: "password pending", 8: "security questions required",
	}
	states = map[int64]string{0: "unapproved", 1: "approved", 2: "rejected", 3: "unlicensed"}
)

func word(n int64, words map[int64]string) string {
	if n < 0 {
		return "unknown"
	}
	if w, ok := words[n]; ok {
		return fmt.Sprintf("%d (%s)", n, w)
	}
	return fmt.Sprint(n)
}

// role says why the user may not use the account; nil: they may.
func (p *Provider) role(account string, u tenant.User) error {
	wanted, ok := p.UserRoles[account]
	if !ok {
		return errUnmapped
	}
	for _, id := range wanted {
		if slices.Contains(u.Roles, id) {
			return nil
		}
	}
	return fmt.Errorf("without a role for this account (%s)", roleList(wanted))
}

func roleList(ids RoleIDs) string {
	if len(ids) == 1 {
		return fmt.Sprintf("role %d", ids[0])
	}
	return fmt.Sprintf("one of the roles %d", []int64(ids))
}

// subject is who a user is, for the log and the session.
func subject(u tenant.User) string {
	switch {
	case u.Username != "":
		return u.Username
	case u.Email != "":
		return u.Email
	}
	return fmt.Sprintf("id:%d", u.ID)
}

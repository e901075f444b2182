// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/onelogin/internal/tenant"
)

// Reasons to refuse a name.
var (
	errOddName = errors.New("a name that nobody can have")
	errNobody  = errors.New("nobody answers to the typed name")
	errSeveral = errors.New("more than one person answers to the typed name")
)

// A person is who answers to a typed name, or nobody.
type person struct {
	id      int64 // nobody's if not known
	known   bool
	user    tenant.User
	devices []tenant.Device
	why     error // not to let them in; nil: none yet
}

// nobodysID is asked for where there is nobody, so that the same is asked for
// everybody; no tenant gets this far. What needs a factor is asked for a device
// and a code that nobody has, in place of one that must not be asked for.
const (
	nobodysID   = 1<<31 - 1
	nobodysCode = "000000"
)

var nobodysDevice = tenant.Device{ID: 1}

const maxName = 254 // bytes, as of an email address

// find finds the person behind a typed name. It asks the same, in the same
// order, whether or not there is one. Its error is no person's fault.
func (a *attempt) find(ctx context.Context, typed string, password authn.Secret) (*person, error) {
	name, odd := strings.TrimSpace(typed), false
	if odd = !proper(name); odd {
		name = "nobody-" + strings.ToLower(rand.Text()) // asked for in its place
	}
	byEmail, byUsername, emailErr, usernameErr := both(
		func() ([]tenant.User, error) { return a.t.UsersByEmail(ctx, name) },
		func() ([]tenant.User, error) { return a.t.UsersByUsername(ctx, name) })
	if err := cmp.Or(emailErr, usernameErr); err != nil {
		return nil, err
	}
	who := match(name, byEmail, byUsername)
	if odd {
		who = &person{id: nobodysID, why: errOddName}
	}
	if err := a.look(ctx, who); err != nil {
		return nil, err
	}
	if a.p.RequirePassword {
		return who, a.password(ctx, who, name, password)
	}
	return who, nil
}

// proper reports whether a name may be asked for. OneLogin takes an asterisk
// for a wildcard, and an exclamation mark at the start for a word of its own.
func proper(name string) bool {
	return name != "" && len(name) <= maxName && utf8.ValidString(name) &&
		!strings.Contains(name, "*") && !strings.HasPrefix(name, "!") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// match finds the one person whose email address or username is the name.
// Letter case does not count; where that leaves several, nobody gets in.
func match(name string, byEmail, byUsername []tenant.User) *person {
	found := map[int64]tenant.User{}
	for _, u := range byEmail {
		if strings.EqualFold(u.Email, name) {
			found[u.ID] = u
		}
	}
	for _, u := range byUsername {
		if strings.EqualFold(u.Username, name) {
			found[u.ID] = u
		}
	}
	switch len(found) {
	case 0:
		return &person{id: nobodysID, why: errNobody}
	case 1:
		for id, u := range found {
			return &person{id: id, known: true, user: u}
		}
	}
	return &person{id: nobodysID, why: errSeveral}
}

// look asks for the user as they are now, and for their factors.
func (a *attempt) look(ctx context.Context, who *person) error {
	user, devices, userErr, devicesErr := both(
		func() (tenant.User, error) { return a.t.User(ctx, who.id) },
		func() ([]tenant.Device, error) { return a.t.Devices(ctx, who.id) })
	for _, err := range []error{userErr, devicesErr} {
		if err != nil && !personal(err) {
			return err
		}
	}
	if !who.known {
		return nil
	}
	if userErr == nil {
		who.user, who.devices, who.why = user, devices, standing(user)
	}
	who.why = cmp.Or(who.why, userErr, devicesErr)
	if tenant.Is(devicesErr, tenant.Unauthorized) || tenant.Is(devicesErr, tenant.Unscoped) {
		a.p.log.Error(devicesErr.Error()) // if it is for want of a scope, nobody gets in
	}
	return nil
}

// personal reports whether err is an answer that may be about one person: they
// are gone, or OneLogin keeps them to itself, which may also be for want of a
// scope. Such an answer must not look different from one about nobody.
func personal(err error) bool {
	var e *tenant.Error
	return errors.As(err, &e) && e.Kind != tenant.RateLimited && e.Status >= 400 && e.Status < 500
}

// password has OneLogin check the password, once. A wrong one is refused at the
// end, like everything else.
func (a *attempt) password(ctx context.Context, who *person, name string, password authn.Secret) error {
	if who.known {
		name = subject(who.user)
	}
	if password.IsZero() {
		who.why = cmp.Or(who.why, errWrongPass)
		return nil
	}
	err := a.t.VerifyPassword(ctx, a.p.Subdomain, name, password.Reveal())
	if personal(err) {
		who.why = cmp.Or(who.why, errWrongPass)
		return nil
	}
	return err
}

// both runs two requests at a time.
func both[A, B any](left func() (A, error), right func() (B, error)) (a A, b B, leftErr, rightErr error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, leftErr = left()
	}()
	b, rightErr = right()
	<-done
	return a, b, leftErr, rightErr
}

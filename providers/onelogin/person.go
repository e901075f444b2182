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
// everybody. No tenant gets this far.
const nobodysID = 1<<31 - 1

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
	who := &person{id: nobodysID, why: errNobody}
	consider := func(u tenant.User, is string) {
		switch {
		case !strings.EqualFold(is, name):
		case !who.known:
			who = &person{id: u.ID, known: true, user: u}
		case who.id != u.ID:
			who = &person{id: nobodysID, known: true, why: errSeveral}
		}
	}
	for _, u := range byEmail {
		consider(u, u.Email)
	}
	for _, u := range byUsername {
		consider(u, u.Username)
	}
	if who.why != nil {
		who.known = false
	}
	return who
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
	return nil
}

// personal reports whether err may be about one person: they are gone, or
// OneLogin keeps them to itself, which may also be for want of a scope. Such an
// answer must not look different from one about nobody.
func personal(err error) bool {
	return tenant.Is(err, tenant.NotFound) || tenant.Is(err, tenant.Unauthorized)
}

// password has OneLogin check the password, once. A wrong one is refused at the
// end, like everything else.
func (a *attempt) password(ctx context.Context, who *person, name string, password authn.Secret) error {
	if who.known {
		name = subject(who.user)
	}
	err := a.t.VerifyPassword(ctx, a.p.Subdomain, name, password.Reveal())
	if err == nil || tenant.Is(err, tenant.Unauthorized) {
		if err != nil && who.why == nil {
			who.why = errWrongPass
		}
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

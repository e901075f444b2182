// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/limit"
)

type plain struct{}

func (plain) Authenticate(context.Context, *authn.Request, authn.Conversation) (authn.Identity, error) {
	return authn.Identity{Subject: "mittens"}, nil
}

// able has every capability.
type able struct{ plain }

func (able) CheckAccount(context.Context, *authn.Request, authn.Conversation) error { return nil }
func (able) SetCredentials(context.Context, *authn.Request, authn.CredentialOp) error {
	return nil
}
func (able) OpenSession(context.Context, *authn.Request, authn.Conversation) error { return nil }
func (able) CloseSession(context.Context, *authn.Request) error                    { return nil }
func (able) CanChangePassword(context.Context, *authn.Request) error               { return nil }
func (able) ChangePassword(context.Context, *authn.Request, authn.Conversation) error {
	return nil
}

// capable says which of the four capabilities As finds, and whether what it
// found is there.
func capable(a authn.Authenticator) (found [4]bool) {
	var values [4]any
	values[0], found[0] = get(authn.As[authn.AccountManager](a))
	values[1], found[1] = get(authn.As[authn.CredentialSetter](a))
	values[2], found[2] = get(authn.As[authn.SessionManager](a))
	values[3], found[3] = get(authn.As[authn.PasswordChanger](a))
	for i := range found {
		if found[i] != (values[i] != nil) {
			panic("As says something else than it returns")
		}
	}
	return found
}

func get[T any](v T, ok bool) (any, bool) { return v, ok }

func TestAs(t *testing.T) {
	all, none := [4]bool{true, true, true, true}, [4]bool{}
	tests := []struct {
		name string
		a    authn.Authenticator
		want [4]bool
	}{
		{"a_plain_provider_has_none", plain{}, none},
		{"methods_are_found", able{}, all},
		{"a_wrapper_has_none_of_its_own", authn.WithStep(plain{}, time.Second), none},
		{"a_wrapper_answers_for_what_it_wraps", authn.WithStep(able{}, time.Second), all},
		{"so_do_two_of_them", authn.WithStep(authn.WithStep(able{}, 0), time.Second), all},
		{"nothing_has_none", nil, none},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := capable(tt.a); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	if _, ok := authn.As[error](authn.WithStep(able{}, 0)); ok {
		t.Error("a wrapper claims to be what it does not know")
	}
}

func TestWithStep(t *testing.T) {
	a := authn.WithStep(plain{}, 1500*time.Millisecond)
	if s, ok := a.(interface{ Step() time.Duration }); !ok || s.Step() != 1500*time.Millisecond {
		t.Error("the step is lost")
	}
	if id, err := a.Authenticate(t.Context(), &authn.Request{}, nil); id.Subject != "mittens" || err != nil {
		t.Errorf("Authenticate: %v, %v", id, err)
	}
}

func TestAllow(t *testing.T) {
	full := errors.New("disk full")
	tests := []struct {
		name   string
		key    string
		n      int
		window time.Duration
		ok     bool
		store  error
		want   string // in the error
	}{
		{name: "the_store_decides", key: "k", n: 1, window: time.Second, ok: true},
		{name: "the_store_refuses", key: "k", n: 1, window: time.Second},
		{name: "the_largest_values_are_possible", key: strings.Repeat("k", authn.MaxAllowKey), n: authn.MaxAllowCount, window: authn.MaxAllowWindow, ok: true},
		{name: "a_broken_store_is_an_error", key: "k", n: 1, window: time.Second, ok: true, store: full, want: "disk full"},
		{name: "no_key_is_out_of_bounds", n: 1, window: time.Second, ok: true, want: "out of bounds"},
		{name: "a_long_key_is_out_of_bounds", key: strings.Repeat("k", authn.MaxAllowKey+1), n: 1, window: time.Second, ok: true, want: "out of bounds"},
		{name: "zero_uses_are_out_of_bounds", key: "k", window: time.Second, ok: true, want: "out of bounds"},
		{name: "negative_uses_are_out_of_bounds", key: "k", n: -1, window: time.Second, ok: true, want: "out of bounds"},
		{name: "many_uses_are_out_of_bounds", key: "k", n: authn.MaxAllowCount + 1, window: time.Second, ok: true, want: "out of bounds"},
		{name: "no_window_is_out_of_bounds", key: "k", n: 1, ok: true, want: "out of bounds"},
		{name: "a_long_window_is_out_of_bounds", key: "k", n: 1, window: authn.MaxAllowWindow + 1, ok: true, want: "out of bounds"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := limit.With(t.Context(), func(_ context.Context, key string, n int, window time.Duration) (bool, error) {
				if key != tt.key || n != tt.n || window != tt.window {
					t.Errorf("the store hears %q, %d, %s", key, n, window)
				}
				return tt.ok, tt.store
			})
			got, err := new(authn.Request).Allow(ctx, tt.key, tt.n, tt.window)
			switch {
			case tt.want == "" && (err != nil || got != tt.ok):
				t.Errorf("got %v, %v, want %v", got, err, tt.ok)
			case tt.want != "" && (err == nil || got || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, %v, want false and %q", got, err, tt.want)
			}
		})
	}
}

func TestAllowWithoutAStoreErrs(t *testing.T) {
	if ok, err := new(authn.Request).Allow(t.Context(), "k", 1, time.Second); ok || err == nil {
		t.Errorf("got %v, %v", ok, err)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package inprocess joins package plugin, which knows how to serve a provider,
// and package authntest, which serves one inside the test's own process. It
// keeps that out of the API of both.
package inprocess

import (
	"context"
	"log/slog"
	"reflect"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// A Provider is a provider's constructor without its types.
type Provider struct {
	Config reflect.Type // the configuration's type C

	// Zero is a provider never used but for its method set. It is nil where
	// the constructor's result is an interface.
	Zero authn.Authenticator

	// New calls the constructor; config is a *C.
	New func(config any, log *slog.Logger) (authn.Authenticator, error)
}

// Of takes the types from newProvider.
func Of[C any, P authn.Authenticator](newProvider func(C, *slog.Logger) (P, error)) Provider {
	var zero P
	return Provider{
		Config: reflect.TypeFor[C](),
		Zero:   zero,
		New: func(config any, log *slog.Logger) (authn.Authenticator, error) {
			p, err := newProvider(*config.(*C), log)
			if err != nil {
				return nil, err
			}
			return p, nil
		},
	}
}

// Package plugin fills these in.
var (
	// Decode reads a configuration into a new *C, as a provider does.
	Decode func(p Provider, c *wire.Config) (any, error)

	// Open makes a provider from a configuration, as each call does.
	Open func(p Provider, c *wire.Config, log *slog.Logger) (authn.Authenticator, error)

	// Serve serves p in this process, over a unix socket of go-plugin's, and
	// returns the *plugin.Remote that is connected to it. Stop returns once
	// both ends are gone.
	Serve func(ctx context.Context, p Provider) (remote authn.Authenticator, stop func(), err error)
)

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Permit is a provider that lets everybody in, so that a benchmark measures
// the framework and no provider's work. It refuses to run for any service but
// the benchmark's.
package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
)

type config struct{}

type permit struct{}

func (permit) Authenticate(_ context.Context, req *authn.Request, _ authn.Conversation) (authn.Identity, error) {
	if req.Service != "bench-authn" {
		return authn.Identity{}, fmt.Errorf("only the benchmark may use this provider: %w", authn.ErrAuth)
	}
	return authn.Identity{Subject: req.User}, nil
}

func main() {
	plugin.Main(func(config, *slog.Logger) (permit, error) { return permit{}, nil })
}

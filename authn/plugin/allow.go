// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"time"

	"github.com/pam-authn/pam-authn/authn/internal/limit"
)

// WithAllow returns a context in which [Remote] answers the provider's
// questions of [authn.Request.Allow] with count.
func WithAllow(ctx context.Context, count func(ctx context.Context, key string, n int, window time.Duration) (bool, error)) context.Context {
	return limit.With(ctx, count)
}

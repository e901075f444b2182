// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package limit carries the counter behind [authn.Request.Allow] from the
// packages that have one to the contract, which has not.
package limit

import (
	"context"
	"time"
)

// Func counts one use of key and reports whether it is among the first n of
// the window.
type Func func(ctx context.Context, key string, n int, window time.Duration) (bool, error)

type contextKey struct{}

// With returns a context whose calls are counted by f.
func With(ctx context.Context, f Func) context.Context {
	return context.WithValue(ctx, contextKey{}, f)
}

// From returns the counter of ctx, or nil.
func From(ctx context.Context) Func {
	f, _ := ctx.Value(contextKey{}).(Func)
	return f
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pam-authn/pam-authn/authn/internal/limit"
)

// Bounds of [Request.Allow].
const (
	MaxAllowKey    = 256            // bytes of a key
	MaxAllowCount  = 1000           // uses in a window
	MaxAllowWindow = 24 * time.Hour // length of a window
)

var errNoLimits = errors.New("no store that counts is at hand here")

// Allow counts one use of key and reports whether it is among the first n
// allowed ones of the last window, over all calls of this provider on this
// machine. Ask before sending anything that costs money or rings a phone:
// strangers who know a name can make a provider send. Refused uses do not
// count, and a restart of the machine forgets nothing.
//
// On an error, send nothing. The store is root's: where the application runs
// as a user, Allow always errs.
//
// ctx is the one that the call was given, or one made from it.
func (r *Request) Allow(ctx context.Context, key string, n int, window time.Duration) (bool, error) {
	if key == "" || len(key) > MaxAllowKey || n < 1 || n > MaxAllowCount || window <= 0 || window > MaxAllowWindow {
		return false, fmt.Errorf("authn: Allow(key of %d bytes, %d, %s) is out of bounds", len(key), n, window)
	}
	count := limit.From(ctx)
	if count == nil {
		return false, fmt.Errorf("authn: Allow: %w", errNoLimits)
	}
	ok, err := count(ctx, key, n, window)
	if err != nil {
		return false, fmt.Errorf("authn: Allow: %w", err)
	}
	return ok, nil
}

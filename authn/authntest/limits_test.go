// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"errors"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

func TestLimits(t *testing.T) {
	var limits Limits
	var req authn.Request
	allow := func(key string, want bool) {
		t.Helper()
		ok, err := req.Allow(limits.Context(t.Context()), key, 2, time.Minute)
		if ok != want || err != nil {
			t.Errorf("Allow(%s) = %v, %v, want %v", key, ok, err, want)
		}
	}
	allow("mittens", true)
	limits.Advance(30 * time.Second)
	allow("mittens", true)
	allow("mittens", false)
	allow("tom", true) // a key of its own
	limits.Advance(30 * time.Second)
	allow("mittens", true) // the first use is a minute old, refused ones do not count
	allow("mittens", false)
	if limits.Uses("mittens") != 3 || limits.Keys() != 2 {
		t.Errorf("%d uses of %d keys, want 3 of 2", limits.Uses("mittens"), limits.Keys())
	}
	full := errors.New("disk full")
	limits.Fail(full)
	if ok, err := req.Allow(limits.Context(t.Context()), "x", 1, time.Minute); ok || !errors.Is(err, full) {
		t.Errorf("with a broken store: %v, %v", ok, err)
	}
	limits.Fail(nil)
	allow("x", true)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// probeSockets is how many sockets must be to be had for an outage to be
// believed: as many as a name lookup and a dial to several addresses hold at
// once.
const probeSockets = 8

// Unreachable says whether err, the outcome of the only connection of this
// attempt or of all of them joined with [errors.Join], means that nobody was
// reached: every one refused, timed out while connecting, without a route, or
// with a name that could not be resolved. Then the returned error wraps err
// and [ErrAuthInfoUnavail], which lets the administrator's fallback decide.
// Anything else (a TLS error, a broken or silent connection, too few file
// descriptors) wraps [ErrSystem].
//
// Call it only if no byte was received in this attempt, on any connection.
//
// Sockets must be to be had at the moment of the call, since a local user who
// starts su under a tight "ulimit -n" could otherwise fake an outage.
func Unreachable(err error) error {
	if err == nil {
		return nil
	}
	if !nobodyReached(err) {
		return fmt.Errorf("%w: %w", ErrSystem, opaque{err})
	}
	if probe := openSockets(probeSockets); probe != nil {
		return fmt.Errorf("%w: no socket could be opened: %w", ErrSystem, opaque{probe})
	}
	return fmt.Errorf("nobody reached: %w: %w", ErrAuthInfoUnavail, opaque{err})
}

// opaque keeps the text of an error and what errors.As finds in it, but hides
// a Result inside: one error must not carry two.
type opaque struct{ err error }

func (o opaque) Error() string        { return o.err.Error() }
func (o opaque) As(target any) bool   { return !isResultTarget(target) && errors.As(o.err, target) }
func (o opaque) Is(target error) bool { return !isResult(target) && errors.Is(o.err, target) }

func isResult(err error) bool   { _, ok := err.(Result); return ok } //nolint:errorlint // the target itself
func isResultTarget(t any) bool { _, ok := t.(*Result); return ok }

func nobodyReached(err error) bool {
	switch e := err.(type) { //nolint:errorlint // every branch of the tree is walked
	case *net.OpError:
		return e.Op == "dial" && dialFailed(e)
	case *net.DNSError:
		return !errors.Is(err, context.Canceled) && !errnoIn(err, syscall.EMFILE, syscall.ENFILE, syscall.EPERM, syscall.ENOMEM, syscall.EACCES)
	case interface{ Unwrap() []error }:
		return allUnreached(e.Unwrap())
	case interface{ Unwrap() error }:
		return e.Unwrap() != nil && nobodyReached(e.Unwrap())
	}
	return false
}

func allUnreached(errs []error) bool {
	for _, err := range errs {
		if !nobodyReached(err) {
			return false
		}
	}
	return len(errs) > 0
}

// dialFailed judges a dial error: a kernel's answer that there is no way, or a
// time-out. Whatever else stops a dial is local.
func dialFailed(e *net.OpError) bool {
	var dns *net.DNSError
	if errors.As(e.Err, &dns) {
		return nobodyReached(dns)
	}
	var errno syscall.Errno
	if errors.As(e.Err, &errno) {
		return errnoIn(errno, syscall.ECONNREFUSED, syscall.ETIMEDOUT, syscall.EHOSTUNREACH,
			syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN)
	}
	return e.Timeout()
}

func errnoIn(err error, list ...syscall.Errno) bool {
	for _, e := range list {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// openSockets opens n sockets at the same time and closes them.
func openSockets(n int) error {
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			fd, err = syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
		}
		if err != nil {
			return err
		}
		defer syscall.Close(fd) //nolint:errcheck // nothing was written
	}
	return nil
}

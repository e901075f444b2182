// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// EnvPrefix starts the name of every variable that a login gets from us.
const EnvPrefix = "AUTHN_"

// The variables that the framework itself sets on success.
const (
	EnvProvider = "AUTHN_PROVIDER" // the provider's name
	EnvSubject  = "AUTHN_SUBJECT"  // Identity.Subject
	EnvID       = "AUTHN_ID"       // the reference of the log lines
)

// errSubject is what a nil error without a subject becomes.
var errSubject = errors.New("the provider returned success without saying who")

// Check says what a provider's answer to Authenticate amounts to: nil only for
// a nil error with a usable identity. Package plugin calls it on the
// provider's side, the worker again on its own.
func (id Identity) Check() error {
	switch {
	case id.Subject == "":
		return fmt.Errorf("%w: %w", errSubject, ErrSystem)
	case len(id.Subject) > MaxSubject || !printable(id.Subject):
		return fmt.Errorf("the subject is not printable text of at most %d bytes: %w", MaxSubject, ErrSystem)
	case len(id.Ticket) > MaxTicket:
		return fmt.Errorf("the ticket has more than %d bytes: %w", MaxTicket, ErrSystem)
	case len(id.Env) > MaxEnv:
		return fmt.Errorf("more than %d environment variables: %w", MaxEnv, ErrSystem)
	}
	for name, value := range id.Env {
		if err := checkEnv(name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkEnv(name, value string) error {
	switch {
	case name == EnvProvider || name == EnvSubject || name == EnvID:
		return fmt.Errorf("environment variable %s is the framework's: %w", name, ErrSystem)
	case !strings.HasPrefix(name, EnvPrefix) || !envName(name):
		return fmt.Errorf("environment variable %.64q is not %s and capital letters, digits or _: %w", name, EnvPrefix, ErrSystem)
	case len(value) > MaxEnvValue || !printable(value):
		return fmt.Errorf("the value of %s is not printable text of at most %d bytes: %w", name, MaxEnvValue, ErrSystem)
	}
	return nil
}

func envName(name string) bool {
	if len(name) <= len(EnvPrefix) || len(name) > 64 {
		return false
	}
	for _, c := range name {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

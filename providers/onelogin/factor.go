// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"slices"
	"strings"

	"github.com/pam-authn/pam-authn/providers/onelogin/internal/tenant"
)

// A Kind is a way to prove who one is, as the configuration calls it.
type Kind string

// The kinds.
const (
	TOTP    Kind = "totp"  // a code from an app, OneLogin Protect's among them
	PushTap Kind = "push"  // a tap in OneLogin Protect
	SMS     Kind = "sms"   // a code in a text message
	Voice   Kind = "voice" // a telephone call
	Email   Kind = "email" // a code or a link in a mail
)

var kinds = []Kind{TOTP, PushTap, SMS, Voice, Email}

// kindsOf maps auth_factor_name to the kinds that a factor can serve as. Both
// names are in OneLogin's pages where there are two. Other factors (security
// keys, Duo, questions) need a browser or say nothing about this login.
var kindsOf = map[string][]Kind{
	"OneLogin":             {PushTap, TOTP},
	"OneLogin Protect":     {PushTap, TOTP},
	"Google Authenticator": {TOTP},
	"Authenticator":        {TOTP},
	"SMS":                  {SMS},
	"OneLogin SMS":         {SMS},
	"Voice":                {Voice},
	"OneLogin Voice":       {Voice},
	"Email":                {Email},
	"OneLogin Email":       {Email},
}

// sends reports whether a factor of this kind does something only when asked.
func (k Kind) sends() bool { return k != TOTP }

// sendsCode reports whether what it sends can be a code to type.
func (k Kind) sendsCode() bool { return k == SMS || k == Voice || k == Email }

// approves reports whether the person can approve elsewhere, so that there is
// something to poll.
func (k Kind) approves() bool { return k == PushTap || k == Voice || k == Email }

func kindList(all []Kind) string {
	words := make([]string, len(all))
	for i, k := range all {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// A choice is a factor of a person, used as one kind.
type choice struct {
	device tenant.Device
	kind   Kind
}

// choose returns the person's default factor if it can serve as a kind for
// which fits is true, else the first one that can.
func choose(devices []tenant.Device, allowed []Kind, fits func(Kind) bool) (choice, bool) {
	var first *choice
	for _, d := range devices {
		for _, k := range kindsOf[d.Factor] {
			if !slices.Contains(allowed, k) || !fits(k) {
				continue
			}
			if d.Default {
				return choice{d, k}, true
			}
			if first == nil {
				first = &choice{d, k}
			}
		}
	}
	if first == nil {
		return choice{}, false
	}
	return *first, true
}

// forCode is the factor that a code is for which was typed before anything was
// sent: one that makes codes by itself, else any that takes them.
func forCode(devices []tenant.Device, allowed []Kind) (choice, bool) {
	if c, ok := choose(devices, allowed, func(k Kind) bool { return k == TOTP }); ok {
		return c, true
	}
	return choose(devices, allowed, Kind.sendsCode)
}

// otpPrompt is what everybody is asked where these kinds are allowed.
func otpPrompt(allowed []Kind) string {
	push, codes := slices.Contains(allowed, PushTap), slices.ContainsFunc(allowed, Kind.sendsCode)
	what := "a code"
	switch {
	case push && codes:
		what = "push or a code"
	case push:
		what = "push"
	}
	switch {
	case !push && !codes:
		return "OTP: "
	case slices.Contains(allowed, TOTP):
		return "OTP (leave empty for " + what + "): "
	}
	return "Press Enter for " + what + ": "
}

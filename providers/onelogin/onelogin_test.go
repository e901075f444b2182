// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// The roles of the tests' tenant.
const (
	admins = 77777
	users  = 111111
)

// serve starts a tenant. Mittens may be admin and has an app and Protect;
// whoever else a test needs, it adds.
func serve(t testing.TB, opts ...onelogintest.Option) *onelogintest.Server {
	t.Helper()
	s := onelogintest.New(t, opts...)
	s.AddUser(onelogintest.User{
		Username: "mittens", Email: "Mittens@example.com", Password: "wool-and-string", Roles: []int64{admins, users},
		Devices: []onelogintest.Device{
			{Factor: onelogintest.Authenticator, Default: true},
			{Factor: onelogintest.Protect},
		},
	})
	return s
}

// config is a configuration for the tenant, with more keys behind it.
func config(s *onelogintest.Server, more ...string) string {
	return fmt.Sprintf("base_url: %s\nclient_id: %s\nclient_secret: %s\nrequest_duration_secs: 0\n"+
		"user_roles: {admin: %d, user: [%d, 424242]}\n%s\n",
		s.URL, onelogintest.ClientID, onelogintest.ClientSecret, admins, users, strings.Join(more, "\n"))
}

const (
	askName = "OneLogin email or username: "
	askOTP  = "OTP (leave empty for push): "
	askCode = "Code (or Enter once approved): "
)

// totp answers the OTP prompt with the person's code of the moment.
func totp(s *onelogintest.Server, user string) authntest.Step {
	return authntest.PromptSecretFunc(askOTP, func(string) string { return s.TOTP(user) })
}

func TestConformance(t *testing.T) {
	s := serve(t, onelogintest.ReusableCodes())
	s.AddUser(onelogintest.User{Email: "tabby@example.com", Roles: []int64{admins}, Devices: []onelogintest.Device{{Factor: onelogintest.Protect}}})
	s.AddUser(onelogintest.User{Username: "felix", Status: onelogintest.Locked, Roles: []int64{admins}, Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator}}})
	s.OnPush(func(user, _ string) onelogintest.PushDecision {
		if user == "tabby@example.com" {
			return onelogintest.PushDecision{Outcome: onelogintest.Accepted}
		}
		return onelogintest.PushDecision{Outcome: onelogintest.Refused}
	})
	authntest.Conformance(t, New, authntest.Suite{
		Config:  config(s, "push: {interval: 100ms, timeout: 1s}"),
		Request: authn.Request{User: "admin", Service: "sshd"},
		Succeeds: []authntest.Case{{
			Name:    "otp_opens",
			Steps:   []authntest.Step{authntest.Prompt(askName, "mittens"), totp(s, "mittens")},
			Subject: "mittens",
		}, {
			Name:    "approved_push_opens",
			Steps:   []authntest.Step{authntest.Prompt(askName, "tabby@example.com"), authntest.PromptSecret(askOTP, "")},
			Subject: "tabby@example.com",
		}},
		Refuses: []authntest.Case{{
			Name:  "unknown_person_is_refused",
			Steps: []authntest.Step{authntest.Prompt(askName, "nobody"), authntest.PromptSecret(askOTP, "123456")},
		}, {
			Name:  "locked_person_is_refused",
			Steps: []authntest.Step{authntest.Prompt(askName, "felix"), totp(s, "felix")},
		}},
		BadConfigs: []authntest.BadConfig{
			{Config: "client_id: a\nclient_secret: b\nuser_roles: {admin: 1}", Key: "subdomain"},
			{Config: minimal("subdomain: evil.example/"), Key: "subdomain"},
			{Config: minimal("subdomain: -a"), Key: "subdomain"},
			{Config: minimal("subdomain: " + strings.Repeat("a", 64)), Key: "subdomain"},
			{Config: minimal("subdomain: x\nregion: moon"), Key: "region"},
			{Config: minimal("base_url: http://example.com"), Key: "base_url"},
			{Config: minimal("base_url: https://a@example.com"), Key: "base_url"},
			{Config: minimal("base_url: https://example.com/x"), Key: "base_url"},
			{Config: minimal("base_url: https://example.com?"), Key: "base_url"},
			{Config: minimal("base_url: \"https://example.com#\""), Key: "base_url"},
			{Config: minimal("base_url: https://example.com//"), Key: "base_url"},
			{Config: minimal("base_url: https://:443"), Key: "base_url"},
			{Config: minimal("base_url: http://localhost:1\nproxy: http://example.com:1"), Key: "proxy"},
			{Config: "subdomain: x\nclient_secret: b\nuser_roles: {admin: 1}", Key: "client_id"},
			{Config: "subdomain: x\nclient_id: a\nuser_roles: {admin: 1}", Key: "client_secret"},
			{Config: "subdomain: x\nclient_id: a\nclient_secret: b", Key: "user_roles"},
			{Config: "subdomain: x\nclient_id: a\nclient_secret: b\nuser_roles: {admin: admins}", Key: "user_roles.admin"},
			{Config: "subdomain: x\nclient_id: a\nclient_secret: b\nuser_roles: {admin: [1, 2.5]}", Key: "user_roles.admin"},
			{Config: "subdomain: x\nclient_id: a\nclient_secret: b\nuser_roles: {admin: []}", Key: "user_roles.admin"},
			{Config: "subdomain: x\nclient_id: a\nclient_secret: b\nuser_roles: {admin: -1}", Key: "user_roles.admin"},
			{Config: minimal("subdomain: x\nfactors: [totp, carrier_pigeon]"), Key: "factors[1]"},
			{Config: minimal("subdomain: x\nfactors: [totp, totp]"), Key: "factors[1]"},
			{Config: minimal("subdomain: x\nfactors: []"), Key: "factors"},
			{Config: minimal("subdomain: x\npush: {interval: 1ms}"), Key: "push.interval"},
			{Config: minimal("subdomain: x\npush: {timeout: 1h}"), Key: "push.timeout"},
			{Config: minimal("subdomain: x\nrequest_duration_secs: -1"), Key: "request_duration_secs"},
			{Config: minimal("subdomain: x\nrequest_duration_secs: 1.5s"), Key: "request_duration_secs"},
			{Config: minimal("subdomain: x\nprompts: {otp: \"\\e[2J\"}"), Key: "prompts.otp"},
			{Config: minimal("subdomain: x\nca: none"), Key: "ca"},
			{Config: minimal("subdomain: x\nproxy: swordfish@host"), Key: "proxy"},
			{Config: minimal("region: eu\nrequire_password: true"), Key: "require_password"},
			{Config: minimal("subdomain: x\nfactor: totp"), Key: "factor"},
		},
		CloseIdle: http.DefaultClient.CloseIdleConnections,
	})
}

// minimal is a configuration that lacks a tenant's address, with more keys.
func minimal(more string) string {
	return "client_id: a\nclient_secret: b\nuser_roles: {admin: 1}\n" + more
}

// onepam is the predecessor's file, as its guide has it.
const onepam = `{
  "region": "us",
  "subdomain": "example",
  "client_id": "0123456789abcdef",
  "client_secret": "fedcba9876543210",
  "request_duration_secs": 1.5,
  "user_roles": {
    "admin": 77777,
    "user": 111111
  }
}`

func TestThePredecessorsFileLoads(t *testing.T) {
	p := provider(t, onepam)
	if p.base != "https://example.onelogin.com" || p.Step() != 1500*time.Millisecond || p.DefaultStep() {
		t.Errorf("base %s, step %s, by default %v", p.base, p.Step(), p.DefaultStep())
	}
	if len(p.UserRoles) != 2 || p.UserRoles["admin"][0] != 77777 || p.UserRoles["user"][0] != 111111 {
		t.Errorf("user_roles: %v", p.UserRoles)
	}
	if authn.ResultOf(authntest.Serve(t, New, onepam).Check(t.Context())) != authn.Success {
		t.Error("it does not load over the wire")
	}
}

func TestDefaults(t *testing.T) {
	for text, base := range map[string]string{
		"subdomain: x": "https://x.onelogin.com", "region: eu": "https://api.eu.onelogin.com",
		"subdomain: x\nregion: us": "https://x.onelogin.com", "base_url: https://example.com/": "https://example.com",
		"base_url: http://[::1]:80": "http://[::1]:80", "subdomain: x\nbase_url: http://localhost:8080": "http://localhost:8080",
	} {
		p := provider(t, minimal(text))
		if p.base != base || p.Step() != 1500*time.Millisecond || !p.DefaultStep() {
			t.Errorf("%s: base %s, step %s, by default %v", text, p.base, p.Step(), p.DefaultStep())
		}
		if p.Push.Timeout != 45*time.Second || kindList(p.Factors) != "totp, push" {
			t.Errorf("push for %s, factors %v", p.Push.Timeout, p.Factors)
		}
	}
	p := provider(t, minimal("subdomain: x\nrequest_duration_secs: 0"))
	if p.Step() != 0 || p.DefaultStep() {
		t.Errorf("step %s, by default %v", p.Step(), p.DefaultStep())
	}
	p = provider(t, "subdomain: x\nclient_id: a\nclient_secret: b\nuser_roles: {admin: [1, \"2\"], user: \"3\"}")
	if len(p.UserRoles["admin"]) != 2 || p.UserRoles["user"][0] != 3 {
		t.Errorf("user_roles: %v", p.UserRoles)
	}
}

func TestOTPPrompt(t *testing.T) {
	for want, allowed := range map[string][]Kind{
		"OTP: ": {TOTP}, "OTP (leave empty for push): ": {TOTP, PushTap}, "OTP (leave empty for a code): ": {Voice, TOTP},
		"OTP (leave empty for push or a code): ": {TOTP, PushTap, SMS}, "Press Enter for push: ": {PushTap},
		"Press Enter for a code: ": {Email}, "Press Enter for push or a code: ": {SMS, PushTap},
	} {
		if got := otpPrompt(allowed); got != want {
			t.Errorf("%v: %q, want %q", allowed, got, want)
		}
	}
}

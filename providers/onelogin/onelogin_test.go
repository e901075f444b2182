// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

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
		},
		CloseIdle: http.DefaultClient.CloseIdleConnections,
	})
}

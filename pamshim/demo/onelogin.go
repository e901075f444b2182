// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// patience bounds the waiting for a push, which comes at once.
const patience = 30 * time.Second

// onelogin shows the provider onelogin with an emulated tenant in the place of
// OneLogin: a login by code, one by push, and one of somebody who may not.
func onelogin(tb hosttest.TB) demo {
	world := onelogintest.Demo()
	world.Users = append(world.Users, onelogintest.User{
		Username: "tabby", Email: "tabby@example.com", Roles: []int64{onelogintest.DemoUsers},
		Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator, Default: true}},
	})
	tenant, err := onelogintest.Start(world, onelogintest.WithControl())
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(tenant.Close)
	return demo{
		provider: "onelogin",
		config: fmt.Sprintf(`base_url: %s   # the demo's; for OneLogin: subdomain
client_id: %s
client_secret: %s
request_duration_secs: 0.5   # for the impatient; 1.5 where it is left out
user_roles:
  admin: %d
  user: %d
`, tenant.URL, onelogintest.ClientID, onelogintest.ClientSecret, onelogintest.DemoAdmins, onelogintest.DemoUsers),
		accounts: []string{"admin", "user"},
		groups:   "account session",
		play:     func(s *stage) { playOneLogin(tb, s, tenant) },
		byHand:   func() string { return oneLoginByHand(tenant) },
	}
}

// The provider's questions.
const (
	askName = "OneLogin email or username: "
	askOTP  = "OTP (leave empty for push): "
)

func playOneLogin(tb hosttest.TB, s *stage, tenant *onelogintest.Server) {
	c := s.login("admin", "mittens, who has the role, with a code from the app")
	c.Answer(askName, "mittens")
	c.Answer(askOTP, tenant.TOTP("mittens"))
	c.WantExit(0)

	c = s.login("admin", "mittens with Enter, and a tap on the phone")
	c.Answer(askName, "mittens")
	c.Answer(askOTP, "")
	tap(tb, s, tenant)
	c.WantExit(0)

	for _, try := range []struct {
		account, how string
		exit         int
	}{
		{"user", "tabby, who has the role of user alone", 0},
		{"admin", "tabby again, with a right code", 255},
	} {
		c = s.login(try.account, try.how)
		c.Answer(askName, "tabby")
		c.Answer(askOTP, tenant.TOTP("tabby"))
		c.WantExit(try.exit)
	}
}

// tap accepts a push a moment after it has arrived, as a person does.
func tap(tb hosttest.TB, s *stage, tenant *onelogintest.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	poll := func() bool { return tenant.Count("GET", "/api/2/mfa/users/*/verifications/*") >= 2 }
	if err := tenant.Await(ctx, poll); err != nil {
		tb.Fatalf("no push: %v", err)
	}
	say(s.out, "# Mittens's phone shows the push, and she taps Accept\n")
	tenant.Accept("mittens")
}

func oneLoginByHand(tenant *onelogintest.Server) string {
	return fmt.Sprintf(`as mittens, who may be admin and user, or as tabby, who may be user. A code that
is good now, and a tap on mittens's phone after Enter at the OTP prompt:

    curl '%[1]s/control/code?user=mittens'
    curl -X POST '%[1]s/control/push/accept?user=mittens'    # or reject

What else the emulated tenant can do, locking people out and breaking down:

    curl %[1]s/control/
`, tenant.URL)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package onelogintest emulates a OneLogin tenant: users, roles, factors and
// tokens behind the documented API, over real HTTP or HTTPS on loopback, for
// testing clients of that API. It needs nothing but the standard library.
//
//	s := onelogintest.New(t, onelogintest.TLS())
//	s.AddUser(onelogintest.User{
//		Username: "mittens", Roles: []int64{77777},
//		Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator, Default: true}},
//	})
//	// Let the client use s.URL, s.CAFile, ClientID and ClientSecret.
//	code := s.TOTP("mittens")
//
// A test says what people do with their phones ([Server.OnPush],
// [Server.Accept], [Server.Code]), what goes wrong ([Server.Fail]), and looks
// at what was asked for ([Server.Requests], [Server.Count], [Server.Sent]).
//
// # What it is made from
//
// Nothing here was seen on a real tenant. Each behaviour is what a page of
// OneLogin's API reference shows; README.md lists which. Where pages, public
// SDKs and public programs disagree, or say nothing, [Variants] has both
// readings: run a test with all of [AllVariants].
//
// # What a test should know
//
//   - Codes are valid once. [Server.TOTP] gives the next one after that, and
//     puts the device's clock forward instead of waiting.
//   - [Server.Advance] moves the server's clock; faults and latencies take real
//     time.
//   - A credential has one token until that expires, and a second request gets
//     the same with the same expires_in, as the reference says: created_at
//     tells its age.
//   - Handlers never fail a test; they answer.
//
// # As a program
//
// The command onelogin-emulator beside this package serves a world from a file
// or a demo, with a control API ([Server.Control]) for a person or a script.
package onelogintest

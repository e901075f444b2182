// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package authntest tests a provider without root, network or PAM.
//
// [Conformance] runs everything that can be tested about any provider; start
// there. [Conversation] and [Expect] are a scripted person at the prompt,
// [Serve] puts a provider behind the real wire inside the test's process, and
// [Limits] is the store that [authn.Request.Allow] counts in.
//
//	func TestWrongCodeIsRefused(t *testing.T) {
//		p, _ := New(Config{}, slog.Default())
//		user := authntest.Expect(t, authntest.PromptSecret("Code:", "000000"))
//		_, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, user)
//		if !errors.Is(err, authn.ErrAuth) {
//			t.Errorf("got %v, want auth_err", err)
//		}
//	}
package authntest

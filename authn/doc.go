// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package authn is the contract between PAM and a provider.
//
// A provider is a program of its own that decides who may log in. It has one
// type that implements [Authenticator], and optionally the smaller interfaces
// [AccountManager], [CredentialSetter], [SessionManager] and
// [PasswordChanger]. Its main function is one line:
//
//	func main() { plugin.Main(New) }
//
// where New makes the type from its configuration. Package
// [github.com/pam-authn/pam-authn/authn/plugin] has Main, and package
// [github.com/pam-authn/pam-authn/authn/authntest] tests a provider without
// root, network or PAM.
//
// # Life of a provider
//
// For every call of a pam_sm_* function a fresh, unprivileged process runs
// New, serves that one call and is killed. Nothing kept in memory survives to
// the next call, not even within one login: use [Identity.Ticket] for what
// CheckAccount or OpenSession need to know.
//
// # How a login fails
//
// Only nil together with a subject opens the door. Everything else closes it,
// and says how: an error that wraps a [Result] gives PAM that result, and any
// other error, a panic, a crash or a timeout gives it [ErrSystem].
package authn

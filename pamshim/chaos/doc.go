// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package chaos holds the framework against providers that misbehave, through
// libpam, the module and the worker as they are installed: whatever a provider
// does, the call ends in time, refused, with a reason in the log, a sentence
// for the user and nothing left behind. It also looks at what a provider may do
// on the system. It has nothing but tests, and a provider for them.
//
// SOAK=1 repeats them; with -v they print a table of what happened.
package chaos

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package hostile puts the built module into hosts with bad habits, and gives
// it workers that speak garbage. Whatever a host does, a call returns the right
// result and leaves the host as it was. It has nothing but tests; testdata has
// the C programs that they drive.
package hostile

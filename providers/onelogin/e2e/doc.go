// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e logs in with OneLogin names through Debian's own sshd, sudo and
// su, with what "make install" installs, the stacks of examples/pam.d and an
// emulated tenant. It has nothing but tests.
package e2e

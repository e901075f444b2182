// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e logs in through Debian's own sshd, sudo, su, login and atd, with
// what "make install" installs and the stacks of examples/pam.d. It has nothing
// but tests. With SOAK=1 in the environment they repeat what they do.
package e2e

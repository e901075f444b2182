// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e logs in by QR code through Debian's own sshd, sudo and su, with
// what "make install" installs, the stacks of examples/pam.d, a relay of its
// own, terminals of 80x24 and a browser that plays the phone. It has nothing
// but tests.
package e2e

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e logs in through Debian's own sshd, sudo, su and login with the
// built module. It has nothing but tests.
package e2e

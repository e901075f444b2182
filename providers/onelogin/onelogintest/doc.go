// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package onelogintest is an emulator of OneLogin's API for tests.
package onelogintest

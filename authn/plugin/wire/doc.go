// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is generated from authn.proto: the messages between the worker
// and a provider. Providers in Go never see it; see docs/protocol.md for
// providers in other languages.
package wire

//go:generate sh generate.sh

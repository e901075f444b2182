// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package plugin holds both ends of the wire between the worker and a
// provider: [Main] is all of a provider's main function, and [Remote] stands
// for a provider in another process.
//
// Under it lie hashicorp/go-plugin and one bidirectional gRPC stream a call
// over a unix socket, with peer credentials instead of TLS. docs/protocol.md
// describes it for other languages.
package plugin

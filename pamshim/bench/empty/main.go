// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Empty is the least that a Go program costs: what pam_exec runs as our peer.
package main

func main() {}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package paths says where things are installed. The linker sets what depends
// on PREFIX.
package paths

// Where the worker finds what it needs.
var (
	Providers = "/usr/libexec/authn/providers" // authn-NAME
	Config    = "/etc/authn"                   // NAME.yaml
	Worker    = "/usr/libexec/authn/authn-worker"
	Security  = "" // where libpam looks for modules; "": found by looking
)

// What the worker makes where it is missing, as root.
const (
	Run   = "/run/authn"     // private folders, 0711
	State = "/var/lib/authn" // limits, 0700
)

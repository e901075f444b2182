// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-onelogin is the provider onelogin: see package
// github.com/pam-authn/pam-authn/providers/onelogin.
package main

import (
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/providers/onelogin"
)

func main() { plugin.Main(onelogin.New) }

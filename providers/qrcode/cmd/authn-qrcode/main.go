// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-qrcode is the provider of logins that a phone approves. See package
// qrcode.
package main

import (
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/providers/qrcode"
)

func main() { plugin.Main(qrcode.New) }

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"strings"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/terminal"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// firstPrompt is the only one with the code. It is all one prompt, since what
// else PAM can say may reach the screen too late or as rubbish.
func (a *attempt) firstPrompt() (string, error) {
	typed := wire.FormatTyped(a.session.Typed())
	page := strings.TrimPrefix(a.config.PageURL, "https://")
	if a.config.QR == "off" {
		return "\nOn your phone, open " + a.link() + "\nor open " + page + " and type " + typed + "\n" + a.question(), nil
	}
	text, rows := strings.ToUpper(a.config.PageURL)+a.fragment(), terminal.MaxRows
	if a.config.Payload == "qrauth" {
		text, rows = wire.QRAuth(a.session.HP(), a.session.CID()), terminal.MaxRowsQRAuth
	}
	code, err := terminal.Draw(text, rows, a.config.Invert)
	if err != nil {
		return "", err
	}
	return "\n" + code + "Scan this, or open " + page + " and type " + typed + "\n" + a.question(), nil
}

// link is the page's, for people who copy it.
func (a *attempt) link() string { return a.config.PageURL + a.fragment() }

func (a *attempt) fragment() string { return wire.PageLink("", a.session.HP()) }

// question is what every prompt ends with.
func (a *attempt) question() string {
	if a.config.Code == "off" {
		return "Press Enter once approved on your phone: "
	}
	return "Code shown on your phone: "
}

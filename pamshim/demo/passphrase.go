// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/crypto/bcrypt"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

const (
	phrase  = "open sesame"
	mistake = "open barley"
)

// passphrase shows the example provider: a mistake, and a login.
func passphrase(tb hosttest.TB) demo {
	hash, err := bcrypt.GenerateFromPassword([]byte(phrase), bcrypt.DefaultCost)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return demo{
		provider: "passphrase",
		config:   fmt.Sprintf("hash: %q\n", hash),
		accounts: []string{"alice"},
		play: func(s *stage) {
			for _, answer := range []string{mistake, phrase} {
				c := s.login("alice", fmt.Sprintf("answering %q", answer))
				c.Answer("Passphrase: ", answer)
				c.WantExit(map[string]int{phrase: 0, mistake: 255}[answer])
			}
		},
		byHand: func() string { return fmt.Sprintf("The passphrase is %q.\n", phrase) },
	}
}

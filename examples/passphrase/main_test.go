// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/authn/authntest"
)

// openSesame is what "mkpasswd -m bcrypt" makes of "open sesame". In earnest use
// -R 12: without it the hash is quick to guess, which tests like.
const openSesame = "$2b$05$fkracI5vY0Hvu5XYnvtQpO6pm6d4U/dmppCrdiQCAbQT6vatk1UM6"

// TestConformance holds the provider to what every provider must do, directly
// and over the wire.
func TestConformance(t *testing.T) {
	authntest.Conformance(t, New, authntest.Suite{
		Config: "hash: " + openSesame,
		Succeeds: []authntest.Case{{
			Name:    "right_passphrase_opens",
			Steps:   []authntest.Step{authntest.PromptSecret("Passphrase: ", "open sesame")},
			Subject: "mittens",
		}},
		Refuses: []authntest.Case{{
			Name:  "wrong_passphrase_is_refused",
			Steps: []authntest.Step{authntest.PromptSecret("Passphrase: ", "open barley")},
		}},
		BadConfigs: []authntest.BadConfig{
			{Config: "{}", Key: "hash"},
			{Config: "hash: open sesame", Key: "hash"},
		},
	})
}

// TestNewSaysHowToMakeAHash: an error about the configuration is worth most
// when it says what to do.
func TestNewSaysHowToMakeAHash(t *testing.T) {
	err := authntest.Serve(t, New, "hash: open sesame").Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "yaml:1: hash: not a bcrypt hash: make one with") {
		t.Errorf("got %v", err)
	}
}

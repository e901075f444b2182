// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-passphrase is the smallest provider: everybody who knows one
// passphrase may use any account. Copy this folder to begin a provider of your
// own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/bcrypt"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
)

// Config is the provider's configuration file.
type Config struct {
	Hash authn.Secret `yaml:"hash"` // bcrypt hash of the passphrase
}

// Provider knows one passphrase.
type Provider struct{ hash []byte }

// New refuses a configuration that could never let anyone in.
func New(c Config, _ *slog.Logger) (*Provider, error) {
	hash := []byte(c.Hash.Reveal())
	if _, err := bcrypt.Cost(hash); err != nil {
		// err would tell how the value begins, and that may be a passphrase.
		return nil, errors.New(`hash: not a bcrypt hash: make one with "mkpasswd -m bcrypt -R 12" (Debian: whois)`)
	}
	return &Provider{hash}, nil
}

// Authenticate asks once: asking again is up to the application.
func (p *Provider) Authenticate(_ context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	phrase, err := conv.PromptSecret("Passphrase: ")
	if err != nil {
		return authn.Identity{}, err
	}
	if bcrypt.CompareHashAndPassword(p.hash, []byte(phrase.Reveal())) != nil {
		return authn.Identity{}, fmt.Errorf("wrong passphrase: %w", authn.ErrAuth)
	}
	return authn.Identity{Subject: req.User}, nil
}

func main() { plugin.Main(New) }

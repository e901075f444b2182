// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"errors"
	"log/slog"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
)

// SetUp fills in what is absent and returns everything that is wrong, as [New]
// does, for other programs that read the provider's configuration. It does no
// network. Calling it twice does no harm.
func (c *Config) SetUp() error { return c.setUp() }

// RelayClient returns the host's way to its relay. c was set up before.
func (c *Config) RelayClient() (host.Relay, error) {
	pool, err := roots(c.CA)
	if err != nil {
		return host.Relay{}, problem("ca", "%w", err)
	}
	proxy, err := proxyURL(c.Proxy)
	if err != nil {
		return host.Relay{}, problem("proxy", "%w", err)
	}
	return host.Relay{URL: c.Relay, Token: c.RelayToken, Client: host.NewClient(pool, proxy)}, nil
}

// Issuers returns the OpenID Connect issuers, each of them fresh: call Discover
// before anything else. c was set up before.
func (c *Config) Issuers(log *slog.Logger) ([]*proof.Issuer, error) {
	var issuers []*proof.Issuer
	var problems []error
	for i := range c.OIDC {
		o := &c.OIDC[i]
		pool, err := roots(o.CA)
		problems = append(problems, err)
		proxy, err := proxyURL(c.Proxy)
		problems = append(problems, err)
		issuers = append(issuers, &proof.Issuer{
			Name: o.Name, URL: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret,
			RedirectURL: c.PageURL + "/", Keys: []byte(o.JWKS),
			Client: proof.IssuerClient(host.NewClient(pool, proxy)), Log: log,
		})
	}
	return issuers, errors.Join(problems...)
}

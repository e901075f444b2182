// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcodetest

import (
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
)

// A Site is a relay on loopback that admits hosts without a token, and the page
// of its.
type Site struct {
	URL    string // of the relay: http://127.0.0.1:PORT
	Origin string // of the page: http://localhost:PORT
	RPID   string // "localhost"
	Server *relay.Server
	HTTP   *httptest.Server
}

// NewSite starts one. The test's end ends it.
func NewSite(t testing.TB) *Site {
	t.Helper()
	s := &Site{RPID: "localhost", Server: &relay.Server{
		Open: true, PhonesPerMinute: 1e6, PostsPerMinute: 1e6, Log: slog.New(slog.DiscardHandler),
	}}
	s.HTTP = httptest.NewUnstartedServer(http.HandlerFunc(s.Server.ServeHTTP))
	s.HTTP.Start()
	s.URL = s.HTTP.URL
	s.Origin = strings.Replace(s.URL, "127.0.0.1", "localhost", 1)
	s.Server.PageOrigin = s.Origin
	t.Cleanup(func() {
		_ = s.Server.Close()
		s.HTTP.Close()
	})
	return s
}

// Config returns the part of a host's configuration that says where this site
// is, as YAML.
func (s *Site) Config() string {
	return fmt.Sprintf("relay: %s\npage_url: %s\n", s.URL, s.Origin)
}

// CA returns the certificate of the site as PEM, if it has one.
func (s *Site) CA() string {
	c := s.HTTP.Certificate()
	if c == nil {
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// Phone returns a phone that has the site's page open.
func (s *Site) Phone() *Phone {
	return &Phone{Relay: s.URL, Origin: s.Origin, RPID: s.RPID, Client: s.HTTP.Client()}
}

// Passkey returns a new passkey of the site's page.
func (s *Site) Passkey(t testing.TB) *Authenticator {
	t.Helper()
	return NewAuthenticator(t, s.RPID)
}

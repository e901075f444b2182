// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
)

// far begins a configuration with a relay elsewhere.
const far = "relay: https://relay.example.com\nrelay_token: swordfish\n"

func badConfigs() []authntest.BadConfig {
	return []authntest.BadConfig{
		{Config: "host: x", Key: "relay"},
		{Config: "relay: relay.example.com", Key: "relay"},
		{Config: "relay: wss://relay.example.com", Key: "relay"},
		{Config: "relay: http://relay.example.com", Key: "relay"},
		{Config: "relay: http://192.0.2.7", Key: "relay"},
		{Config: "relay: https://relay.example.com/path\nrelay_token: x", Key: "relay"},
		{Config: "relay: https://me:secret@relay.example.com\nrelay_token: x", Key: "relay"},
		{Config: "relay: https://relay.example.com", Key: "relay_token"},
		{Config: "relay: https://relay.example.com\nrelay_token: two words", Key: "relay_token"},
		{Config: "relay: http://127.0.0.1:8080", Key: "page_url"},
		{Config: far + "page_url: https://login.example.com/page", Key: "page_url"},
		{Config: far + "page_url: http://login.example.com", Key: "page_url"},
		{Config: far + "page_url: https://" + strings.Repeat("a", 43) + ".com", Key: "page_url"},
		{Config: far + "rp_id: com", Key: "rp_id"},
		{Config: far + "rp_id: example.org", Key: "rp_id"},
		{Config: far + "rp_id: lay.example.com", Key: "rp_id"},
		{Config: far + "host: \"\\u00e4\"", Key: "host"},
		{Config: far + "ca: swordfish", Key: "ca"},
		{Config: far + "proxy: proxy.example.com:3128", Key: "proxy"},
		{Config: far + "proxy: http://me:secret@proxy.example.com:3128", Key: "proxy"},
		{Config: "relay: http://localhost:8080\nproxy: http://proxy.example.com:3128", Key: "proxy"},
		{Config: far + "proxy: http://proxy.example.com:3128\noidc: [{issuer: 'HTTP://localhost:8080', client_id: x}]", Key: "proxy"},
		{Config: far + "ttl: 5s", Key: "ttl"},
		{Config: far + "ttl: 2m", Key: "ttl"},
		{Config: far + "payload: json", Key: "payload"},
		{Config: far + "qr: ascii", Key: "qr"},
		{Config: far + "code: maybe", Key: "code"},
		{Config: far + "oidc: [{issuer: 'https://id.example.com'}]", Key: "oidc[0].client_id"},
		{Config: far + "oidc: [{client_id: x}]", Key: "oidc[0].issuer"},
		{Config: far + "oidc: [{issuer: 'http://id.example.com', client_id: x}]", Key: "oidc[0].issuer"},
		{Config: far + "oidc: [{issuer: 'https://id.example.com?x', client_id: x}]", Key: "oidc[0].issuer"},
		{Config: far + "oidc: [{issuer: 'https://a.example.com', client_id: x}, {issuer: 'https://a.example.com', client_id: y}]", Key: "oidc[1].issuer"},
		{Config: far + "oidc: [{issuer: 'https://id.example.com', client_id: x, name: \"\\u00e4\"}]", Key: "oidc[0].name"},
		{Config: far + "oidc: [{issuer: 'https://id.example.com', client_id: x, jwks: '{}'}]", Key: "oidc[0].jwks"},
		{Config: far + "oidc: [{issuer: 'https://id.example.com', client_id: x, ca: nonsense}]", Key: "oidc[0].ca"},
		{Config: far + "passkey: {device_bound: true}", Key: "passkey"},
	}
}

// made returns what New makes of a configuration.
func made(t *testing.T, c Config) *Provider {
	t.Helper()
	p, err := New(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultsAreThoseOfTheReadme(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	got := made(t, Config{Relay: "https://Relay.example.com:443/", RelayToken: authn.NewSecret("swordfish")}).config
	for _, c := range []struct{ key, got, want string }{
		{"relay", got.Relay, "https://relay.example.com"}, {"page_url", got.PageURL, "https://relay.example.com"},
		{"rp_id", got.RPID, "relay.example.com"}, {"host", got.Host, name},
		{"payload", got.Payload, "url"}, {"qr", got.QR, "blocks"}, {"code", got.Code, "digits"},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.key, c.got, c.want)
		}
	}
}

func TestARelayOnLoopbackNeedsNoToken(t *testing.T) {
	for _, relay := range []string{"http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"} {
		made(t, Config{Relay: relay, PageURL: "http://localhost:8080"})
	}
	if p := made(t, Config{Relay: "http://localhost:8080"}); p.config.RPID != "localhost" {
		t.Errorf("rp_id is %s", p.config.RPID)
	}
}

func TestThePageMayBeElsewhere(t *testing.T) {
	p := made(t, Config{Relay: "https://relay.example.com", RelayToken: authn.NewSecret("x"), PageURL: "https://login.example.com", RPID: "example.com"})
	if p.config.PageURL != "https://login.example.com" || p.config.RPID != "example.com" {
		t.Errorf("got %+v", p.config)
	}
}

// TestEveryProblemIsReportedAtOnce: an administrator mends a file once.
func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	_, err := New(Config{TTL: time.Hour, QR: "x", Payload: "y", OIDC: []OIDCConfig{{}}}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatal("taken")
	}
	for _, key := range []string{"relay: ", "ttl: ", "qr: ", "payload: ", "oidc[0].issuer: ", "oidc[0].client_id: "} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

func TestTheTimeOfACodeIsBounded(t *testing.T) {
	for _, c := range []struct{ ttl, timeout, want time.Duration }{
		{0, 90 * time.Second, 80 * time.Second}, {0, 300 * time.Second, 100 * time.Second},
		{30 * time.Second, 300 * time.Second, 30 * time.Second}, {60 * time.Second, 45 * time.Second, 35 * time.Second},
		{0, 20 * time.Second, 10 * time.Second}, {0, 19 * time.Second, 0}, {0, 5 * time.Second, 0},
	} {
		p := made(t, Config{Relay: "http://localhost:8080", TTL: c.ttl})
		if got, err := p.ttl(c.timeout); got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("ttl %s, timeout %s: got %s, %v, want %s", c.ttl, c.timeout, got, err, c.want)
		}
	}
}

func TestWhatIsLocal(t *testing.T) {
	for _, c := range []struct {
		rhost, tty string
		want       bool
	}{
		{"", "/dev/tty1", true}, {"", "tty63", true}, {"", "ttyS0", true}, {"", "console", true}, {"", ":0", false}, {"", ":1", false},
		{"", "", false}, {"", "/dev/pts/3", false}, {"", "pts/3", false}, {"", "ssh", false}, {"", "tty", false},
		{"", "ttyX", false}, {"", "tty1/../pts/3", false}, {"192.0.2.7", "/dev/tty1", false}, {"localhost", "tty1", false},
	} {
		if got := local(&authn.Request{RHost: c.rhost, TTY: c.tty}); got != c.want {
			t.Errorf("rhost %q, tty %q: got %v", c.rhost, c.tty, got)
		}
	}
}

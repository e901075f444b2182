// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/terminal"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Config is the provider's configuration file.
type Config struct {
	Relay      string        `yaml:"relay"`       // https://HOST[:PORT]; http:// on loopback
	RelayToken authn.Secret  `yaml:"relay_token"` // what "qrcode-relay token" gave; not needed on loopback
	PageURL    string        `yaml:"page_url"`    // of the approver page; default: the relay
	RPID       string        `yaml:"rp_id"`       // of the passkeys; default: the page's host
	Host       string        `yaml:"host"`        // name shown on the phone; default: the machine's
	CA         string        `yaml:"ca"`          // PEM; default: the system's
	Proxy      string        `yaml:"proxy"`       // http://HOST:PORT; default: none
	TTL        time.Duration `yaml:"ttl"`         // shortens the 100 s that a code is good for
	Payload    string        `yaml:"payload"`     // url (default) or qrauth
	QR         string        `yaml:"qr"`          // blocks (default) or off
	Invert     bool          `yaml:"invert"`      // for dark text on a light ground
	Code       string        `yaml:"code"`        // digits (default) or off
	Passkeys   PasskeyConfig `yaml:"passkeys"`
	OIDC       []OIDCConfig  `yaml:"oidc"`
}

// PasskeyConfig says which passkeys may approve.
type PasskeyConfig struct {
	DeviceBound bool `yaml:"device_bound"` // refuse those that may be synced
}

// OIDCConfig is an OpenID Connect issuer whose people may approve.
type OIDCConfig struct {
	Name         string       `yaml:"name"`          // on the page's button; default: the issuer's host
	Issuer       string       `yaml:"issuer"`        // https://HOST[/PATH], as in its tokens
	ClientID     string       `yaml:"client_id"`     // that the issuer gave
	ClientSecret authn.Secret `yaml:"client_secret"` // likewise; public clients have none
	CA           string       `yaml:"ca"`            // PEM; default: the system's
	JWKS         string       `yaml:"jwks"`          // keys to be used in place of what the issuer serves
}

// maxTTL is how long a code is good for, at most. sshd gives a login 120 s by
// default.
const maxTTL = 100 * time.Second

// minTTL is what a person needs.
const minTTL = 10 * time.Second

// A problem is what is wrong with one key, and how to mend it.
func problem(key, text string, args ...any) error {
	return fmt.Errorf(key+": "+text, args...)
}

// setUp fills in what is absent and returns everything that is wrong.
func (c *Config) setUp() error {
	var problems []error
	add := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	add(c.setUpRelay())
	add(c.setUpPage())
	add(c.setUpHost())
	add(c.setUpWords())
	if c.TTL != 0 && (c.TTL < minTTL || c.TTL > maxTTL) {
		add(problem("ttl", "wants %s to %s", minTTL, maxTTL))
	}
	if _, err := roots(c.CA); err != nil {
		add(problem("ca", "%w", err))
	}
	add(c.setUpProxy())
	seen := make(map[string]bool)
	for i := range c.OIDC {
		key := fmt.Sprintf("oidc[%d]", i)
		add(c.OIDC[i].setUp(key))
		if seen[c.OIDC[i].Issuer] {
			add(problem(key+".issuer", "is there already: an issuer has one client here"))
		}
		seen[c.OIDC[i].Issuer] = true
	}
	return errors.Join(problems...)
}

func (c *Config) setUpRelay() error {
	if c.Relay == "" {
		return problem("relay", "is missing: say https://HOST[:PORT]")
	}
	u, err := origin(c.Relay)
	if err != nil {
		return problem("relay", "%w", err)
	}
	c.Relay = u
	if strings.HasPrefix(u, "https:") && c.RelayToken.IsZero() {
		return problem("relay_token", `is missing: make one with "qrcode-relay token NAME" on the relay`)
	}
	if t := c.RelayToken.Reveal(); !wire.Printable(t) || strings.ContainsAny(t, " ") {
		return problem("relay_token", "wants one word of printable ASCII")
	}
	return nil
}

func (c *Config) setUpPage() error {
	if c.PageURL == "" {
		c.PageURL = c.Relay
	}
	if c.PageURL == "" {
		return nil // the relay's problem, told above
	}
	u, err := origin(c.PageURL)
	if err != nil {
		return problem("page_url", "%w", err)
	}
	c.PageURL = u
	parsed, _ := url.Parse(u)
	host := parsed.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return problem("page_url", "passkeys need a name, not an address: on this machine, http://localhost%s", portOf(parsed))
	}
	if parsed.Scheme == "http" && host != "localhost" {
		return problem("page_url", "wants https, or http://localhost")
	}
	if c.RPID == "" {
		c.RPID = host
	}
	if c.RPID != host && !(strings.HasSuffix(host, "."+c.RPID) && strings.Contains(c.RPID, ".")) {
		return problem("rp_id", "wants the page's host %s or a domain above it", host)
	}
	return c.fits()
}

// fits tries whether the page's link makes a code that a terminal can show. It
// does for every key if it does for one; see newKey in internal/host.
func (c *Config) fits() error {
	link := strings.ToUpper(c.PageURL) + "/1#" + strings.Repeat("ABCDEFG2", 6) + "ABCD"
	if _, err := terminal.Draw(link, terminal.MaxRows, false); err != nil {
		return problem("page_url", "is %w of 24 rows: use a shorter host name", err)
	}
	return nil
}

func portOf(u *url.URL) string {
	if u.Port() == "" {
		return ""
	}
	return ":" + u.Port()
}

// origin returns the URL of a server, in the form that browsers call an origin.
func origin(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" {
		return "", errors.New("wants https://HOST[:PORT]")
	}
	if u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("wants https://HOST[:PORT] and nothing behind it")
	}
	if strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") != "" {
		return "", errors.New("has a host that is not plain ASCII: use its xn-- form")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return "", errors.New("wants https: without TLS only on loopback")
	}
	host := strings.ToLower(u.Host)
	if (u.Scheme == "https" && u.Port() == "443") || (u.Scheme == "http" && u.Port() == "80") {
		host = strings.TrimSuffix(host, ":"+u.Port())
	}
	return u.Scheme + "://" + host, nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c *Config) setUpHost() error {
	if c.Host == "" {
		name, err := os.Hostname()
		if err != nil {
			return problem("host", "is missing, and the machine's name is not to be had: %w", err)
		}
		c.Host = name
	}
	if !wire.Printable(c.Host) {
		return problem("host", "wants printable ASCII of at most 255 characters")
	}
	return nil
}

// setUpWords checks the keys that take one of two words.
func (c *Config) setUpWords() error {
	var problems []error
	for _, w := range []struct {
		key   string
		value *string
		words [2]string
	}{
		{"payload", &c.Payload, [2]string{"url", "qrauth"}},
		{"qr", &c.QR, [2]string{"blocks", "off"}},
		{"code", &c.Code, [2]string{"digits", "off"}},
	} {
		switch *w.value {
		case "":
			*w.value = w.words[0]
		case w.words[0], w.words[1]:
		default:
			problems = append(problems, problem(w.key, "wants %s or %s", w.words[0], w.words[1]))
		}
	}
	return errors.Join(problems...)
}

func (o *OIDCConfig) setUp(key string) error {
	var problems []error
	u, err := url.Parse(o.Issuer)
	switch {
	case o.Issuer == "":
		problems = append(problems, problem(key+".issuer", "is missing: say https://HOST, as in the issuer's tokens"))
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		problems = append(problems, problem(key+".issuer", "wants https://HOST[/PATH]"))
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		problems = append(problems, problem(key+".issuer", "wants https: without TLS only on loopback"))
	}
	if o.ClientID == "" {
		problems = append(problems, problem(key+".client_id", "is missing: register a client with the issuer"))
	}
	if o.Name == "" && u != nil {
		o.Name = u.Hostname()
	}
	if !wire.Printable(o.Name) {
		problems = append(problems, problem(key+".name", "wants printable ASCII of at most 255 characters"))
	}
	if _, err := roots(o.CA); err != nil {
		problems = append(problems, problem(key+".ca", "%w", err))
	}
	if o.JWKS != "" {
		if _, err := proof.ParseKeys([]byte(o.JWKS)); err != nil {
			problems = append(problems, problem(key+".jwks", "%w", err))
		}
	}
	return errors.Join(problems...)
}

// roots returns the certificates of a PEM text; nil, the system's, of none.
func roots(pem string) (*x509.CertPool, error) {
	if pem == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("holds no certificate: wants PEM")
	}
	return pool, nil
}

// setUpProxy refuses a proxy for what has no TLS: it would read the relay's token
// and issuers' secrets, and would have to reach our loopback.
func (c *Config) setUpProxy() error {
	u, err := proxyURL(c.Proxy)
	if err == nil && u != nil {
		err = c.onlyTLS()
	}
	if err != nil {
		return problem("proxy", "%w", err)
	}
	return nil
}

func (c *Config) onlyTLS() error {
	addresses := []string{c.Relay}
	for i := range c.OIDC {
		addresses = append(addresses, c.OIDC[i].Issuer)
	}
	for _, address := range addresses {
		if u, err := url.Parse(address); err == nil && u.Scheme == "http" {
			return fmt.Errorf("is for https, and %s is none: take one of them out", address)
		}
	}
	return nil
}

func proxyURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || (u.Path != "" && u.Path != "/") {
		return nil, errors.New("wants http://HOST:PORT")
	}
	if u.User != nil {
		return nil, errors.New("wants http://HOST:PORT: a password does not belong here")
	}
	u.Path = ""
	return u, nil
}

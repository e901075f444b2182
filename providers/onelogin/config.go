// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/onelogin/internal/tenant"
)

// Config is the provider's configuration file. The predecessor's onepam.json
// has the keys up to UserRoles.
type Config struct {
	Subdomain    string       `yaml:"subdomain"` // of SUBDOMAIN.onelogin.com
	Region       string       `yaml:"region"`    // without a subdomain: of api.REGION.onelogin.com
	ClientID     string       `yaml:"client_id"`
	ClientSecret authn.Secret `yaml:"client_secret"`

	// RequestDuration is authn.timing.step in seconds. Defaults to 1.5,
	// which authn.timing.step may replace; 0 switches uniform time off.
	RequestDuration *float64 `yaml:"request_duration_secs"`

	// UserRoles maps accounts to the roles that may use them.
	UserRoles map[string]RoleIDs `yaml:"user_roles"`

	Factors         []Kind  `yaml:"factors"`          // allowed kinds; defaults to totp and push
	AskFactor       bool    `yaml:"ask_factor"`       // let the user choose among them
	RequirePassword bool    `yaml:"require_password"` // ask for the OneLogin password, too
	Push            Push    `yaml:"push"`
	Prompts         Prompts `yaml:"prompts"`

	BaseURL string       `yaml:"base_url"` // instead of subdomain and region, for tests
	CA      string       `yaml:"ca"`       // PEM; defaults to the system's
	Proxy   authn.Secret `yaml:"proxy"`    // URL, which may hold a password
}

// Push says how a push is waited for.
type Push struct {
	Interval time.Duration `yaml:"interval"` // between questions to OneLogin; defaults to 1s
	Timeout  time.Duration `yaml:"timeout"`  // defaults to 45s
}

// Prompts are the texts that people read. Empty ones have their defaults.
type Prompts struct {
	Name     string `yaml:"name"`     // "OneLogin email or username: "
	Factor   string `yaml:"factor"`   // with ask_factor, before the list of kinds: "Factor"
	Password string `yaml:"password"` // "OneLogin password: "
	OTP      string `yaml:"otp"`      // "OTP (leave empty for push): "
	Code     string `yaml:"code"`     // "Code (or Enter once approved): "
}

// RoleIDs are ids of roles, given as one number or as a list.
type RoleIDs []int64

// UnmarshalYAML takes 17, "17" and lists of them.
func (r *RoleIDs) UnmarshalYAML(n *yaml.Node) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	var ids RoleIDs
	for _, item := range items {
		id, err := strconv.ParseInt(item.Value, 10, 64)
		if item.Kind != yaml.ScalarNode || err != nil || id <= 0 {
			return errors.New("wants the number of a role, or a list of them: OneLogin shows it in the role's address, .../roles/NUMBER/edit")
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return errors.New("wants at least one role")
	}
	*r = ids
	return nil
}

// settings is a Config that was checked, with its defaults.
type settings struct {
	Config
	base  string
	roots *x509.CertPool
	proxy *url.URL
	step  time.Duration
}

// check reports every problem at once, each beginning with its key.
func (c Config) check() (settings, error) {
	s := settings{Config: c}
	var problems []error
	bad := func(key, format string, args ...any) {
		problems = append(problems, fmt.Errorf(key+": "+format, args...))
	}
	s.checkBase(bad)
	s.checkCredential(bad)
	s.checkFactors(bad)
	s.checkTimes(bad)
	s.checkPrompts(bad)
	s.checkNetwork(bad)
	return s, errors.Join(problems...)
}

// A complaint reports what is wrong with a key, and never its value.
type complaint func(key, format string, args ...any)

var dnsLabel = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)

func (s *settings) checkBase(bad complaint) {
	if s.Subdomain != "" && !dnsLabel.MatchString(s.Subdomain) {
		bad("subdomain", "wants the NAME of https://NAME.onelogin.com alone: letters, digits and dashes")
	}
	if s.Region != "" && s.Region != "us" && s.Region != "eu" {
		bad("region", "wants us or eu; with a subdomain it is not needed")
	}
	switch {
	case s.BaseURL != "":
		if err := checkURL(s.BaseURL); err != nil {
			bad("base_url", "%w", err)
		}
		s.base = strings.TrimSuffix(s.BaseURL, "/")
	case s.Subdomain != "":
		s.base = "https://" + s.Subdomain + ".onelogin.com"
	case s.Region != "":
		s.base = "https://api." + s.Region + ".onelogin.com"
	default:
		bad("subdomain", "is missing: the NAME of https://NAME.onelogin.com")
	}
	if s.RequirePassword && s.Subdomain == "" {
		bad("require_password", "needs subdomain, too: OneLogin wants to know whose password it is")
	}
}

// checkURL wants https, or http to this machine: anybody could read the
// credential and the codes on the way otherwise.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.ForceQuery || strings.HasSuffix(text, "#") || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("wants https://HOST[:PORT]")
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
	if u.Scheme != "https" && (u.Scheme != "http" || !local) {
		return errors.New("wants https; http is for a server on this machine")
	}
	return nil
}

func (s *settings) checkCredential(bad complaint) {
	if s.ClientID == "" {
		bad("client_id", "is missing: see OneLogin's Administration, Developers, API Credentials")
	}
	if s.ClientSecret.IsZero() {
		bad("client_secret", "is missing: give it, or client_secret_file")
	}
	if len(s.UserRoles) == 0 {
		bad("user_roles", "is missing: nobody could log in. It maps accounts to role numbers: {admin: 123456}")
	}
	for _, account := range slices.Sorted(maps.Keys(s.UserRoles)) {
		if account == "" || len(s.UserRoles[account]) == 0 {
			bad("user_roles", "an account without a name or without a role")
		}
	}
}

func (s *settings) checkFactors(bad complaint) {
	if s.Factors == nil {
		s.Factors = []Kind{TOTP, PushTap}
	}
	if len(s.Factors) == 0 {
		bad("factors", "is empty: nobody could log in")
	}
	seen := map[Kind]bool{}
	for i, k := range s.Factors {
		switch key := fmt.Sprintf("factors[%d]", i); {
		case !slices.Contains(kinds, k):
			bad(key, "wants one of %s", kindList(kinds))
		case seen[k]:
			bad(key, "is listed twice")
		}
		seen[k] = true
	}
}

func (s *settings) checkTimes(bad complaint) {
	s.step = defaultStep
	if d := s.RequestDuration; d != nil {
		if math.IsNaN(*d) || *d < 0 || *d > 30 {
			bad("request_duration_secs", "wants 0 to 30 seconds")
		} else {
			s.step = time.Duration(*d * float64(time.Second))
		}
	}
	if s.Push.Interval == 0 {
		s.Push.Interval = time.Second
	}
	if s.Push.Timeout == 0 {
		s.Push.Timeout = 45 * time.Second
	}
	if s.Push.Interval < 100*time.Millisecond || s.Push.Interval > 10*time.Second {
		bad("push.interval", "wants 100ms to 10s")
	}
	if s.Push.Timeout < time.Second || s.Push.Timeout > tenant.Life {
		bad("push.timeout", "wants 1s to %s, which is how long a push is good", tenant.Life)
	}
}

func (s *settings) checkPrompts(bad complaint) {
	p := &s.Prompts
	for _, text := range []struct {
		key   string
		value *string
		deflt string
	}{
		{"prompts.name", &p.Name, "OneLogin email or username: "},
		{"prompts.factor", &p.Factor, "Factor"},
		{"prompts.password", &p.Password, "OneLogin password: "},
		{"prompts.otp", &p.OTP, ""},
		{"prompts.code", &p.Code, "Code (or Enter once approved): "},
	} {
		switch {
		case *text.value == "":
			*text.value = text.deflt
		case len(*text.value) > 1000 || strings.ContainsFunc(*text.value, unprintable):
			bad(text.key, "wants at most 1000 printable bytes")
		}
	}
}

func unprintable(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

func (s *settings) checkNetwork(bad complaint) {
	if s.CA != "" {
		s.roots = x509.NewCertPool()
		if !s.roots.AppendCertsFromPEM([]byte(s.CA)) {
			bad("ca", "holds no certificate in PEM")
		}
	}
	if s.Proxy.IsZero() {
		return
	}
	u, err := url.Parse(s.Proxy.Reveal())
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
		bad("proxy", "wants http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT")
		return
	}
	if strings.HasPrefix(s.base, "http:") {
		bad("proxy", "reads everything of an http base_url, the credential included")
	}
	s.proxy = u
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
)

// options are what the command line says.
type options struct {
	relay  relay.Server // its limits and lists
	listen string

	tlsCert, tlsKey string
	tokens          string
	page            string
	rpID            string
	issuers         list
	pageRelays      list
	natsURL         string
	natsToken       string // a file
	natsCA          string // a file
	drain           time.Duration
	log             string
	debug           bool
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

func (l *list) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// networks is a list of addresses and networks, with commas between.
type networks struct{ to *[]netip.Prefix }

func (n networks) String() string { return "" }

func (n networks) Set(s string) error {
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if a, err := netip.ParseAddr(part); err == nil {
			a = a.Unmap()
			*n.to = append(*n.to, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			return fmt.Errorf("%q is no address and no network", part)
		}
		*n.to = append(*n.to, p.Masked())
	}
	return nil
}

// flags returns the command line's flags, with their defaults.
func (o *options) flags() *flag.FlagSet {
	f := newFlags("qrcode-relay")
	s := &o.relay
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "")
	f.StringVar(&o.tlsCert, "tls-cert", "", "")
	f.StringVar(&o.tlsKey, "tls-key", "", "")
	f.Var(networks{&s.TrustedProxies}, "trusted-proxy", "")
	f.Var(networks{&s.MetricsFrom}, "metrics-from", "")
	f.StringVar(&o.tokens, "tokens", defaultTokens, "")
	f.StringVar(&o.page, "page", "on", "")
	f.StringVar(&s.PageOrigin, "page-origin", "", "")
	f.Var(&o.pageRelays, "page-relay", "")
	f.StringVar(&o.rpID, "rp-id", "", "")
	f.Var(&o.issuers, "issuer", "")
	f.StringVar(&o.natsURL, "nats-url", "", "")
	f.StringVar(&o.natsToken, "nats-token-file", "", "")
	f.StringVar(&o.natsCA, "nats-ca", "", "")
	f.Int64Var(&s.MaxPost, "max-post", 16<<10, "")
	f.DurationVar(&s.AnswerTimeout, "answer-timeout", 30*time.Second, "")
	f.DurationVar(&s.ReadTimeout, "read-timeout", 10*time.Second, "")
	f.DurationVar(&s.ExpectTimeout, "expect-timeout", 10*time.Second, "")
	f.DurationVar(&s.PingInterval, "ping", 20*time.Second, "")
	f.DurationVar(&s.MaxTTL, "ttl", 100*time.Second, "")
	f.IntVar(&s.Pending, "pending", 300, "")
	f.IntVar(&s.PhonesPerMinute, "phones", 10, "")
	f.IntVar(&s.PostsPerMinute, "posts", 240, "")
	f.IntVar(&s.PostsInFlight, "posts-in-flight", 16, "")
	f.DurationVar(&o.drain, "drain", 10*time.Second, "")
	f.StringVar(&o.log, "log", "text", "")
	f.BoolVar(&o.debug, "debug", false, "")
	return f
}

// parseOptions reads the command line and reports what cannot work.
func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := o.flags()
	if err := parse(f, args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, misuse(`run "qrcode-relay help"`, "%q is no option", f.Arg(0))
	}
	return o, o.check(f)
}

// check reports every option that does not fit.
func (o *options) check(f *flag.FlagSet) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	f.VisitAll(func(fl *flag.Flag) {
		if v, ok := fl.Value.(flag.Getter); ok && !positive(v.Get()) {
			bad("--%s must be more than 0", fl.Name)
		}
	})
	if o.relay.MaxPost > 16<<10 {
		bad("--max-post: hosts take no more than 16384 bytes")
	}
	if o.relay.MaxTTL < time.Second {
		bad("--ttl must be 1s or more")
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		bad("--tls-cert and --tls-key go together")
	}
	if o.page != "on" && o.page != "off" {
		bad("--page is on or off")
	}
	if o.log != "text" && o.log != "json" {
		bad("--log is text or json")
	}
	if (o.natsURL == "") != (o.natsToken == "") || o.natsCA != "" && o.natsURL == "" {
		bad("--nats-url needs --nats-token-file, and they go together")
	}
	if p := o.relay.PageOrigin; p != "" && !isOrigin(p) {
		bad("--page-origin is like https://login.example.com, without a path")
	}
	errs = append(errs, o.checkListener(), o.checkPage())
	if err := errors.Join(errs...); err != nil {
		return misuse(`run "qrcode-relay help"`, "%w", err)
	}
	return nil
}

func positive(v any) bool {
	switch v := v.(type) {
	case int:
		return v > 0
	case int64:
		return v > 0
	case time.Duration:
		return v > 0
	}
	return true
}

func isOrigin(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.Scheme+"://"+u.Host == s
}

// checkListener refuses what would carry tokens and codes in the clear.
func (o *options) checkListener() error {
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	if o.tlsCert == "" && len(o.relay.TrustedProxies) == 0 && !isLoopback(host) {
		return fmt.Errorf("--listen %s: without TLS only on loopback: give --tls-cert and --tls-key, or --trusted-proxy", o.listen)
	}
	return nil
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// checkPage finds out what passkeys are bound to.
func (o *options) checkPage() error {
	if o.page != "on" {
		return nil
	}
	host, _, _ := net.SplitHostPort(o.listen)
	if u, err := url.Parse(o.relay.PageOrigin); o.rpID == "" && err == nil {
		o.rpID = u.Hostname()
	}
	if o.rpID == "" && isLoopback(host) && len(o.relay.TrustedProxies) == 0 {
		o.rpID = "localhost"
	}
	if o.rpID == "" {
		return errors.New("--rp-id: which domain are passkeys for? (or --page off)")
	}
	return o.web().Validate()
}

// web is what the page has to know.
func (o *options) web() web.Config {
	return web.Config{RPID: o.rpID, Issuers: o.issuers, ConnectOrigins: o.pageRelays}
}

func (o *options) logger() *slog.Logger {
	h := &slog.HandlerOptions{Level: slog.LevelInfo}
	if o.debug {
		h.Level = slog.LevelDebug
	}
	if o.log == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, h))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, h))
}

// nats connects to the other nodes, if there are any.
func (o *options) nats(log *slog.Logger) (*relay.NATS, error) {
	if o.natsURL == "" {
		return nil, nil
	}
	token, err := relay.ReadSecret(o.natsToken)
	if err != nil {
		return nil, fmt.Errorf("--nats-token-file: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.natsCA != "" {
		pem, err := os.ReadFile(o.natsCA) //nolint:gosec // the administrator's
		if err != nil {
			return nil, fmt.Errorf("--nats-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--nats-ca: no certificate in %s", o.natsCA)
		}
	}
	return relay.DialNATS(relay.NATSConfig{URL: o.natsURL, Token: token, TLS: config, Log: log})
}

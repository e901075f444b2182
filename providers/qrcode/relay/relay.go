// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package relay carries sealed boxes between hosts, where people log in, and
// the phones that approve it. It knows no keys, no accounts and no results: a
// relay can lose a login, never let one in.
//
// A pending login lives exactly as long as its host's socket, so there is no
// database. Several relays become one through a NATS server, see [DialNATS].
package relay

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// A Server is a relay. Its zero value is of use to nobody, for it admits no
// host: set Tokens or Open. Fields must not be changed once it serves.
//
// Call Close when it is no longer needed, and Drain before that where hosts are
// to hear of it.
type Server struct {
	// Tokens are those of the hosts that may wait for logins here.
	Tokens *Tokens

	// Open admits hosts without a token, as long as Tokens has none, from
	// this machine only, at a name that only it has, and never through a
	// proxy. Defaults to false.
	Open bool

	// Page serves every path that is not the relay's own. Defaults to 404.
	Page http.Handler

	// PageOrigin is the only origin whose pages may post, such as
	// "https://login.example.com". Defaults to the origin that a request was
	// sent to, which is right where this relay serves the page.
	PageOrigin string

	// TrustedProxies are whose X-Forwarded-For is believed. Where there are
	// any, plain HTTP is taken from them only. Defaults to none.
	TrustedProxies []netip.Prefix

	// MetricsFrom may read /metrics, besides this machine. Defaults to none.
	MetricsFrom []netip.Prefix

	// NATS joins this relay with others; the caller closes it, after the
	// relay. Defaults to none: a phone must reach the host's relay itself.
	NATS *NATS

	// Log gets events and counts, never an address, an id or a name.
	// Defaults to slog.Default().
	Log *slog.Logger

	// MaxPost is the size of what a phone may post, in bytes. Defaults to
	// 16 KiB, and hosts take no more.
	MaxPost int64

	// AnswerTimeout is how long a phone waits for its answer. Defaults to 30 s.
	AnswerTimeout time.Duration

	// ReadTimeout is how long a phone may take to post. Defaults to 10 s.
	ReadTimeout time.Duration

	// ExpectTimeout is how long a host may be connected without saying what
	// it waits for. Defaults to 10 s.
	ExpectTimeout time.Duration

	// PingInterval is how often hosts are pinged. One that does not answer
	// until half of it has passed is closed. Defaults to 20 s.
	PingInterval time.Duration

	// MaxTTL is the longest that a login may wait; hosts that ask for more
	// get this. Defaults to 100 s.
	MaxTTL time.Duration

	// Pending is how many logins may wait at once for one host token, on this
	// node. A token may have twice as many sockets. Defaults to 300.
	Pending int

	// PhonesPerMinute is how many phones may begin in a minute from one
	// address, or from one /64 of IPv6, and how many typed codes may be looked
	// up: so many at once, and then at this pace. Defaults to 10.
	PhonesPerMinute int

	// PostsPerMinute bounds all posts of an address likewise. Defaults to 240.
	PostsPerMinute int

	// PostsInFlight is how many posts of one login may wait for their answer
	// at once. Defaults to 16.
	PostsInFlight int

	start      sync.Once
	stop       context.CancelFunc
	stopped    chan struct{}
	tokensSeen int // their version; the clock's
	hinted     sync.Once
	open       atomic.Bool // Open, until the first token is issued
	logins     registry
	phones     limiter
	lookups    limiter
	posts      limiter
	metrics    metrics
}

const (
	tick         = 250 * time.Millisecond // how often sockets are looked at
	tokenCheck   = 2 * time.Second        // how often the token file is
	writeTimeout = 5 * time.Second        // a host that takes no message this long is closed
	linger       = 5 * time.Second        // for a host to leave by itself, after its login
	shutTimeout  = time.Second            // for a host to answer a close frame
)

// hsts keeps browsers from ever asking for the page in the clear, where it could
// be another: for a year, of this name and of no other. The name localhost is
// everybody's, and is spared.
const hsts = "max-age=31536000"

func orDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// init sets what is not set, and starts the clock.
func (s *Server) init() {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.Tokens == nil {
		s.Tokens = &Tokens{}
	}
	orDefault(&s.MaxPost, wire.MaxBody)
	s.MaxPost = min(s.MaxPost, wire.MaxBody)
	orDefault(&s.AnswerTimeout, 30*time.Second)
	orDefault(&s.ReadTimeout, 10*time.Second)
	orDefault(&s.ExpectTimeout, 10*time.Second)
	orDefault(&s.PingInterval, 20*time.Second)
	orDefault(&s.MaxTTL, 100*time.Second)
	orDefault(&s.Pending, 300)
	orDefault(&s.PhonesPerMinute, 10)
	orDefault(&s.PostsPerMinute, 240)
	orDefault(&s.PostsInFlight, 16)
	s.phones.perMinute, s.lookups.perMinute, s.posts.perMinute = s.PhonesPerMinute, s.PhonesPerMinute, s.PostsPerMinute
	s.tokensSeen = s.Tokens.version()
	s.open.Store(s.Open && !s.Tokens.issued() && len(s.TrustedProxies) == 0)
	s.logins.init()
	s.metrics.init()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop, s.stopped = cancel, make(chan struct{})
	if s.NATS != nil {
		s.NATS.serve(s)
	}
	go s.clock(ctx)
}

// ServeHTTP serves hosts at /ws, phones below /api/1/, /healthz, /metrics, and
// what else there is from Page.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.start.Do(s.init)
	// Whatever a request goes on to send, it has this long for it. When all is
	// read, net/http lifts the limit by itself.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.ReadTimeout))
	if r.URL.Path == "/healthz" {
		s.serveHealth(w, r)
		return
	}
	if len(s.TrustedProxies) > 0 && r.TLS == nil && !contains(s.TrustedProxies, peer(r)) {
		s.metrics.refused("not_the_proxy")
		http.Error(w, "only through the proxy", http.StatusForbidden)
		return
	}
	// A trusted proxy speaks TLS for us.
	if (r.TLS != nil || len(s.TrustedProxies) > 0) && !local(r) {
		w.Header().Set("Strict-Transport-Security", hsts)
	}
	switch {
	case r.URL.Path == wire.SocketPath:
		s.serveHost(w, r)
	case strings.HasPrefix(r.URL.Path, wire.PhonePath):
		s.servePhone(w, r)
	case r.URL.Path == "/metrics":
		s.serveMetrics(w, r)
	case s.Page != nil:
		s.Page.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveHealth says whether hosts should be sent here.
func (s *Server) serveHealth(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if why := s.unready(); why != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(why + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

// unready returns why no login may begin here, or nothing.
func (s *Server) unready() string {
	switch {
	case s.logins.isDraining():
		return "draining"
	case s.NATS != nil && !s.NATS.connected():
		return "not connected to NATS"
	}
	return ""
}

// clock does what is due until ctx ends.
func (s *Server) clock(ctx context.Context) {
	defer close(s.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	checked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			for _, k := range s.logins.all() {
				k.tick(now)
			}
			if now.Sub(checked) >= tokenCheck {
				checked = now
				s.reloadTokens()
				s.phones.prune(now)
				s.lookups.prune(now)
				s.posts.prune(now)
			}
		}
	}
}

// reloadTokens closes the sockets of tokens that were revoked.
func (s *Server) reloadTokens() {
	if _, err := s.Tokens.Reload(); err != nil {
		s.metrics.tokenErrors.Add(1)
		s.Log.Error("token file not read, the old tokens stay", "error", err)
		return
	}
	version := s.Tokens.version()
	if version == s.tokensSeen {
		return
	}
	s.tokensSeen = version
	if s.Tokens.issued() && s.open.Swap(false) {
		s.Log.Info("a token was issued: hosts need one from now on")
	}
	closed := 0
	for _, k := range s.logins.all() {
		if !s.admitted(k.token) {
			closed++
			k.shut("token revoked")
		}
	}
	s.Log.Info("tokens read again", "tokens", s.Tokens.count(), "sockets_closed", closed)
}

// admitted reports whether the token with this hash may still be used.
func (s *Server) admitted(token tokenHash) bool {
	if token == (tokenHash{}) {
		return s.open.Load()
	}
	return s.Tokens.known(token)
}

// NeedsToken reports whether a host must show a token now.
func (s *Server) NeedsToken() bool {
	s.start.Do(s.init)
	return !s.open.Load()
}

// Drain tells every host that this relay goes away, takes no new ones, and
// returns when all have left. When ctx ends first, it closes those that remain
// and returns the context's error.
func (s *Server) Drain(ctx context.Context) error {
	s.start.Do(s.init)
	idle := s.logins.drain()
	all := s.logins.all()
	s.Log.Info("draining", "sockets", len(all))
	for _, k := range all {
		k.sendEnvelope(&wire.Envelope{Action: wire.ActionDrain})
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		s.closeAll()
		return ctx.Err()
	}
}

// Close ends every socket and the relay's clock. Phones that wait for an answer
// hear that their login is gone.
func (s *Server) Close() error {
	s.start.Do(s.init)
	s.logins.drain()
	s.closeAll()
	s.stop()
	<-s.stopped
	if s.NATS != nil {
		s.NATS.leave()
	}
	return nil
}

func (s *Server) closeAll() {
	all := s.logins.all()
	for _, k := range all {
		k.shut("relay goes away")
	}
	for _, k := range all {
		<-k.gone // shut sees to it
	}
}

var errLimit = errors.New("too many")

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// TB is what New needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// A Server is an emulated OneLogin tenant that listens on loopback. All methods
// may be called at any time and by several goroutines.
type Server struct {
	// URL is the base URL, without a slash at the end.
	URL string
	// CAFile and CAPEM are the certificate of the authority that signed the
	// server's, empty without TLS. Close removes the file, if the server
	// chose its name.
	CAFile string
	CAPEM  []byte

	opts    options
	http    *http.Server
	control http.Handler
	ctx     context.Context
	stop    context.CancelFunc
	serving sync.WaitGroup
	conns   sync.WaitGroup
	closed  sync.Once
	tcp     atomic.Int64
	tls     atomic.Int64
	shaken  sync.Map // connections that tls counts
	remove  func()   // the CA's file
	key     []byte   // of the log's digests

	mu         sync.Mutex
	variants   Variants
	changed    chan struct{} // closed at the next change
	offset     time.Duration // of the clock
	latency    time.Duration
	connecting time.Duration
	lastID     int64
	users      []*User
	devices    map[int64]*deviceState
	challenges []*challenge
	onPush     func(user, verificationID string) PushDecision
	sent       []sent
	clientID   string
	secret     string
	scope      Scope
	tokenLife  time.Duration
	tokens     []*token
	minted     int
	lockAfter  int
	rules      []*rule
	log        []*Request
}

type options struct {
	addr    string
	tls     bool
	http2   bool
	names   []string
	caFile  string
	bodies  bool
	reuse   bool
	control bool
	variant Variants
	clock   func() time.Time
}

// An Option changes how a server starts.
type Option func(*options)

// TLS serves https with a certificate of the server's own authority: trust
// CAFile or CAPEM. It is valid for 127.0.0.1, ::1, localhost and names.
func TLS(names ...string) Option {
	return func(o *options) { o.tls, o.names = true, names }
}

// HTTP2 offers HTTP/2, too; only with TLS. Without it the server speaks
// HTTP/1.1, so that two requests at a time are two connections.
func HTTP2() Option { return func(o *options) { o.http2 = true } }

// CAFile writes the authority's certificate to name, where it stays.
func CAFile(name string) Option { return func(o *options) { o.caFile = name } }

// Listen sets the address, by default 127.0.0.1 and a free port. An address
// that is not loopback is refused.
func Listen(addr string) Option { return func(o *options) { o.addr = addr } }

// With sets which of several readings of the public facts the server follows.
func With(v Variants) Option { return func(o *options) { o.variant = v } }

// KeepBodies makes the log hold bodies and headers as they were sent, secrets
// and all, for tests that look for them.
func KeepBodies() Option { return func(o *options) { o.bodies = true } }

// ReusableCodes lets a TOTP code be used more than once, for tests with several
// logins of one person at a time.
func ReusableCodes() Option { return func(o *options) { o.reuse = true } }

// Clock sets what the server takes for the time; default time.Now.
func Clock(now func() time.Time) Option { return func(o *options) { o.clock = now } }

// WithControl serves [Server.Control] below /control/.
func WithControl() Option { return func(o *options) { o.control = true } }

// New starts a server without users for a test; the test's end closes it.
func New(t TB, opts ...Option) *Server {
	t.Helper()
	s, err := Start(World{}, opts...)
	if err != nil {
		t.Fatalf("%v", err)
		return nil
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a server for a program. Close must be called.
func Start(w World, opts ...Option) (*Server, error) {
	o := options{addr: "127.0.0.1:0", clock: time.Now}
	for _, set := range opts {
		set(&o)
	}
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("onelogintest: %w", err)
	}
	s := newServer(w, o)
	if err := s.listen(); err != nil {
		s.stop()
		return nil, fmt.Errorf("onelogintest: %w", err)
	}
	return s, nil
}

func newServer(w World, o options) *Server {
	s := &Server{
		opts: o, variants: o.variant, key: randomBytes(32), remove: func() {},
		changed: make(chan struct{}), lastID: 100000000, devices: map[int64]*deviceState{},
		clientID: ClientID, secret: ClientSecret, scope: ManageAll,
		tokenLife: defaultTokenLife, lockAfter: w.LockAfter,
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.control = s.Control()
	if w.ClientID != "" {
		s.clientID = w.ClientID
	}
	if w.ClientSecret != "" {
		s.secret = w.ClientSecret
	}
	if w.Scope != "" {
		s.scope = w.Scope
	}
	for _, u := range w.Users {
		s.AddUser(u)
	}
	return s
}

// listen opens the socket and serves it.
func (s *Server) listen() error {
	ln, err := loopback(s.opts.addr)
	if err != nil {
		return err
	}
	s.URL = "http://" + ln.Addr().String()
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // a dropped connection is no news here
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnContext:       s.connContext,
		ConnState:         s.connState,
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	if s.opts.tls {
		if err := s.secure(); err != nil {
			return errors.Join(err, ln.Close())
		}
		s.URL = "https://" + ln.Addr().String()
		s.http.Protocols.SetHTTP2(s.opts.http2)
	}
	s.serving.Go(func() {
		ln := slowListener{ln, s}
		if s.opts.tls {
			_ = s.http.ServeTLS(ln, "", "")
			return
		}
		_ = s.http.Serve(ln)
	})
	return nil
}

// loopback listens on addr, if only this machine can reach it.
func loopback(addr string) (net.Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !a.IP.IsLoopback() {
		return nil, fmt.Errorf("listen on %s: not a loopback address; anybody could log in through an emulator", addr)
	}
	return net.ListenTCP("tcp", a)
}

// secure makes the certificate and tells where its authority's is.
func (s *Server) secure() error {
	cert, ca, err := makeCertificate(s.opts.names)
	if err != nil {
		return err
	}
	s.CAPEM = ca
	if s.CAFile, s.remove, err = writeCA(s.opts.caFile, ca); err != nil {
		return err
	}
	s.http.TLSConfig = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
	}
	return nil
}

// writeCA writes the authority's certificate, to a name of its own if none is
// given; only that one goes away with the server.
func writeCA(name string, ca []byte) (string, func(), error) {
	if name != "" {
		return name, func() {}, os.WriteFile(name, ca, 0o644) //nolint:gosec // a certificate is public
	}
	f, err := os.CreateTemp("", "onelogintest-ca-*.pem")
	if err != nil {
		return "", nil, err
	}
	_, err = f.Write(ca)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", nil, err
	}
	return f.Name(), func() { _ = os.Remove(f.Name()) }, nil
}

// Close ends all connections, also those that a fault holds, and returns when
// nothing of the server runs any more.
func (s *Server) Close() {
	s.closed.Do(func() {
		s.stop()
		_ = s.http.Close()
		s.serving.Wait()
		_ = s.http.Close() // what was accepted while the first one closed
		s.conns.Wait()
		s.remove()
	})
}

// connKey is where a request finds its connection's number.
type connKey struct{}

func (s *Server) connContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, int(s.tcp.Add(1)))
}

func (s *Server) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateActive:
		s.countHandshake(c)
	case http.StateClosed, http.StateHijacked:
		s.countHandshake(c)
		s.shaken.Delete(c)
		s.conns.Done()
	}
}

// countHandshake counts a connection whose handshake is complete, once.
func (s *Server) countHandshake(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok && t.ConnectionState().HandshakeComplete {
		if _, counted := s.shaken.LoadOrStore(c, true); !counted {
			s.tls.Add(1)
		}
	}
}

// slowListener gives connections that take their time to begin.
type slowListener struct {
	net.Listener
	s *Server
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowConn{Conn: c, s: l.s}, nil
}

// slowConn waits before the first byte that it reads.
type slowConn struct {
	net.Conn
	s    *Server
	once sync.Once
}

func (c *slowConn) Read(b []byte) (int, error) {
	c.once.Do(func() {
		c.s.mu.Lock()
		d := c.s.connecting
		c.s.mu.Unlock()
		pause(c.s.ctx, d)
	})
	return c.Conn.Read(b)
}

// pause waits for d or for ctx, and reports whether it was d.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// now is the server's time. s.mu is held.
func (s *Server) now() time.Time { return s.opts.clock().Add(s.offset) }

// Now is the server's time.
func (s *Server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now()
}

// Advance moves the server's clock: tokens, codes and pushes age by d.
func (s *Server) Advance(d time.Duration) { s.change(func() { s.offset += d }) }

// change does what f does under the lock, and wakes [Server.Await].
func (s *Server) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.wake()
}

// wake wakes whoever awaits a change. s.mu is held.
func (s *Server) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Await returns nil as soon as cond is true, which it asks after every change,
// or the error of ctx.
func (s *Server) Await(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("onelogintest: waiting for a change: %w", ctx.Err())
		}
	}
}

// AddUser adds a user and returns it as the server knows it: with ids, status
// and secrets filled in.
func (s *Server) AddUser(u User) User {
	u = u.clone()
	s.change(func() {
		s.settle(&u, true)
		kept := u.clone()
		s.users = append(s.users, &kept)
	})
	return u
}

// User returns a copy of the user of this username, email or "id:N".
func (s *Server) User(name string) (User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.find(name); u != nil {
		return u.clone(), true
	}
	return User{}, false
}

// Update changes a user, found as by [Server.User], and reports whether there
// was one. Here a Status or State of 0 is 0. f may call the server, and is
// called again if the user changed meanwhile.
func (s *Server) Update(name string, f func(*User)) bool {
	for {
		before, ok := s.User(name)
		if !ok {
			return false
		}
		after := before.clone()
		f(&after)
		if s.replace(before, after) {
			return true
		}
	}
}

// replace puts after in the place of before, if that is still there.
func (s *Server) replace(before, after User) bool {
	done := false
	s.change(func() {
		for _, u := range s.users {
			if reflect.DeepEqual(*u, before) {
				s.settle(&after, false)
				*u = after.clone() // as User will show it, so that it can be compared
				done = true
				return
			}
		}
	})
	return done
}

// RemoveUser deletes a user, found as by [Server.User].
func (s *Server) RemoveUser(name string) bool {
	found := false
	s.change(func() {
		gone := s.find(name)
		for i, u := range s.users {
			if u == gone {
				s.users = append(s.users[:i:i], s.users[i+1:]...)
				found = true
				return
			}
		}
	})
	return found
}

// LockAfter locks a user after n invalid passwords or codes in a row; 0 never
// does. Facts say that it happens, not when.
func (s *Server) LockAfter(n int) { s.change(func() { s.lockAfter = n }) }

// SetVariants changes the reading of the facts from here on.
func (s *Server) SetVariants(v Variants) { s.change(func() { s.variants = v }) }

// Latency makes every request take d longer.
func (s *Server) Latency(d time.Duration) { s.change(func() { s.latency = d }) }

// ConnectLatency makes every new connection wait d before its first byte is
// read, as round trips of a handshake would.
func (s *Server) ConnectLatency(d time.Duration) { s.change(func() { s.connecting = d }) }

// Connections is how many TCP connections there were since the start.
func (s *Server) Connections() int { return int(s.tcp.Load()) }

// Handshakes is how many TLS handshakes succeeded since the start.
func (s *Server) Handshakes() int { return int(s.tls.Load()) }

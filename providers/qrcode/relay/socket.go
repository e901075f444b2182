// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// A socket is a host, and the one login that it waits for.
type socket struct {
	s     *Server
	conn  *websocket.Conn
	raw   net.Conn // what conn runs on
	token tokenHash
	names []string      // the id and loc it holds; the registry's
	gone  chan struct{} // closed when all is over

	closeAt  atomic.Int64 // when it has to be gone, in ns since 1970
	nextPing atomic.Int64

	mu      sync.Mutex
	id      string    // of the login, even when it is over
	ready   bool      // posts are taken
	until   time.Time // until then
	begun   time.Time
	why     string // it ended
	ref     uint64
	posts   map[uint64]waiting // for the host's answer
	queue   [][]byte           // to be written, in order
	writing bool
	closed  bool
	claim   *claim // the names' announcement to other nodes
}

// waiting is a phone, here or at another node.
type waiting struct {
	done  func(answer)
	until time.Time // then nobody waits any more
}

// An answer is what a phone gets for its post.
type answer struct {
	status int
	body   []byte
}

// The answers that are the relay's own. Whatever a login that cannot be had is,
// unknown, used, expired or dead, it answers the same.
var (
	answerGone      = answer{http.StatusNotFound, errorBody(wire.ErrorGone)}
	answerBusy      = answer{http.StatusConflict, errorBody(wire.ErrorBusy)}
	answerSlowDown  = answer{http.StatusTooManyRequests, errorBody(wire.ErrorSlowDown)}
	answerTooLarge  = answer{http.StatusRequestEntityTooLarge, errorBody("too large")}
	answerMalformed = answer{http.StatusBadRequest, errorBody("malformed")}
)

func errorBody(text string) []byte {
	b, _ := json.Marshal(wire.Reply{Error: text}) // cannot fail: it is a string
	return b
}

// serveHost upgrades a host's request. The handler returns and its connection's
// memory with it; what stays is a goroutine that reads.
func (s *Server) serveHost(w http.ResponseWriter, r *http.Request) {
	token, status := s.hostToken(r)
	if status != 0 {
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	if why := s.unready(); why != "" {
		s.metrics.refused("unready")
		w.Header().Set("Retry-After", "1")
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	if err := s.logins.admit(token, 2*s.Pending); err != nil {
		s.metrics.refused("sockets")
		http.Error(w, "too many sockets", http.StatusTooManyRequests)
		return
	}
	small := &smallBuffers{ResponseWriter: w}
	conn, err := websocket.Accept(small, r, nil)
	if err != nil {
		s.logins.dismiss(token)
		s.metrics.refused("no_websocket")
		return
	}
	conn.SetReadLimit(wire.MaxEnvelope)
	k := &socket{s: s, conn: conn, raw: small.conn, token: token, gone: make(chan struct{})}
	now := time.Now()
	k.closeAt.Store(now.Add(s.ExpectTimeout).UnixNano())
	half := s.PingInterval / 2
	k.nextPing.Store(now.Add(half + mrand.N(half+1)).UnixNano()) //nolint:gosec // only spreads the load
	if s.logins.insert(k) {
		k.shut("relay goes away")
	}
	go k.run()
}

// hostToken returns the hash of the token that admits the request, or the
// status that refuses it. A page cannot be a host: browsers send an Origin.
func (s *Server) hostToken(r *http.Request) (tokenHash, int) {
	if r.Header.Get("Origin") != "" {
		s.metrics.refused("browser")
		return tokenHash{}, http.StatusForbidden
	}
	if s.open.Load() {
		return tokenHash{}, s.openTo(r)
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	hash := hashToken(token)
	if !ok || !s.Tokens.known(hash) {
		s.metrics.refused("token")
		return tokenHash{}, http.StatusUnauthorized
	}
	return hash, 0
}

// openTo returns the status that refuses a host without a token, 0 if none: it
// must be on this machine, and no proxy may hide that it is not.
func (s *Server) openTo(r *http.Request) int {
	if !peer(r).IsLoopback() {
		s.metrics.refused("token")
		return http.StatusUnauthorized
	}
	if forwarded(r) || !local(r) {
		s.metrics.refused("proxy")
		s.hinted.Do(func() {
			s.Log.Warn("host refused: it comes through a proxy or under another name than localhost, but no proxy is trusted and no token was issued")
		})
		return http.StatusForbidden
	}
	return 0
}

// smallBuffers has the connection hijacked with buffers of a size that ten
// thousand of them can have: an idle socket keeps them.
type smallBuffers struct {
	http.ResponseWriter
	conn net.Conn // once hijacked
}

const bufferSize = 512

func (w *smallBuffers) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Peek(rw.Reader.Buffered())
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	early = bytes.Clone(early)
	reader := bufio.NewReaderSize(bytes.NewReader(early), max(bufferSize, len(early)))
	if _, err := reader.Peek(len(early)); err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	w.conn = conn
	return conn, bufio.NewReadWriter(reader, bufio.NewWriterSize(conn, bufferSize)), nil
}

// run reads until the socket's end.
func (k *socket) run() {
	defer func() {
		k.end()
		_ = k.conn.CloseNow()
	}()
	for {
		kind, data, err := k.conn.Read(context.Background()) // closed by tick
		if err != nil {
			return
		}
		if err := k.handleAside(kind, data); err != nil {
			k.s.metrics.violations.Add(1)
			k.s.Log.Warn("host broke the protocol", "error", err)
			k.end()
			k.leave(websocket.StatusPolicyViolation, "protocol violation")
			return
		}
	}
}

// handleAside handles a message on a stack of its own. That of run, which an
// idle socket keeps, stays half as large.
func (k *socket) handleAside(kind websocket.MessageType, data []byte) error {
	done := make(chan error)
	go func() { done <- k.handle(kind, data) }()
	return <-done
}

// end is what happens when a socket is lost, once: its phones hear of it first.
func (k *socket) end() {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return
	}
	k.closed, k.ready = true, false
	posts, claim := k.posts, k.claim
	k.posts, k.claim, k.queue = nil, nil, nil
	k.mu.Unlock()
	for _, p := range posts {
		p.done(answerGone)
	}
	k.over("socket_lost")
	claim.release()
	k.s.logins.remove(k)
	close(k.gone)
}

// handle does what one message asks for. An error closes the socket.
func (k *socket) handle(kind websocket.MessageType, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if kind != websocket.MessageText {
		return errors.New("not a text message")
	}
	e, err := wire.ParseEnvelope(data)
	if err != nil {
		return err
	}
	switch e.Action {
	case wire.ActionGetConID:
		cid := make([]byte, wire.CIDSize)
		_, _ = rand.Read(cid) // never fails
		k.sendEnvelope(&wire.Envelope{Action: e.Action, CID: wire.B64(cid)})
	case wire.ActionExpectAuth:
		return k.expect(e)
	case wire.ActionPost:
		k.answer(e)
	case wire.ActionVerifyAuth:
		return k.verify(e)
	default:
		return errors.New("unknown action")
	}
	return nil
}

// expect begins the socket's login, if its names are free.
func (k *socket) expect(e *wire.Envelope) error {
	if e.ID == "" || e.TTL == 0 {
		return errors.New("expectauth: id or ttl is missing")
	}
	if k.id != "" {
		return errors.New("expectauth: a socket has one login")
	}
	names := []string{e.ID}
	if e.Loc != "" {
		names = append(names, e.Loc)
	}
	reply := &wire.Envelope{Action: e.Action, Result: k.hold(names)}
	k.s.metrics.logins[reply.Result].Add(1)
	if reply.Result == wire.ResultOK {
		asked := time.Duration(e.TTL) * time.Second
		ttl := min(asked, k.s.MaxTTL)
		if ttl < asked {
			reply.TTL = int(ttl / time.Second)
		}
		k.begin(e.ID, ttl)
	}
	k.sendEnvelope(reply)
	return nil
}

// hold takes the names here and, where there are other nodes, there.
func (k *socket) hold(names []string) (result string) {
	ok, err := k.s.logins.claim(k, names, k.s.Pending)
	switch {
	case err != nil:
		return wire.ResultLimit
	case !ok:
		return wire.ResultTaken
	case k.s.NATS == nil:
		return wire.ResultOK
	}
	claim, ok := k.s.NATS.claim(names)
	if !ok {
		claim.release()
		k.s.logins.release(k)
		return wire.ResultTaken
	}
	k.mu.Lock()
	k.claim = claim
	k.mu.Unlock()
	return wire.ResultOK
}

func (k *socket) begin(id string, ttl time.Duration) {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.id, k.begun, k.until, k.ready = id, now, now.Add(ttl), true
	k.closeAt.Store(k.until.Add(linger).UnixNano())
}

// verify retires the login: nobody finds it any more. Posts that wait may still
// be answered.
func (k *socket) verify(e *wire.Envelope) error {
	challenge, err := wire.UnB64(e.Challenge)
	if err != nil || len(challenge) != 32 {
		return errors.New("verifyauth: bad challenge")
	}
	if e.ID == "" || e.ID != k.id {
		return errors.New("verifyauth: not this socket's id")
	}
	k.retire("verified")
	k.sendEnvelope(&wire.Envelope{Action: e.Action, Result: wire.ResultVerified, Challenge: e.Challenge})
	return nil
}

// retire makes the login's names unknown and gives the host a moment to leave.
func (k *socket) retire(why string) {
	k.mu.Lock()
	k.ready = false
	claim := k.claim
	k.claim = nil
	k.mu.Unlock()
	claim.release()
	if k.s.logins.release(k) {
		k.over(why)
		k.closeAt.Store(time.Now().Add(linger).UnixNano())
	}
}

// over counts the end of a login, once.
func (k *socket) over(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.id == "" || k.why != "" {
		return
	}
	k.why = why
	k.s.metrics.ends[why].Add(1)
	k.s.Log.Info("login over", "why", why, "ms", time.Since(k.begun).Milliseconds(), "posts", k.ref)
}

// post hands body to the host. done gets the answer, once, from another
// goroutine, unless cancel is called first. Where the post was not taken, done
// is not called and refused is what to answer.
func (k *socket) post(body []byte, done func(answer)) (cancel func(), refused *answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.ready || time.Now().After(k.until) {
		return nil, &answerGone
	}
	if len(k.posts) >= k.s.PostsInFlight {
		return nil, &answerSlowDown
	}
	k.ref++
	ref := k.ref
	message := make([]byte, 0, len(body)+48)
	message = append(message, `{"action":"`+wire.ActionPost+`","ref":`...)
	message = strconv.AppendUint(message, ref, 10)
	message = append(message, `,"body":`...)
	message = append(message, body...)
	message = append(message, '}')
	if k.posts == nil {
		k.posts = make(map[uint64]waiting)
	}
	k.posts[ref] = waiting{done, time.Now().Add(k.s.AnswerTimeout)}
	k.sendLocked(message)
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.posts, ref)
	}, nil
}

// answer hands the host's answer on. One that nobody waits for is late.
func (k *socket) answer(e *wire.Envelope) {
	k.mu.Lock()
	p, ok := k.posts[e.Ref]
	delete(k.posts, e.Ref)
	k.mu.Unlock()
	if !ok {
		return
	}
	a := answerGone
	switch {
	case e.Status == http.StatusOK && len(e.Body) > 0 && e.Body[0] == '{':
		a = answer{http.StatusOK, e.Body}
	case e.Status == http.StatusConflict:
		a = answerBusy
	}
	p.done(a)
}

func (k *socket) sendEnvelope(e *wire.Envelope) {
	data, err := json.Marshal(e)
	if err != nil {
		k.s.Log.Error("message not written", "error", err)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sendLocked(data)
}

// sendLocked queues a message. It never waits: a goroutine writes for as long as
// there is something to write, and a host that falls behind is closed.
func (k *socket) sendLocked(data []byte) {
	if k.closed {
		return
	}
	if len(k.queue) >= 2*k.s.PostsInFlight {
		go k.cut()
		return
	}
	k.queue = append(k.queue, data)
	if !k.writing {
		k.writing = true
		go k.write()
	}
}

func (k *socket) write() {
	for {
		k.mu.Lock()
		if len(k.queue) == 0 {
			k.queue, k.writing = nil, false
			k.mu.Unlock()
			return
		}
		data := k.queue[0]
		k.queue = k.queue[1:]
		k.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		err := k.conn.Write(ctx, websocket.MessageText, data)
		cancel()
		if err != nil {
			k.cut() // run hears of it
			return
		}
	}
}

// shut closes the socket from outside, with a word to the host.
func (k *socket) shut(why string) {
	go k.leave(websocket.StatusGoingAway, why)
}

// leave closes the socket with a word to the host, which has a moment to answer
// it.
func (k *socket) leave(code websocket.StatusCode, why string) {
	late := time.AfterFunc(shutTimeout, k.cut)
	defer late.Stop()
	_ = k.conn.Close(code, why)
}

// cut ends the connection at once. conn's own CloseNow does nothing where a
// close frame is on its way, and would wait for the host's.
func (k *socket) cut() { _ = k.raw.Close() }

// tick does what is due.
func (k *socket) tick(now time.Time) {
	ns := now.UnixNano()
	if ns > k.closeAt.Load() {
		k.closeAt.Store(now.Add(time.Hour).UnixNano())
		k.shut("time is up")
		return
	}
	k.mu.Lock()
	expired := k.ready && now.After(k.until)
	for ref, p := range k.posts {
		if now.After(p.until) {
			delete(k.posts, ref)
		}
	}
	k.mu.Unlock()
	if expired {
		k.retire("expired")
	}
	if ns > k.nextPing.Load() {
		k.nextPing.Store(now.Add(k.s.PingInterval).UnixNano())
		go k.ping()
	}
}

func (k *socket) ping() {
	ctx, cancel := context.WithTimeout(context.Background(), k.s.PingInterval/2)
	defer cancel()
	if err := k.conn.Ping(ctx); err != nil && ctx.Err() != nil {
		k.s.metrics.unresponsive.Add(1)
		k.cut()
	}
}

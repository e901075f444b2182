// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// A meddler is a relay of the attacker's. It does what a relay does, and what
// its hooks say. They are to be set while no login goes on.
type meddler struct {
	URL string

	upgrade func(w http.ResponseWriter) (taken bool)          // in place of the socket
	answer  func(ask *wire.Envelope, say *wire.Envelope)      // changes what the host's questions get
	instead func(ctx context.Context, c *websocket.Conn) bool // in place of that answer; reports whether it did
	phone   func(body []byte) []byte                          // changes what a phone posts
	reply   func(body []byte) []byte                          // changes what the phone gets

	t    *testing.T
	http *httptest.Server
	mu   sync.Mutex
	host *hostSocket
}

// A hostSocket is the relay's end of one login.
type hostSocket struct {
	conn    *websocket.Conn
	raw     net.Conn
	expect  *wire.Envelope // what the host told of its login
	asked   []string       // actions
	gone    chan struct{}  // closed when the host has left
	mu      sync.Mutex
	ref     uint64
	pending map[uint64]chan *wire.Envelope
}

type rawKey struct{}

// newMeddler starts one, with TLS if secure.
func newMeddler(t *testing.T, secure bool) *meddler {
	t.Helper()
	m := &meddler{t: t}
	m.http = httptest.NewUnstartedServer(http.HandlerFunc(m.serve))
	m.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, rawKey{}, c) }
	m.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	if secure {
		m.http.StartTLS()
	} else {
		m.http.Start()
	}
	m.URL = m.http.URL
	t.Cleanup(func() {
		if h := m.socket(); h != nil {
			_ = h.conn.CloseNow()
		}
		m.http.Close()
	})
	return m
}

// withMeddler puts a world behind a meddler. The page stays where it was.
func withMeddler(w *world) {
	w.relay = newMeddler(w.T, false)
	w.config.Relay, w.phone.Relay = w.relay.URL, w.relay.URL
}

func (m *meddler) socket() *hostSocket {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.host
}

func (m *meddler) serve(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, wire.PhonePath); ok {
		m.servePhone(w, r, name)
		return
	}
	if m.upgrade != nil && m.upgrade(w) {
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	conn.SetReadLimit(wire.MaxEnvelope)
	raw, _ := r.Context().Value(rawKey{}).(net.Conn)
	h := &hostSocket{conn: conn, raw: raw, gone: make(chan struct{}), pending: make(map[uint64]chan *wire.Envelope)}
	m.mu.Lock()
	m.host = h
	m.mu.Unlock()
	defer close(h.gone)
	defer conn.CloseNow() //nolint:errcheck // it may be closed already
	m.serveHost(context.WithoutCancel(r.Context()), h)
}

func (m *meddler) serveHost(ctx context.Context, h *hostSocket) {
	for {
		_, text, err := h.conn.Read(ctx)
		if err != nil {
			return
		}
		e, err := wire.ParseEnvelope(text)
		if err != nil {
			m.t.Errorf("the host says %s: %v", text, err)
			return
		}
		if e.Action == wire.ActionPost {
			h.answered(e)
			continue
		}
		h.mu.Lock()
		h.asked = append(h.asked, e.Action)
		if e.Action == wire.ActionExpectAuth {
			h.expect = e
		}
		h.mu.Unlock()
		m.answerHost(ctx, h, e)
	}
}

// cid is the connection's id that every host is told.
var cid = make([]byte, wire.CIDSize)

func (m *meddler) answerHost(ctx context.Context, h *hostSocket, ask *wire.Envelope) {
	if m.instead != nil && m.instead(ctx, h.conn) {
		return
	}
	say := &wire.Envelope{Action: ask.Action}
	switch ask.Action {
	case wire.ActionGetConID:
		say.CID = wire.B64(cid)
	case wire.ActionExpectAuth:
		say.Result = wire.ResultOK
	case wire.ActionVerifyAuth:
		say.Result, say.Challenge = wire.ResultVerified, ask.Challenge
	}
	if m.answer != nil {
		m.answer(ask, say)
	}
	h.say(ctx, say)
}

// say sends an envelope to the host.
func (h *hostSocket) say(ctx context.Context, e *wire.Envelope) {
	if text, err := json.Marshal(e); err == nil {
		_ = h.conn.Write(ctx, websocket.MessageText, text) // a host that has left hears nothing
	}
}

func (h *hostSocket) answered(e *wire.Envelope) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ch := h.pending[e.Ref]; ch != nil {
		ch <- e
		delete(h.pending, e.Ref)
	}
}

// post has the host hear what no phone sent, or what one did.
func (h *hostSocket) post(ctx context.Context, body []byte) (status int, reply []byte) {
	ch := make(chan *wire.Envelope, 1)
	h.mu.Lock()
	h.ref++
	ref := h.ref
	h.pending[ref] = ch
	h.mu.Unlock()
	h.say(ctx, &wire.Envelope{Action: wire.ActionPost, Ref: ref, Body: body})
	select {
	case e := <-ch:
		return e.Status, e.Body
	case <-h.gone:
	case <-ctx.Done():
	case <-time.After(30 * time.Second):
	}
	return http.StatusNotFound, []byte(`{"error":"gone"}`)
}

func (m *meddler) servePhone(w http.ResponseWriter, r *http.Request, _ string) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	h := m.socket()
	if err != nil || h == nil {
		http.Error(w, `{"error":"gone"}`, http.StatusNotFound)
		return
	}
	if m.phone != nil {
		body = m.phone(body)
	}
	status, reply := h.post(r.Context(), body)
	if m.reply != nil {
		reply = m.reply(reply)
	}
	w.WriteHeader(status)
	_, _ = w.Write(reply)
}

// await waits until the host has left, which it does at once when its login has
// ended.
func (m *meddler) await() {
	m.t.Helper()
	select {
	case <-m.socket().gone:
	case <-time.After(20 * time.Second):
		m.t.Error("the host goes on")
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// A node is a relay that listens.
type node struct {
	*Server
	url string
	log *safeBuffer
}

// safeBuffer may be read while a relay logs to it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs s, open unless it has tokens, until the test's end.
func start(t testing.TB, s *Server) *node {
	t.Helper()
	n := &node{Server: s, log: &safeBuffer{}}
	s.Open = s.Tokens == nil
	if s.Log == nil {
		s.Log = slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	server := httptest.NewServer(s)
	n.url = server.URL
	t.Cleanup(func() {
		_ = s.Close()
		server.Close()
	})
	return n
}

// many is for tests that are about something else than limits.
func many(s *Server) *Server {
	s.PhonesPerMinute, s.PostsPerMinute = 1e6, 1e6
	return s
}

// A host is a connected one.
type host struct {
	t    testing.TB
	conn *websocket.Conn
}

// A refusal is what a host hears that does not come in.
type refusal struct {
	status    int
	challenge string
}

func dial(t testing.TB, url, token string) (*host, refusal, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	o := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if token != "" {
		o.HTTPHeader.Set("Authorization", "Bearer "+token)
	}
	conn, response, err := websocket.Dial(ctx, url+wire.SocketPath, o)
	if err != nil {
		if response == nil {
			return nil, refusal{}, err
		}
		defer response.Body.Close()
		return nil, refusal{response.StatusCode, response.Header.Get("WWW-Authenticate")}, err
	}
	conn.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &host{t, conn}, refusal{}, nil
}

func connect(t testing.TB, url string) *host {
	t.Helper()
	h, _, err := dial(t, url, "")
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) sendRaw(text string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) send(e wire.Envelope) {
	h.t.Helper()
	data, err := json.Marshal(e)
	if err != nil {
		h.t.Fatal(err)
	}
	h.sendRaw(string(data))
}

func (h *host) receive() (*wire.Envelope, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, data, err := h.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	return wire.ParseEnvelope(data)
}

func (h *host) next() *wire.Envelope {
	h.t.Helper()
	e, err := h.receive()
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

func (h *host) expect(id, loc string, ttl int) string {
	h.t.Helper()
	h.send(wire.Envelope{Action: wire.ActionExpectAuth, ID: id, Loc: loc, TTL: ttl})
	return h.next().Result
}

// wait connects a host that waits for id and answers nothing by itself.
func wait(t testing.TB, url, id, loc string) *host {
	t.Helper()
	h := connect(t, url)
	if got := h.expect(id, loc, 60); got != wire.ResultOK {
		t.Fatalf("expectauth: %s", got)
	}
	return h
}

// serveEcho answers each post with what it says as "echo", until the end.
func (h *host) serveEcho() {
	go func() {
		for {
			e, err := h.receive()
			if err != nil {
				return
			}
			if e.Action != wire.ActionPost {
				continue
			}
			reply := fmt.Sprintf(`{"action":"post","ref":%d,"status":200,"body":{"echo":%s}}`, e.Ref, e.Body)
			if h.conn.Write(context.Background(), websocket.MessageText, []byte(reply)) != nil {
				return
			}
		}
	}()
}

// A reply is what a phone got.
type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// a phone's client keeps as many connections as there are phones.
var client = &http.Client{Timeout: 2 * patience, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}

func tryPost(url, name, body string, header ...string) (reply, error) {
	r, err := http.NewRequest(http.MethodPost, url+wire.PhonePath+name, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(data)}, err
}

func post(t testing.TB, url, name, body string, header ...string) reply {
	t.Helper()
	r, err := tryPost(url, name, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// postLater posts in the background.
func postLater(t testing.TB, url, name, body string) <-chan reply {
	t.Helper()
	ch := make(chan reply, 1)
	go func() {
		r, err := tryPost(url, name, body)
		if err != nil {
			r.body = err.Error()
		}
		ch <- r
	}()
	return ch
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("not reached")
	}
}

func get(t testing.TB, url string, header ...string) reply {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{response.StatusCode, response.Header, string(data)}
}

// eventually waits for what needs no event of its own.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// closed waits until the relay has closed h's socket.
func (h *host) closed() websocket.StatusCode {
	h.t.Helper()
	for {
		_, err := h.receive()
		if errors.Is(err, context.DeadlineExceeded) {
			h.t.Fatal("the socket stays open")
		}
		if err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func id(i int) string { return fmt.Sprintf("%032x", i) }

// loc returns the i-th loc; none of them is the beginning of a real code's.
func loc(i int) string {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	b := make([]byte, wire.LocLen)
	for j := range b {
		b[len(b)-1-j] = digits[i&31]
		i >>= 5
	}
	return string(b)
}

const (
	hello  = `{"seq":0,"type":"hello","v":"pam-authn/qr/1","id":"x","pp":"x"}`
	waitup = `{"seq":1,"type":"wait","pp":"x","box":"x"}`
	lookup = `{"type":"lookup","loc":"x","proof":"x"}`
	gone   = `404 {"error":"gone"}`
)

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A NATS joins relays into one: a phone may post to any of them.
//
// The server's own table of who listens to what is the registry: a node
// subscribes to the id and loc of each login that it holds. A name that nobody
// listens to is unknown, which the server says at once, and what a node held is
// gone with its connection. Nothing is stored.
type NATS struct {
	conn *nats.Conn
	node string
	in   chan *nats.Msg // requests of other nodes
	done chan struct{}
	left sync.Once

	mu    sync.Mutex
	asked map[string]chan *nats.Msg // by the last part of the reply subject
	next  uint64
	peers map[string]*peerNode
}

// NATSConfig says where the server is and how to be let in.
type NATSConfig struct {
	URL   string      // tls://host:port, several with commas between
	Token string      // what the server wants to hear
	TLS   *tls.Config // nil: the system's roots
	Log   *slog.Logger
}

// A message between nodes is JSON, so that nodes of two versions get along.
type natsMessage struct {
	// What is asked of whoever holds the name, or is the node.
	Post  json.RawMessage `json:"post,omitempty"`
	Claim bool            `json:"claim,omitempty"`
	Ping  bool            `json:"ping,omitempty"`

	// What is answered: first that a node has the post, then what its host
	// says; or that the name is held, or that the node is there.
	Node   string          `json:"node,omitempty"`
	Status int             `json:"status,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Held   bool            `json:"held,omitempty"`
}

// marshal leaves a post's bytes as they are: hosts compare them.
func marshal(m natsMessage) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(m)
	return b.Bytes(), err
}

const (
	subjectRoot = "pam-authn.qr.1."
	subjectName = subjectRoot + "name." // and an id or a loc
	subjectNode = subjectRoot + "node." // and a node
	replyRoot   = subjectRoot + "reply."

	natsDial    = 5 * time.Second
	claimWait   = time.Second             // for whoever holds a name to say so
	ackWait     = 1500 * time.Millisecond // for a node to say that it has a post
	watchPeriod = 300 * time.Millisecond  // between pings of a node that owes an answer
	watchMisses = 4                       // until it is dead
)

// retries are the pauses before a name is asked for again that nobody listens
// to: between the servers of a cluster, subscriptions take a moment.
var retries = []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 65 * time.Millisecond, 160 * time.Millisecond}

// DialNATS connects to a NATS server. It does so with TLS and a token, and only
// to a server that asks for one.
func DialNATS(c NATSConfig) (*NATS, error) {
	if c.Token == "" {
		return nil, errors.New("nats: no token")
	}
	for _, u := range strings.Split(c.URL, ",") {
		if !strings.HasPrefix(u, "tls://") || strings.Contains(u, "@") {
			return nil, errors.New("nats: a URL is tls://host:port, without user or token")
		}
	}
	config := c.TLS
	if config == nil {
		config = &tls.Config{}
	}
	config = config.Clone()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	n := &NATS{
		node:  hex.EncodeToString(id),
		in:    make(chan *nats.Msg, 4096),
		done:  make(chan struct{}),
		asked: make(map[string]chan *nats.Msg),
		peers: make(map[string]*peerNode),
	}
	conn, err := nats.Connect(c.URL,
		nats.Name("qrcode-relay"), nats.Token(c.Token), nats.Secure(config), nats.NoEcho(),
		nats.Timeout(natsDial), nats.MaxReconnects(-1), nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 250*time.Millisecond), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.Log.Warn("nats: connection lost", "error", err) }),
		nats.ReconnectHandler(func(*nats.Conn) { c.Log.Info("nats: connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { c.Log.Warn("nats", "error", err) }))
	if err != nil {
		return nil, fmt.Errorf("nats: %w", err)
	}
	n.conn = conn
	if err := n.listen(); err != nil {
		conn.Close()
		return nil, err
	}
	return n, nil
}

func (n *NATS) listen() error {
	if !n.conn.AuthRequired() {
		return errors.New("nats: the server asks nobody for a token")
	}
	if !n.conn.HeadersSupported() {
		return errors.New("nats: the server is too old")
	}
	if _, err := n.conn.Subscribe(replyRoot+n.node+".*", n.replied); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	if _, err := n.conn.ChanSubscribe(subjectNode+n.node, n.in); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	if err := n.conn.FlushTimeout(natsDial); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

// Close disconnects.
func (n *NATS) Close() { n.conn.Close() }

func (n *NATS) connected() bool { return n.conn.IsConnected() }

func (n *NATS) reconnects() int64 {
	return int64(n.conn.Stats().Reconnects) //nolint:gosec // far from 2^63
}

// serve answers other nodes on behalf of s, until leave.
func (n *NATS) serve(s *Server) {
	go func() {
		for {
			select {
			case m := <-n.in:
				n.serveNode(s, m)
			case <-n.done:
				return
			}
		}
	}()
}

func (n *NATS) leave() { n.left.Do(func() { close(n.done) }) }

// serveNode answers one request. It does not wait: requests of all nodes come
// through here, which keeps them in order.
func (n *NATS) serveNode(s *Server, m *nats.Msg) {
	var q natsMessage
	if err := json.Unmarshal(m.Data, &q); err != nil {
		return
	}
	k := s.logins.find(strings.TrimPrefix(m.Subject, subjectName))
	switch {
	case q.Claim:
		n.answer(m, natsMessage{Held: k != nil})
	case len(q.Post) > 0 && k != nil:
		n.answer(m, natsMessage{Node: n.node})
		n.hand(k, m, q.Post)
	case len(q.Post) > 0:
		n.answer(m, natsMessage{Status: http.StatusNotFound})
	case q.Ping:
		n.answer(m, natsMessage{Node: n.node})
	}
}

// hand gives another node's post to the host.
func (n *NATS) hand(k *socket, m *nats.Msg, body []byte) {
	reply := func(a answer) { n.answer(m, natsMessage{Status: a.status, Body: a.body}) }
	if _, refused := k.post(body, reply); refused != nil {
		reply(*refused)
	}
}

func (n *NATS) answer(m *nats.Msg, a natsMessage) {
	data, err := marshal(a)
	if err != nil {
		return
	}
	_ = n.conn.Publish(m.Reply, data) // who asked has its own time limits
}

// A claim is what makes this node the one that is asked about a login.
type claim struct{ subs []*nats.Subscription }

// release gives the names up. A nil claim has none.
func (c *claim) release() {
	if c == nil {
		return
	}
	for _, sub := range c.subs {
		_ = sub.Unsubscribe() // the connection is gone: so is the subscription
	}
}

// claim listens to the names and asks whether anybody else does. The server
// handles what one node sends in order, so that of two nodes that ask at the same
// time at least one hears of the other. The result must be released, in any case.
func (n *NATS) claim(names []string) (c *claim, ok bool) {
	c = &claim{}
	for _, name := range names {
		sub, err := n.conn.ChanSubscribe(subjectName+name, n.in)
		if err != nil {
			return c, false
		}
		c.subs = append(c.subs, sub)
	}
	for _, name := range names {
		if !n.free(name) {
			return c, false
		}
	}
	return c, true
}

// free reports whether certainly nobody else holds name.
func (n *NATS) free(name string) bool {
	replies, end, err := n.ask(subjectName+name, natsMessage{Claim: true})
	if err != nil {
		return false
	}
	defer end()
	select {
	case m := <-replies:
		if nobody(m) {
			return true
		}
		var a natsMessage
		return json.Unmarshal(m.Data, &a) == nil && !a.Held
	case <-time.After(claimWait):
		return false
	}
}

// ask publishes a question. Answers arrive at replies until end is called.
func (n *NATS) ask(subject string, q natsMessage) (replies <-chan *nats.Msg, end func(), err error) {
	data, err := marshal(q)
	if err != nil {
		return nil, nil, err
	}
	ch := make(chan *nats.Msg, 3)
	n.mu.Lock()
	n.next++
	key := strconv.FormatUint(n.next, 36)
	n.asked[key] = ch
	n.mu.Unlock()
	end = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.asked, key)
	}
	if err := n.conn.PublishRequest(subject, replyRoot+n.node+"."+key, data); err != nil {
		end()
		return nil, nil, err
	}
	return ch, end, nil
}

// replied hands an answer to who asked.
func (n *NATS) replied(m *nats.Msg) {
	key := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case n.asked[key] <- m: // a nil channel takes nothing
	default:
	}
}

// nobody reports whether m is the server's word that nobody listens.
func nobody(m *nats.Msg) bool { return len(m.Data) == 0 && m.Header.Get("Status") == "503" }

// post has the node that holds name hand body to its host, and returns the
// host's answer.
func (n *NATS) post(ctx context.Context, name string, body []byte) answer {
	a, unknown := n.tryPost(ctx, name, body)
	for _, pause := range retries {
		if !unknown {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return answerGone
		}
		a, unknown = n.tryPost(ctx, name, body)
	}
	return a
}

func (n *NATS) tryPost(ctx context.Context, name string, body []byte) (a answer, unknown bool) {
	replies, end, err := n.ask(subjectName+name, natsMessage{Post: body})
	if err != nil {
		return answerGone, false
	}
	defer end()
	ack := time.NewTimer(ackWait)
	defer ack.Stop()
	var dead <-chan struct{}
	for {
		select {
		case m := <-replies:
			if nobody(m) {
				return answerGone, dead == nil
			}
			var r natsMessage
			if err := json.Unmarshal(m.Data, &r); err != nil || r.Status == 0 && r.Node == "" {
				return answerGone, false
			}
			if r.Status != 0 {
				return ownAnswer(r), false
			}
			if dead == nil {
				ack.Stop()
				var unwatch func()
				dead, unwatch = n.watch(r.Node)
				defer unwatch()
			}
		case <-ack.C:
			return answerGone, false
		case <-dead:
			return answerGone, false
		case <-ctx.Done():
			return answerGone, false
		}
	}
}

// ownAnswer returns what another node answered in this node's words.
func ownAnswer(r natsMessage) answer {
	switch {
	case r.Status == http.StatusOK && len(r.Body) > 0 && r.Body[0] == '{':
		return answer{http.StatusOK, r.Body}
	case r.Status == http.StatusConflict:
		return answerBusy
	case r.Status == http.StatusTooManyRequests:
		return answerSlowDown
	}
	return answerGone
}

// A peerNode is another node that owes answers.
type peerNode struct {
	owed int
	dead chan struct{} // closed when it is
}

// watch has node pinged until unwatch is called, which must be.
func (n *NATS) watch(node string) (dead <-chan struct{}, unwatch func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[node]
	if p == nil {
		p = &peerNode{dead: make(chan struct{})}
		n.peers[node] = p
		go n.watchPeer(node, p)
	}
	p.owed++
	return p.dead, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		p.owed--
	}
}

// watchPeer pings a node for as long as it owes answers. One that does not
// listen counts twice: it is gone, or was thrown out by the server and comes
// back at once.
func (n *NATS) watchPeer(node string, p *peerNode) {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	for misses := 0; misses < watchMisses; {
		<-ticker.C
		if n.settled(node, p) {
			return
		}
		listens, answers := n.ping(node)
		switch {
		case answers:
			misses = 0
		case listens:
			misses++
		default:
			misses += 2
		}
	}
	n.mu.Lock()
	delete(n.peers, node)
	n.mu.Unlock()
	close(p.dead)
}

// settled reports whether a node owes nothing any more, and is forgotten.
func (n *NATS) settled(node string, p *peerNode) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p.owed > 0 {
		return false
	}
	delete(n.peers, node)
	return true
}

// ping reports whether node listens, as far as is known, and whether it answers.
func (n *NATS) ping(node string) (listens, answers bool) {
	replies, end, err := n.ask(subjectNode+node, natsMessage{Ping: true})
	if err != nil {
		return true, false // it is us who are not connected
	}
	defer end()
	select {
	case m := <-replies:
		return !nobody(m), !nobody(m)
	case <-time.After(watchPeriod):
		return true, false
	}
}

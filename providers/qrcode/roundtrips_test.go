// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// Turns are a TCP connection's way through a test, counted by how often the
// client had to wait for the server before it went on.
type turns struct {
	mu      sync.Mutex
	waiting bool // the server spoke last
	count   int
}

func (c *turns) spoke(client bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client && (c.waiting || c.count == 0) {
		c.count++
	}
	c.waiting = !client
}

// carry copies what one end says to the other.
func (c *turns) carry(to, from net.Conn, client bool) {
	defer func() { _ = to.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			c.spoke(client)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// forward listens for one connection to address and carries it.
func forward(t *testing.T, address string) (here string, c *turns) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c = &turns{}
	go func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", address)
		if err != nil {
			_ = client.Close()
			return
		}
		go c.carry(server, client, true)
		c.carry(client, server, false)
	}()
	return l.Addr().String(), c
}

// People look at an empty terminal until the code is there. A server that sends
// a TLS ticket early makes one turn look like two, so the least of some counts.
func TestTheCodeIsThereAfterFourRoundTrips(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewTLSServer(http.HandlerFunc(w.site.Server.ServeHTTP))
	t.Cleanup(server.Close)
	least := 100
	for range 10 {
		here, counted := forward(t, strings.TrimPrefix(server.URL, "https://"))
		p := w.at("https://"+here, func(c *Config) { c.CA = authority(server) })
		req := w.request
		a, err := p.attempt(&req)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.firstPrompt(); err != nil {
			t.Fatal(err)
		}
		counted.mu.Lock()
		least = min(least, 1+counted.count) // TCP's own is the first
		counted.mu.Unlock()
		a.close()
	}
	t.Logf("%d round trips", least)
	if least > 4 {
		t.Errorf("%d round trips until the code can be shown: TCP, TLS, the upgrade and expectauth are 4", least)
	}
}

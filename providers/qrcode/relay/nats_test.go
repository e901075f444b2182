// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

const natsToken = "a token of nodes"

// A natsServer is the real one, in a process of its own.
type natsServer struct {
	url   string
	roots *x509.CertPool
	args  []string
	cmd   *exec.Cmd
}

// natsProgram finds nats-server, which Debian keeps in /usr/sbin.
func natsProgram(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"nats-server", "/usr/sbin/nats-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("nats-server is missing: make deps")
	}
	t.Skip("nats-server is missing: make deps")
	return ""
}

// writeCertificate makes a certificate for 127.0.0.1 that is its own authority.
func writeCertificate(t testing.TB, dir string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(cert)
	return certFile, keyFile, roots
}

// freePort returns a port that was free a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startNATS runs a server with TLS and a token, but for what without says.
func startNATS(t testing.TB, without string) *natsServer {
	t.Helper()
	program := natsProgram(t)
	dir := t.TempDir()
	cert, key, roots := writeCertificate(t, dir)
	port := freePort(t)
	config := fmt.Sprintf("listen: 127.0.0.1:%s\n", port)
	if without != "tls" {
		config += fmt.Sprintf("tls { cert_file: %q, key_file: %q }\n", cert, key)
	}
	if without != "token" {
		config += fmt.Sprintf("authorization { token: %q }\n", natsToken)
	}
	file := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	n := &natsServer{url: "tls://127.0.0.1:" + port, roots: roots, args: []string{program, "-c", file, "-l", filepath.Join(dir, "log")}}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

func (n *natsServer) start(t testing.TB) {
	t.Helper()
	n.cmd = exec.Command(n.args[0], n.args[1:]...)
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nats-server listens", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "tls://"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (n *natsServer) stop() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

func (n *natsServer) config() NATSConfig {
	return NATSConfig{URL: n.url, Token: natsToken, TLS: &tls.Config{RootCAs: n.roots}}
}

// join returns one more relay at this server.
func (n *natsServer) join(t testing.TB, s *Server) *node {
	t.Helper()
	var err error
	if s.NATS, err = DialNATS(n.config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.NATS.Close)
	return start(t, s)
}

func TestAPhoneMayPostToAnyNode(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	h := wait(t, a.url, id(1), loc(1))
	// As JSON, characters that Go's encoder would write in another way.
	body := `{"type":"hello","box":"<&>/+=\u2028"}`
	for _, n := range []*node{a, b} {
		answer := postLater(t, n.url, id(1), body)
		e := h.next()
		if string(e.Body) != body {
			t.Errorf("the host got %s", e.Body)
		}
		h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 200, Body: json.RawMessage(`{"box":"BBBB"}`)})
		if got := receive(t, answer).String(); got != `200 {"box":"BBBB"}` {
			t.Error(got)
		}
		answer = postLater(t, n.url, loc(1), lookup)
		h.send(wire.Envelope{Action: wire.ActionPost, Ref: h.next().Ref, Status: 409})
		if got := receive(t, answer).String(); got != `409 {"error":"busy"}` {
			t.Error(got)
		}
	}
}

// TestAPhoneMayBeALittleEarly: between servers, subscriptions take a moment. The
// phone asks while nobody listens yet; what comes within a quarter of a second
// is not too late.
func TestAPhoneMayBeALittleEarly(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, many(&Server{}))
	asked := func() uint64 {
		b.NATS.mu.Lock()
		defer b.NATS.mu.Unlock()
		return b.NATS.next
	}
	for i := range 20 { // on a busy machine it may be too late after all
		h := connect(t, a.url)
		before := asked()
		answer := postLater(t, b.url, id(i), waitup)
		eventually(t, "asked", func() bool { return asked() > before })
		if got := h.expect(id(i), "", 60); got != wire.ResultOK {
			t.Fatal(got)
		}
		h.serveEcho()
		if got := receive(t, answer); got.status == 200 {
			return
		}
	}
	t.Error("never")
}

func TestGoneIsOneAnswerAtAnyNode(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	used := wait(t, a.url, id(2), "")
	used.send(wire.Envelope{Action: wire.ActionVerifyAuth, ID: id(2), Challenge: wire.B64(make([]byte, 32))})
	used.next()
	dead := wait(t, a.url, id(3), "")
	_ = dead.conn.CloseNow()
	eventually(t, "lost", func() bool { return a.logins.find(id(3)) == nil })
	brief := connect(t, a.url)
	brief.expect(id(4), "", 1)
	eventually(t, "expired", func() bool { return a.logins.find(id(4)) == nil })
	for i := 1; i <= 4; i++ {
		for _, n := range []*node{a, b} {
			if got := post(t, n.url, id(i), waitup).String(); got != gone {
				t.Errorf("%d: %s", i, got)
			}
		}
	}
}

func TestTheFirstHolderKeepsIDAndLocOnEveryNode(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	first := wait(t, a.url, id(1), loc(1))
	second := connect(t, b.url)
	for _, c := range []struct{ id, loc string }{{id(1), loc(2)}, {id(2), loc(1)}} {
		if got := second.expect(c.id, c.loc, 60); got != wire.ResultTaken {
			t.Errorf("%v: %s", c, got)
		}
	}
	if got := second.expect(id(2), loc(2), 60); got != wire.ResultOK {
		t.Errorf("after all: %s", got)
	}
	_ = first.conn.CloseNow()
	third := connect(t, b.url)
	eventually(t, "free again", func() bool { return third.expect(id(1), loc(1), 60) == wire.ResultOK })
	eventually(t, "the first node listens to no name", func() bool { return a.NATS.conn.NumSubscriptions() == 2 })
}

// TestOfManyAtOnceAtMostOneHolds: both nodes are asked at the same time.
func TestOfManyAtOnceAtMostOneHolds(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	for i := range 20 {
		ha, hb := connect(t, a.url), connect(t, b.url)
		results := make(chan string, 2)
		for _, h := range []*host{ha, hb} {
			go func() {
				h.send(wire.Envelope{Action: wire.ActionExpectAuth, ID: id(i), TTL: 60})
				e, err := h.receive()
				if err != nil {
					results <- err.Error()
					return
				}
				results <- e.Result
			}()
		}
		if x, y := receive(t, results), receive(t, results); x == wire.ResultOK && y == wire.ResultOK {
			t.Errorf("%d: both hold it", i)
		}
	}
}

func TestPostsOfAllNodesArriveOnceAndInOrder(t *testing.T) {
	bus := startNATS(t, "")
	a := bus.join(t, many(&Server{PostsInFlight: 64}))
	b := bus.join(t, many(&Server{}))
	checkDelivery(t, []string{a.url, b.url}, wait(t, a.url, id(1), ""), id(1))
}

func TestALostSocketAnswersPhonesAtOtherNodesAtOnce(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	h := wait(t, a.url, id(1), "")
	answer := postLater(t, b.url, id(1), waitup)
	h.next()
	begun := time.Now()
	_ = h.conn.CloseNow()
	if got := receive(t, answer).String(); got != gone {
		t.Error(got)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestALostNodesLoginsAreGone: its connection to NATS ends without a word, as
// when it is killed. Package main's tests kill one.
func TestALostNodesLoginsAreGone(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, &Server{}), bus.join(t, &Server{})
	h := wait(t, a.url, id(1), "")
	own := wait(t, b.url, id(2), "")
	own.serveEcho()
	answer := postLater(t, b.url, id(1), waitup)
	h.next()
	begun := time.Now()
	a.NATS.Close()
	if got := receive(t, answer).String(); got != gone {
		t.Error(got)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if got := post(t, b.url, id(2), waitup); got.status != 200 {
		t.Errorf("a login of the other node: %s", got)
	}
	eventually(t, "nobody is watched any more", func() bool {
		b.NATS.mu.Lock()
		defer b.NATS.mu.Unlock()
		return len(b.NATS.peers) == 0 && len(b.NATS.asked) == 0
	})
}

// TestWithoutNATSNoLoginBegins, but those that are here go on.
func TestWithoutNATSNoLoginBegins(t *testing.T) {
	bus := startNATS(t, "")
	a, b := bus.join(t, many(&Server{})), bus.join(t, many(&Server{}))
	wait(t, a.url, id(1), "").serveEcho()
	bus.stop()
	eventually(t, "not ready", func() bool { return get(t, a.url+"/healthz").status == 503 })
	if _, response, err := dial(t, a.url, ""); err == nil || response.status != 503 {
		t.Errorf("a host: %v", err)
	}
	if got := post(t, a.url, id(1), waitup); got.status != 200 {
		t.Errorf("the node's own login: %s", got)
	}
	if got := post(t, b.url, id(1), waitup).String(); got != gone {
		t.Errorf("by the other node: %s", got)
	}
	bus.start(t)
	for _, n := range []*node{a, b} {
		eventually(t, "ready again", func() bool { return get(t, n.url+"/healthz").status == 200 })
	}
	eventually(t, "found again", func() bool { return post(t, b.url, id(1), waitup).status == 200 })
}

func TestNATSNeedsTLSAndAToken(t *testing.T) {
	fails := func(what string, c NATSConfig, want string) {
		t.Helper()
		n, err := DialNATS(c)
		if err == nil {
			n.Close()
			t.Errorf("%s: connected", what)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), natsToken) {
			t.Errorf("%s: %v", what, err)
		}
	}
	bus := startNATS(t, "")
	with := func(change func(*NATSConfig)) NATSConfig {
		c := bus.config()
		change(&c)
		return c
	}
	fails("no token", with(func(c *NATSConfig) { c.Token = "" }), "no token")
	fails("another token", with(func(c *NATSConfig) { c.Token = "wrong" }), "uthorization")
	fails("no TLS in the URL", with(func(c *NATSConfig) { c.URL = strings.Replace(c.URL, "tls", "nats", 1) }), "tls://")
	fails("a token in the URL", with(func(c *NATSConfig) { c.URL = strings.Replace(c.URL, "//", "//secret@", 1) }), "without user or token")
	fails("one bad URL of two", with(func(c *NATSConfig) { c.URL += ",nats://127.0.0.1:1" }), "tls://")
	fails("a certificate of others", with(func(c *NATSConfig) { c.TLS = nil }), "certificate")
	plain := startNATS(t, "tls")
	fails("a server without TLS", plain.config(), "secure connection")
	open := startNATS(t, "token")
	fails("a server without tokens", open.config(), "asks nobody")
}

// TestANodeOfALaterVersion: what it adds is ignored, what it asks is not
// understood.
func TestANodeOfALaterVersion(t *testing.T) {
	bus := startNATS(t, "")
	a := bus.join(t, &Server{})
	wait(t, a.url, id(1), "").serveEcho()
	later, err := DialNATS(bus.config())
	if err != nil {
		t.Fatal(err)
	}
	defer later.Close()
	for _, text := range []string{"", "{", "[]", "null", `{"weather":"fine"}`} {
		if err := later.conn.PublishRequest(subjectName+id(1), "x", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	reply, err := later.conn.Request(subjectName+id(1), []byte(`{"post":{"type":"wait"},"colour":"red"}`), patience)
	if err != nil || !strings.Contains(string(reply.Data), `"node":"`+a.NATS.node) {
		t.Errorf("%v %v", reply, err)
	}
	if got := ownAnswer(natsMessage{Status: http.StatusTeapot}); got.status != 404 {
		t.Errorf("%+v", got)
	}
}

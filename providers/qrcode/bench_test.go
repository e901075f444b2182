// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
)

// BenchmarkApproval measures the time from the posting of an approval to the
// verdict at the phone: over TLS, with real boxes and an ES256 assertion, in a
// login of its own each time. It also measures the time until the code could be
// shown. Run it with "-benchtime 300x".
func BenchmarkApproval(b *testing.B) {
	b.Run("one_node", func(b *testing.B) {
		w := newWorld(b)
		node := secure(b, w.site.Server)
		w.approvals(b, node, node)
	})
	b.Run("two_nodes", func(b *testing.B) {
		w := newWorld(b)
		join := startNATS(b)
		w.approvals(b, secure(b, join(b, w)), secure(b, join(b, w)))
	})
}

// secure serves a relay over TLS.
func secure(b *testing.B, s *relay.Server) *httptest.Server {
	server := httptest.NewTLSServer(http.HandlerFunc(s.ServeHTTP))
	b.Cleanup(server.Close)
	return server
}

// approvals approves logins, with the host at one node and the phone at another.
func (w *world) approvals(b *testing.B, host, phone *httptest.Server) {
	p := w.at(host.URL, func(c *Config) { c.CA = authority(host) })
	w.phone.Relay, w.phone.Client = phone.URL, phone.Client()
	var verdicts, shown []time.Duration
	for b.Loop() {
		verdict, show := w.approve(b, p)
		verdicts, shown = append(verdicts, verdict), append(shown, show)
	}
	report(b, "verdict", verdicts)
	report(b, "shown", shown)
}

// approve makes one login up to the verdict.
func (w *world) approve(b *testing.B, p *Provider) (verdict, shown time.Duration) {
	req := w.request
	began := time.Now()
	a, err := p.attempt(&req)
	if err != nil {
		b.Fatal(err)
	}
	if err := a.open(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer a.close()
	if _, err := a.firstPrompt(); err != nil {
		b.Fatal(err)
	}
	shown = time.Since(began)
	v, err := w.phone.Open(b.Context(), a.link())
	if err != nil {
		b.Fatal(err)
	}
	assertion := w.passkey.Sign(w.passkey.Request(v.Transcript, w.site.Origin))
	began = time.Now()
	if answer, err := v.ApproveWith(b.Context(), assertion); err != nil || !answer.OK {
		b.Fatalf("got %+v, %v", answer, err)
	}
	return time.Since(began), shown
}

func report(b *testing.B, name string, list []time.Duration) {
	slices.Sort(list)
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.50}, {"p99", 0.99}} {
		i := int(q.at * float64(len(list)-1))
		b.ReportMetric(float64(list[i].Microseconds())/1000, name+"-"+q.name+"-ms")
	}
}

// authority returns the certificate of a test server as PEM.
func authority(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// startNATS starts a NATS server with TLS and a token. The returned function
// makes a relay that is one of its nodes.
func startNATS(b *testing.B) func(*testing.B, *world) *relay.Server {
	program, err := exec.LookPath("nats-server")
	if err != nil {
		program = "/usr/sbin/nats-server" // Debian's
	}
	certificate := httptest.NewTLSServer(nil) // for its key and certificate
	defer certificate.Close()
	config := natsConfig(b, certificate)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(program, "-c", config, "-a", "127.0.0.1", "-p", address[len("127.0.0.1:"):])
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Skipf("nats-server is missing: make deps (%v)", err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Certificate())
	nats := relay.NATSConfig{URL: "tls://" + address, Token: "nodes", TLS: &tls.Config{RootCAs: roots}}
	return func(b *testing.B, w *world) *relay.Server {
		n, err := relay.DialNATS(nats)
		for began := time.Now(); err != nil && time.Since(began) < 10*time.Second; n, err = relay.DialNATS(nats) {
		}
		if err != nil {
			b.Fatal(err)
		}
		s := &relay.Server{
			Open: true, PhonesPerMinute: 1e6, PostsPerMinute: 1e6,
			Log: w.site.Server.Log, PageOrigin: w.site.Origin, NATS: n,
		}
		b.Cleanup(func() {
			_ = s.Close()
			n.Close()
		})
		return s
	}
}

// natsConfig writes the configuration of a server with a test server's key.
func natsConfig(b *testing.B, s *httptest.Server) string {
	dir := b.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return name
	}
	der, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		b.Fatal(err)
	}
	key := write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return write("nats.conf", fmt.Sprintf("tls { cert_file: %q, key_file: %q }\nauthorization { token: nodes }\n",
		write("cert.pem", authority(s)), key))
}

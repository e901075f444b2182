// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const patience = 15 * time.Second

// TestMain makes the test binary the program, too: with asRelay set it runs
// main, so that what is tested is a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv(asRelay) != "" {
		main()
	}
	os.Exit(m.Run())
}

const asRelay = "QRCODE_RELAY_TEST_AS_PROGRAM"

func program(args ...string) *exec.Cmd {
	c := exec.Command("/proc/self/exe", args...)
	c.Env = append(os.Environ(), asRelay+"=1")
	return c
}

// A process is a relay that runs.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	url  string
	done chan error

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

var listening = regexp.MustCompile(`msg=listening address=(\S+) tls=(\S+)`)

// startRelay runs the program on a port of its own, until the test's end.
func startRelay(t testing.TB, args ...string) *process {
	t.Helper()
	base := []string{"--listen", "127.0.0.1:0", "--tokens", filepath.Join(t.TempDir(), "tokens")}
	p := &process{t: t, cmd: program(append(base, args...)...), done: make(chan error, 1)}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	eventually(t, "the relay listens", func() bool {
		if m := listening.FindStringSubmatch(p.logged()); m != nil {
			p.url = map[string]string{"true": "https", "false": "http"}[m[2]] + "://" + m[1]
		}
		return p.url != ""
	})
	return p
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// wait connects a host that waits for id.
func wait(t testing.TB, client *http.Client, url, token, id string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	header := http.Header{}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	conn, _, err := websocket.Dial(ctx, url+"/ws", &websocket.DialOptions{HTTPClient: client, HTTPHeader: header}) //nolint:bodyclose // it is the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	if err := conn.Write(ctx, websocket.MessageText, fmt.Appendf(nil, `{"action":"expectauth","id":%q,"ttl":60}`, id)); err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.Read(ctx); err != nil || !strings.Contains(string(data), `"ok"`) {
		t.Fatalf("%s %v", data, err)
	}
	return conn
}

func read(conn *websocket.Conn) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, data, err := conn.Read(ctx)
	return string(data), err
}

// postWait posts a wait, and returns what comes as text.
func postWait(client *http.Client, url, id string) string {
	r, err := client.Post(url+"/api/1/"+id, "application/json", strings.NewReader(`{"type":"wait"}`))
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", r.StatusCode, body)
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	r, err := plain.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

var (
	plain = &http.Client{Timeout: 2 * patience}
	one   = strings.Repeat("1", 32)
	two   = strings.Repeat("2", 32)
)

const gone = `404 {"error":"gone"}`

func TestItNeedsNoConfigurationOnLoopback(t *testing.T) {
	p := startRelay(t)
	wait(t, plain, p.url, "", one)
	if !strings.Contains(p.logged(), "need no token") {
		t.Errorf("it does not say that it is open:\n%s", p.logged())
	}
	for path, want := range map[string]string{"/healthz": "ok", "/": "<html", "/1": "<html", "/config.json": `"rp_id":"localhost"`,
		"/metrics": "qrcode_relay_waiting_logins 1"} {
		if status, body := get(t, p.url+path); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %.200s", path, status, body)
		}
	}
	if status, _ := get(t, startRelay(t, "--page", "off").url+"/"); status != 404 {
		t.Errorf("without a page: %d", status)
	}
}

func TestATokenIsPrintedOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay", "tokens")
	token := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		code, err := run(append([]string{"token", "--tokens", file}, args...), &out)
		if code != want {
			t.Fatalf("%v: %d %v", args, code, err)
		}
		return out.String()
	}
	issued := strings.TrimSpace(token(fine, "web"))
	if !strings.HasPrefix(issued, "qrh_") || len(issued) < 40 {
		t.Errorf("%q", issued)
	}
	token(failed, "web")
	token(misused)
	token(misused, "--list", "web")
	token(misused, "--frob")
	if got := token(fine, "--list"); !strings.HasPrefix(got, "web  20") || strings.Contains(got, issued) {
		t.Errorf("%q", got)
	}
	p := startRelay(t, "--tokens", file)
	if strings.Contains(p.logged(), "need no token") {
		t.Error("it is open all the same")
	}
	conn := wait(t, plain, p.url, issued, one)
	token(fine, "--revoke", "web")
	if _, err := read(conn); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Error("a revoked token's socket stays")
	}
	token(failed, "--revoke", "web")
	if strings.Contains(p.logged(), issued) {
		t.Error("the token is in the log")
	}
}

func TestWhatCannotWorkDoesNotStart(t *testing.T) {
	for _, c := range []struct{ what, args, want string }{
		{"no TLS off loopback", "--listen 0.0.0.0:0 --rp-id x.example", "without TLS only on loopback"},
		{"half of TLS", "--tls-cert x", "go together"},
		{"no certificate", "--tls-cert /nonexistent --tls-key /nonexistent", "TLS files"},
		{"no rp id", "--listen 192.0.2.1:443 --tls-cert x --tls-key x", "--rp-id"},
		{"a page origin with a path", "--page-origin https://x.example/login", "--page-origin"},
		{"an odd proxy", "--trusted-proxy proxy.example", "no address"},
		{"zero", "--pending 0 --ping 0s", "--pending must be more than 0\nqrcode-relay: error: --ping"},
		{"a large post", "--max-post 20000", "16384"},
		{"NATS without a token", "--nats-url tls://127.0.0.1:1", "--nats-token-file"},
		{"NATS without a token's file", "--nats-url tls://127.0.0.1:1 --nats-token-file /nonexistent", "nats-token-file"},
		{"a word", "frob", `"frob" is no option`},
		{"an unknown option", "--frob", "frob"},
		{"an issuer that is none", "--issuer javascript:x", "javascript"},
	} {
		c2 := program(append([]string{"--tokens", filepath.Join(t.TempDir(), "tokens")}, strings.Fields(c.args)...)...)
		out, err := c2.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", c.what, err, out)
		}
	}
}

func TestNATSWithoutTLSDoesNotStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret-of-nodes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() string {
		out, err := program("--nats-url", "nats://127.0.0.1:4222", "--nats-token-file", file,
			"--tokens", filepath.Join(t.TempDir(), "tokens")).CombinedOutput()
		if err == nil {
			t.Error("it started")
		}
		return string(out)
	}
	if out := start(); !strings.Contains(out, "tls://") || strings.Contains(out, "secret-of-nodes") {
		t.Error(out)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if out := start(); !strings.Contains(out, "chmod 600") {
		t.Error(out)
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if code, err := run([]string{"help"}, &out); code != fine || err != nil || out.String() != usage {
		t.Errorf("%d %v", code, err)
	}
	(&options{}).flags().VisitAll(func(f *flag.Flag) {
		_, text, found := strings.Cut(usage, "    --"+f.Name+" ")
		if !found {
			t.Errorf("--%s is not in the usage", f.Name)
		}
		text, _, _ = strings.Cut(text, "    --")
		if f.DefValue != "" && f.DefValue != "false" && !regexp.MustCompile(`default\s+`+regexp.QuoteMeta(defaultText(f.DefValue))).MatchString(text) {
			t.Errorf("--%s: default %s is not in %q", f.Name, f.DefValue, text)
		}
	})
	out.Reset()
	if code, _ := run([]string{"version"}, &out); code != fine || out.String() != "qrcode-relay devel\n" {
		t.Errorf("%d %q", code, out.String())
	}
}

// defaultText is how people write a flag's default.
func defaultText(v string) string { return strings.Replace(v, "1m40s", "100s", 1) }

func TestSlowHeadersEnd(t *testing.T) {
	p := startRelay(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, _ = io.Copy(io.Discard, conn)
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestLargeHeadersAreRefused(t *testing.T) {
	p := startRelay(t)
	r, err := http.NewRequest(http.MethodGet, p.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("A", 64<<10))
	response, err := plain.Do(r)
	if err == nil {
		response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Error(response.Status)
		}
	}
}

func TestSIGTERMDrains(t *testing.T) {
	p := startRelay(t, "--drain", "500ms")
	leaves, stays := wait(t, plain, p.url, "", one), wait(t, plain, p.url, "", two)
	answer := make(chan string, 1)
	go func() { answer <- postWait(plain, p.url, two) }()
	if _, err := read(stays); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []*websocket.Conn{leaves, stays} {
		if got, err := read(conn); err != nil || got != `{"action":"drain"}` {
			t.Errorf("%s %v", got, err)
		}
	}
	_ = leaves.Close(websocket.StatusNormalClosure, "")
	select {
	case err := <-p.done:
		if err != nil {
			t.Errorf("%v\n%s", err, p.logged())
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if got := <-answer; got != gone {
		t.Errorf("who waited read %s", got)
	}
}

// certificate writes a new certificate for 127.0.0.1 into dir, and returns a
// client that trusts it alone.
func certificate(t testing.TB, dir string) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"key.pem": {Type: "PRIVATE KEY", Bytes: private}, "cert.pem": {Type: "CERTIFICATE", Bytes: der}} {
		temp := filepath.Join(dir, name+".new")
		if err := os.WriteFile(temp, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return &http.Client{Timeout: 2 * patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	old := certificate(t, dir)
	p := startRelay(t, "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem"))
	conn := wait(t, old, p.url, "", one)
	renewed := certificate(t, dir)
	eventually(t, "the new certificate is served", func() bool {
		r, err := renewed.Get(p.url + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	// What is connected stays, and is found by phones that come by the new one.
	answer := make(chan string, 1)
	go func() { answer <- postWait(renewed, p.url, one) }()
	if got, err := read(conn); err != nil || !strings.Contains(got, `"post"`) {
		t.Fatalf("%s %v", got, err)
	}
	_ = conn.CloseNow()
	if got := <-answer; got != gone {
		t.Error(got)
	}
	// Half a renewal leaves the old one in use.
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that is logged", func() bool {
		renewed.CloseIdleConnections()
		r, err := renewed.Get(p.url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return strings.Contains(p.logged(), "the old ones stay")
	})
}

func TestServerErrorsAreLoggedWithoutAddresses(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	p := startRelay(t, "--debug", "--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem"))
	address := strings.TrimPrefix(p.url, "https://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "logged", func() bool { return strings.Contains(p.logged(), "TLS handshake error") })
	if strings.Contains(p.logged(), conn.LocalAddr().String()) {
		t.Error(p.logged())
	}
}

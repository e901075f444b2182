// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

//go:embed relay.mjs
var nodeRelay []byte

// patience bounds every single step.
const patience = 2 * time.Minute

// A bench has what all measurements need.
type bench struct {
	dir, relay, web string
	cert, key       string
	roots           *x509.CertPool
	relays          int
}

// certificate makes one for 127.0.0.1.
func (b *bench) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b.cert, b.key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	b.roots = x509.NewCertPool()
	b.roots.AppendCertsFromPEM(public)
	return errors.Join(os.WriteFile(b.cert, public, 0o600),
		os.WriteFile(b.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func (b *bench) tls(secure bool) []string {
	if !secure {
		return nil
	}
	return []string{"--tls-cert", b.cert, "--tls-key", b.key}
}

// ownRelay returns the relay's command, with limits that are not in the way.
func (b *bench) ownRelay(args ...string) *exec.Cmd {
	b.relays++
	base := []string{"--listen", "127.0.0.1:0", "--tokens", filepath.Join(b.dir, "tokens", strconv.Itoa(b.relays)), "--page", "off",
		"--phones", "1000000", "--posts", "1000000"}
	return exec.Command(b.relay, append(base, args...)...) //nolint:gosec // the program that is measured
}

// client returns one that trusts the bench's certificate.
func (b *bench) client() *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64,
		TLSClientConfig: &tls.Config{RootCAs: b.roots, MinVersion: tls.VersionTLS12}}}
}

// A process is a relay that runs.
type process struct {
	cmd *exec.Cmd
	url string
}

var listening = regexp.MustCompile(`msg=listening address=(\S+)`)

// startRelay runs cmd until it says where it listens.
func startRelay(cmd *exec.Cmd, secure bool) (*process, error) {
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	var said bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(log, &said))
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			p.url = "http://" + m[1]
			break
		}
	}
	if p.url == "" {
		p.stop()
		return nil, fmt.Errorf("the relay did not start: %s", said.String())
	}
	if secure {
		p.url = strings.Replace(p.url, "http:", "https:", 1)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	return p, nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// rss returns the process's resident memory in KiB.
func (p *process) rss() (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			return strconv.Atoi(f[1])
		}
	}
	return 0, errors.New("no VmRSS")
}

// settled returns the memory once it has changed little for some seconds.
func (p *process) settled() (int, error) {
	last, err := p.rss()
	for calm, tries := 0, 0; err == nil && calm < 3 && tries < 30; tries++ {
		time.Sleep(time.Second)
		var now int
		if now, err = p.rss(); now > last+last/50 || now < last-last/50 {
			calm = 0
		} else {
			calm++
		}
		last = now
	}
	return last, err
}

// A host is a login that waits and answers whatever is posted.
type host struct{ conn *websocket.Conn }

func connect(client *http.Client, url, id string) (*host, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, url+wire.SocketPath, &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // it is the socket
	if err != nil {
		return nil, err
	}
	h := &host{conn}
	message, err := json.Marshal(wire.Envelope{Action: wire.ActionExpectAuth, ID: id, TTL: 3600})
	if err != nil {
		return nil, err
	}
	if err := conn.Write(ctx, websocket.MessageText, message); err != nil {
		return nil, err
	}
	_, data, err := conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if e, err := wire.ParseEnvelope(data); err != nil || e.Result != wire.ResultOK {
		return nil, fmt.Errorf("expectauth was answered %s", data)
	}
	return h, nil
}

// answer is a box of the size that an approval's answer has.
var answer = `{"box":"` + strings.Repeat("A", 720) + `"}`

// serve answers until the socket's end.
func (h *host) serve() {
	for {
		_, data, err := h.conn.Read(context.Background())
		if err != nil {
			return
		}
		e, err := wire.ParseEnvelope(data)
		if err != nil || e.Action != wire.ActionPost || strings.Contains(string(e.Body), `"hold"`) {
			continue
		}
		reply := fmt.Sprintf(`{"action":"post","ref":%d,"status":200,"body":%s}`, e.Ref, answer)
		if h.conn.Write(context.Background(), websocket.MessageText, []byte(reply)) != nil {
			return
		}
	}
}

func loginID(i int) string { return fmt.Sprintf("%032x", i) }

// approval is a post of the size that a passkey's approval has.
var approval = `{"seq":1,"type":"passkey","pp":"` + strings.Repeat("A", 43) + `=","box":"` + strings.Repeat("A", 1404) + `"}`

func post(client *http.Client, url, id, body string) (status int, err error) {
	response, err := client.Post(url+wire.PhonePath+id, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, errors.Join(err, response.Body.Close())
}

// held is what holding sockets took, in KiB.
type held struct{ sockets, base, after int }

func (h held) perSocket() float64 { return float64(h.after-h.base) / float64(h.sockets) }

// hold measures one relay.
func (b *bench) hold(name string, cmd *exec.Cmd, secure bool, sockets, posts int) (held, error) {
	p, err := startRelay(cmd, secure)
	if err != nil {
		return held{}, err
	}
	defer p.stop()
	client := b.client()
	result := held{sockets: sockets}
	if result.base, err = p.settled(); err != nil {
		return result, err
	}
	begun := time.Now()
	hosts, err := connectAll(client, p.url, sockets)
	defer func() {
		for _, h := range hosts {
			if h != nil {
				_ = h.conn.CloseNow()
			}
		}
	}()
	if err != nil {
		return result, err
	}
	opened := time.Since(begun)
	if result.after, err = p.settled(); err != nil {
		return result, err
	}
	answered := 0
	for range posts {
		status, err := post(client, p.url, loginID(mrand.N(sockets)), approval) //nolint:gosec // any will do
		if err == nil && status == http.StatusOK {
			answered++
		}
	}
	later, err := p.rss()
	if err != nil {
		return result, err
	}
	result.after = max(result.after, later)
	fmt.Printf("  %-24s base %6.1f MiB, with them %6.1f MiB: %5.1f KiB each; opened in %.1f s; %d of %d posts answered\n",
		name, float64(result.base)/1024, float64(result.after)/1024, result.perSocket(), opened.Seconds(), answered, posts)
	if answered != posts {
		return result, fmt.Errorf("%s lost %d posts", name, posts-answered)
	}
	return result, nil
}

// connectAll opens the sockets, a few at a time.
func connectAll(client *http.Client, url string, n int) ([]*host, error) {
	hosts, errs := make([]*host, n), make(chan error, n)
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				h, err := connect(client, url, loginID(i))
				if err != nil {
					errs <- err
					continue
				}
				hosts[i] = h
				go h.serve()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	select {
	case err := <-errs:
		return hosts, fmt.Errorf("%d of %d sockets: %w", len(errs)+1, n, err)
	default:
		return hosts, nil
	}
}

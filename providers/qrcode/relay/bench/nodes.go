// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

const rounds = 300

// latency measures one post after the other over TLS, and then the death of a
// node.
func (b *bench) latency() error {
	fmt.Printf("post to answer over TLS, %d in turn, the host answers at once\n", rounds)
	client := b.client()
	single, err := startRelay(b.ownRelay(b.tls(true)...), true)
	if err != nil {
		return err
	}
	defer single.stop()
	one, err := measure(client, "one node", single.url, single.url)
	if err != nil {
		return err
	}
	server := natsServer()
	if server == "" {
		fmt.Println("  two nodes: not measured: nats-server is missing")
		return nil
	}
	bus, stop, err := b.nats(server)
	if err != nil {
		return err
	}
	defer stop()
	var nodes [2]*process
	for i := range nodes {
		if nodes[i], err = startRelay(b.ownRelay(append(b.tls(true), bus...)...), true); err != nil {
			return err
		}
		defer nodes[i].stop()
	}
	two, err := measure(client, "two nodes", nodes[0].url, nodes[1].url)
	if err != nil {
		return err
	}
	fmt.Printf("  two nodes / one node, p50: %.2f\n", two.Seconds()/one.Seconds())
	return kill(client, nodes)
}

// measure has a host wait at one node and a phone post to another, and returns
// the median.
func measure(client *http.Client, name, hostURL, phoneURL string) (time.Duration, error) {
	h, err := connect(client, hostURL, loginID(1))
	if err != nil {
		return 0, err
	}
	defer func() { _ = h.conn.CloseNow() }()
	go h.serve()
	took := make([]time.Duration, 0, rounds)
	answered := 0
	for range rounds {
		begun := time.Now()
		status, err := post(client, phoneURL, loginID(1), approval)
		took = append(took, time.Since(begun))
		if err == nil && status == http.StatusOK {
			answered++
		}
	}
	slices.Sort(took)
	p50, p99 := took[rounds/2], took[rounds*99/100]
	fmt.Printf("  %-24s p50 %.2f ms, p99 %.2f ms; %d of %d answered\n", name,
		float64(p50.Microseconds())/1000, float64(p99.Microseconds())/1000, answered, rounds)
	if answered != rounds {
		return 0, fmt.Errorf("%s: %d posts lost", name, rounds-answered)
	}
	return p50, nil
}

// natsServer finds the program, which Debian keeps in /usr/sbin.
func natsServer() string {
	for _, name := range []string{"nats-server", "/usr/sbin/nats-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// nats runs a server with TLS and a token, and returns the options of relays
// that join it.
func (b *bench) nats(path string) (options []string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	address := l.Addr().String()
	_ = l.Close()
	config, token := filepath.Join(b.dir, "nats.conf"), filepath.Join(b.dir, "nats.token")
	text := fmt.Sprintf("listen: %q\ntls { cert_file: %q, key_file: %q }\nauthorization { token: nodes }\n", address, b.cert, b.key)
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(token, []byte("nodes"), 0o600)); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(path, "-c", config, "-l", filepath.Join(b.dir, "nats.log")) //nolint:gosec // the server
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	for range 200 {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return []string{"--nats-url", "tls://" + address, "--nats-token-file", token, "--nats-ca", b.cert}, stop, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	stop()
	return nil, nil, errors.New("nats-server does not listen")
}

// kill ends the first node with logins on both and posts to both. What waits on
// the second must not notice.
func kill(client *http.Client, nodes [2]*process) error {
	const logins = 50
	fmt.Printf("one of two nodes killed, %d logins waiting on each, posts going on\n", logins)
	var deaths atomic.Int64 // of sockets
	lost := make(chan time.Duration, logins)
	told := make(chan time.Duration, logins)
	var begun atomic.Int64
	since := func() time.Duration { return time.Since(time.Unix(0, begun.Load())) }
	for i := range 2 * logins {
		h, err := connect(client, nodes[i%2].url, loginID(100+i))
		if err != nil {
			return err
		}
		defer func() { _ = h.conn.CloseNow() }()
		dies := i%2 == 0
		go func() {
			h.serve()
			if dies {
				lost <- since()
			} else {
				deaths.Add(1)
			}
		}()
		if dies {
			go func() { // a phone that waits, at the node that stays
				if status, _ := post(client, nodes[1].url, loginID(100+i), `{"seq":2,"type":"wait","hold":1}`); status == http.StatusNotFound {
					told <- since()
				}
			}()
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	failed, done, loaded := 0, make(chan int), make(chan struct{})
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			if n == 200 {
				close(loaded)
			}
			if status, err := post(client, nodes[1].url, loginID(101+2*(n%logins)), approval); err != nil || status != http.StatusOK {
				failed++
			}
		}
		done <- n
	}()
	<-loaded
	begun.Store(time.Now().UnixNano())
	_ = nodes[0].cmd.Process.Kill()
	hosts, err := slowest(lost, logins)
	phones, err2 := slowest(told, logins)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	cancel()
	posts := <-done
	fmt.Printf("  hosts of dead logins know after %.2f s at most, their phones after %.2f s (aim: 2)\n", hosts.Seconds(), phones.Seconds())
	fmt.Printf("  on the other node: %d of %d posts failed, %d of %d sockets lost\n", failed, posts, deaths.Load(), logins)
	if failed > 0 || deaths.Load() > 0 || max(hosts, phones) > 2*time.Second {
		return errors.New("the death of one node was noticed too late, or elsewhere")
	}
	return nil
}

func slowest(ch <-chan time.Duration, n int) (worst time.Duration, err error) {
	timeout := time.After(patience)
	for i := range n {
		select {
		case d := <-ch:
			worst = max(worst, d)
		case <-timeout:
			return worst, fmt.Errorf("%d of %d never knew", n-i, n)
		}
	}
	return worst, nil
}

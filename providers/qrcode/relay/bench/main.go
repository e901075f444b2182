// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Bench measures what waiting logins cost a relay in memory, beside a relay in
// Node with the same sockets, how long a post takes to its answer, on one node
// and across two, and how soon a killed node's logins are known dead.
//
//	go run ./providers/qrcode/relay/bench -relay build/qrcode-relay
//
// The relay in Node needs what "npm ci" in providers/qrcode/web installs; two
// nodes need nats-server.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// What the relay is to reach, per waiting login and beyond its size without.
const (
	plainLimit = 20.0 // KiB
	tlsLimit   = 45.0
)

func main() {
	relay := flag.String("relay", "build/qrcode-relay", "the relay that \"make build\" built")
	web := flag.String("web", "providers/qrcode/web", "folder whose node_modules has ws")
	sockets := flag.Int("sockets", 10000, "waiting logins")
	posts := flag.Int("posts", 1000, "of them to be posted to, at random")
	flag.Parse()
	if err := run(*relay, *web, *sockets, *posts); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(relay, web string, sockets, posts int) error {
	if err := raiseFiles(sockets + 200); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "relay-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{dir: dir, relay: relay, web: web}
	if err := b.certificate(); err != nil {
		return err
	}
	if err := b.memory(sockets, posts); err != nil {
		return err
	}
	return b.latency()
}

// raiseFiles lets this process, and those it starts, open n files.
func raiseFiles(n int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	want := uint64(n) //nolint:gosec // of a flag
	if limit.Cur >= want {
		// Go gives its children the limit that it found.
		return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
	raised := syscall.Rlimit{Cur: want, Max: max(limit.Max, want)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised); err != nil {
		return fmt.Errorf("%d open files are too many: %w", n, err)
	}
	return nil
}

// memory compares relays that hold sockets, with and without TLS.
func (b *bench) memory(sockets, posts int) error {
	fmt.Printf("%d waiting logins, then %d posts to random ones\n", sockets, posts)
	node, why := b.node()
	for _, secure := range []bool{false, true} {
		name, limit := "plain", plainLimit
		if secure {
			name, limit = "TLS", tlsLimit
		}
		args := b.tls(secure)
		own, err := b.hold("qrcode-relay, "+name, b.ownRelay(append(args, "--pending", "1000000", "--ttl", "1h", "--ping", "5s")...), secure, sockets, posts)
		if err != nil {
			return err
		}
		verdict := "reached"
		if own.perSocket() > limit {
			verdict = "MISSED"
		}
		fmt.Printf("  %-24s at most %.0f KiB: %s\n", "", limit, verdict)
		if node == nil {
			fmt.Printf("  Node ws: not measured: %s\n", why)
			continue
		}
		peer, err := b.hold("Node ws, "+name, node(secure), secure, sockets, posts)
		if err != nil {
			return err
		}
		fmt.Printf("  qrcode-relay / Node ws, %s: per login %.2f, whole process %.2f\n", name,
			own.perSocket()/peer.perSocket(), float64(own.after)/float64(peer.after))
	}
	return nil
}

// node returns how to start the relay in Node, or why it cannot be.
func (b *bench) node() (start func(secure bool) *exec.Cmd, why string) {
	if _, err := os.Stat(filepath.Join(b.web, "node_modules", "ws")); err != nil {
		return nil, "npm ci in " + b.web + " installs it"
	}
	path, err := exec.LookPath("node")
	if err != nil {
		return nil, err.Error()
	}
	script := filepath.Join(b.dir, "relay.mjs")
	if err := os.WriteFile(script, nodeRelay, 0o600); err != nil {
		return nil, err.Error()
	}
	web, err := filepath.Abs(b.web)
	if err != nil {
		return nil, err.Error()
	}
	return func(secure bool) *exec.Cmd {
		args := []string{script, web + "/"}
		if secure {
			args = append(args, b.cert, b.key)
		}
		return exec.Command(path, args...) //nolint:gosec // Node, with a script of ours
	}, ""
}

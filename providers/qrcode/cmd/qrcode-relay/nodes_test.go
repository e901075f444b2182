// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startNATS runs the real server with TLS and a token, and returns the options
// of a relay that joins it.
func startNATS(t testing.TB) []string {
	t.Helper()
	path, err := exec.LookPath("nats-server")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nats-server") // Debian's
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nats-server is missing: make deps")
		}
		t.Skip("nats-server is missing: make deps")
	}
	dir := t.TempDir()
	certificate(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	config := file("nats.conf", fmt.Sprintf("listen: %q\ntls { cert_file: %q, key_file: %q }\nauthorization { token: nodes }\n",
		address, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")))
	server := exec.Command(path, "-c", config, "-l", filepath.Join(dir, "log"))
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	eventually(t, "nats-server listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return []string{"--nats-url", "tls://" + address, "--nats-token-file", file("token", "nodes\n"), "--nats-ca", filepath.Join(dir, "cert.pem")}
}

// TestAKilledNodesLoginsAreKnownDead to their hosts and to phones at the other
// node within two seconds; the other's own logins do not notice. A node that
// stands still is as good as dead to phones.
func TestAKilledNodesLoginsAreKnownDead(t *testing.T) {
	bus := startNATS(t)
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			a, b := startRelay(t, bus...), startRelay(t, bus...)
			dying, living := wait(t, plain, a.url, "", one), wait(t, plain, b.url, "", two)
			phone, other := make(chan string, 1), make(chan string, 1)
			go func() { phone <- postWait(plain, b.url, one) }()
			if _, err := read(dying); err != nil {
				t.Fatal(err)
			}
			go func() { other <- postWait(plain, b.url, two) }()
			if _, err := read(living); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if err := a.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if signal == syscall.SIGKILL {
				if _, err := read(dying); err == nil {
					t.Error("the host reads on")
				}
				if took := time.Since(begun); took > 2*time.Second {
					t.Errorf("the host learned after %v", took)
				}
			}
			if got := <-phone; got != gone {
				t.Errorf("the phone read %s", got)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("the phone learned after %v", took)
			}
			if got := postWait(plain, b.url, one); got != gone {
				t.Errorf("the next phone read %s", got)
			}
			select {
			case got := <-other:
				t.Errorf("the other node's phone read %s", got)
			default:
			}
			_ = living.CloseNow()
			if got := <-other; got != gone {
				t.Errorf("after its host left: %s", got)
			}
		})
	}
}

func TestANodeStartsOnlyWithItsNATS(t *testing.T) {
	bus := startNATS(t)
	bus[1] = "tls://127.0.0.1:1"
	out, err := program(append(bus, "--listen", "127.0.0.1:0", "--tokens", filepath.Join(t.TempDir(), "tokens"))...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "nats") {
		t.Errorf("%v\n%s", err, out)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// The host waits at one relay, and its people's phones get to another.
func TestTwoNodes(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	bus := startNATS(t)
	a, b := startRelay(t, pamtest.System(t), bus...), startRelay(t, pamtest.System(t), bus...)
	m.relay = b // for the phone
	s := m.sshd()
	m.WriteFile("/etc/authn/qrcode/token", 0o600, a.token+"\n")
	m.configure(a.url, "page_url: "+b.url)
	login := func() *hosttest.Terminal {
		t.Helper()
		return s.Login(hosttest.Login{User: "alice", Command: "echo in"})
	}

	t.Run("an_approval_at_one_opens_a_login_at_the_other", func(t *testing.T) {
		c := login()
		m.login(c)
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("the_hosts_node_goes_away", func(t *testing.T) {
		c := login()
		code := m.approve(c)
		a.stop()
		m.state("host-gone", m.phone.Wait("host-gone"))
		c.Send(code + "\n")
		c.Expect(failed)
		c.WantExit(255)
		m.lacks(c, "in\n")
		m.WaitLog(`user=alice .*result=system_err reason="relay: it is shutting down`)
	})
	m.idle(s)
}

// startNATS runs a server with TLS and a token, and returns the options of a
// relay that joins it.
func startNATS(t *testing.T) []string {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/nats-server") // Debian's
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("nats-server is missing: make deps")
		}
		t.Skip("nats-server is missing: make deps")
	}
	dir := t.TempDir()
	cert, key := selfSigned(t)
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	config := file("nats.conf", fmt.Sprintf("listen: %q\ntls { cert_file: %q, key_file: %q }\nauthorization { token: nodes }\n",
		"127.0.0.1:-1", cert, key))
	log := newBuffer()
	cmd := exec.Command(program, "-c", config)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := log.wait(t, `Listening for client connections on (\S+)`)[1]
	log.wait(t, "Server is ready")
	return []string{"--nats-url", "tls://" + address, "--nats-token-file", file("token", "nodes\n"), "--nats-ca", cert}
}

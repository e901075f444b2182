// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

const emergency = "The login service cannot be reached. Only emergency access is left, with a local password."

func TestBreakGlass(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	m.AddUser("alice", hosttest.User{Password: own, Groups: []string{"break-glass"}})
	m.shipped("sshd", "sshd-break-glass")
	s := m.SSHD(hosttest.SSHD{})
	login := func(account string) *hosttest.Terminal {
		t.Helper()
		return s.Login(hosttest.Login{User: account, Command: "env; echo in"})
	}
	// noEmergency ends a login that is none, for the reason that the log has.
	noEmergency := func(c *hosttest.Terminal, log string) {
		t.Helper()
		c.WantExit(255)
		m.lacks(c, "assword: ")
		m.lacks(c, "emergency")
		m.lacks(c, "in\n")
		m.WaitLog(`pam_authn\(sshd:auth\): provider=qrcode user=alice .*` + log)
	}

	t.Run("a_relay_that_answers_is_no_emergency", func(t *testing.T) {
		c := login("alice")
		m.login(c)
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, "assword: ")
	})
	t.Run("nor_one_with_a_certificate_of_its_own_making", func(t *testing.T) {
		cert, key := selfSigned(t)
		m.configure(startRelay(t, pamtest.System(t), "--tls-cert", cert, "--tls-key", key).url)
		defer m.configure(m.relay.url)
		c := login("alice")
		c.ExpectMatch(failed + ` \(reference [0-9a-f]{6}\)\.`)
		noEmergency(c, `result=system_err reason="relay: its certificate was not accepted`)
		m.lacks(c, prompt)
	})
	t.Run("nor_one_that_does_not_know_the_token", func(t *testing.T) {
		m.configure(startRelay(t, pamtest.System(t)).url)
		defer m.configure(m.relay.url)
		c := login("alice")
		c.Expect(failed)
		noEmergency(c, `result=system_err reason="relay: it does not know this host's token \(401\)"`)
	})
	t.Run("nor_one_that_goes_away_behind_the_prompt", func(t *testing.T) {
		other := startRelay(t, pamtest.System(t))
		m.WriteFile("/etc/authn/qrcode/token", 0o600, other.token+"\n")
		defer m.WriteFile("/etc/authn/qrcode/token", 0o600, m.relay.token+"\n")
		m.configure(other.url)
		defer m.configure(m.relay.url)
		c := login("alice")
		c.Expect(prompt)
		other.stop()
		c.Send("123456\n")
		c.Expect(failed)
		noEmergency(c, `result=system_err reason="relay: `)
	})

	m.configure(nobody(t))
	t.Run("a_relay_that_nobody_can_reach_lets_members_in_by_password", func(t *testing.T) {
		c := login("alice")
		c.ExpectMatch(failed + ` \(reference [0-9a-f]{6}\)\.`)
		c.Expect("\n" + emergency + "\nPassword: ")
		c.Send(own + "\n")
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, prompt)
		m.lacks(c, "AUTHN_SUBJECT")
		if e := m.WaitLog(`user=alice .*result=authinfo_unavail reason="relay: nobody reached: `); e.Severity != "alert" {
			t.Errorf("logged at level %s: %s", e.Severity, e)
		}
	})
	t.Run("and_nobody_else", func(t *testing.T) {
		c := login("bob")
		c.Answer("Password: ", own)
		c.WantExit(255)
		m.lacks(c, "in\n")
	})
	t.Run("the_plain_stack_refuses_everybody", func(t *testing.T) {
		m.shipped("sshd", "sshd")
		c := login("alice")
		c.Expect(failed)
		c.WantExit(255)
		m.lacks(c, "assword: ")
	})
	m.idle(s)
	if n := strings.Count(m.LogText(), "result=authinfo_unavail"); n != 3 {
		t.Errorf("%d emergencies instead of 3:\n%s", n, m.LogText())
	}
}

// nobody returns the address of a relay where nobody listens, nor will before
// the test is over.
func nobody(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("https://localhost:%d", name.(*syscall.SockaddrInet4).Port)
}

// selfSigned makes a certificate of localhost's that nobody trusts.
func selfSigned(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}

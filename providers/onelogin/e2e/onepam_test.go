// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// onepam is a configuration of the Python module.
const onepam = `{
  "region": "us",
  "subdomain": "example",
  "client_id": "%s",
  "client_secret": "%s",
  "request_duration_secs": 0.5,
  "user_roles": {
    "admin": 77777,
    "user": 111111
  }
}
`

// The predecessor's file goes on to serve as it is, with the real address: the
// machine takes the emulator for example.onelogin.com.
func TestOnepamJSON(t *testing.T) {
	const address = "127.53.71.9"
	l, err := net.Listen("tcp", address+":443")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("something else has port 443: %v", err)
	}
	_ = l.Close()
	m := newMachine(t, []onelogintest.Option{onelogintest.TLS("example.onelogin.com"), onelogintest.Listen(address + ":443")}, "sshd")
	m.WriteFile("/etc/hosts", 0o644, "127.0.0.1 localhost\n"+address+" example.onelogin.com\n")
	m.WriteFile("/etc/ssl/certs/ca-certificates.crt", 0o644, string(m.tenant.CAPEM))
	m.Run("root", "rm", "/etc/authn/onelogin.yaml")
	m.WriteFile("/etc/authn/onepam.json", 0o600, fmt.Sprintf(onepam, onelogintest.ClientID, onelogintest.ClientSecret))
	s := m.sshd()
	m.shipped("sshd", "sshd", "config=/etc/authn/onepam.json")

	t.Run("authnctl_finds_nothing_wrong_with_it", func(t *testing.T) {
		if out, code := m.Run("root", "authnctl", "check", "/etc/pam.d/sshd"); code != 0 {
			t.Errorf("%d %s", code, out)
		}
	})
	t.Run("it_opens_to_the_role_and_keeps_its_pace", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		c.Expect(askName)
		began := time.Now()
		c.Send("mittens\n")
		c.Expect(askOTP)
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("the OTP prompt came after %v, and request_duration_secs is 0.5", took)
		}
		c.Send(m.tenant.TOTP("mittens") + "\n")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("it_is_closed_to_others", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.otp(c, "tom")
		c.WantExit(255)
	})
	t.Run("it_opens_to_a_push_that_the_module_would_have_missed", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.push(c, "mittens")
		m.waitPolls(1)
		m.tenant.Accept("mittens")
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("its_locked_people_are_out_now", func(t *testing.T) {
		m.tenant.Update("mittens", func(u *onelogintest.User) { u.Status = onelogintest.Locked })
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.otp(c, "mittens")
		c.WantExit(255)
		m.WaitLog(`result=auth_err reason="[^"]*status 3 \(locked\)`)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

const (
	password  = "kept in the safe"
	emergency = "The login service cannot be reached. Only emergency access is left, with a local password.\n"
)

// nobody returns an address of this machine where nobody listens, nor will
// before the test is over.
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
	return fmt.Sprintf("https://127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// breakGlass makes a machine whose sshd and su have the break-glass stack, with
// admin in the group and user outside of it, and both with a password.
func breakGlass(t *testing.T, programs ...string) (machine, *hosttest.Server) {
	t.Helper()
	m := newMachine(t, nil, append([]string{"sshd"}, programs...)...)
	m.AddUser("admin", hosttest.User{Password: password, Groups: []string{"break-glass"}})
	m.AddUser("user", hosttest.User{Password: password})
	m.shipped("sshd", "sshd-break-glass")
	m.shipped("su", "sshd-break-glass")
	return m, m.SSHD(hosttest.SSHD{})
}

func TestNobodyReached(t *testing.T) {
	m, s := breakGlass(t, "sudo")
	key := m.Key("admin")
	m.at(nobody(t), "ca_file: /etc/authn/ca.pem")
	// ask answers the first question, whose answer is what finds out.
	ask := func(account string) *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: account, Command: "env; echo in"})
		c.Answer(askName, "mittens")
		c.ExpectMatch(failed + ` \(reference [0-9a-f]{6}\)\.`)
		c.Expect("\n" + emergency + "Password: ")
		return c
	}

	t.Run("a_member_of_break_glass_is_in_by_password_and_the_log_is_at_alert", func(t *testing.T) {
		c := ask("admin")
		c.Send(password + "\n")
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, "AUTHN_")
		if e := m.WaitLog(`pam_authn\(sshd:auth\): provider=onelogin user=admin .*result=authinfo_unavail reason="`); e.Severity != "alert" {
			t.Errorf("logged at level %s: %s", e.Severity, e)
		}
	})
	t.Run("a_member_with_a_wrong_password_is_out", func(t *testing.T) {
		c := ask("admin")
		c.Send("something else\n")
		c.WantExit(255)
	})
	t.Run("nobody_else_is_in", func(t *testing.T) {
		c := ask("user")
		c.Send(password + "\n")
		c.WantExit(255)
		m.lacks(c, "in\n")
	})
	t.Run("a_key_still_opens", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Key: key, Command: "echo in"})
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("the_plain_stack_refuses_everybody", func(t *testing.T) {
		m.shipped("sshd", "sshd")
		defer m.shipped("sshd", "sshd-break-glass")
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		c.Answer(askName, "mittens")
		c.Expect(failed)
		c.WantExit(255)
	})
	s.WaitNoSessions()
	m.WaitIdle()
}

const broken = "result=system_err"

// Whoever was reached, and be it half, was reached: no emergency.
func TestReachedIsNoEmergency(t *testing.T) {
	m, s := breakGlass(t)
	attempt := func(t *testing.T, result string) {
		t.Helper()
		before := strings.Count(m.LogText(), result)
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		code := m.tenant.TOTP("mittens")
		c.Answer(askName, "mittens")
		if c.ExpectMatch("OTP|" + failed)[0] == "OTP" {
			c.Send(code + "\n")
		}
		c.WantExit(255)
		m.lacks(c, "assword: ")
		m.lacks(c, "emergency")
		if said := strings.Contains(c.Transcript(), failed); said != (result == broken) {
			t.Errorf("seen:\n%s", c.Transcript())
		}
		if after := strings.Count(m.LogText(), result); after != before+1 {
			t.Errorf("%d lines say %s:\n%s", after-before, result, m.LogText())
		}
	}

	for name, wrong := range map[string]struct {
		pattern string
		fault   onelogintest.Fault
	}{
		"half_an_answer_for_the_token":        {"/auth/**", onelogintest.Truncate()},
		"half_an_answer_for_the_person":       {"GET /api/2/users", onelogintest.Truncate()},
		"half_an_answer_for_the_code":         {"POST /api/2/**", onelogintest.Truncate()},
		"a_connection_closed_for_the_code":    {"POST /api/2/**", onelogintest.DropAfterEffect()},
		"a_connection_closed_for_the_token":   {"/auth/**", onelogintest.Drop()},
		"a_connection_closed_for_the_factors": {"GET /api/2/mfa/**", onelogintest.Drop()},
		"a_web_page":                          {"/auth/**", onelogintest.HTML()},
		"a_redirect":                          {"/auth/**", onelogintest.Redirect("http://127.0.0.1:1/")},
		"status_503":                          {"", onelogintest.Status(503)},
		"an_answer_of_a_megabyte":             {"GET /api/2/users/*", onelogintest.Huge(1 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			m.tenant.Fail(wrong.pattern, wrong.fault)
			defer m.tenant.Heal()
			if strings.HasSuffix(name, "_for_the_code") {
				attempt(t, "result=auth_err") // a stranger's code gets as far as to a refusal
				return
			}
			attempt(t, broken)
		})
	}
	t.Run("a_certificate_of_an_unknown_authority", func(t *testing.T) {
		m.at(m.tenant.URL)
		defer m.configure()
		before := len(m.tenant.Requests())
		attempt(t, broken)
		m.WaitLog(`result=system_err reason="[^"]*certificate`)
		if asked := m.tenant.RequestsFrom(before); len(asked) > 0 {
			t.Errorf("it was asked all the same: %v", asked)
		}
	})
	t.Run("a_server_that_speaks_no_tls", func(t *testing.T) {
		plain := onelogintest.New(t)
		m.at("https"+strings.TrimPrefix(plain.URL, "http"), "ca_file: /etc/authn/ca.pem")
		defer m.configure()
		attempt(t, broken)
	})
	t.Run("a_credential_that_is_refused", func(t *testing.T) {
		m.tenant.SetCredential(onelogintest.ClientID, "changed in the meantime")
		defer m.tenant.SetCredential(onelogintest.ClientID, onelogintest.ClientSecret)
		attempt(t, broken)
		m.WaitLog(`result=system_err reason="[^"]*credential \(client_id, client_secret\)`)
	})
	t.Run("a_credential_with_too_small_a_scope", func(t *testing.T) {
		m.tenant.Scope(onelogintest.ReadUsers)
		defer m.tenant.Scope(onelogintest.ManageAll)
		attempt(t, "result=auth_err") // OneLogin may as well mean this person alone
		m.WaitLog(`result=auth_err reason="[^"]*needs scope .*Manage all`)
	})
	t.Run("nothing_wrong_opens", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.otp(c, "mittens")
		c.Expect("in\n")
		c.WantExit(0)
	})
	s.WaitNoSessions()
	m.WaitIdle()
	if strings.Contains(m.LogText(), "authinfo_unavail") {
		t.Errorf("an emergency was made:\n%s", m.LogText())
	}
}

// The caller's limits are inherited by setuid programs. They may make a login
// fail, and never make an emergency.
func TestHostileLimits(t *testing.T) {
	m, _ := breakGlass(t, "su")
	for _, limit := range []string{"-n 7", "-n 12", "-S -n 8", "-n 64", "-n 65", "-n 70", "-v 400000", "-u 0", "-f 0"} {
		t.Run("ulimit_"+strings.ReplaceAll(limit, " ", "_"), func(t *testing.T) {
			c := m.Spawn("user", "bash", "-c", "(ulimit "+limit+"; exec su admin -c 'echo in'); echo exit code $?")
			for {
				seen := c.ExpectMatch(askName[:8] + `[^:]*: |OTP[^:]*: |exit code \d+\n`)[0]
				if strings.HasPrefix(seen, "exit") {
					break
				}
				if strings.HasPrefix(seen, "OTP") {
					c.Send(m.tenant.TOTP("mittens") + "\n")
				} else {
					c.Send("mittens\n")
				}
			}
			c.Wait()
			if in := strings.Contains(c.Transcript(), "in\n"); in != strings.Contains(c.Transcript(), "exit code 0\n") {
				t.Errorf("seen: %s", c.Transcript())
			}
			m.lacks(c, "assword")
			m.lacks(c, "emergency")
		})
	}
	m.WaitIdle()
	if strings.Contains(m.LogText(), "authinfo_unavail") {
		t.Errorf("an emergency was made:\n%s", m.LogText())
	}
}

// A tenant that never answers does not hold anybody longer than the line says.
func TestTheLinesTimeoutBoundsTheAttempt(t *testing.T) {
	m, s := breakGlass(t)
	const timeout = 2 * time.Second
	m.shipped("sshd", "sshd-break-glass", "timeout=2s")
	for name, pattern := range map[string]string{
		"token": "/auth/**", "person": "GET /api/2/users", "factors": "GET /api/2/mfa/**", "code": "POST /api/2/**", "push": "POST /api/2/**",
	} {
		t.Run("where_the_request_for_the_"+name+"_hangs", func(t *testing.T) {
			m.tenant.Fail(pattern, onelogintest.Hang())
			defer m.tenant.Heal()
			c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
			c.Expect(askName)
			began := time.Now()
			c.Send("mittens\n")
			if c.ExpectMatch("OTP|" + failed)[0] == "OTP" {
				code := m.tenant.TOTP("mittens")
				if name == "push" {
					code = ""
				}
				c.Send(code + "\n")
			}
			c.WantExit(255)
			if took := time.Since(began); took < timeout/2 || took > 4*timeout {
				t.Errorf("it took %v", took)
			}
			m.lacks(c, "assword: ")
			m.WaitIdle()
		})
	}
	t.Run("a_push_is_given_up_before_so_that_it_is_a_refusal_and_no_fault", func(t *testing.T) {
		c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
		m.push(c, "mittens")
		c.WantExit(255)
		m.lacks(c, failed)
		m.WaitLog(`result=auth_err reason="[^"]*nobody approved in time`)
	})
	s.WaitNoSessions()
	if strings.Contains(m.LogText(), "authinfo_unavail") {
		t.Errorf("an emergency was made:\n%s", m.LogText())
	}
}

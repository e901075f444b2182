// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// Secrets that are easily found again.
const (
	clientSecret = "canary-client-secret-5d1c"
	hers         = "canary-password-8e07"
	wrongHers    = "canary-wrong-password-8e07"
	wrongOTP     = "canary0wrong0code"
)

func TestSecrets(t *testing.T) {
	m := newMachine(t, []onelogintest.Option{onelogintest.KeepBodies()}, "sshd", "grep")
	m.tenant.SetCredential("an-id", clientSecret)
	m.tenant.Update("mittens", func(u *onelogintest.User) { u.Password = hers })
	m.WriteFile("/etc/authn/ca.pem", 0o644, string(m.tenant.CAPEM))
	m.WriteFile("/etc/authn/secret", 0o600, clientSecret+"\n")
	m.WriteFile("/etc/authn/onelogin.yaml", 0o600, fmt.Sprintf("base_url: %s\nca_file: /etc/authn/ca.pem\n"+
		"subdomain: example\nclient_id: an-id\nclient_secret_file: /etc/authn/secret\nrequest_duration_secs: 0\n"+
		"user_roles: {admin: %d}\nrequire_password: true\n", m.tenant.URL, admins))
	s := m.sshd()
	m.shipped("sshd", "sshd", "debug")
	var seen strings.Builder // what people see
	login := func(t *testing.T, password, otp string) *hosttest.Terminal {
		t.Helper()
		c := s.Login(hosttest.Login{User: "admin", Command: "env; echo in"})
		t.Cleanup(func() { seen.WriteString(c.Transcript()) })
		c.Answer(askName, "mittens")
		c.Answer("OneLogin password: ", password)
		c.Answer(askOTP, otp)
		return c
	}
	canaries := []string{clientSecret, hers, wrongHers, wrongOTP}
	otp := func() string {
		code := m.tenant.TOTP("mittens")
		canaries = append(canaries, code)
		return code
	}

	t.Run("right_ones_open", func(t *testing.T) {
		c := login(t, hers, otp())
		c.Expect("in\n")
		c.WantExit(0)
	})
	t.Run("wrong_ones_do_not", func(t *testing.T) {
		login(t, hers, wrongOTP).WantExit(255)
		m.WaitLog(`result=auth_err reason="[^"]*wrong code`)
		login(t, wrongHers, otp()).WantExit(255)
		m.WaitLog(`result=auth_err reason="[^"]*wrong password`)
	})
	t.Run("nor_where_the_tenant_breaks_or_repeats_what_it_was_told", func(t *testing.T) {
		for pattern, fault := range map[string]onelogintest.Fault{
			"POST /api/2/**":      onelogintest.Body("application/json", `{"status":{"error":true,"code":400,"type":"`+hers+`","message":"`+clientSecret+`"}}`),
			"/auth/**":            onelogintest.Body("text/plain", clientSecret),
			"GET /api/2/users":    onelogintest.HTML(),
			"POST /api/1/login/*": onelogintest.Truncate(),
		} {
			remove := m.tenant.Fail(pattern, fault)
			c := s.Login(hosttest.Login{User: "admin", Command: "echo in"})
			c.Answer(askName, "mittens")
			if c.ExpectMatch("OneLogin password: |" + failed)[0] != failed {
				c.Send(hers + "\n")
				c.Answer(askOTP, otp())
			}
			c.WantExit(255)
			seen.WriteString(c.Transcript())
			remove()
		}
	})
	t.Run("while_a_code_is_checked_no_process_shows_any", func(t *testing.T) {
		remove := m.tenant.Fail("POST /api/2/**", onelogintest.DelayAnswer(m.Timeout))
		defer remove()
		c := login(t, hers, otp())
		m.await("the code", func() bool {
			return m.tenant.Requests()[len(m.tenant.Requests())-1].Call() == "POST /api/2/mfa/users/*/verifications"
		})
		helpers := m.waitHelpers()
		canaries = append(canaries, tokens(m.tenant)...)
		for _, p := range m.Processes() {
			for _, file := range []string{"environ", "cmdline"} {
				text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.PID, file))
				if err != nil {
					t.Fatal(err)
				}
				expose(t, fmt.Sprintf("%s of %v", file, p), string(text), canaries)
			}
		}
		m.keepsToItself(t, helpers[len(helpers)-1])
		c.HangUp()
		s.Stop()
	})
	m.WaitIdle()

	canaries = append(canaries, tokens(m.tenant)...)
	expose(t, "syslog", m.LogText(), canaries)
	expose(t, "sshd's log", s.Log(), canaries)
	expose(t, "the screen", seen.String(), canaries)
	folders := append([]string{"/run", "/tmp", "/var/log", "/home", "/root"}, m.Glob("/var/lib/authn")...)
	for _, canary := range canaries {
		if out, code := m.Run("root", "grep", append([]string{"-rlF", "-e", canary}, folders...)...); code != 1 {
			t.Errorf("files hold %.10s...: %d %s", canary, code, out)
		}
	}
}

// tokens are the access tokens that the tenant gave.
func tokens(s *onelogintest.Server) []string {
	found := map[string]bool{}
	for _, r := range s.Requests() {
		if fields := strings.Fields(r.Header.Get("Authorization")); len(fields) == 2 {
			found[fields[1]] = true // and the credential, as the token's request has it
		}
	}
	var list []string
	for token := range found {
		list = append(list, token)
	}
	return list
}

// expose fails the test if a text holds a canary.
func expose(t *testing.T, what, text string, canaries []string) {
	t.Helper()
	if len(canaries) < 5 || text == "" {
		t.Errorf("%s: nothing to search in, or too little to search for", what)
	}
	for _, canary := range canaries {
		if at := strings.Index(text, canary); at >= 0 {
			t.Errorf("%s: holds %q:\n%s", what, canary, text[max(0, at-100):min(len(text), at+100)])
		}
	}
}

// keepsToItself fails the test if the provider can be looked into by another
// process of its uid, or does not run as authn.
func (m machine) keepsToItself(t *testing.T, provider hosttest.Process) {
	t.Helper()
	if !strings.Contains(provider.String(), "authn-onelogin") || provider.UID != m.Account("authn").UID {
		t.Fatalf("not the provider, or not authn's: %v", provider)
	}
	// What any other program of that uid has to put up with.
	other := m.Command("authn", "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	defer func() { _ = other.Process.Kill() }()
	for _, file := range []string{"mem", "maps", "environ", "fd/0"} {
		open := func(pid int) (string, int) {
			return m.Run("authn", "sh", "-c", fmt.Sprintf(": < /proc/%d/%s", pid, file))
		}
		if out, code := open(provider.PID); code == 0 {
			t.Errorf("authn opens the provider's %s: %s", file, out)
		}
		if out, code := open(other.Process.Pid); code != 0 && file != "fd/0" {
			t.Errorf("the test would see nothing: authn cannot open %s of its sleep: %s", file, out)
		}
	}
	if out, code := m.Run("authn", "ls", fmt.Sprintf("/proc/%d/fd", provider.PID)); code == 0 {
		t.Errorf("authn lists the provider's files: %s", out)
	}
}

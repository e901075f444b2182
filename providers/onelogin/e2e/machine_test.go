// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

func TestMain(m *testing.M) { pamtest.MainSystem(m) }

// The roles of the tests' tenant.
const (
	admins = 77777
	users  = 111111
)

const (
	askName = "OneLogin email or username: "
	askOTP  = "OTP (leave empty for push): "
	askCode = "Code (or Enter once approved): "
	failed  = "This login is not possible at the moment"
)

// A machine has everything at the places of a real installation, the shared
// accounts admin and user, and a tenant.
type machine struct {
	*hosttest.Machine
	tenant *onelogintest.Server
	t      *testing.T
}

// newMachine makes one whose tenant knows mittens, who may be admin and user
// and has an app and Protect; tom, who may be user and has an app and gets text
// messages; felix, who is locked; and smokey, who has no factor.
func newMachine(t *testing.T, options []onelogintest.Option, programs ...string) machine {
	t.Helper()
	t.Parallel()
	hosttest.Require(t, append([]string{"make"}, programs...)...)
	pamtest.Build(t)
	dir := pamtest.System(t)
	hosttest.NoLeftovers(t)
	tenant := onelogintest.New(t, append([]onelogintest.Option{onelogintest.TLS()}, options...)...)
	app, protect := onelogintest.Device{Factor: onelogintest.Authenticator, Default: true}, onelogintest.Device{Factor: onelogintest.Protect}
	for _, u := range []onelogintest.User{
		{Username: "mittens", Email: "mittens@example.com", Roles: []int64{admins, users}, Devices: []onelogintest.Device{app, protect}},
		{Username: "tom", Email: "tom@example.com", Roles: []int64{users}, Devices: []onelogintest.Device{app, {Factor: onelogintest.SMS}}},
		{Username: "felix", Email: "felix@example.com", Roles: []int64{admins}, Status: onelogintest.Locked, Devices: []onelogintest.Device{app, protect}},
		{Username: "smokey", Email: "smokey@example.com", Roles: []int64{admins}},
	} {
		tenant.AddUser(u)
	}

	m := machine{hosttest.NewMachine(t), tenant, t}
	m.InstallTree(dir, "/")
	m.WriteFile("/etc/default/su", 0o644, "FAIL_DELAY 0\n") // su's own, not PAM's
	m.AddUser("authn", hosttest.User{Home: "/nonexistent", Shell: "/usr/sbin/nologin"})
	m.AddUser("admin", hosttest.User{})
	m.AddUser("user", hosttest.User{})
	m.WriteFile("/etc/sudoers.d/admin", 0o440, "Defaults passwd_tries=1\nadmin ALL=(ALL) ALL\n")
	m.configure()
	return m
}

// configure writes the provider's configuration, with more lines behind it.
func (m machine) configure(more ...string) {
	m.t.Helper()
	m.WriteFile("/etc/authn/ca.pem", 0o644, string(m.tenant.CAPEM))
	m.at(m.tenant.URL, append([]string{"ca_file: /etc/authn/ca.pem"}, more...)...)
}

// at is configure for a tenant at another address.
func (m machine) at(url string, more ...string) {
	m.t.Helper()
	m.WriteFile("/etc/authn/onelogin.yaml", 0o600, fmt.Sprintf("base_url: %s\nclient_id: %s\nclient_secret: %s\n"+
		"request_duration_secs: 0\nuser_roles: {admin: %d, user: [%d, 424242]}\n%s\n",
		url, onelogintest.ClientID, onelogintest.ClientSecret, admins, users, strings.Join(more, "\n")))
}

// shipped makes the example stack called name the service's, with provider
// onelogin and words behind each of its lines. It shortens the delay behind a
// refusal.
func (m machine) shipped(service, name string, words ...string) {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../examples/pam.d", name))
	if err != nil {
		m.t.Fatal(err)
	}
	m.PAM(service, strings.NewReplacer(
		"provider=passphrase", strings.Join(append([]string{"provider=onelogin"}, words...), " "),
		"delay=2000000", "delay=2000",
		"required     pam_unix.so", "required     pam_unix.so nodelay",
	).Replace(string(text)))
}

// sshd starts a server with the shipped stack.
func (m machine) sshd(options ...string) *hosttest.Server {
	m.t.Helper()
	m.shipped("sshd", "sshd")
	return m.SSHD(hosttest.SSHD{Options: options})
}

// otp answers both prompts: the second with the person's code of the moment.
func (m machine) otp(c *hosttest.Terminal, name string) {
	m.t.Helper()
	c.Answer(askName, name)
	c.Answer(askOTP, m.tenant.TOTP(name))
}

// push answers the prompts so that a push is sent.
func (m machine) push(c *hosttest.Terminal, name string) {
	m.t.Helper()
	c.Answer(askName, name)
	c.Answer(askOTP, "")
}

// polls is how often the tenant was asked about pushes.
func (m machine) polls() int {
	return m.tenant.Count("GET", "/api/2/mfa/users/*/verifications/*")
}

// waitPolls waits until the tenant was asked about pushes n times more.
func (m machine) waitPolls(n int) {
	m.t.Helper()
	n += m.polls()
	m.await("polls", func() bool { return m.polls() >= n })
}

// await waits for something to happen at the tenant.
func (m machine) await(what string, cond func() bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), m.Timeout)
	defer cancel()
	if err := m.tenant.Await(ctx, cond); err != nil {
		m.t.Fatalf("waiting for %s: %v; asked were %q; the log:\n%s", what, err, m.tenant.Sequence(), m.LogText())
	}
}

// helpers returns the processes that belong to calls of PAM.
func (m machine) helpers() []hosttest.Process {
	m.t.Helper()
	var found []hosttest.Process
	for _, p := range m.Processes() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
		if strings.HasPrefix(string(comm), "authn-") {
			found = append(found, p)
		}
	}
	return found
}

// waitHelpers waits until a call has its waiter, worker and provider, and
// returns them.
func (m machine) waitHelpers() (found []hosttest.Process) {
	m.t.Helper()
	if !m.until(func() bool { found = m.helpers(); return len(found) == 3 }) {
		m.t.Fatalf("processes of the call: %v", found)
	}
	return found
}

// until waits for what nobody tells of.
func (m machine) until(cond func() bool) bool {
	for deadline := time.Now().Add(m.Timeout); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// lacks fails the test if the terminal has shown text.
func (m machine) lacks(c *hosttest.Terminal, text string) {
	m.t.Helper()
	if strings.Contains(c.Transcript(), text) {
		m.t.Errorf("shown:\n%s", c.Transcript())
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

func TestMain(m *testing.M) { pamtest.MainSystem(m) }

// soak asks for long runs.
var soak = os.Getenv("SOAK") != ""

// What the accounts' own passwords are.
const (
	alicesOwn = "her own"
	bobsOwn   = "his own"
)

// A machine has everything at the places of a real installation, and alice and
// bob.
type machine struct {
	*hosttest.Machine
	t *testing.T
}

func newMachine(t *testing.T, programs ...string) machine {
	t.Helper()
	t.Parallel()
	hosttest.Require(t, append([]string{"make"}, programs...)...)
	pamtest.Build(t)
	dir := pamtest.System(t)
	hosttest.NoLeftovers(t)
	m := machine{hosttest.NewMachine(t), t}
	m.InstallTree(dir, "/")
	for file, text := range debianStacks {
		m.PAM(file, text)
	}
	m.WriteFile("/etc/default/su", 0o644, "FAIL_DELAY 0\n") // su's own, not PAM's
	m.AddUser("authn", hosttest.User{Home: "/nonexistent", Shell: "/usr/sbin/nologin"})
	m.AddUser("alice", hosttest.User{Password: alicesOwn, Groups: []string{"sudo"}})
	m.AddUser("bob", hosttest.User{Password: bobsOwn})
	m.WriteFile("/etc/authn/passphrase.yaml", 0o600, pamtest.PhraseConfig)
	return m
}

// debianStacks are those of Debian 12 that ours include, without what only
// systems with systemd have.
var debianStacks = map[string]string{
	"common-account": `
account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so
account requisite pam_deny.so
account required pam_permit.so`,
	"common-auth": `
auth [success=1 default=ignore] pam_unix.so nullok
auth requisite pam_deny.so
auth required pam_permit.so`,
	"common-password": `
password [success=1 default=ignore] pam_unix.so obscure yescrypt
password requisite pam_deny.so
password required pam_permit.so`,
	"common-session": `
session [default=1] pam_permit.so
session requisite pam_deny.so
session required pam_permit.so
session required pam_unix.so`,
	"common-session-noninteractive": `
session [default=1] pam_permit.so
session requisite pam_deny.so
session required pam_permit.so
session required pam_unix.so`,
}

// shipped makes the example stack called name the service's. It shortens the
// delay behind a refusal, which TestDelay is about.
func (m machine) shipped(service, name string) {
	m.t.Helper()
	m.PAM(service, quick(example(m.t, name)))
}

func quick(stack string) string {
	return strings.ReplaceAll(stack, "delay=2000000", "delay=2000")
}

// playing is shipped, with provider scenario in the place of passphrase, its
// scenario, and words behind each of its lines.
func (m machine) playing(service, name, scenario string, words ...string) {
	m.t.Helper()
	line := strings.Join(append([]string{"provider=scenario"}, words...), " ")
	m.PAM(service, quick(strings.ReplaceAll(example(m.t, name), "provider=passphrase", line)))
	m.scenario(scenario)
}

// scenario installs provider scenario and tells it what to play.
func (m machine) scenario(text string) {
	m.t.Helper()
	const program = "/usr/libexec/authn/providers/authn-scenario"
	if len(m.Glob(program)) == 0 {
		m.Install(pamtest.ScenarioProgram(m.t), program, 0o711)
	}
	m.WriteFile("/etc/authn/scenario.yaml", 0o600, text)
}

// ours returns the lines of pam_authn in the log, from the service's name on.
func (m machine) ours() []string {
	m.t.Helper()
	var lines []string
	for _, e := range m.Log() {
		if rest, ok := strings.CutPrefix(e.Text, "pam_authn("); ok {
			lines = append(lines, rest)
		}
	}
	return lines
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

// waitCount waits until the log has text n times.
func (m machine) waitCount(text string, n int) {
	m.t.Helper()
	if !m.until(func() bool { return strings.Count(m.LogText(), text) >= n }) {
		m.t.Fatalf("the log lacks %q:\n%s", text, m.LogText())
	}
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

func example(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../examples/pam.d", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

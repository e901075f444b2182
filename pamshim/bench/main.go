// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Bench measures what a call of pam_authn costs beside its peers, in one run
// and in turns, so that a noisy machine is noisy for all of them. It changes
// nothing on the machine: it works in a mount namespace of its own.
//
//	go run ./pamshim/bench -build build
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "client" {
		client(os.Args[2:])
		return
	}
	build := flag.String("build", "build", "folder with what \"make build\" and \"make bench\" built")
	rounds := flag.Int("rounds", 200, "calls of each kind")
	flag.Parse()
	if err := hosttest.Run(os.Stderr, func(tb hosttest.TB) { run(tb, *build, *rounds) }); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// dir is where the machine has the build.
const dir = "/opt/authn"

// A peer is a PAM stack to be measured.
type peer struct{ service, stack string }

func run(tb hosttest.TB, build string, rounds int) {
	hosttest.Require(tb)
	m := hosttest.NewMachine(tb)
	m.Timeout = 10 * time.Minute // a busy machine is slow, not wrong
	m.InstallTree(build, dir)
	self, err := os.Executable()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	m.Install(self, dir+"/bench", 0o755)
	m.AddUser("authn", hosttest.User{})
	m.AddUser("alice", hosttest.User{})
	m.WriteFile("/etc/authn/permit.yaml", 0o600, "")
	peers := stacks(m)
	for _, p := range peers {
		m.PAM(p.service, p.stack)
	}
	var services []string
	for _, p := range peers {
		services = append(services, p.service)
	}
	for _, limit := range []string{"20000", "1024"} {
		fmt.Printf("one pam_authenticate, %d rounds in turns, ulimit -n %s\n", rounds, limit)
		shell(tb, m, limit, "compare", fmt.Sprint(rounds), strings.Join(services, ","))
	}
	fmt.Println("calls at the same time, in one process")
	shell(tb, m, "20000", "threads", "1,8,32", "20")
	fmt.Println("what stays in the host")
	growth(tb, m)
	fmt.Println("refusals before a provider runs")
	refusals(tb, m)
	sizes(build)
}

func stacks(m *hosttest.Machine) []peer {
	line := func(worker, provider string) string {
		return fmt.Sprintf("auth required %s/pam_authn.so worker=%s provider=%s config=/etc/authn/permit.yaml\n", dir, worker, provider)
	}
	m.Install("/bin/true", dir+"/mode-0775", 0o775)
	m.Install("/bin/true", dir+"/mode-0644", 0o644)
	all := []peer{
		{"bench-permit", "auth required pam_permit.so\n"},
		{"bench-exec", "auth required pam_exec.so quiet " + dir + "/empty\n"},
		{"bench-authn", line(dir+"/authn-worker", dir+"/authn-permit")},
		{"refuse-no-worker", line(dir+"/gone", dir+"/authn-permit")},
		{"refuse-worker-mode", line(dir+"/mode-0644", dir+"/authn-permit")},
		{"refuse-worker-writable", line(dir+"/mode-0775", dir+"/authn-permit")},
		{"refuse-no-provider", line(dir+"/authn-worker", dir+"/gone")},
		{"refuse-provider-mode", line(dir+"/authn-worker", dir+"/mode-0644")},
		{"refuse-provider-writable", line(dir+"/authn-worker", dir+"/mode-0775")},
	}
	if _, err := os.Stat(pamPython); err == nil {
		m.WriteFile(dir+"/module.py", 0o644, pythonModule)
		if _, code := m.Run("root", "/usr/bin/python3", "-c", "import requests"); code == 0 {
			all = append(all, peer{"bench-python", "auth required " + pamPython + " " + dir + "/module.py\n"})
		}
	}
	return all
}

// pamPython is where Debian's libpam-python lies.
const pamPython = "/lib/security/pam_python.so"

// pythonModule is the way of the module that provider onelogin replaces.
const pythonModule = `import requests
def pam_sm_authenticate(pamh, flags, argv):
    return pamh.PAM_SUCCESS
def pam_sm_setcred(pamh, flags, argv):
    return pamh.PAM_SUCCESS
`

func shell(tb hosttest.TB, m *hosttest.Machine, limit string, args ...string) {
	script := fmt.Sprintf("ulimit -n %s && exec %s/bench client %s", limit, dir, strings.Join(args, " "))
	out, code := m.Run("root", "/bin/sh", "-c", script)
	fmt.Print(out)
	fmt.Println()
	if code != 0 {
		tb.Errorf("bench client %s: exit %d", args[0], code)
	}
}

// growth has a host without a runtime of its own make 1,000 calls, after 100
// that let libpam's own memory settle.
func growth(tb hosttest.TB, m *hosttest.Machine) {
	out, code := m.Run("root", dir+"/grow", "/etc/pam.d", "bench-authn", "1000")
	var first, last [7]int // calls, successes, kB, threads, descriptors, children, SIGCHLDs
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 || !scan(lines[0], &first) || !scan(lines[1], &last) || last[1] != last[0] {
		tb.Errorf("grow: exit %d: %s", code, out)
		return
	}
	fmt.Printf("  after %d calls: %+d kB, %+d threads, %+d fds, %+d children, %d SIGCHLDs\n\n", last[0],
		last[2]-first[2], last[3]-1, last[4]-first[4], last[5], last[6])
}

func scan(line string, to *[7]int) bool {
	n, err := fmt.Sscan(line, &to[0], &to[1], &to[2], &to[3], &to[4], &to[5], &to[6])
	return n == len(to) && err == nil
}

func refusals(tb hosttest.TB, m *hosttest.Machine) {
	shell(tb, m, "1024", "refusals",
		"refuse-no-worker,refuse-worker-mode,refuse-worker-writable,refuse-no-provider,refuse-provider-mode,refuse-provider-writable")
}

func sizes(build string) {
	fmt.Println("sizes")
	for _, name := range []string{"pam_authn.so", "authn-worker", "authn-passphrase"} {
		if info, err := os.Stat(filepath.Join(build, name)); err == nil {
			fmt.Printf("  %-18s %8.1f kB\n", name, float64(info.Size())/1000)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

const (
	program = "/usr/bin/authn-qrcode-enroll"
	config  = "/etc/authn/qrcode.yaml"
	folder  = "/etc/authn/qrcode/approvers"
	subject = "mittens@example.com"
	prompt  = "Code shown on the phone: "
)

// The test binary is the tool, too, where it has that name, with a child that
// lies: see liars.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == liar {
		if len(os.Args) == 2 && os.Args[1] == enroll.ChildCommand {
			lie()
		}
		main()
	}
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// built is what TestMain removes.
var built string

// programs builds the tool and the provider, as they are installed.
var programs = sync.OnceValues(func() (string, error) {
	var err error
	if built, err = os.MkdirTemp("", "enroll-"); err != nil {
		return "", err
	}
	for name, pkg := range map[string]string{"authn-qrcode": "../authn-qrcode", "authn-qrcode-enroll": "."} {
		cgo := "0"
		if pkg == "." {
			cgo = "1" // package safefile
		}
		build := exec.Command("go", "build", "-trimpath", "-tags", "osusergo,netgo,grpcnotrace", "-ldflags", "-s -w",
			"-o", filepath.Join(built, name), pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, out)
		}
	}
	return built, nil
})

// A machine has everything at the places of an installation, and a relay that
// it is configured for.
type machine struct {
	*hosttest.Machine
	t    *testing.T
	site *qrcodetest.Site
}

func newMachine(t *testing.T) machine {
	t.Helper()
	return anotherMachine(t, nil)
}

// anotherMachine uses the same relay as the one before.
func anotherMachine(t *testing.T, site *qrcodetest.Site) machine {
	t.Helper()
	hosttest.Require(t)
	worker := filepath.Join(pamtest.Build(t), "authn-worker")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if site == nil {
		site = qrcodetest.NewSite(t)
	}
	m := machine{hosttest.NewMachine(t), t, site}
	m.Install(worker, "/usr/libexec/authn/authn-worker", 0o755)
	m.Install(filepath.Join(dir, "authn-qrcode"), "/usr/libexec/authn/providers/authn-qrcode", 0o711)
	m.Install(filepath.Join(dir, "authn-qrcode-enroll"), program, 0o711)
	m.AddUser("authn", hosttest.User{Home: "/nonexistent", Shell: "/usr/sbin/nologin"})
	m.configure("")
	return m
}

// configure writes the configuration, with more lines.
func (m machine) configure(more string) {
	m.t.Helper()
	m.WriteFile(config, 0o600, m.site.Config()+"host: db7\nauthn: {files: {approvers: "+folder+"/%u}}\n"+more)
}

// run runs the tool without a terminal, as root.
func (m machine) run(args ...string) (output string, code int) {
	m.t.Helper()
	return m.Run("root", program, args...)
}

// want runs the tool and compares exit code and parts of the output.
func (m machine) want(code int, parts []string, args ...string) string {
	m.t.Helper()
	out, got := m.run(args...)
	if got != code {
		m.t.Fatalf("%q: exit code %d, want %d\n%s", args, got, code, out)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			m.t.Errorf("%q: no %q in\n%s", args, part, out)
		}
	}
	return out
}

// An enrolling is the tool at a terminal, with its link shown.
type enrolling struct {
	*hosttest.Terminal
	m    machine
	link string
}

// begin starts an enrolment for alice.
func (m machine) begin(args ...string) enrolling {
	m.t.Helper()
	e := enrolling{m.Spawn("root", program, append([]string{"--link", "alice", subject}, args...)...), m, ""}
	e.link = e.ExpectMatch(`(http\S+/1#[A-Z2-7]{52})\n`)[1]
	e.Expect("for one phone")
	return e
}

// open opens the link on a fresh page.
func (e enrolling) open() *qrcodetest.Visit {
	e.m.t.Helper()
	v, err := e.m.site.Phone().Open(e.m.t.Context(), e.link)
	if err != nil {
		e.m.t.Fatal(err)
	}
	return v
}

// enrol offers a on a fresh page, and returns the digits that it shows.
func (e enrolling) enrol(a *qrcodetest.Authenticator) (digits string, v *qrcodetest.Visit) {
	e.m.t.Helper()
	v = e.open()
	verdict := e.offer(v, a)
	if !verdict.OK || len(verdict.Code) != 6 {
		e.m.t.Fatalf("verdict %+v\n%s", verdict, e.Transcript())
	}
	return verdict.Code, v
}

func (e enrolling) offer(v *qrcodetest.Visit, a *qrcodetest.Authenticator) wire.Verdict {
	e.m.t.Helper()
	verdict, err := v.Enroll(e.m.t.Context(), a)
	if err != nil {
		e.m.t.Fatal(err)
	}
	return verdict
}

// enrolled enrols a new passkey, all the way.
func (m machine) enrolled(args ...string) *qrcodetest.Authenticator {
	m.t.Helper()
	a := m.site.Passkey(m.t)
	e := m.begin(args...)
	digits, _ := e.enrol(a)
	e.Answer(prompt, digits)
	e.WantExit(0)
	return a
}

// nothing fails the test if anything was written.
func (m machine) nothing() {
	m.t.Helper()
	for _, pattern := range []string{folder + "/*", folder + "/.*"} {
		for _, file := range m.Glob(pattern) {
			if base := filepath.Base(file); base != "." && base != ".." {
				m.t.Errorf("%s was written", file)
			}
		}
	}
}

// idle fails the test if anything of ours is left running.
func (m machine) idle() {
	m.t.Helper()
	m.WaitIdle()
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Demo shows a login through Debian's sshd with pam_authn, from a finished
// build, and changes nothing on the machine: it works in a mount namespace of
// its own, with accounts and PAM files of its own. "make demo" runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/crypto/bcrypt"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// installed is where the machine has the build. It is a copy of root's: the
// build folder may belong to whoever built it, and is then not to be trusted.
const installed = "/opt/authn"

const (
	phrase    = "open sesame"
	mistake   = "open barley"
	user      = "alice"
	provider  = "passphrase"
	everyUser = "auth required %[1]s/pam_authn.so provider=%[1]s/authn-%[2]s worker=%[1]s/authn-worker\n" +
		"account required pam_unix.so\n" +
		"session required pam_unix.so\n"
)

func main() {
	build := flag.String("build", "build", "folder with what \"make build\" built")
	which := flag.String("provider", provider, "the provider to show")
	stay := flag.Bool("stay", false, "stay up for logins by hand")
	flag.Parse()
	if *which != provider {
		fmt.Fprintf(os.Stderr, "demo: error: there is no demo of provider %q\ndemo: hint: PROVIDER=%s\n", *which, provider)
		os.Exit(2)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintf(os.Stderr, "demo: error: a private sshd needs root\ndemo: hint: run \"make demo\", which asks sudo\n")
		os.Exit(2)
	}
	if err := hosttest.Run(os.Stderr, func(tb hosttest.TB) { show(tb, *build, *stay) }); err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		os.Exit(1)
	}
}

func show(tb hosttest.TB, build string, stay bool) {
	hosttest.Require(tb, "sshd", "ssh")
	m := hosttest.NewMachine(tb)
	m.InstallTree(build, installed)
	m.AddUser("authn", hosttest.User{})
	m.AddUser(user, hosttest.User{})
	hash, err := bcrypt.GenerateFromPassword([]byte(phrase), bcrypt.DefaultCost)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	config := fmt.Sprintf("hash: %q\n", hash)
	stack := fmt.Sprintf(everyUser, installed, provider)
	m.WriteFile("/etc/authn/passphrase.yaml", 0o600, config)
	m.PAM("sshd", stack)
	s := m.SSHD(hosttest.SSHD{})

	fmt.Printf("# /etc/pam.d/sshd of this demo\n%s\n# /etc/authn/passphrase.yaml\n%s\n", stack, config)
	m.Screen = os.Stdout
	login(s, mistake, false)
	login(s, phrase, true)
	m.WaitLog(`result=success`)
	m.Screen = nil
	fmt.Printf("\n# what the administrator sees in the log\n%s\n", m.LogText())
	if stay {
		wait(s)
	}
}

// login shows one login by script.
func login(s *hosttest.Server, answer string, in bool) {
	command := "echo \"Logged in as $(id -un); the person behind it: $AUTHN_SUBJECT (reference $AUTHN_ID)\""
	fmt.Printf("\n$ ssh -p %d %s@127.0.0.1      # answering %q\n", s.Port, user, answer)
	c := s.Login(hosttest.Login{User: user, Command: command})
	c.Answer("Passphrase: ", answer)
	if in {
		c.WantExit(0)
	} else {
		c.WantExit(255)
	}
}

// wait keeps the machine up until somebody has had enough.
func wait(s *hosttest.Server) {
	fmt.Printf(`
The demo's sshd stays up. From another terminal, with the passphrase %q:

    ssh -p %d -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null %s@127.0.0.1

Ctrl-C here ends it and removes everything.
`, phrase, s.Port, user)
	enough := make(chan os.Signal, 1)
	signal.Notify(enough, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	<-enough
}

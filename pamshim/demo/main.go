// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Demo shows logins through Debian's sshd with pam_authn, from a finished
// build, and changes nothing on the machine: it works in a mount namespace of
// its own, with accounts and PAM files of its own. "make demo" runs it.
//
// What every demo has is here; each provider has a file beside this one.
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// demos has the demo of each provider.
var demos = map[string]func(hosttest.TB) demo{
	"passphrase": passphrase,
	"onelogin":   onelogin,
	"qrcode":     qrcode,
}

// A demo is what is shown of a provider.
type demo struct {
	provider string
	config   string       // the provider's file
	accounts []string     // of the machine; the first one is for logins by hand
	groups   string       // of PAM, for which the provider has something to say
	play     func(*stage) // the logins
	byHand   func() string
}

// A stage is where a demo plays.
type stage struct {
	*hosttest.Machine
	server *hosttest.Server
	out    io.Writer
	build  string // the folder that was given to show
}

// installed is where the machine has the build. It is a copy of root's: the
// build folder may belong to whoever built it, and is then not to be trusted.
const installed = "/opt/authn"

func main() {
	build := flag.String("build", "build", "folder with what \"make build\" built")
	provider := flag.String("provider", "passphrase", "the provider to show")
	stay := flag.Bool("stay", false, "stay up for logins by hand")
	flag.Parse()
	which, ok := demos[*provider]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(demos)), " or PROVIDER=")
		fmt.Fprintf(os.Stderr, "demo: error: there is no demo of provider %q\ndemo: hint: PROVIDER=%s\n", *provider, known)
		os.Exit(2)
	}
	if os.Geteuid() != 0 {
		fmt.Fprintf(os.Stderr, "demo: error: a private sshd needs root\ndemo: hint: run \"make demo\", which asks sudo\n")
		os.Exit(2)
	}
	var enough chan os.Signal
	if *stay {
		enough = make(chan os.Signal, 1)
		signal.Notify(enough, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	}
	err := hosttest.Run(os.Stderr, func(tb hosttest.TB) { show(tb, os.Stdout, *build, which(tb), enough) })
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", strings.TrimPrefix(err.Error(), hosttest.ErrSkipped.Error()+": "))
		os.Exit(1)
	}
}

// show plays a demo to out, and then waits until somebody has had enough, unless
// that is nil.
func show(tb hosttest.TB, out io.Writer, build string, d demo, enough <-chan os.Signal) {
	hosttest.Require(tb, "sshd", "ssh")
	m := hosttest.NewMachine(tb)
	m.InstallTree(build, installed)
	m.AddUser("authn", hosttest.User{})
	for _, account := range d.accounts {
		m.AddUser(account, hosttest.User{})
	}
	file, stack := "/etc/authn/"+d.provider+".yaml", d.stack()
	m.WriteFile(file, 0o600, d.config)
	m.PAM("sshd", stack)
	s := &stage{m, m.SSHD(hosttest.SSHD{}), out, build}

	say(out, "# /etc/pam.d/sshd of this demo\n%s\n# %s\n%s\n", stack, file, d.config)
	m.Screen = out
	d.play(s)
	m.Screen = nil
	s.server.WaitNoSessions()
	say(out, "\n# what the administrator sees in the log\n%s\n", m.LogText())
	if enough != nil {
		say(out, `
The demo's sshd stays up. From another terminal:

    ssh -p %d -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null %s@127.0.0.1

%s
Ctrl-C here ends it and removes everything.
`, s.server.Port, d.accounts[0], d.byHand())
		<-enough
	}
}

// say writes to the screen. Where that fails, nobody is looking.
func say(screen io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(screen, format, args...)
}

// stack is /etc/pam.d/sshd. examples/pam.d has those for real machines.
func (d demo) stack() string {
	var lines strings.Builder
	for _, group := range strings.Fields("auth account session") {
		control := "required"
		if group == "session" {
			control = "optional" // sshd goes on all the same when it fails
		}
		if group == "auth" || strings.Contains(d.groups, group) {
			fmt.Fprintf(&lines, "%[1]s %[2]s %[3]s/pam_authn.so provider=%[3]s/authn-%[4]s worker=%[3]s/authn-worker\n",
				group, control, installed, d.provider)
		}
		if group != "auth" {
			fmt.Fprintf(&lines, "%s required pam_unix.so\n", group)
		}
	}
	return lines.String()
}

// login begins a login and says how it is answered.
func (s *stage) login(account, how string) *hosttest.Terminal {
	say(s.out, "\n$ ssh -p %d %s@127.0.0.1      # %s\n", s.server.Port, account, how)
	return s.server.Login(hosttest.Login{
		User:    account,
		Command: `echo "Logged in as $(id -un); the person behind it: $AUTHN_SUBJECT (reference $AUTHN_ID)"`,
	})
}

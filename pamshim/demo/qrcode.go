// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/qrcode/web/browsertest"
)

// A qrDemo is a relay on loopback, and a browser in the place of a phone.
type qrDemo struct {
	tb    hosttest.TB
	port  int // of the relay
	relay int // its process id
	phone *browsertest.Phone
}

// qrcode shows the provider qrcode: how a phone is enrolled, approves a login,
// and refuses one.
func qrcode(tb hosttest.TB) demo {
	if err := browsertest.Missing(); err != nil && os.Getenv("CI") != "true" {
		tb.Skipf("%v (\"make deps\" does that, or says how)", err)
	}
	q := &qrDemo{tb: tb, port: freePort(tb)}
	return demo{
		provider: "qrcode",
		config: fmt.Sprintf(`relay: %s   # the demo's; without TLS on loopback only
host: db7
authn:
  files:
    approvers: /etc/authn/qrcode/approvers/%%u
`, q.url()),
		accounts: []string{"alice"},
		groups:   "account",
		play:     q.play,
		byHand:   q.byHand,
	}
}

func freePort(tb hosttest.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// url is where the relay and its page are. Passkeys work at localhost, but not
// at 127.0.0.1.
func (q *qrDemo) url() string { return fmt.Sprintf("http://localhost:%d", q.port) }

const askDigits = "Code shown on your phone: "

func (q *qrDemo) play(s *stage) {
	q.startRelay(s)
	q.phone = browsertest.Start(q.tb, browsertest.Options{})
	pictures := q.folder(s)

	say(s.out, "\n# %s/authn-qrcode-enroll alice mittens@example.com blue phone\n", installed)
	c := s.Spawn("root", installed+"/authn-qrcode-enroll", "alice", "mittens@example.com", "blue", "phone")
	seen := q.scan(c.Expect("let nobody else see it.\n"), "enrol")
	q.phone.Screenshot(pictures("1-enrol"))
	q.phone.Enrol()
	q.phone.Screenshot(pictures("2-enrol-digits"))
	c.Answer("Code shown on the phone: ", q.phone.Digits())
	c.WantExit(0)
	say(s.out, "# Mittens scanned it; her phone showed: %s; and then the digits\n", seen)

	c = s.login("alice", "mittens approves it on the phone")
	seen = q.scan(c.Expect(askDigits), "details")
	q.phone.Screenshot(pictures("3-login"))
	q.phone.Tap("passkey")
	if q.phone.Wait("new", "digits") == "new" { // as all is for a new phone
		q.phone.Screenshot(pictures("4-second-tap"))
		q.phone.Tap("confirm")
	}
	digits := q.phone.Digits()
	q.phone.Screenshot(pictures("5-digits"))
	c.Send(digits + "\n")
	c.WantExit(0)
	say(s.out, "# Mittens scanned it; her phone showed: %s; and after her fingerprint the digits\n", seen)
	q.phone.Wait("in")
	q.phone.Screenshot(pictures("6-in"))

	c = s.login("alice", "somebody else, and mittens refuses")
	seen = q.scan(c.Expect(askDigits), "details")
	q.phone.Refuse()
	q.phone.Screenshot(pictures("7-refused"))
	c.Send("\n")
	c.WantExit(255)
	say(s.out, "# Mittens's phone showed: %s; she touched Refuse, and the terminal told at the next Enter\n", seen)
	say(s.out, "\n# The phone's screens are in %s\n", filepath.Dir(pictures("")))
	q.giveAway(s)
}

// startRelay starts the relay and waits until it listens.
func (q *qrDemo) startRelay(s *stage) {
	listen := fmt.Sprintf("127.0.0.1:%d", q.port)
	say(s.out, "# %s/qrcode-relay --listen %s\n", installed, listen)
	cmd := s.Command("root", installed+"/qrcode-relay", "--listen", listen, "--tokens", "/run/qrcode-relay.tokens")
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		q.tb.Fatalf("qrcode-relay: %v", err)
	}
	q.relay = cmd.Process.Pid
	logged := bufio.NewReader(stderr)
	line, err := logged.ReadString('\n')
	if err != nil || !strings.Contains(line, "msg=listening") {
		q.tb.Fatalf("qrcode-relay: %s", line)
	}
	go func() { // the end of the machine is its end, too
		_, _ = io.Copy(io.Discard, logged)
		_ = cmd.Wait()
	}()
}

// scan holds the phone's camera in front of the terminal, and returns what the
// phone then shows.
func (q *qrDemo) scan(terminal, want string) string {
	q.phone.Open(q.url())
	q.phone.Eval("sessionStorage.clear()", nil) // a new tab
	q.phone.Open(q.url())
	if view := q.phone.Scan(q.phone.Photograph(terminal, browsertest.Screen{})); view != want {
		q.tb.Fatalf("the phone shows %q", view)
	}
	fields := q.phone.Fields()
	var seen []string
	for _, name := range strings.Fields("host account subject service rhost") {
		if fields[name] != "" {
			seen = append(seen, name+" "+fields[name])
		}
	}
	return strings.Join(seen, ", ")
}

// folder makes the folder for the screenshots, and returns how their files are
// called.
func (q *qrDemo) folder(s *stage) func(name string) string {
	dir := filepath.Join(s.build, "demo")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pictures are for everybody
		q.tb.Fatalf("%v", err)
	}
	return func(name string) string { return filepath.Join(dir, "qrcode-"+name+".png") }
}

// giveAway makes the screenshots belong to whom the build does: root leaves
// nothing of its own in a checkout.
func (q *qrDemo) giveAway(s *stage) {
	build, err := os.OpenRoot(s.build)
	if err != nil {
		q.tb.Fatalf("%v", err)
	}
	defer func() { _ = build.Close() }()
	info, err := build.Stat(".")
	if err != nil {
		q.tb.Fatalf("%v", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	err = fs.WalkDir(build.FS(), "demo", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return build.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		q.tb.Fatalf("%v", err)
	}
}

func (q *qrDemo) byHand() string {
	return fmt.Sprintf(`after enrolling a passkey of yours, once, as root of the demo's machine:

    sudo nsenter -m -t %[1]d %[2]s/authn-qrcode-enroll --link alice you@example.com

It prints a link. Open it on this computer, in a browser that can keep passkeys
(or uses a security key); make one, and type the digits at the tool's prompt.
At a login, open the page in the same browser:

    %[3]s

Type what stands under the picture, or let the camera see the terminal;
approve; and type the digits at the prompt of ssh.
`, q.relay, installed, q.url())
}

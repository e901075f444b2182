// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
)

// liar is the name under which this test binary is the tool.
const liar = "lying-enroll"

// say writes one frame.
func say(m *enroll.Message) {
	if err := enroll.WriteFrame(os.Stdout, m, enroll.MaxToParent); err != nil {
		os.Exit(9)
	}
}

// hear reads one frame.
func hear() *enroll.Message {
	m, err := enroll.ReadFrame(os.Stdin, enroll.MaxToChild)
	if err != nil {
		os.Exit(9)
	}
	return m
}

func ready() { say(&enroll.Message{Type: enroll.TypeReady, HP: make([]byte, 32)}) }

// offer offers a line as the child would, but for what change does.
func offer(plan enroll.Plan, change func(*approvers.Approver)) {
	a := approvers.Approver{Subject: plan.Subject, Passkey: &approvers.Passkey{
		RPID: "localhost", ID: []byte("an id"), COSE: []byte("a key"), UserHandle: plan.UserHandle,
	}}
	change(&a)
	say(&enroll.Message{Type: enroll.TypeOffer, Line: a.Line()})
}

// liars are what a child may do that was taken over, by the account that it is
// asked to enrol for. Then they wait to be killed.
var liars = map[string]func(enroll.Plan){
	"exits":   func(enroll.Plan) { os.Exit(0) },
	"crashes": func(enroll.Plan) { panic("\x1b]0;boom\x07") },
	"garbage": func(enroll.Plan) { _, _ = os.Stdout.WriteString("HTTP/1.1 200 OK\r\n\r\n") },
	"huge":    func(enroll.Plan) { _, _ = os.Stdout.Write(bytes.Repeat([]byte{0xff}, 1<<16)) },
	"floods": func(enroll.Plan) {
		for range enroll.MaxFrames + 1 {
			say(&enroll.Message{Type: enroll.TypeNote, Text: "\x1b[2J" + strings.Repeat("x", 1000)})
		}
	},
	"repeats":     func(enroll.Plan) { ready(); ready() },
	"closes":      func(enroll.Plan) { ready(); _ = os.Stdout.Close() },
	"stops":       func(enroll.Plan) { ready(); _ = os.Stdout.Close(); _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) },
	"sleeps":      func(enroll.Plan) { ready(); _ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) },
	"is_a_parent": func(enroll.Plan) { say(&enroll.Message{Type: enroll.TypeAccept, Code: "123456"}) },
	"ends_well":   func(p enroll.Plan) { ready(); offer(p, same); say(&enroll.Message{Type: enroll.TypeEnd, Result: "in"}) },
	"other_person": func(p enroll.Plan) {
		ready()
		offer(p, func(a *approvers.Approver) { a.Subject = "mallory@example.com" })
	},
	"other_rp_id": func(p enroll.Plan) {
		ready()
		offer(p, func(a *approvers.Approver) { a.Passkey.RPID = "evil.example" })
	},
	"comments": func(p enroll.Plan) { ready(); offer(p, func(a *approvers.Approver) { a.Comment = "x" }) },
	"two_lines": func(p enroll.Plan) {
		ready()
		say(&enroll.Message{Type: enroll.TypeOffer, Line: "oidc " + p.Subject + " http://x 1\noidc " + p.Subject + " http://x 2"})
	},
	"insists": func(p enroll.Plan) {
		ready()
		for {
			offer(p, func(a *approvers.Approver) { a.Comment = "x" })
			if m := hear(); m.Type != enroll.TypeRefuse {
				os.Exit(9)
			}
		}
	},
	"insists_deaf": func(p enroll.Plan) {
		ready()
		for {
			offer(p, func(a *approvers.Approver) { a.Comment = "x" })
		}
	},
	"offers_early": func(p enroll.Plan) { offer(p, same) },
	"opens_early":  func(enroll.Plan) { say(&enroll.Message{Type: enroll.TypePhone}) },
	"leaves_somebody": func(enroll.Plan) {
		cmd := exec.Command("/bin/sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	},
}

func same(*approvers.Approver) {}

// lie is the child's main.
func lie() {
	if err := enroll.Confine(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(9)
	}
	plan := hear().Start.Plan
	liars[plan.Account](plan)
	for {
		if m := hear(); m.Type == enroll.TypeRefuse {
			say(&enroll.Message{Type: enroll.TypeEnd, Text: "it was not taken: " + m.Text})
		}
	}
}

// newLiar is newMachine with the lying tool.
func newLiar(t *testing.T) machine {
	t.Helper()
	m := newMachine(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.Install(self, "/usr/bin/"+liar, 0o711)
	return m
}

// A child that hears nothing any more ends with its parent all the same.
func TestAChildThatIsStoppedDiesWithItsParent(t *testing.T) {
	m := newLiar(t)
	c := m.Spawn("root", "/usr/bin/"+liar, "sleeps", subject)
	c.Expect("for one phone")
	c.Signal(syscall.SIGKILL)
	c.WantExit(128 + 9)
	m.idle()
	m.nothing()
}

// Whatever became of the child, root's half writes nothing, shows nothing that
// acts on a terminal, and ends with all that there was.
func TestALyingChildGetsNothing(t *testing.T) {
	m := newLiar(t)
	for account, want := range map[string]string{
		"exits":           "the network process ended",
		"crashes":         "the network process failed: panic: ",
		"garbage":         "the network process broke the rules: a frame of 1213486160 bytes",
		"huge":            "the network process broke the rules: a frame of 4294967295 bytes",
		"floods":          "the network process broke the rules: more frames than anybody needs",
		"repeats":         "the network process wants to show a second code",
		"closes":          "the network process failed: exit status 9", // its own
		"stops":           "the network process failed: signal: killed",
		"is_a_parent":     "the network process broke the rules: a message that is not a child's",
		"ends_well":       "nothing was enrolled: ",
		"other_person":    "it was not taken: offered line: is of another subject",
		"other_rp_id":     "it was not taken: offered line: is of another rp_id",
		"comments":        "it was not taken: offered line: has a comment",
		"two_lines":       "it was not taken: offered line: ",
		"insists":         "8 offers were refused",
		"insists_deaf":    "8 offers were refused",
		"offers_early":    "the network process has a phone, and nobody saw a code",
		"opens_early":     "the network process has a phone, and nobody saw a code",
		"leaves_somebody": "the network process ended",
	} {
		t.Run(account, func(t *testing.T) {
			began := time.Now()
			c := m.Spawn("root", "/usr/bin/"+liar, account, subject)
			c.Expect("error: nothing was enrolled: ")
			if code := c.Wait(); code != refused && code != failed {
				t.Errorf("exit code %d", code)
			}
			if out := c.Transcript(); !strings.Contains(out, want) || strings.ContainsAny(out, "\x1b\x07") {
				t.Errorf("want %q:\n%s", want, out)
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it took %v", took)
			}
			m.nothing()
			m.idle()
		})
	}
}

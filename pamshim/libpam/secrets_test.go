// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// Passwords are bytes.
func TestPasswordsAreBytes(t *testing.T) {
	t.Parallel()
	for name, phrase := range map[string]string{
		"utf8": "пароль 🗝", "invalid_utf8": "\xff\xfe\x80 \xc3\x28", "latin1": "caf\xe9",
		"control": "a\tb\x01\x7f\x1b[2J", "quotes": `"';\%s%n$(id)`, "newlines": "a\nb\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			hash, err := bcrypt.GenerateFromPassword([]byte(phrase), bcrypt.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			a := newApp(t, "alice", "auth required $MODULE worker=$BIN/authn-worker provider=$BIN/authn-passphrase config=$DIR/scenario.yaml\n",
				fmt.Sprintf("hash: %q\n", hash))
			a.answer(phrase)
			a.want("success", a.tx.Authenticate(0))
			a.answer(phrase + "x")
			a.want("auth_err", a.tx.Authenticate(0))
		})
	}
}

// PAM_MAX_RESP_SIZE is 512, and hosts that know better send more.
func TestPasswordsMayBeLong(t *testing.T) {
	t.Parallel()
	for _, size := range []int{511, 512, 513, 8192, 60_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			long := strings.Repeat("0123456789abcdef", size/16+1)[:size]
			a := newApp(t, "alice", "auth required $AUTHN\n",
				fmt.Sprintf("authenticate: [{secret: 'P: ', expect: %q}]\n", long))
			a.answer(long)
			a.want("success", a.tx.Authenticate(0))
			a.answer(long[1:])
			a.want("auth_err", a.tx.Authenticate(0))
		})
	}
}

// What does not fit into a frame is refused, and by a sentence that says so.
func TestWhatIsTooLongIsRefused(t *testing.T) {
	pamtest.Root(t)
	t.Parallel()
	a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{secret: 'P: '}]\n")
	a.answer(strings.Repeat("x", 70_000))
	a.want("system_err", a.tx.Authenticate(0))
	a.wantOneSentence()
	if log := a.lastLog(); !strings.Contains(log, `reason="what the host says does not fit into a frame"`) {
		t.Errorf("the log says %s", log)
	}
}

func TestNamesMayBeOdd(t *testing.T) {
	t.Parallel()
	for name, user := range map[string]string{
		"long": strings.Repeat("long", 250), "quotes": `a"b'c\`, "spaces": " alice  bob ", "equals": "a=b result=success",
		"escape": "a\x1b[2Jb", "bidi": "a\u202eb", "latin1": "caf\xe9", "newline": "a\n<80>sshd[1]: pam_authn(sshd:auth): x", "percent": "%s%n%d",
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			a := newApp(t, user, "auth required $AUTHN debug\n",
				"authenticate: [{echo: true}, {secret: 'P: ', expect: right}, {succeed: {subject: someone}}]\n")
			for answer, result := range map[string]string{"right": "success", "wrong": "auth_err"} {
				a.answer(answer)
				a.want(result, a.tx.Authenticate(0))
				line := a.lastLog()
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x202e || r == 0xfffd }) {
					t.Errorf("what a terminal would act on is in the log: %q", line)
				}
				if !strings.Contains(line, " result="+result+" ") || strings.Count(unquoted(line), "result=") != 1 {
					t.Errorf("the log says %q, want one result, %s", line, result)
				}
				if known := !strings.Contains(line, " user=? "); known != (result == "success") {
					t.Errorf("a name that may be a password is in the log: %q", line)
				}
			}
		})
	}
}

// unquoted drops what a logfmt line has between quotes.
func unquoted(line string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted:
			b.WriteByte(line[i])
		}
	}
	return b.String()
}

// The canaries are three secrets: what is typed, what the configuration
// holds, and what a ticket holds. They must be found nowhere that others may
// look.
func TestSecretsAreNowhereToBeSeen(t *testing.T) {
	const typed, config, ticket = "canary-typed-1", "canary-config-2", "canary-ticket-3"
	canaries := []string{typed, config, ticket}
	pamtest.Root(t)
	t.Parallel()
	a := newApp(t, "alice", "auth required $AUTHN debug scenario.key=value\naccount required $AUTHN debug\n", `
secret: `+config+`
authenticate:
  - {secret: "Password: ", expect: `+typed+`}
  - echo: true
  - prompt: "Look now: "
  - succeed: {subject: alice, ticket: `+ticket+`}
account:
  - expect_ticket: `+ticket+`
  - echo: true
  - prompt: "Look now: "
  - {result: perm_denied, reason: "a reason that repeats `+typed+`"}
`)
	looked := 0
	look := func() (string, error) {
		worker := a.worker()
		for _, pid := range []int{worker, a.child(worker)} {
			for _, name := range []string{"cmdline", "environ", "comm"} {
				data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
				if err != nil {
					t.Error(err)
				}
				for _, canary := range canaries {
					if strings.Contains(string(data), canary) {
						t.Errorf("%s is in %s of process %d", canary, name, pid)
					}
				}
				looked++
			}
		}
		return typed, nil
	}
	a.answer(typed)
	a.answerWith(look)
	a.want("success", a.tx.Authenticate(0))
	a.answerWith(look)
	a.want("perm_denied", a.tx.AcctMgmt(0))
	if looked != 12 {
		t.Errorf("looked into %d files, want 12", looked)
	}
	for _, line := range a.log() {
		for _, canary := range canaries {
			if strings.Contains(line, canary) {
				t.Errorf("%s is in the log: %s", canary, line)
			}
		}
	}
}

// log=stderr writes to what containers collect, and into no file.
func TestStderr(t *testing.T) {
	pamtest.Root(t)
	for kind, want := range map[string]bool{"pipe": true, "file": false, "null": false, "closed": false} {
		t.Run(kind, func(t *testing.T) {
			for call, config := range map[string]string{
				"the_worker_logs": "{}", "the_module_logs": "no worker",
			} {
				t.Run(call, func(t *testing.T) {
					stack := "auth required $AUTHN log=stderr\n"
					if config == "no worker" {
						stack = "auth required $MODULE worker=$DIR/none provider=scenario log=stderr\n"
					}
					a := newApp(t, "alice", stack, "{}\n")
					got := withStderr(t, kind, func() { _ = a.tx.Authenticate(0) })
					inLog := len(a.log()) > 0
					if onStderr := strings.Contains(got, "pam_authn("+a.service+":auth): provider=scenario"); onStderr != want || inLog == want {
						t.Errorf("standard error has %q, the log %q", got, a.log())
					}
				})
			}
		})
	}
}

// withStderr calls f with another standard error and returns what was written
// there. Nothing else of this process may run meanwhile.
func withStderr(t *testing.T, kind string, f func()) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stderr")
	if kind == "null" {
		path = os.DevNull
	}
	r, w, err := os.Pipe()
	if kind != "pipe" {
		w, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	before, err := unix.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup2(int(w.Fd()), 2); err != nil {
		t.Fatal(err)
	}
	if kind == "closed" {
		_ = unix.Close(2)
	}
	f()
	if err := unix.Dup2(before, 2); err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(before)
	_ = w.Close()
	in := io.Reader(r)
	if kind != "pipe" {
		if in, err = os.Open(path); err != nil {
			t.Fatal(err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(in, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// refusedWith waits for the end, and that nothing came of it.
func (e enrolling) refusedWith(code int, text string) {
	e.m.t.Helper()
	e.Expect("authn-qrcode-enroll: error: nothing was enrolled: " + text)
	e.WantExit(code)
	e.m.nothing()
	e.m.idle()
}

func TestASecondPhoneEndsIt(t *testing.T) {
	t.Run("before_the_digits", func(t *testing.T) {
		e := newMachine(t).begin()
		e.open()
		e.Expect("A phone has opened it.")
		if _, err := e.m.site.Phone().Open(t.Context(), e.link); err == nil {
			t.Error("a second phone was let in")
		}
		e.refusedWith(refused, "a second phone opened the enrolment's code")
		e.Expect("hint: somebody else may have seen the code")
	})
	t.Run("behind_the_digits", func(t *testing.T) {
		e := newMachine(t).begin()
		_, v := e.enrol(e.m.site.Passkey(t))
		e.Expect(prompt)
		if _, err := e.m.site.Phone().Open(t.Context(), e.link); err == nil {
			t.Error("a second phone was let in")
		}
		e.refusedWith(refused, "a second phone opened the enrolment's code")
		if got, err := v.Wait(t.Context()); err == nil && got == wire.EndIn {
			t.Error("the first phone hears that it is in")
		}
	})
}

// It goes on: a directory may have the account.
func TestAnAccountThatIsNotThereIsPointedOut(t *testing.T) {
	const note = "note: /etc/passwd has no account "
	m := newMachine(t)
	m.AddUser("alice", hosttest.User{})
	e := m.begin()
	if shown := e.Transcript(); strings.Contains(shown, note) {
		t.Errorf("alice is there:\n%s", shown)
	}
	e.Send("\x03")
	e.WantExit(cancelled)
	c := m.Spawn("root", program, "alcie", subject)
	c.Expect(note + "alcie")
	c.Expect("for one phone")
	c.Send("\x03")
	c.WantExit(cancelled)
}

// The digits may be typed in the very moment in which it ends.
func TestWhatEndedBeforeTheDigitsCounts(t *testing.T) {
	messages := make(chan *enroll.Message, 1)
	messages <- &enroll.Message{Type: enroll.TypeEnd, Result: enroll.ResultSecondPhone, Text: "a second phone"}
	e := &enrolment{child: &enroll.Child{Messages: messages}, code: "042917"} // no store to write to
	if done, code, err := e.typed(line{text: "042917"}); !done || code != refused || err == nil {
		t.Errorf("done %v, exit code %d, %v", done, code, err)
	}
}

func TestWrongDigitsThreeTimes(t *testing.T) {
	e := newMachine(t).begin()
	digits, v := e.enrol(e.m.site.Passkey(t))
	wrong := map[bool]string{true: "000001", false: "000000"}[digits == "000000"]
	e.Answer(prompt, wrong)
	if got, err := v.Wait(t.Context()); err != nil || got != wire.EndWrongCode {
		t.Errorf("the phone heard %q, %v", got, err)
	}
	e.Answer("Not accepted. "+prompt, "12345") // a slip is no guess
	e.Answer("Not accepted. "+prompt, wrong)
	e.Answer("Not accepted. "+prompt, wrong)
	e.refusedWith(refused, "these are not the digits of the phone")
	if got, err := v.Wait(t.Context()); err == nil && got == wire.EndIn {
		t.Error("the phone hears that it is in")
	}
}

func TestSixPromptsAreEnough(t *testing.T) {
	e := newMachine(t).begin()
	e.enrol(e.m.site.Passkey(t))
	for range 6 {
		e.Answer(prompt, "")
	}
	e.refusedWith(refused, "these are not the digits of the phone")
}

func TestRightDigitsAfterWrongOnes(t *testing.T) {
	e := newMachine(t).begin()
	digits, _ := e.enrol(e.m.site.Passkey(t))
	wrong := map[bool]string{true: "000001", false: "000000"}[digits == "000000"]
	e.Answer(prompt, wrong)
	e.Answer("Not accepted. "+prompt, wrong)
	e.Answer("Not accepted. "+prompt, " "+digits[:3]+"-"+digits[3:])
	e.WantExit(0)
	if n := len(strings.Split(strings.TrimSpace(e.m.ReadFile(folder+"/alice")), "\n")); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Digits that are typed before the phone shows any are nobody's.
func TestDigitsTypedAheadAreDropped(t *testing.T) {
	e := newMachine(t).begin()
	e.Send("123456\n654321\n")
	e.Expect("654321\n") // echoed
	digits, _ := e.enrol(e.m.site.Passkey(t))
	e.Answer(prompt, digits)
	e.WantExit(0)
	if strings.Contains(e.Transcript(), "Not accepted") {
		t.Error("they were compared")
	}
}

func TestDigitsNotTyped(t *testing.T) {
	t.Run("in_time", func(t *testing.T) {
		m := newMachine(t)
		m.configure("ttl: 10s\n")
		e := m.begin()
		e.enrol(m.site.Passkey(t))
		e.Expect(prompt)
		e.refusedWith(refused, "the code expired")
	})
	t.Run("at_the_end_of_input", func(t *testing.T) {
		e := newMachine(t).begin()
		e.enrol(e.m.site.Passkey(t))
		e.Expect(prompt)
		e.Send("\x04")
		e.refusedWith(refused, "no digits were typed")
	})
	t.Run("because_of_ctrl_c", func(t *testing.T) {
		e := newMachine(t).begin()
		e.enrol(e.m.site.Passkey(t))
		e.Expect(prompt)
		e.Send("\x03")
		e.refusedWith(cancelled, "interrupted")
	})
	t.Run("because_the_terminal_went_away", func(t *testing.T) {
		e := newMachine(t).begin()
		e.enrol(e.m.site.Passkey(t))
		e.Expect(prompt)
		e.HangUp()
		e.m.idle()
		e.m.nothing()
	})
	t.Run("because_it_was_killed", func(t *testing.T) {
		e := newMachine(t).begin()
		e.enrol(e.m.site.Passkey(t))
		e.Expect(prompt)
		e.Signal(syscall.SIGKILL)
		e.WantExit(128 + 9)
		e.m.idle()
		e.m.nothing()
	})
}

func TestThePhoneRefuses(t *testing.T) {
	e := newMachine(t).begin()
	if _, err := e.open().Refuse(t.Context()); err != nil {
		t.Error(err)
	}
	e.refusedWith(refused, "refused on a phone")
}

// One of each kind: internal/enroll has them all.
func TestKeysAreRefusedAndThePhoneMayTryAgain(t *testing.T) {
	m := newMachine(t)
	m.configure("passkeys: {device_bound: true}\n")
	first := m.enrolled()
	file := m.ReadFile(folder + "/alice")
	m.WriteFile(folder+"/bob", 0o644, first.Line("bob@example.com"))
	e := m.begin()
	v := e.open()
	for _, tt := range []struct {
		change func(a *qrcodetest.Authenticator)
		why    string
	}{
		{func(a *qrcodetest.Authenticator) { a.Flags &^= qrcodetest.FlagUV }, "new passkey: the phone did not verify its user"},
		{func(a *qrcodetest.Authenticator) { a.Flags |= qrcodetest.FlagBE }, "new passkey: may be synced, which device_bound forbids"},
		{func(a *qrcodetest.Authenticator) { a.RPID = "example.com" }, "new passkey: made for another rp_id"},
		{func(a *qrcodetest.Authenticator) { a.ID = first.ID }, "an approver with this credential is there already"},
	} {
		a := m.site.Passkey(t)
		tt.change(a)
		if verdict := e.offer(v, a); verdict.OK || verdict.Code != "" {
			t.Errorf("%s: %+v", tt.why, verdict)
		}
		e.Expect(tt.why)
	}
	if m.ReadFile(folder+"/alice") != file {
		t.Error("the file was changed")
	}
	second := m.site.Passkey(t)
	e.Answer(prompt, e.offer(v, second).Code)
	e.WantExit(0)
	if got := m.ReadFile(folder + "/alice"); !strings.HasPrefix(got, file) || strings.Count(got, "\n") != 2 {
		t.Errorf("the file is\n%s", got)
	}
	if !bytes.Equal(first.UserHandle, second.UserHandle) {
		t.Error("one person has two handles")
	}
}

func TestFoldersThatAreNotSafe(t *testing.T) {
	tests := []struct{ name, script, want string }{
		{"others_write_it", "mkdir -p -m 777 " + folder, "chmod go-w"},
		{"it_is_a_link", "mkdir -p /etc/authn/qrcode /etc/elsewhere && ln -s /etc/elsewhere " + folder, "symbolic link"},
		{"one_above_is_a_link", "mkdir -p /etc/elsewhere && ln -s /etc/elsewhere /etc/authn/qrcode", "symbolic link"},
		{"the_file_is_a_link", "mkdir -p " + folder + " && ln -s /etc/shadow " + folder + "/alice", "symbolic link"},
		{"it_is_somebody_elses", "mkdir -p " + folder + " && chown authn " + folder, "belong"},
		{"it_is_a_file", "mkdir -p /etc/authn/qrcode && touch " + folder, folder},
		{"it_cannot_be_written", "mkdir -p " + folder + " && mount -t tmpfs -o ro,mode=755 none " + folder, "read-only file system"},
	}
	m := newMachine(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if out, code := m.Run("root", "sh", "-c", "umount "+folder+" 2>/dev/null; rm -rf /etc/authn/qrcode /etc/elsewhere && "+tt.script); code != 0 {
				t.Fatalf("%d\n%s", code, out)
			}
			c := m.Spawn("root", program, "alice", subject)
			c.Expect("authn-qrcode-enroll: error: ")
			c.Expect(tt.want)
			c.WantExit(failed)
			m.idle()
			if out := c.Transcript(); strings.Contains(out, "Scan") || strings.Contains(out, "link on") {
				t.Errorf("a phone was asked for first:\n%s", out)
			}
		})
	}
	m.Run("root", "umount", folder)
}

// The disk fills up while the phone is at work.
func TestAFileThatCannotBeWrittenInTheEnd(t *testing.T) {
	m := newMachine(t)
	if out, code := m.Run("root", "sh", "-c", "mkdir -p "+folder+" && mount -t tmpfs -o size=8k,mode=755 none "+folder); code != 0 {
		t.Fatal(out)
	}
	e := m.begin()
	digits, v := e.enrol(m.site.Passkey(t))
	m.Run("root", "dd", "if=/dev/zero", "of="+folder+"/.full")
	e.Answer(prompt, digits)
	e.Expect("nothing was enrolled: writing " + folder + "/alice: ")
	e.Expect("no space left on device")
	e.WantExit(failed)
	if got, err := v.Wait(t.Context()); err == nil && got == wire.EndIn {
		t.Error("the phone hears that it is in")
	}
	m.Run("root", "rm", folder+"/.full")
	m.nothing()
	m.Run("root", "umount", folder)
}

func TestRelaysThatAreNone(t *testing.T) {
	lying := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewTLSServer(h)
		t.Cleanup(s.Close)
		return s
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b]0;no", code) }
	}
	ok := lying(status(401))
	ca := strings.ReplaceAll(pemOf(ok), "\n", "\n  ")
	trusting := func(s *httptest.Server) string {
		return fmt.Sprintf("relay: %s\nrelay_token: hunter2\npage_url: https://localhost\nca: |\n  %s\n", s.URL, ca)
	}
	down := lying(status(200))
	down.Close()
	tests := []struct{ name, config, want string }{
		{"down", trusting(down), "nothing was enrolled: relay: "},
		{"self_signed", fmt.Sprintf("relay: %s\nrelay_token: hunter2\npage_url: https://localhost\n", ok.URL), "relay: its certificate was not accepted"},
		{"says_401", trusting(ok), "relay: it does not know this host's token (401)"},
		{"says_403", trusting(lying(status(403))), "relay: it refuses this host (403)"},
		{"says_429", trusting(lying(status(429))), "relay: too many requests (429)"},
		{"says_200", trusting(lying(status(200))), "relay: it does not answer as a relay does"},
	}
	m := newMachine(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m.WriteFile(config, 0o600, tt.config+"authn: {files: {approvers: "+folder+"/%u}}\n")
			c := m.Spawn("root", program, "alice", subject)
			c.Expect("authn-qrcode-enroll: error: nothing was enrolled: ")
			c.Expect("authn-qrcode-enroll: hint: see relay,")
			c.WantExit(refused)
			if out := c.Transcript(); !strings.Contains(out, tt.want) || strings.Contains(out, "\x1b") || strings.Contains(out, "hunter2") {
				t.Errorf("want %q:\n%s", tt.want, out)
			}
			m.nothing()
			m.idle()
		})
	}
}

func pemOf(s *httptest.Server) string {
	return strings.TrimSpace((&qrcodetest.Site{HTTP: s}).CA())
}

// What the child is: who it runs as, what it holds, what can be seen of it.
func TestTheNetworkIsForANobody(t *testing.T) {
	m := newMachine(t)
	m.configure("relay_token: swordfish\n")
	m.AddUser("root", hosttest.User{Groups: []string{"adm", "shadow"}})
	e := m.begin()
	uid := m.Account("authn").UID
	seen := 0
	for _, p := range m.Processes() {
		root := fmt.Sprintf("/proc/%d/", p.PID)
		for _, name := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(root + name)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, []byte("swordfish")) {
				t.Errorf("the token is in %s of %v", name, p)
			}
			if p.UID == uid && name == "environ" && string(data) != "PATH=/usr/sbin:/usr/bin:/sbin:/bin\x00LANG=C.UTF-8\x00" {
				t.Errorf("its environment is %q", data)
			}
		}
		if p.UID != uid {
			continue
		}
		seen++
		status, err := os.ReadFile(root + "status")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"NoNewPrivs:\t1\n", "CapEff:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "Groups:\t \n", "Umask:\t0077\n"} {
			if !strings.Contains(string(status), line) {
				t.Errorf("no %q in\n%s", line, status)
			}
		}
		limits, _ := os.ReadFile(root + "limits")
		for _, want := range []string{"Max core file size        0                    0", "Max file size             0                    0", "Max open files            64                   64"} {
			if !strings.Contains(string(limits), want) {
				t.Errorf("no %q in\n%s", want, limits)
			}
		}
		if cwd, err := os.Readlink(root + "cwd"); err != nil || cwd != "/" {
			t.Errorf("it is in %s, %v", cwd, err)
		}
		info, err := os.Stat(root + "mem") // root's where the process is not dumpable
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("its memory can be read by its user: %v", err)
		}
		var sid string
		stat, _ := os.ReadFile(root + "stat")
		if f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(f) > 3 {
			sid = f[3]
		}
		if sid != fmt.Sprint(p.PID) {
			t.Errorf("its session is %s, it is %d", sid, p.PID)
		}
		checkDescriptors(t, root)
	}
	if seen != 1 {
		t.Errorf("%d processes of the user: %v", seen, m.Processes())
	}
	e.Send("\x03") // nothing is read yet
	e.WantExit(cancelled)
	m.idle()
}

// checkDescriptors wants pipes, sockets and the runtime's own, but no file.
func checkDescriptors(t *testing.T, root string) {
	t.Helper()
	entries, err := os.ReadDir(root + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		to, err := os.Readlink(root + "fd/" + entry.Name())
		if err != nil {
			continue
		}
		if !strings.HasPrefix(to, "pipe:") && !strings.HasPrefix(to, "socket:") && !strings.HasPrefix(to, "anon_inode:") &&
			!strings.HasPrefix(to, "/sys/fs/cgroup/") {
			t.Errorf("descriptor %s is %s", entry.Name(), to)
		}
	}
}

func TestTheChildIsNotForPeople(t *testing.T) {
	m := newMachine(t)
	m.want(misused, []string{"only authn-qrcode-enroll itself starts this"}, "network")
	if out, code := m.Run("root", "sh", "-c", "echo x | "+program+" network"); code != misused || !strings.Contains(out, "not for root") {
		t.Errorf("%d\n%s", code, out)
	}
	if out, code := m.Run("authn", "sh", "-c", "echo x | "+program+" network"); code != misused || !strings.Contains(out, "no_new_privs") {
		t.Errorf("%d\n%s", code, out)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
)

var plan = Plan{Account: "alice", Subject: subject, UserHandle: bytes.Repeat([]byte{7}, 32)}

func planned() approvers.Approver {
	return approvers.Approver{Subject: subject, Passkey: &approvers.Passkey{
		RPID: "login.example.com", ID: []byte("an id"), COSE: []byte("a key"), UserHandle: plan.UserHandle, AAGUID: make([]byte, 16),
	}}
}

func config() *qrcode.Config {
	return &qrcode.Config{RPID: "login.example.com", OIDC: []qrcode.OIDCConfig{{Issuer: "https://id.example.com"}}}
}

func TestOnlyThePlannedLineIsTaken(t *testing.T) {
	with := func(change func(a *approvers.Approver)) string {
		a := planned()
		change(&a)
		return a.Line()
	}
	good := with(func(*approvers.Approver) {})
	if _, err := ParseOffer(good, plan, config()); err != nil {
		t.Fatal(err)
	}
	signIn := approvers.Approver{Subject: subject, Issuer: "https://id.example.com", Sub: "a b"}
	if _, err := ParseOffer(signIn.Line(), plan, config()); err != nil {
		t.Fatal(err)
	}
	bound := config()
	bound.Passkeys.DeviceBound = true
	tests := []struct {
		name, line string
		config     *qrcode.Config
	}{
		{"nothing", "", config()},
		{"two_lines", good + "\n" + good, config()},
		{"a_line_end", good + "\n", config()},
		{"space_before", " " + good, config()},
		{"two_spaces", strings.Replace(good, " ", "  ", 1), config()},
		{"a_comment", good + " work phone", config()},
		{"of_no_kind", "root" + good, config()},
		{"another_subject", with(func(a *approvers.Approver) { a.Subject = "mallory@example.com" }), config()},
		{"another_rp_id", with(func(a *approvers.Approver) { a.Passkey.RPID = "evil.example" }), config()},
		{"another_handle", with(func(a *approvers.Approver) { a.Passkey.UserHandle = []byte("x") }), config()},
		{"a_long_id", with(func(a *approvers.Approver) { a.Passkey.ID = make([]byte, 1024) }), config()},
		{"a_long_key", with(func(a *approvers.Approver) { a.Passkey.COSE = make([]byte, 2049) }), config()},
		{"a_long_aaguid", with(func(a *approvers.Approver) { a.Passkey.AAGUID = make([]byte, 17) }), config()},
		{"synced_where_forbidden", with(func(a *approvers.Approver) { a.Passkey.BackupEligible = true }), bound},
		{"of_another_issuer", "oidc " + subject + " https://evil.example 7", config()},
		{"a_long_sub", "oidc " + subject + " https://id.example.com " + strings.Repeat("7", 256), config()},
		{"a_sub_with_a_line_end", "oidc " + subject + " https://id.example.com a%0Ab", config()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if a, err := ParseOffer(tt.line, plan, tt.config); err == nil {
				t.Errorf("%q was taken: %+v", tt.line, a)
			}
		})
	}
}

// What the parent takes is one line, and reads back as what was judged.
func FuzzParseOffer(f *testing.F) {
	f.Add(planned().Line())
	f.Add("oidc " + subject + " https://id.example.com a%20b")
	f.Add("passkey " + subject + " login.example.com e30")
	f.Add("passkey  x\n\x00")
	f.Fuzz(func(t *testing.T, line string) {
		a, err := ParseOffer(line, plan, config())
		if err != nil {
			return
		}
		list, problems := approvers.Parse([]byte(a.Line() + "\n"))
		switch {
		case strings.ContainsAny(line, "\r\n") || len(problems) > 0 || len(list) != 1:
			t.Fatalf("%q is %d lines, %v", line, len(list), problems)
		case list[0].Fingerprint() != a.Fingerprint() || a.Subject != plan.Subject:
			t.Fatalf("%q reads back as %+v", line, list[0])
		case a.Passkey != nil && (a.Passkey.RPID != config().RPID || !bytes.Equal(a.Passkey.UserHandle, plan.UserHandle)):
			t.Fatalf("%q is not of the plan", line)
		}
	})
}

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestFramesAreReadStrictly(t *testing.T) {
	good := frame(`{"type":"phone"}`)
	if m, err := ReadFrame(bytes.NewReader(good), MaxToParent); err != nil || m.Type != TypePhone || m.fromChild() != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := ReadFrame(bytes.NewReader(nil), MaxToParent); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for name, data := range map[string][]byte{
		"half_a_head":    good[:3],
		"half_a_body":    good[:9],
		"empty":          frame(""),
		"too_large":      frame(strings.Repeat(" ", MaxToParent+1)),
		"one_too_large":  frame(`{"type":"phone"}` + strings.Repeat(" ", MaxToParent-15)),
		"lies":           {0xff, 0xff, 0xff, 0xff, '{', '}'},
		"no_json":        frame("phone"),
		"two_messages":   frame(`{"type":"phone"}{}`),
		"unknown_field":  frame(`{"type":"phone","x":1}`),
		"wrong_type":     frame(`{"type":7}`),
		"null":           frame(`null`),
		"a_start":        frame(`{"type":"start","start":{}}`),
		"an_accept":      frame(`{"type":"accept","code":"123456"}`),
		"a_code":         frame(`{"type":"offer","code":"123456"}`),
		"a_phone's_line": frame(`{"type":"phone","line":"x"}`),
		"a_short_key":    frame(`{"type":"ready","hp":"AAAA"}`),
		"no_key":         frame(`{"type":"ready"}`),
		"a_note's_key":   frame(`{"type":"note","hp":"AAAA"}`),
	} {
		m, err := ReadFrame(bytes.NewReader(data), MaxToParent)
		if err == nil {
			err = m.fromChild()
		}
		if err == nil || errors.Is(err, io.EOF) && name != "half_a_body" {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

// Whatever the child writes, the parent keeps its bounds and shows nothing that
// acts on a terminal.
func FuzzReadFrame(f *testing.F) {
	f.Add(frame(`{"type":"ready","hp":"` + strings.Repeat("A", 43) + `="}`))
	f.Add(frame(`{"type":"note","text":"\u001b]0;x\u0007"}`))
	f.Add(frame(`{"type":"end","result":"relay","text":"x"}`))
	f.Add(append(frame(`{"type":"phone"}`), frame(`{"type":"offer","line":"passkey a b c"}`)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			m, err := ReadFrame(r, MaxToParent)
			if err != nil {
				return
			}
			if m.fromChild() != nil {
				return
			}
			for _, text := range []string{m.Text, m.Result} {
				if len(text) > MaxText+3 || Plain(text) != text && len(text) <= MaxText {
					t.Fatalf("%q is shown", text)
				}
			}
			var again bytes.Buffer
			if err := WriteFrame(&again, m, 8*MaxToParent); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAFrameThatIsTooLargeIsNotWritten(t *testing.T) {
	var b bytes.Buffer
	if err := WriteFrame(&b, &Message{Type: TypeOffer, Line: strings.Repeat("x", MaxToParent)}, MaxToParent); err == nil || b.Len() > 0 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
}

// store is one in a folder that can be trusted.
func TestAChildThatTakesNothingHoldsUpNobody(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Were there no deadline, this would be the end of it.
	late := time.AfterFunc(20*time.Second, func() { _ = r.Close() })
	defer late.Stop()
	child := &Child{parent: &sender{w: w, limit: MaxToChild, timeout: 50 * time.Millisecond}}
	m := &Message{Type: TypeStart, Start: &Start{Config: bytes.Repeat([]byte("x"), 100<<10)}}
	if err := child.Send(m); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	// Half of it is in the pipe. What is read now makes room, and is no frame's
	// beginning: nothing may follow.
	if _, err := io.CopyN(io.Discard, r, 16<<10); err != nil {
		t.Fatal(err)
	}
	if err := child.Send(&Message{Type: TypeFinish}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a frame behind half a frame: %v", err)
	}
}

func store(t *testing.T) (*Store, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return OpenStore(filepath.Join(dir, "qrcode", "approvers", "%u")), filepath.Join(dir, "qrcode", "approvers")
}

func TestTheFolderIsMadeAndTheFileIsReplacedAsAWhole(t *testing.T) {
	s, dir := store(t)
	if err := s.Prepare("alice"); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("Prepare left %v", entries)
	}
	before := "# by hand\n\n" + "oidc old@example.com https://id.example.com 1 no line end"
	if err := os.WriteFile(filepath.Join(dir, "alice"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice", planned()); err != nil {
		t.Fatal(err)
	}
	want := before + "\n" + planned().Line() + "\n"
	if got, _ := os.ReadFile(filepath.Join(dir, "alice")); string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, "alice"))
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := s.Add("alice", planned()); !errors.Is(err, KeyExists) {
		t.Errorf("the same key again: %v", err)
	}
	removed, err := s.Remove("alice", func(a approvers.Approver) bool { return a.Passkey != nil })
	if err != nil || len(removed) != 1 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "alice")); string(got) != before+"\n" {
		t.Errorf("after Remove:\n%s", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestAKeyIsTakenWhateverTheAccount(t *testing.T) {
	s, _ := store(t)
	if err := s.Prepare("alice"); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice", planned()); err != nil {
		t.Fatal(err)
	}
	signIn := approvers.Approver{Subject: subject, Issuer: "https://id.example.com", Sub: "7"}
	if err := s.Add("alice", signIn); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		account string
		a       approvers.Approver
		want    bool
	}{{"alice", planned(), true}, {"bob", planned(), true}, {"alice", signIn, true}, {"bob", signIn, false}} {
		if got, err := s.Taken(tt.account, tt.a); err != nil || got != tt.want {
			t.Errorf("%v for %s: %v, %v", tt.a, tt.account, got, err)
		}
	}
	if handle, err := s.Handle("bob", subject); err != nil || !bytes.Equal(handle, plan.UserHandle) {
		t.Errorf("handle %x, %v", handle, err)
	}
	if handle, err := s.Handle("bob", "nobody@example.com"); err != nil || handle != nil {
		t.Errorf("handle %x, %v", handle, err)
	}
}

func TestWhatOthersCouldChangeIsRefused(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(dir string) error
	}{
		{"a_folder_that_others_write", func(dir string) error { return os.Chmod(dir, 0o777) }},
		{"a_folder_above_that_others_write", func(dir string) error { return os.Chmod(filepath.Dir(dir), 0o775) }},
		{"a_folder_that_is_a_link", func(dir string) error {
			return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir))
		}},
		{"a_folder_above_that_is_a_link", func(dir string) error {
			above := filepath.Dir(dir)
			return errors.Join(os.Rename(above, above+"2"), os.Symlink(above+"2", above))
		}},
		{"a_file_that_is_a_link", func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "alice")) }},
		{"a_file_that_is_a_link_to_nothing", func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, "alice")) }},
		{"a_file_that_is_a_folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, "alice"), 0o755) }},
		{"a_file_that_others_write", func(dir string) error {
			file := filepath.Join(dir, "alice")
			return errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, 0o666))
		}},
		{"a_file_that_is_too_large", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "alice"), make([]byte, approvers.MaxFile+1), 0o600)
		}},
		{"a_file_in_place_of_the_folder", func(dir string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, dir := store(t)
			if err := s.Prepare("alice"); err != nil {
				t.Fatal(err)
			}
			if err := tt.spoil(dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Prepare("alice"); err == nil {
				t.Error("Prepare found nothing")
			}
			if err := s.Add("alice", planned()); err == nil {
				t.Error("Add wrote")
			}
			if removed, err := s.Remove("alice", func(approvers.Approver) bool { return true }); err == nil {
				t.Errorf("Remove removed %v", removed)
			}
		})
	}
}

func TestAllThatEnrolAtOnceAreWritten(t *testing.T) {
	s, _ := store(t)
	if err := s.Prepare("alice"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			a := planned()
			a.Passkey.ID = []byte{byte(i)}
			if err := s.Add("alice", a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := s.Account("alice"); len(got.Approvers) != 20 || len(got.Problems) != 0 {
		t.Errorf("%d lines, %v", len(got.Approvers), got.Problems)
	}
}

func TestAFullFileTakesNoMore(t *testing.T) {
	s, dir := store(t)
	if err := s.Prepare("alice"); err != nil {
		t.Fatal(err)
	}
	full := "#" + strings.Repeat("x", approvers.MaxFile-10) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "alice"), []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("alice", planned()); err == nil {
		t.Error("it was written")
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "alice")); string(got) != full {
		t.Error("it was changed")
	}
}

func TestNamesThatArePathsAreNone(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", ".x", "-x", "a b", "a\n", "%u", strings.Repeat("a", 65)} {
		if CheckAccount(name) == nil {
			t.Errorf("%q is an account", name)
		}
	}
	for _, pattern := range []string{"", "x/%u", "/x", "/%u/x", "/x/%u%u", "/%x/%u"} {
		if checkPattern(pattern) == nil {
			t.Errorf("%q is a pattern", pattern)
		}
	}
	s := OpenStore("/x/%u.approvers")
	for file, want := range map[string]string{"alice.approvers": "alice", "alice": "", ".alice.approvers": "", "a b.approvers": ""} {
		if got, ok := s.account(file); ok != (want != "") || ok && got != want {
			t.Errorf("%s is %q, %v", file, got, ok)
		}
	}
}

func TestCommentsAreText(t *testing.T) {
	for comment, want := range map[string]bool{"": true, "work phone": true, "a\nb": false, "b\xe4d": false, strings.Repeat("x", 256): false} {
		if got := CheckComment(comment) == nil; got != want {
			t.Errorf("%q: %v", comment, got)
		}
	}
}

func TestFilesAndAliasesAreFilledIn(t *testing.T) {
	_, dir := store(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secret, file := filepath.Join(dir, "secret"), filepath.Join(dir, "config")
	text := "relay: &r https://relay.example.com\nrelay_token_file: " + secret + "\npage_url: *r\nttl: 30s\n" +
		"oidc:\n- {issuer: https://id.example.com, client_id: x, client_secret_file: " + secret + "}\n" +
		"authn:\n  run_as: someone\n  files: {approvers: /a/%u}\n"
	for path, text := range map[string]string{secret: "hunter2\n", file: text} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := read(file)
	if err != nil {
		t.Fatal(err)
	}
	c := s.Config
	if c.RelayToken.Reveal() != "hunter2" || c.OIDC[0].ClientSecret.Reveal() != "hunter2" || c.PageURL != c.Relay || s.RunAs != "someone" || Seconds(c) != 30 {
		t.Errorf("%+v, %+v", s, c)
	}
}

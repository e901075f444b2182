// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestTypedCodesAreForgiving(t *testing.T) {
	want := Typed(goldenHP())
	shown := FormatTyped(want)
	alike := strings.NewReplacer("0", "o", "1", "l")
	for _, s := range []string{want, shown, strings.ToLower(shown), " " + strings.ReplaceAll(shown, "-", " - "), alike.Replace(shown)} {
		if got, err := ParseTyped(s); err != nil || got != want {
			t.Errorf("%q: got %s, %v", s, got, err)
		}
	}
	if got, err := ParseTyped("OIL0-oil1-ABCD"); err != nil || got != "01100111ABCD" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestALinkGivesItsKey(t *testing.T) {
	link := PageLink("https://login.example.com:8443", goldenHP())
	_, fragment, _ := strings.Cut(link, "#")
	for _, f := range []string{fragment, strings.ToLower(fragment)} {
		hp, err := ParseKey(f)
		if err != nil || !bytes.Equal(hp, goldenHP()) {
			t.Errorf("%s: got %x, %v", f, hp, err)
		}
	}
	if len(fragment) != 52 {
		t.Errorf("a key is %d characters, want 52", len(fragment))
	}
}

func TestWhatCannotBeShownIsNotShown(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "alice": "alice", "a b~": "a b~", "\x1b[2J": Unprintable, "al\u00efce": Unprintable,
		"tab\t": Unprintable, "del\x7f": Unprintable, strings.Repeat("a", 255): strings.Repeat("a", 255),
		strings.Repeat("a", 256): Unprintable,
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestEveryFieldIsInTheTranscript changes each thing that a phone shows, and
// each key, one at a time.
func TestEveryFieldIsInTheTranscript(t *testing.T) {
	base := func(kind Kind) *Details {
		if kind == Login {
			return goldenLogin()
		}
		return goldenEnroll()
	}
	changes := map[Kind]map[string]func(*Details){
		Login: {
			"service": func(d *Details) { d.Service = "sudo" }, "rhost": func(d *Details) { d.RHost = "" },
			"tty": func(d *Details) { d.TTY = "pts/0" },
		},
		Enroll: {
			"subject":     func(d *Details) { d.Subject = "mallory@example.com" },
			"user_handle": func(d *Details) { d.UserHandle = "QUFB" },
		},
	}
	both := map[string]func(*Details){
		"rp_id": func(d *Details) { d.RPID = "example.com" }, "page_origin": func(d *Details) { d.PageOrigin = "https://evil.example.com" },
		"host": func(d *Details) { d.Host = "db8" }, "account": func(d *Details) { d.Account = "root" },
		"start":            func(d *Details) { d.Start = 1760000001 },
		"a moved boundary": func(d *Details) { d.Host, d.Account = d.Host+d.Account[:1], d.Account[1:] },
		"nothing":          func(*Details) {},
	}
	for kind, own := range changes {
		seen := make(map[string]string)
		for _, set := range []map[string]func(*Details){both, own} {
			for name, change := range set {
				d := base(kind)
				change(d)
				sum, err := d.Transcript(hostChannel(t, kind))
				if err != nil {
					t.Fatal(err)
				}
				if other, dup := seen[string(sum)]; dup {
					t.Errorf("%s: %s and %s give the same transcript", kind, name, other)
				}
				seen[string(sum)] = name
			}
		}
		other, err := HostChannel(kind, goldenPS, goldenHP())
		if err != nil {
			t.Fatal(err)
		}
		sum, err := base(kind).Transcript(other)
		if err != nil || seen[string(sum)] != "" {
			t.Errorf("%s: other keys give the same transcript (%v)", kind, err)
		}
	}
}

func TestATranscriptIsOfItsChannelsKind(t *testing.T) {
	if _, err := goldenLogin().Transcript(hostChannel(t, Enroll)); err == nil {
		t.Error("a login in an enrolment's channel got a transcript")
	}
	d := goldenEnroll()
	d.UserHandle = "not base64url!"
	if _, err := d.Transcript(hostChannel(t, Enroll)); err == nil {
		t.Error("a broken user handle got a transcript")
	}
}

func TestABoxSaysLittleBySize(t *testing.T) {
	c := hostChannel(t, Login)
	size := func(v any) int {
		box, err := c.Seal(ToPhone, 1, TypeVerdict, v)
		if err != nil {
			t.Fatal(err)
		}
		return len(box)
	}
	if yes, no := size(Verdict{OK: true, Code: "123456"}), size(Verdict{Ref: "7f3a"}); yes != no {
		t.Errorf("yes is %d characters and no is %d", yes, no)
	}
	if _, err := c.Seal(ToPhone, 1, TypeVerdict, strings.Repeat("a", MaxPlain-1)); err == nil {
		t.Error("a text was sealed that is larger than a box")
	}
	if box, err := c.Seal(ToPhone, 1, TypeVerdict, strings.Repeat("a", MaxPlain-2)); err != nil || len(box) > MaxBody-512 {
		t.Errorf("the largest box has %d characters, %v", len(box), err)
	}
}

func TestTheSameTextIsNeverTheSameBox(t *testing.T) {
	c := hostChannel(t, Login)
	a, _ := c.Seal(ToPhone, 1, TypeEnd, End{})
	b, _ := c.Seal(ToPhone, 1, TypeEnd, End{})
	if a == b {
		t.Error("two boxes are the same")
	}
}

func TestOnlyTheTwoEndsOpen(t *testing.T) {
	third, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	box, err := hostChannel(t, Login).Seal(ToPhone, 1, TypeEnd, End{EndIn})
	if err != nil {
		t.Fatal(err)
	}
	eve, err := PhoneChannel(Login, third, goldenHP())
	if err != nil {
		t.Fatal(err)
	}
	var end End
	if err := eve.Open(ToPhone, 1, TypeEnd, box, &end); !errors.Is(err, ErrBox) {
		t.Errorf("a third one: got %v, want ErrBox", err)
	}
	if err := phoneChannel(t, Login).Open(ToPhone, 1, TypeEnd, box, &end); err != nil || end.Result != EndIn {
		t.Errorf("the phone: got %v, %v", end, err)
	}
}

func TestMessagesAreOfBoundedSize(t *testing.T) {
	pad := strings.Repeat(" ", MaxBody)
	if _, err := ParsePhone([]byte(`{"type":"lookup"}` + pad)); err == nil {
		t.Error("a phone's message of 16 KiB was read")
	}
	if _, err := ParseEnvelope([]byte(`{"action":"drain"}` + pad + pad)); err == nil {
		t.Error("an envelope of 32 KiB was read")
	}
}

func FuzzOpen(f *testing.F) {
	for _, b := range goldenBoxes(f) {
		f.Add(string(b.Dir), b.Seq, b.Type, b.Box)
	}
	c, err := HostChannel(Login, goldenHS, goldenPP())
	if err != nil {
		f.Fatal(err)
	}
	good := make(map[string]goldenBox)
	for _, b := range goldenBoxes(f) {
		good[b.Box] = b
	}
	f.Fuzz(func(t *testing.T, dir string, seq uint32, typ, box string) {
		if Dir(dir) != ToPhone {
			dir = string(ToHost)
		}
		var v json.RawMessage
		if err := c.Open(Dir(dir), seq, typ, box, &v); err != nil {
			return
		}
		if b, ok := good[box]; !ok || b.Dir != Dir(dir) || b.Seq != seq || b.Type != typ || b.Kind != Login {
			t.Errorf("opened a forged box: %s", v)
		}
	})
}

func FuzzParsePhone(f *testing.F) {
	for _, m := range invalidPhone() {
		f.Add([]byte(m.JSON))
	}
	f.Add([]byte(marshal(NewHello(goldenHP(), goldenPP(), ""))))
	f.Add([]byte(marshal(NewLookup(Typed(goldenHP())))))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParsePhone(body)
		if err != nil {
			return
		}
		switch p.Type {
		case TypeLookup:
			if len(p.Proof) != 32 || !ValidLoc(p.Loc) {
				t.Errorf("took a lookup %+v", p)
			}
		case TypeHello:
			if len(p.PP) != KeySize || p.Seq != 0 || !ValidID(p.ID) {
				t.Errorf("took a hello %+v", p)
			}
		default:
			if len(p.PP) != KeySize || p.Seq == 0 || p.Box == "" {
				t.Errorf("took %+v", p)
			}
		}
	})
}

func FuzzParseEnvelope(f *testing.F) {
	for _, m := range invalidSocket() {
		f.Add([]byte(m.JSON))
	}
	f.Add([]byte(`{"action":"post","ref":7,"status":200,"body":{"box":"AAAA"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			return
		}
		again, err := ParseEnvelope(marshal(e))
		if err != nil || again.Action != e.Action || again.ID != e.ID || again.Ref != e.Ref || again.TTL != e.TTL {
			t.Errorf("%s: written and read again: %+v, %v", data, again, err)
		}
	})
}

func TestDigitsAreDigits(t *testing.T) {
	for typed, want := range map[string]string{
		"123456": "123456", " 123 456 ": "123456", "12-34-56": "123456", "": "", "qwerty": "", "12345x": "", "\uff11\uff12": "", "123456\n": "",
	} {
		if got := Digits(typed); got != want {
			t.Errorf("%q: got %q, want %q", typed, got, want)
		}
	}
}

// TestWhatWasNoActionIsNotQuotedWhole: it may be anything, and many lines of it.
func TestWhatWasNoActionIsNotQuotedWhole(t *testing.T) {
	_, err := ParseEnvelope([]byte(`{"action":"x\u001b[2J\nroot ` + strings.Repeat("x", 100) + `","id":"x"}`))
	if err == nil || len(err.Error()) > 50 || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("got %v", err)
	}
}

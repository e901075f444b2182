// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package approvers

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
)

func mittens() Approver {
	return Approver{Subject: "mittens@example.com", Comment: "blue phone", Passkey: &Passkey{
		RPID: "login.example.com", ID: []byte{1, 2, 3}, COSE: []byte{4, 5}, UserHandle: []byte{6}, BackupEligible: true, AAGUID: make([]byte, 16),
	}}
}

func signedIn() Approver {
	return Approver{Subject: "tom@example.com", Issuer: "https://id.example.com/realms/a", Sub: "a b%20\u00e4"}
}

func TestALineReadsBackAsItself(t *testing.T) {
	bare := mittens()
	bare.Comment, bare.Passkey.AAGUID, bare.Passkey.BackupEligible = "", nil, false
	for _, a := range []Approver{mittens(), signedIn(), bare} {
		got, err := ParseLine(a.Line())
		if err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: got %+v, %v", a.Line(), got, err)
		}
		if strings.ContainsAny(a.Line(), "\n\r") || len(strings.Fields(a.Line())) < 4 {
			t.Errorf("%q is not one line of four fields", a.Line())
		}
	}
}

func TestAFileIsReadLineByLine(t *testing.T) {
	file := "# who may\n\n" + mittens().Line() + "\r\n  \nrubbish here is no approver\n" + signedIn().Line() + "\npasskey x y"
	list, problems := Parse([]byte(file))
	if len(list) != 2 || list[0].Subject != "mittens@example.com" || list[1].Sub != signedIn().Sub {
		t.Errorf("got %+v", list)
	}
	if len(problems) != 2 || !strings.HasPrefix(problems[0].Error(), "line 5: ") || !strings.HasPrefix(problems[1].Error(), "line 7: ") {
		t.Errorf("problems: %v", problems)
	}
	if list, problems := Parse(nil); list != nil || problems != nil {
		t.Errorf("no file: got %v, %v", list, problems)
	}
	if list, problems := Parse(bytes.Repeat([]byte("#\n"), MaxFile)); list != nil || len(problems) != 1 {
		t.Errorf("a file too large: got %v, %v", list, problems)
	}
}

func TestWhatIsNoApproverIsRefused(t *testing.T) {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	good := `{"id":"AQID","cose":"BAU=","uh":"Bg==","be":true}`
	if _, err := ParseLine("passkey a b " + encode(good)); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"empty kind":              "ssh-ed25519 a b c",
		"three fields":            "passkey a b",
		"no base64url":            "passkey a b " + encode(good) + "=",
		"no JSON":                 "passkey a b " + encode("{"),
		"no id":                   "passkey a b " + encode(strings.Replace(good, "AQID", "", 1)),
		"no key":                  "passkey a b " + encode(strings.Replace(good, `"cose"`, `"coze"`, 1)),
		"no user handle":          "passkey a b " + encode(strings.Replace(good, `"uh"`, `"hu"`, 1)),
		"no backup flag":          "passkey a b " + encode(strings.Replace(good, `,"be":true`, "", 1)),
		"flag is a number":        "passkey a b " + encode(strings.Replace(good, `true`, "1", 1)),
		"subject with umlaut":     "passkey \u00e4 b " + encode(good),
		"long subject":            "passkey " + strings.Repeat("a", 257) + " b " + encode(good),
		"issuer no URL":           "oidc a id.example.com sub",
		"issuer of a file":        "oidc a file:///etc/passwd sub",
		"sub with half a percent": "oidc a https://id.example.com %2",
	} {
		if a, err := ParseLine(line); err == nil {
			t.Errorf("%s: taken as %+v", name, a)
		}
	}
}

func TestAFingerprintChangesWithEverythingButTheComment(t *testing.T) {
	seen := map[string]string{mittens().Fingerprint(): "itself"}
	for name, edit := range map[string]func(*Approver){
		"subject":     func(a *Approver) { a.Subject = "tom@example.com" },
		"rp_id":       func(a *Approver) { a.Passkey.RPID = "example.com" },
		"id":          func(a *Approver) { a.Passkey.ID = []byte{9} },
		"key":         func(a *Approver) { a.Passkey.COSE = []byte{9} },
		"user handle": func(a *Approver) { a.Passkey.UserHandle = []byte{9} },
		"backup flag": func(a *Approver) { a.Passkey.BackupEligible = false },
		"kind":        func(a *Approver) { *a = signedIn() },
	} {
		a := mittens()
		edit(&a)
		if other, dup := seen[a.Fingerprint()]; dup {
			t.Errorf("%s: the same as %s", name, other)
		}
		seen[a.Fingerprint()] = name
	}
	a := mittens()
	a.Comment = "another"
	if a.Fingerprint() != mittens().Fingerprint() {
		t.Error("the comment changes it")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(mittens().Line() + "\n" + signedIn().Line()))
	f.Fuzz(func(t *testing.T, file []byte) {
		list, _ := Parse(file)
		for _, a := range list {
			again, err := ParseLine(a.Line())
			if err != nil || again.Fingerprint() != a.Fingerprint() {
				t.Errorf("%q: read again as %+v, %v", a.Line(), again, err)
			}
		}
	})
}

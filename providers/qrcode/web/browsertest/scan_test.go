// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"strings"
	"testing"

	"github.com/skip2/go-qrcode"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

func TestTypedCode(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.URL+"/"), "home")
	look(t, p, "home")
	expect(t, p.TypeCode("not a code"), "home")
	if got := p.Text("#code-error"); got == "" {
		t.Error("nothing is said about a code that is none")
	}
	look(t, p, "home-bad-code")
	expect(t, p.TypeCode("AAAA-BBBB-CCCC"), "gone")
	p.Tap("home")
	typed := strings.ToLower(strings.ReplaceAll(h.typed(), "0", "o"))
	expect(t, p.TypeCode(typed), "details")

	// What leads to an enrolment is scanned, never typed.
	e := newHost(t, wire.Enroll)
	expect(t, p.Open(e.URL+"/"), "home")
	expect(t, p.TypeCode(e.typed()), "not-ours")
}

func TestScanner(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	code, err := qrcode.New(h.printed(), qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p.Open(h.URL+"/"), "home")
	expect(t, p.Scan(code.Image(500)), "details")
	p.Forget()

	foreign, err := qrcode.New("https://login.example.com/1#"+strings.Repeat("A", 52), qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p.Open(h.URL+"/"), "home")
	expect(t, p.Scan(foreign.Image(500)), "other-page")

	none, err := qrcode.New("WIFI:T:WPA;S:guest;P:secret;;", qrcode.Medium)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p.Open(h.URL+"/"), "home")
	p.StartScan(none.Image(500))
	p.Wait("scan")
	p.do("waitText", map[string]any{"selector": "#scan-hint"}, nil)
	look(t, p, "scan")
	p.Tap("home")
	expect(t, p.Wait("home"), "home")
}

func TestScannerWithoutLibraries(t *testing.T) {
	p := start(t, Options{})
	h := newHost(t, wire.Login)
	h.without = "/vendor/"
	expect(t, p.Open(h.URL+"/"), "home")
	p.StartScan(blank())
	expect(t, p.Wait("no-scanner"), "no-scanner")
	look(t, p, "no-scanner")
}

func TestCameraDenied(t *testing.T) {
	p := start(t, Options{NoCamera: true})
	h := newHost(t, wire.Login)
	expect(t, p.Open(h.URL+"/"), "home")
	p.StartScan(blank())
	expect(t, p.Wait("camera-denied"), "camera-denied")
	look(t, p, "camera-denied")
}

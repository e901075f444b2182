// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

type answer struct {
	status int
	header http.Header
	body   []byte
}

func get(h http.Handler, method, target string, header ...string) answer {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

func TestPageIsAtItsTwoAddresses(t *testing.T) {
	h := Handler(Config{RPID: "login.example.com"})
	want, err := fs.ReadFile(static, "static/index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/", "/1"} {
		resp := get(h, "GET", target)
		if resp.status != 200 || !bytes.Equal(resp.body, want) {
			t.Errorf("%s: %d, %d bytes", target, resp.status, len(resp.body))
		}
		if got := resp.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
			t.Errorf("%s: %s", target, got)
		}
	}
}

func TestEveryAnswerCarriesThePolicies(t *testing.T) {
	h := Handler(Config{RPID: "login.example.com"})
	for _, target := range []string{"/", "/1", "/app.js", "/config.json", "/icons/icon.svg", "/nowhere"} {
		header := get(h, "GET", target).header
		csp := header.Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") {
			t.Errorf("%s: policy %q", target, csp)
		}
		for _, part := range []string{"script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(csp, part) {
				t.Errorf("%s: policy lacks %s", target, part)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
			t.Errorf("%s: policy %q", target, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s: %q", target, name, got)
			}
		}
		if !strings.Contains(header.Get("Permissions-Policy"), "camera=(self), publickey-credentials-get=(self)") {
			t.Errorf("%s: permissions %q", target, header.Get("Permissions-Policy"))
		}
	}
}

func TestOtherPathsAndMethodsAreRefused(t *testing.T) {
	h := Handler(Config{})
	for _, target := range []string{"/index.html", "/2", "/1/", "/static/app.js", "/vendor/README.md", "/api/1/00", "/web.go", "/icons/"} {
		if resp := get(h, "GET", target); resp.status != 404 {
			t.Errorf("%s: %d", target, resp.status)
		}
	}
	for _, method := range []string{"POST", "PUT", "OPTIONS", "DELETE"} {
		if resp := get(h, method, "/"); resp.status != 405 || resp.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, resp.status)
		}
	}
}

func TestScriptsAreRevalidatedAndCompressed(t *testing.T) {
	h := Handler(Config{})
	plain := get(h, "GET", "/app.js")
	packed := get(h, "GET", "/app.js", "Accept-Encoding", "br, gzip")
	if plain.header.Get("Content-Encoding") != "" || packed.header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("encodings %q and %q", plain.header.Get("Content-Encoding"), packed.header.Get("Content-Encoding"))
	}
	r, err := gzip.NewReader(bytes.NewReader(packed.body))
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(unpacked, plain.body) {
		t.Errorf("unpacked differs: %v", err)
	}
	etag := packed.header.Get("ETag")
	if etag == "" || etag == plain.header.Get("ETag") || packed.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("ETag %q, Cache-Control %q", etag, packed.header.Get("Cache-Control"))
	}
	again := get(h, "GET", "/app.js", "Accept-Encoding", "gzip", "If-None-Match", etag)
	if again.status != http.StatusNotModified {
		t.Errorf("the same again: %d", again.status)
	}
}

func TestSettingsSayWhatThePageMayDo(t *testing.T) {
	h := Handler(Config{RPID: "example.com", Issuers: []string{"https://id.example.com", "https://b2c.example/auth?p=x", "javascript:alert(1)"},
		ConnectOrigins: []string{"https://relay.example.com", "https://a.example; script-src *"}})
	resp := get(h, "GET", "/config.json")
	if resp.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control %q", resp.header.Get("Cache-Control"))
	}
	var got map[string]any
	if err := json.Unmarshal(resp.body, &got); err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(got)
	want := `{"issuers":["https://id.example.com","https://b2c.example/auth?p=x"],"relays":["https://relay.example.com"],"rp_id":"example.com","v":["pam-authn/qr/1"]}`
	if string(text) != want {
		t.Errorf("settings %s", text)
	}
	csp := resp.header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "connect-src 'self' https://relay.example.com;") || strings.Contains(csp, "*") {
		t.Errorf("policy %q", csp)
	}
}

func TestConfigIsValidated(t *testing.T) {
	good := Config{RPID: "example.com", Issuers: []string{"https://id.example.com:8443", "http://localhost:9000/auth", "http://127.0.0.1:1", "https://id.example.com/a/authorize?p=x"}, ConnectOrigins: []string{"https://r.example"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{
		{}, {RPID: "https://example.com"}, {RPID: "a", Issuers: []string{"http://id.example.com"}}, {RPID: "a", Issuers: []string{"https://id.example.com/"}},
		{RPID: "a", Issuers: []string{"https://ID.example.com"}}, {RPID: "a", Issuers: []string{"https://u@id.example.com"}},
		{RPID: "a", Issuers: []string{"https://u@id.example.com/auth"}}, {RPID: "a", Issuers: []string{"http://id.example.com/auth"}},
		{RPID: "a", Issuers: []string{"https://id.example.com/auth#x"}}, {RPID: "a", Issuers: []string{"https://ID.example.com/auth"}},
		{RPID: "a", Issuers: []string{"javascript:alert(1)//"}}, {RPID: "a", ConnectOrigins: []string{"https://r.example/api"}},
		{RPID: "a", ConnectOrigins: []string{"https://a;b"}}, {RPID: "a", ConnectOrigins: []string{"*"}}, {RPID: "a", ConnectOrigins: []string{""}},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// The policy would break what uses any of these; a reader should hear it here.
func TestPageHasNothingInlineOrForeign(t *testing.T) {
	bad := regexp.MustCompile(`(?i)<script(?: type="module"| nomodule)?>|<style|\son[a-z]+=|\sstyle=|javascript:|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function`)
	foreign := regexp.MustCompile(`(?i)(src|href|url|import)\W{1,3}https?://`)
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "static/vendor/") || strings.HasSuffix(name, ".png") {
			return err
		}
		data, err := fs.ReadFile(static, name)
		if hit := bad.Find(data); hit != nil {
			t.Errorf("%s: %s", name, hit)
		}
		if hit := foreign.Find(data); hit != nil {
			t.Errorf("%s: %s", name, hit)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestScriptSpeaksTheHostsProtocol(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("node is missing: install Node 20 or newer")
		}
		t.Skip("node is missing: install Node 20 or newer")
	}
	out, err := exec.Command(node, "--test", "--test-reporter=spec", "test/").CombinedOutput()
	if err != nil {
		t.Fatalf("node --test: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

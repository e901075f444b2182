// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// tokenFile issues tokens of these names, and returns them by name.
func tokenFile(t testing.TB, names ...string) (*Tokens, map[string]string) {
	t.Helper()
	tokens, err := OpenTokens(filepath.Join(t.TempDir(), "relay", "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	issued := map[string]string{}
	for _, name := range names {
		if issued[name], err = tokens.Issue(name); err != nil {
			t.Fatal(err)
		}
	}
	return tokens, issued
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		if !strings.Contains(s, "/") {
			s += "/32"
		}
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func proxies(s *Server, list ...string) *Server {
	s.TrustedProxies = prefixes(list...)
	return s
}

func TestAHostNeedsItsToken(t *testing.T) {
	tokens, issued := tokenFile(t, "web")
	n := start(t, &Server{Tokens: tokens})
	for what, token := range map[string]string{"none": "", "wrong": "qrh_x", "cut": issued["web"][:20], "the name": "web"} {
		_, response, err := dial(t, n.url, token)
		if err == nil || response.status != 401 || response.challenge != "Bearer" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := dial(t, n.url, issued["web"]); err != nil {
		t.Error(err)
	}
}

func TestTheZeroServerAdmitsNoHost(t *testing.T) {
	s := &Server{}
	server := httptest.NewServer(s)
	defer server.Close()
	defer func() { _ = s.Close() }()
	if _, response, err := dial(t, server.URL, ""); err == nil || response.status != 401 {
		t.Errorf("%v", err)
	}
}

func TestARevokedTokensSocketsAreClosed(t *testing.T) {
	tokens, issued := tokenFile(t, "web", "db")
	n := start(t, &Server{Tokens: tokens})
	web, _, err := dial(t, n.url, issued["web"])
	if err != nil {
		t.Fatal(err)
	}
	if got := web.expect(id(2), "", 60); got != wire.ResultOK {
		t.Fatal(got)
	}
	db, _, err := dial(t, n.url, issued["db"])
	if err != nil {
		t.Fatal(err)
	}
	// As another process would, which is what "qrcode-relay token" is.
	other, err := OpenTokens(tokens.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Revoke("web"); err != nil {
		t.Fatal(err)
	}
	web.closed()
	if got := db.expect(id(1), "", 9); got != wire.ResultOK {
		t.Errorf("the other token: %s", got)
	}
	if _, response, err := dial(t, n.url, issued["web"]); err == nil || response.status != 401 {
		t.Errorf("again: %v", err)
	}
}

func TestTheFirstTokenEndsOpenness(t *testing.T) {
	tokens, _ := tokenFile(t)
	s := &Server{Tokens: tokens, Open: true}
	server := httptest.NewServer(s)
	defer server.Close()
	defer func() { _ = s.Close() }()
	if s.NeedsToken() {
		t.Fatal("it needs tokens from the start")
	}
	h := wait(t, server.URL, id(1), "")
	issued, err := tokens.Issue("web")
	if err != nil {
		t.Fatal(err)
	}
	h.closed()
	if _, response, err := dial(t, server.URL, ""); err == nil || response.status != 401 {
		t.Errorf("without a token: %v", err)
	}
	if _, _, err := dial(t, server.URL, issued); err != nil {
		t.Errorf("with it: %v", err)
	}
	// Not even when the last is revoked, or the file deleted, is it open again.
	if err := tokens.Revoke("web"); err != nil {
		t.Fatal(err)
	}
	if !s.NeedsToken() {
		t.Error("revoking opened it")
	}
	if err := os.Remove(tokens.path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "read again", func() bool { return tokens.count() == 0 })
	if _, response, err := dial(t, server.URL, issued); err == nil || response.status != 401 {
		t.Errorf("after deletion: %v", err)
	}
}

func TestAnEmptyTokenFileIsNotOpen(t *testing.T) {
	tokens, _ := tokenFile(t, "web")
	if err := tokens.Revoke("web"); err != nil {
		t.Fatal(err)
	}
	again, err := OpenTokens(tokens.path)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Tokens: again, Open: true}
	defer func() { _ = s.Close() }()
	if !s.NeedsToken() {
		t.Error("it is open")
	}
}

// TestAnOpenRelayIsForThisMachineOnly, whatever listens in front of it.
func TestAnOpenRelayIsForThisMachineOnly(t *testing.T) {
	n := start(t, &Server{})
	at := "localhost:8080"
	status := func(from string, header ...string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, wire.SocketPath, nil)
		r.RemoteAddr, r.Host = from, at
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		n.ServeHTTP(w, r)
		return w.Code
	}
	if got := status("127.0.0.1:1"); got != http.StatusUpgradeRequired {
		t.Errorf("this machine: %d", got)
	}
	if got := status("192.0.2.1:1"); got != 401 {
		t.Errorf("another machine: %d", got)
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"} {
		if got := status("127.0.0.1:1", name, "192.0.2.1"); got != 403 {
			t.Errorf("through a proxy that says %s: %d", name, got)
		}
	}
	for _, origin := range []string{"https://evil.example", "null", n.url} {
		if got := status("127.0.0.1:1", "Origin", origin); got != 403 {
			t.Errorf("a page of %s: %d", origin, got)
		}
	}
	for host, want := range map[string]int{
		"LOCALHOST": http.StatusUpgradeRequired, "127.1.2.3:8080": http.StatusUpgradeRequired, "[::1]:8080": http.StatusUpgradeRequired,
		"login.example.com": 403, "login.example.com:8080": 403, "192.0.2.1": 403, "localhost.example.com": 403, "": 403,
	} {
		at = host
		if got := status("127.0.0.1:1"); got != want {
			t.Errorf("at %q, through a proxy that says nothing: %d", host, got)
		}
	}
}

// TestAnOpenRelaysPageIsForThisMachineOnly: a site may give its own name to this
// machine, and its page then has the origin that it posts to.
func TestAnOpenRelaysPageIsForThisMachineOnly(t *testing.T) {
	tokens, _ := tokenFile(t, "web")
	for _, c := range []struct {
		what string
		s    *Server
		host string
		want int
	}{
		{"open, here", &Server{}, "localhost:8080", 404},
		{"open, elsewhere", &Server{}, "evil.example:8080", 403},
		{"open, elsewhere, of the page's origin", &Server{PageOrigin: "http://evil.example:8080"}, "evil.example:8080", 403},
		{"with tokens", &Server{Tokens: tokens}, "login.example.com", 404},
	} {
		n := start(t, c.s)
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, wire.PhonePath+id(1), strings.NewReader(waitup))
		r.Host = c.host
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", "http://"+c.host)
		n.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d", c.what, w.Code)
		}
	}
}

func TestBrowsersAreToldToStayWithTLS(t *testing.T) {
	encrypted := &tls.ConnectionState{}
	for _, c := range []struct {
		what, host string
		s          *Server
		tls        *tls.ConnectionState
		want       string
	}{
		{"TLS", "login.example.com", &Server{}, encrypted, hsts},
		{"a trusted proxy", "login.example.com", proxies(&Server{}, "192.0.2.1"), nil, hsts},
		{"past the proxy", "login.example.com", proxies(&Server{}, "192.0.2.2"), nil, ""},
		{"in the clear", "login.example.com", &Server{}, nil, ""},
		{"localhost", "localhost:8443", &Server{}, encrypted, ""},
	} {
		n := start(t, c.s)
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr, r.Host, r.TLS = "192.0.2.1:1", c.host, c.tls
		n.ServeHTTP(w, r)
		if got := w.Header().Get("Strict-Transport-Security"); got != c.want {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

func TestPlainHTTPIsForTheProxyOnly(t *testing.T) {
	tokens, issued := tokenFile(t, "web")
	n := start(t, proxies(&Server{Tokens: tokens}, "192.0.2.1"))
	if _, response, err := dial(t, n.url, issued["web"]); err == nil || response.status != 403 {
		t.Errorf("a host past the proxy: %v", err)
	}
	if got := post(t, n.url, id(1), hello); got.status != 403 {
		t.Errorf("a phone past the proxy: %s", got)
	}
	if got := get(t, n.url+"/healthz"); got.status != 200 {
		t.Errorf("who looks after the node: %s", got)
	}
	n = start(t, proxies(&Server{Tokens: tokens}, "127.0.0.1"))
	if _, _, err := dial(t, n.url, issued["web"]); err != nil {
		t.Error(err)
	}
	// A proxy that is trusted makes tokens needed, also where none was issued.
	s := proxies(&Server{Open: true}, "127.0.0.1")
	defer func() { _ = s.Close() }()
	if !s.NeedsToken() {
		t.Error("it is open")
	}
}

func TestATokenIsStoredAsItsHash(t *testing.T) {
	tokens, issued := tokenFile(t, "web")
	data, err := os.ReadFile(tokens.path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), issued["web"]) || strings.Contains(string(data), tokenPrefix) {
		t.Error("the token is in the file")
	}
	info, err := os.Stat(tokens.path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if dir, err := os.Stat(filepath.Dir(tokens.path)); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", dir.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(tokens.path), ".*")); len(left) > 0 {
		t.Error(left)
	}
}

// TestTheFileBelongsToItsFolder: root issues what a service reads.
func TestTheFileBelongsToItsFolder(t *testing.T) {
	tokens, _ := tokenFile(t, "web")
	dir := filepath.Dir(tokens.path)
	owner := os.Geteuid()
	if owner == 0 {
		owner = 65534
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.Issue("db"); err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(tokens.path, &st); err != nil || int(st.Uid) != owner {
		t.Errorf("it belongs to %d, %v", st.Uid, err)
	}
}

func TestTokensAreIssuedOnePerName(t *testing.T) {
	tokens, _ := tokenFile(t, "web")
	if _, err := tokens.Issue("web"); err == nil {
		t.Error("twice")
	}
	if err := tokens.Revoke("db"); err == nil {
		t.Error("revoked what there is not")
	}
	for _, name := range []string{"", "a b", "a\nb", "-x", "../x", strings.Repeat("a", 65), "\x1b"} {
		if _, err := tokens.Issue(name); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	// Processes that issue at the same time lose nothing.
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			own, err := OpenTokens(tokens.path)
			if err == nil {
				_, err = own.Issue("host-" + loc(i))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := tokens.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := len(tokens.List()); got != 11 {
		t.Errorf("%d tokens", got)
	}
}

func TestATokenFileOfOthersIsRefused(t *testing.T) {
	tokens, _ := tokenFile(t, "web")
	open := func() error { _, err := OpenTokens(tokens.path); return err }
	link := tokens.path + ".link"
	if err := os.Symlink(tokens.path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokens(link); err == nil {
		t.Error("a link was followed")
	}
	if err := os.Chmod(tokens.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others may read it: %v", err)
	}
	_ = os.Chmod(tokens.path, 0o600)
	if err := os.WriteFile(tokens.path, []byte("web nonsense today\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), ":1:") {
		t.Errorf("nonsense: %v", err)
	}
	// A relay that runs keeps what it had.
	if changed, err := tokens.Reload(); changed || err == nil || tokens.count() != 1 {
		t.Errorf("%v %v", changed, err)
	}
	if err := os.Mkdir(tokens.path+".d", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTokens(tokens.path + ".d"); err == nil {
		t.Error("a folder was read")
	}
}

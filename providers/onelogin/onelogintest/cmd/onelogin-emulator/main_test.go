// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain is the emulator where a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("ONELOGIN_EMULATOR_TEST") == "main" {
		main()
	}
	os.Exit(m.Run())
}

// program is a running emulator.
type program struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	said  map[string]string
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	p := &program{cmd: exec.CommandContext(ctx, os.Args[0], args...), said: map[string]string{}}
	p.cmd.Env = append(os.Environ(), "ONELOGIN_EMULATOR_TEST=main")
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	for p.said["users"] == "" {
		if !p.lines.Scan() {
			t.Fatal("the emulator ended early")
		}
		key, value, _ := strings.Cut(p.lines.Text(), ": ")
		p.said[key] = value
	}
	return p
}

func fetch(t *testing.T, client *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestItServesUntilItIsTold(t *testing.T) {
	p := start(t, "-tls", "-v", "-fault", "GET /api/2/**=status:503", "-latency", "1ms")
	pem, err := os.ReadFile(p.said["ca_file"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	if p.said["users"] != "mittens tom felix smokey" || p.said["client_secret"] == "" {
		t.Errorf("it said %v", p.said)
	}
	if code, text := fetch(t, client, "GET", p.said["control"]+"code?user=mittens"); code != 200 || len(text) != 7 {
		t.Errorf("%d %q", code, text)
	}
	if code, _ := fetch(t, client, "GET", p.said["url"]+"/api/2/users"); code != 503 {
		t.Errorf("status %d", code)
	}
	if !p.lines.Scan() || !strings.HasSuffix(p.lines.Text(), " GET /api/2/users") || !strings.Contains(p.lines.Text(), " 503 ") {
		t.Errorf("it printed %q", p.lines.Text())
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for p.lines.Scan() {
	}
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(p.said["ca_file"]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CA's file is still there: %v", err)
	}
}

func TestAWorldOfOnesOwnHasItsSecretKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "world.json")
	text := `{"client_id": "me", "client_secret": "a-canary-7731", "users": [{"email": "tom@example.com"}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-world", file, "-control", "127.0.0.1:0", "-variant", "string_ids")
	for key, value := range p.said {
		if strings.Contains(value, "canary") {
			t.Errorf("%s: %s", key, value)
		}
	}
	if p.said["users"] != "tom@example.com" || strings.HasPrefix(p.said["control"], p.said["url"]) {
		t.Errorf("it said %v", p.said)
	}
	if code, text := fetch(t, http.DefaultClient, "GET", p.said["control"]+"users"); code != 200 || !strings.Contains(text, "tom@example.com") {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := fetch(t, http.DefaultClient, "GET", p.said["url"]+"/control/"); code != 404 {
		t.Errorf("status %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWrongUseIsExplained(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "world.json")
	if err := os.WriteFile(bad, []byte(`{"userz": []}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"-mice":                   {misused, "mice"},
		"more":                    {misused, `unexpected argument "more"`},
		"-ca x":                   {misused, "-tls"},
		"-variant x":              {misused, "list"},
		"-fault fire":             {misused, "no such fault"},
		"-listen 0.0.0.0:0":       {failed, "loopback"},
		"-control 192.0.2.1:0":    {failed, "loopback"},
		"-world " + bad:           {failed, "userz"},
		"-world /no/such/file":    {failed, "no such file"},
		"-tls -ca /no/such/place": {failed, "no such file"},
	} {
		code, err := run(t.Context(), strings.Fields(args), io.Discard)
		if code != want.code || err == nil || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %d %v", args, code, err)
		}
	}
}

func TestHelpIsHelp(t *testing.T) {
	for args, word := range map[string]string{"-h": "Usage:", "--help": "Examples:", "-variant list": "everything_differs\n"} {
		var out strings.Builder
		if code, err := run(t.Context(), strings.Fields(args), &out); code != fine || err != nil || !strings.Contains(out.String(), word) {
			t.Errorf("%s: %d %v %s", args, code, err, out.String())
		}
	}
}

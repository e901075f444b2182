// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A relay is a running qrcode-relay that wants the token.
type relay struct {
	url, token string
	log        *buffer
	stop       func()
}

// startRelay starts the relay that is installed below dir. It ends with the
// test, if not before.
func startRelay(t *testing.T, dir string, options ...string) *relay {
	t.Helper()
	program, tokens := filepath.Join(dir, "usr/bin/qrcode-relay"), filepath.Join(t.TempDir(), "tokens")
	token, err := exec.Command(program, "token", "--tokens", tokens, "db7").Output()
	if err != nil {
		t.Fatalf("qrcode-relay token: %v", err)
	}
	// One browser is many people here.
	options = append([]string{"--listen", "127.0.0.1:0", "--tokens", tokens, "--phones", "1000", "--posts", "100000", "--debug"}, options...)
	r := &relay{token: strings.TrimSpace(string(token)), log: newBuffer()}
	cmd := exec.Command(program, options...)
	cmd.Stderr = r.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.stop = sync.OnceFunc(func() {
		late := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("qrcode-relay: %v\n%s", err, r.log)
		}
	})
	t.Cleanup(r.stop)
	found := r.log.wait(t, `msg=listening address=127\.0\.0\.1:(\d+) tls=(\w+)`)
	r.url = map[string]string{"true": "https", "false": "http"}[found[2]] + "://localhost:" + found[1]
	return r
}

// A buffer is what a program has written up to now.
type buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func newBuffer() *buffer { return &buffer{changed: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// wait waits until the text matches, and returns the match and its parts.
func (b *buffer) wait(t *testing.T, pattern string) []string {
	t.Helper()
	re, late := regexp.MustCompile(pattern), time.After(30*time.Second)
	for {
		if found := re.FindStringSubmatch(b.String()); found != nil {
			return found
		}
		select {
		case <-b.changed:
		case <-late:
			t.Fatalf("no match of %s in\n%s", pattern, b)
		}
	}
}

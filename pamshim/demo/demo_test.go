// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// What a demo promises to show, in this order.
var promised = map[string][]string{
	"passphrase": {
		"/etc/authn/passphrase.yaml", `answering "open barley"`, "Permission denied", `answering "open sesame"`,
		"Logged in as alice", "result=auth_err", "result=success", "From another terminal", "alice@127.0.0.1",
	},
	"onelogin": {
		"/etc/authn/onelogin.yaml", "a code", "OTP (leave empty for push): \nLogged in as admin; the person behind it: mittens",
		"taps Accept\nLogged in as admin; the person behind it: mittens", "Logged in as user; the person behind it: tabby",
		"Permission denied", "subject=mittens", "result=success", "without a role for this account",
		"From another terminal", "admin@127.0.0.1", "/control/code?user=mittens", "/control/push/accept?user=mittens",
	},
	"qrcode": {
		"/etc/authn/qrcode.yaml", "qrcode-relay --listen 127.0.0.1:", "authn-qrcode-enroll alice", "Scan this with the phone.",
		"can now approve logins to alice", "host db7, account alice, subject mittens@example.com",
		"Scan this, or open http://localhost:", "Logged in as alice; the person behind it: mittens@example.com",
		"host db7, account alice, service sshd, rhost 127.0.0.1", "This login was refused on a phone.", "/demo\n", "result=success", "refused on a phone", "From another terminal", "alice@127.0.0.1", "authn-qrcode-enroll --link alice",
	},
}

// A screen may be written to from several goroutines, as standard output may.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestDemosShowWhatTheyPromise(t *testing.T) {
	hosttest.Require(t, "sshd", "ssh")
	build := pamtest.Build(t)
	for provider, which := range demos {
		t.Run(provider, func(t *testing.T) {
			hosttest.NoLeftovers(t)
			enough := make(chan os.Signal)
			close(enough)
			var out screen
			show(t, &out, build, which(t), enough)
			rest := out.String()
			for _, text := range promised[provider] {
				_, after, ok := strings.Cut(rest, text)
				if !ok {
					t.Fatalf("%q is not shown where it should be:\n%s", text, out.String())
				}
				rest = after
			}
		})
	}
}

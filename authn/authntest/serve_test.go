// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
)

func TestServe(t *testing.T) {
	remote := Serve(t, newDoor(nil), "key: "+doorKey)
	user := Expect(t, Prompt("Who is there? ", "mittens"), PromptSecret("Code: ", doorCode))
	id, err := remote.Authenticate(t.Context(), &authn.Request{User: "mittens"}, user)
	if err != nil || id.Subject != "mittens@example.com" {
		t.Errorf("got %+v, %v", id, err)
	}
}

func TestServeNamesTheLineOfABadKey(t *testing.T) {
	remote := Serve(t, newDoor(nil), "# a comment\nkey: "+doorKey+"\ndeep:\n  hinge: brass\n")
	err := remote.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "authntest.yaml:4: deep.hinge: unknown key") {
		t.Errorf("got %v", err)
	}
}

// go-plugin's pipes go with the garbage collector, which leftOpen calls.
func TestServeLeavesNothingOpen(t *testing.T) {
	for _, config := range []string{"key: " + doorKey, ""} {
		before := openNow()
		remote, stop, err := serve(inprocess.Of(newDoor(nil)), config)
		if err != nil {
			t.Fatal(err)
		}
		_ = remote.Check(t.Context())
		stop()
		if left := leftOpen(before, 10*time.Second); left != "" {
			t.Errorf("with configuration %q:\n%s", config, left)
		}
	}
}

func TestWireConfigRefusesNonsense(t *testing.T) {
	for _, text := range []string{"a: [", "{1: 2}"} {
		if _, err := wireConfig(text); err == nil {
			t.Errorf("wireConfig(%q) is taken", text)
		}
	}
}

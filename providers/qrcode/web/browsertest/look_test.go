// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// Programs that run tests' parts, such as the demo, can use phones, too.
var _ TB = hosttest.TB(nil)

// screenshots is where people find pictures of every view.
func screenshots() string {
	build := os.Getenv("AUTHN_BUILD")
	if build == "" {
		build = "../../../../build"
	}
	return filepath.Join(build, "screenshots", "qrcode")
}

// look takes pictures of what is shown and has axe-core judge it.
func look(t *testing.T, p *Phone, name string) {
	t.Helper()
	p.Screenshots(screenshots(), name)
	for _, dark := range []bool{false, true} {
		for _, v := range p.Axe(dark) {
			if v.Impact == "serious" || v.Impact == "critical" {
				t.Errorf("%s (dark: %v): axe: %s: %s\n%s", name, dark, v.ID, v.Help, strings.Join(v.Nodes, "\n"))
			}
		}
	}
	var misfits []string
	p.do("fit", nil, &misfits)
	for _, m := range misfits {
		t.Errorf("%s on a small phone: %s", name, m)
	}
}

func expect(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("the page shows %q instead of %q", got, want)
	}
}

func start(t *testing.T, o Options) *Phone {
	t.Helper()
	return Start(t, o)
}

func sent(h *host, what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, b := range h.bodies {
		if strings.Contains(b, what) {
			return true
		}
	}
	return false
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
		for _, v := range p.axe(dark, dark) { // dark colours change nothing else
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

// Starting a browser takes longer than most tests. One that a test leaves in
// good order is the next one's, as another phone: storage, page, authenticator
// and options are new.
var (
	idle  = map[string][]*Phone{} // by what a browser is started with
	atEnd []func()                // of all tests
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, list := range idle {
		for _, p := range list {
			p.kill()
		}
	}
	for _, f := range atEnd {
		f()
	}
	os.Exit(code)
}

// lasting is a test whose browser outlives it.
type lasting struct{ *testing.T }

func (lasting) Cleanup(f func()) { atEnd = append(atEnd, f) }

func start(t *testing.T, o Options) *Phone {
	t.Helper()
	key := fmt.Sprintf("%q %q", o.Args, o.Resolve)
	var p *Phone
	if list := idle[key]; len(list) > 0 {
		p, idle[key] = list[len(list)-1], list[:len(list)-1]
		again(t, p, o)
	} else {
		p = launch(t, o)
	}
	t.Cleanup(func() { leave(t, p, key) })
	return p
}

// launch is [Start] of a browser that TestMain ends, unless leave does.
func launch(t *testing.T, o Options) *Phone {
	t.Helper()
	before := len(atEnd)
	p := Start(lasting{t}, o)
	// What Start wants last is Close, which reports to a test.
	atEnd = atEnd[:max(before, len(atEnd)-1)]
	p.tb = t
	return p
}

// again makes another phone of a browser.
func again(t *testing.T, p *Phone, o Options) {
	t.Helper()
	p.tb, p.options = t, o
	if err := writeVideo(p.video, blank()); err != nil {
		t.Fatal(err)
	}
	p.do("again", map[string]any{"settings": p.settings("")}, nil)
}

// leave reports what the page did wrong, as [Phone.Close] does.
func leave(t *testing.T, p *Phone, key string) {
	t.Helper()
	if t.Failed() {
		p.Close()
		return
	}
	if !p.options.Tolerate {
		for _, problem := range slices.Compact(p.Problems()) {
			t.Errorf("phone: %s", problem)
		}
	}
	idle[key] = append(idle[key], p)
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

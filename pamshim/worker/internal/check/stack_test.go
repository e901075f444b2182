// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
)

// libpam writes down what pam_debug.so answers, so it can be asked what a
// stack of it comes to.
func libpamSays(t *testing.T, dir, service string) bool {
	t.Helper()
	tx, err := pam.StartConfDir(service, "nobody", pam.ConversationFunc(func(pam.Style, string) (string, error) { return "", nil }), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.End() //nolint:errcheck // a test's
	return tx.Authenticate(pam.Silent) == nil
}

// weSay walks the stack with the one answer that each rule gives.
func weSay(t *testing.T, file string) bool {
	t.Helper()
	s, err := readService(file)
	if err != nil {
		t.Fatal(err)
	}
	stack := s.stacks["auth"]
	var first *rule // is asked in any case
	for _, l := range stack {
		if !l.sub {
			first = l.rule
			break
		}
	}
	return lets(stack, first, func(r *rule) []authn.Result {
		if len(r.faults) > 0 {
			return []authn.Result{authn.ErrPermDenied}
		}
		return []authn.Result{debugAnswer(r)}
	})
}

// debugAnswer is what pam_debug.so answers to its words.
func debugAnswer(r *rule) authn.Result {
	for _, w := range r.words {
		if word, ok := strings.CutPrefix(w, "auth="); ok {
			if result, ok := authn.ParseResult(word); ok {
				return result
			}
			return authn.Success
		}
	}
	return authn.Success
}

// TestStacksAreWalkedAsLibpamWalksThem compares random stacks, written in
// random ways, with libpam.
func TestStacksAreWalkedAsLibpamWalksThem(t *testing.T) {
	if found, _ := filepath.Glob(securityDir() + "/pam_debug.so"); len(found) == 0 {
		t.Skip("no pam_debug.so")
	}
	g := generator{Rand: rand.New(rand.NewPCG(1, 2))} //nolint:gosec // a test's
	granted := 0
	for i := range 2000 {
		dir := t.TempDir()
		g.dir = dir
		files := map[string]string{"other": "auth required pam_deny.so\n", "svc": g.file(2), "one": g.file(1), "two": g.file(0)}
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		theirs, ours := libpamSays(t, dir, "svc"), weSay(t, filepath.Join(dir, "svc"))
		if theirs != ours {
			t.Fatalf("stack %d: libpam %t, we %t\n-- svc\n%s-- one\n%s-- two\n%s", i, theirs, ours, files["svc"], files["one"], files["two"])
		}
		if ours {
			granted++
		}
	}
	if granted < 200 || granted > 1800 {
		t.Errorf("%d of 2000 random stacks let in: not much of a test", granted)
	}
}

type generator struct {
	*rand.Rand
	dir string
}

func (g generator) pick(all ...string) string { return all[g.IntN(len(all))] }

// file writes a PAM file; depth is how deep it may include others, one and two.
// (By their paths: Debian's libpam looks for names in /etc/pam.d only.)
func (g generator) file(depth int) string {
	var b strings.Builder
	for range 1 + g.IntN(4) {
		group := g.pick("auth", "auth", "auth", "-auth", "AUTH", "account")
		if depth > 0 && g.IntN(5) == 0 {
			b.WriteString(g.write(group, g.pick("include", "substack"), filepath.Join(g.dir, []string{1: "two", 2: "one"}[depth])))
			continue
		}
		answer := "auth=" + g.pick("success", "success", "auth_err", "ignore", "new_authtok_reqd", "system_err", "nonsense")
		b.WriteString(g.write(group, g.control(), "pam_debug.so", answer))
	}
	return b.String()
}

func (g generator) control() string {
	if g.IntN(2) == 0 {
		return g.pick("required", "requisite", "optional", "sufficient", "Required", "requierd")
	}
	var parts []string
	for range 1 + g.IntN(3) {
		parts = append(parts, g.pick("success", "auth_err", "ignore", "default", "new_authtok_reqd", "system_err")+
			g.pick("=", "=", " = ", "")+g.pick("ok", "done", "bad", "die", "ignore", "reset", "1", "2", "3", "0", "x"))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// write writes a rule with all the freedom that the format gives.
func (g generator) write(words ...string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(g.pick(" ", " ", "\t", "  ", " \\\n", "\\\n ", " \\ \n# comment\n\n\t"))
		}
		if i > 2 && g.IntN(4) == 0 {
			w = "[" + w + "]"
		}
		b.WriteString(w)
	}
	return g.pick("", "# comment\n", "\n", " \t") + b.String() + g.pick("", "", " # comment", "#", " \\ # comment", " x") + "\n"
}

func TestIncludes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"svc":    "@include common\nauth include group\nauth substack sub\naccount include missing\nauth include\n",
		"common": "auth required a.so\naccount required b.so\n", "group": "auth required c.so\naccount required d.so\n",
		"sub": "auth required e.so\nauth include self\n", "self": "auth required f.so\n@include self\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readService(filepath.Join(dir, "svc"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, group := range []string{"auth", "account"} {
		for _, l := range s.stacks[group][:min(5, len(s.stacks[group]))] {
			got = append(got, fmt.Sprintf("%s:%s:%d", group, l.module, l.level))
		}
	}
	if want := "auth:a.so:0 auth:c.so:0 auth:sub:0 auth:e.so:1 auth:f.so:1 account:b.so:0"; strings.Join(got, " ") != want {
		t.Errorf("the stacks are %s\nwant %s", got, want)
	}
	var faults []string
	for _, f := range s.faults {
		faults = append(faults, filepath.Base(f.where)+" "+f.text)
	}
	for i, want := range []string{`self:2 "self" cannot be included`, `svc:4 "missing" cannot be included`, `svc:5 "" cannot be included`} {
		if i >= len(faults) || !strings.HasPrefix(faults[i], want) {
			t.Errorf("faults %q, want one like %q", faults, want)
		}
	}
}

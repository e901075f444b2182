// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
)

// TestPAMLinesThatDoNotFit: a mistyped word refuses, and so does a line that
// leaves no time.
func TestPAMLinesThatDoNotFit(t *testing.T) {
	runAll(t, []attack{
		{name: "a_word_that_nobody_knows", want: reason.UnknownWord, tell: genuine, before: func(w *world) {
			w.request.Args = []string{"code=off"}
		}},
		{name: "too_little_time", want: reason.ShortTimeout, tell: genuine, before: func(w *world) {
			w.request.Timeout = 19 * time.Second
		}},
	})
}

// TestEveryReasonHasAnAttack: what is refused nowhere here might as well be let
// in.
func TestEveryReasonHasAnAttack(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../internal/reason/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, name := range tests {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`reason\.([A-Z]\w+)`).FindAllSubmatch(text, -1) {
			used[string(m[1])] = true
		}
	}
	reasons := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Values != nil {
			if kind, ok := v.Type.(*ast.Ident); ok && kind.Name == "Reason" {
				reasons++
				if !used[v.Names[0].Name] {
					t.Errorf("%s has no attack", v.Names[0].Name)
				}
			}
		}
		return true
	})
	if reasons < 60 {
		t.Errorf("%d reasons found", reasons)
	}
}

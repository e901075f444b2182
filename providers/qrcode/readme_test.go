// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reasons returns the texts of all constants of package reason.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "internal/reason/reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
		return true
	})
	return texts
}

func TestTheReadmeExplainsEveryReason(t *testing.T) {
	text, list := readme(t), reasons(t)
	if len(list) < 60 {
		t.Fatalf("found %d reasons", len(list))
	}
	seen := make(map[string]bool)
	for _, r := range list {
		if seen[r] {
			t.Errorf("two reasons read %q", r)
		}
		seen[r] = true
		if !strings.Contains(text, "| `"+r+"` |") {
			t.Errorf("no row for %q", r)
		}
	}
}

func TestTheReadmeHasEveryKey(t *testing.T) {
	text := readme(t)
	for _, c := range []any{Config{}, PasskeyConfig{}, OIDCConfig{}} {
		kind := reflect.TypeOf(c)
		for i := range kind.NumField() {
			key := kind.Field(i).Tag.Get("yaml")
			if key == "passkeys" {
				continue // its keys are there
			}
			if !strings.Contains(text, "`"+key+"`") && !strings.Contains(text, "`passkeys."+key+"`") {
				t.Errorf("no %s", key)
			}
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogin

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
)

// readme returns README.md, or the part of it below a heading of level 2.
func readme(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if heading == "" {
		return string(text)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return section
}

// configKeys are the keys of a configuration of type c, as "push.timeout".
func configKeys(c reflect.Type, prefix string) (all []string) {
	for f := range c.Fields() {
		key := prefix + f.Tag.Get("yaml")
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[authn.Secret]() {
			all = append(all, configKeys(f.Type, key+".")...)
		} else {
			all = append(all, key)
		}
	}
	return all
}

var optionRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)`[^|]* \\| ([^|]*) \\|")

func TestReadmeHasEveryOptionAndNoOther(t *testing.T) {
	defaults := map[string]string{}
	for _, m := range optionRow.FindAllStringSubmatch(readme(t, "Options"), -1) {
		if _, twice := defaults[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		defaults[m[1]] = m[2]
	}
	keys := configKeys(reflect.TypeFor[Config](), "")
	for _, key := range keys {
		if _, ok := defaults[key]; !ok {
			t.Errorf("the table has no row for %s", key)
		}
	}
	for key := range defaults {
		if !slices.Contains(keys, key) {
			t.Errorf("the table has a row for %s, which is no key", key)
		}
	}
	p := provider(t, "subdomain: example\nclient_id: a\nclient_secret: b\nuser_roles: {admin: 1}")
	for key, want := range map[string]string{
		"request_duration_secs": strconv.FormatFloat(p.Step().Seconds(), 'f', -1, 64),
		"factors":               "[" + kindList(p.Factors) + "]",
		"push.interval":         short(p.Push.Interval),
		"push.timeout":          short(p.Push.Timeout),
		"prompts.name":          p.Prompts.Name,
		"prompts.factor":        p.Prompts.Factor,
		"prompts.password":      p.Prompts.Password,
		"prompts.code":          p.Prompts.Code,
	} {
		if !strings.Contains(defaults[key], "`"+want+"`") {
			t.Errorf("the default of %s is %q, and the table says %q", key, want, defaults[key])
		}
	}
}

// short writes a duration as people do.
func short(d time.Duration) string { return strings.TrimSuffix(d.String(), "m0s") }

func TestReadmeHasEveryPromptAndFactor(t *testing.T) {
	text := readme(t, "Prompts and factors")
	for bits := 1; bits < 1<<len(kinds); bits++ {
		var allowed []Kind
		for i, k := range kinds {
			if bits>>i&1 == 1 {
				allowed = append(allowed, k)
			}
		}
		if prompt := otpPrompt(allowed); !strings.Contains(text, "`"+prompt+"`") {
			t.Errorf("%v is asked %q, which is not in the table", allowed, prompt)
		}
	}
	for name, serves := range kindsOf {
		if row := "| `" + name + "` | " + kindList(serves) + " |"; !strings.Contains(text, row) {
			t.Errorf("the table lacks the row %s", row)
		}
	}
}

var (
	headingLine = regexp.MustCompile("(?m)^#+ (.*)$")
	localLink   = regexp.MustCompile(`\]\(#([^)]*)\)`)
	punctuation = regexp.MustCompile(`[^a-z0-9_ -]`)
)

func TestReadmesLinksToItselfLeadSomewhere(t *testing.T) {
	text := readme(t, "")
	var anchors []string
	for _, m := range headingLine.FindAllStringSubmatch(text, -1) {
		anchors = append(anchors, strings.ReplaceAll(punctuation.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, m := range localLink.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(anchors, m[1]) {
			t.Errorf("there is no heading for #%s", m[1])
		}
	}
}

// notLogged are texts that another one replaces before anybody sees them.
var notLogged = []string{"not a whole number", "not text", "not a list", "not a flag"}

// TestReadmeExplainsEveryReason looks in Diagnostics for every text that the
// log can have from this package and from tenant, word for word.
func TestReadmeExplainsEveryReason(t *testing.T) {
	text := strings.ReplaceAll(readme(t, "Diagnostics"), "`", "")
	found := 0
	for _, reason := range reasons(t) {
		for _, part := range constantParts(reason) {
			found++
			if !strings.Contains(text, part) {
				t.Errorf("Diagnostics does not have %q (of %q)", part, reason)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d texts were found: the test is blind", found)
	}
}

// reasons are the string literals of errors, of complaints about the
// configuration, and of what they are put together from.
func reasons(t *testing.T) (all []string) {
	t.Helper()
	for _, dir := range []string{".", "internal/tenant"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s (%v)", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if speaks(n) {
					all = append(all, literals(n)...)
				}
				return true
			})
		}
	}
	return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(notLogged, s) })
}

// speaks reports whether the literals in n are for the log.
func speaks(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		switch f := n.Fun.(type) {
		case *ast.Ident:
			return f.Name == "bad"
		case *ast.SelectorExpr:
			x, ok := f.X.(*ast.Ident)
			name := f.Sel.Name
			return ok && (x.Name == "errors" && name == "New" || x.Name == "fmt" && name == "Errorf")
		}
	case *ast.CompositeLit:
		kind, ok := n.Type.(*ast.Ident)
		return ok && kind.Name == "operation"
	case *ast.FuncDecl:
		return slices.Contains([]string{"Error", "needs", "standing", "word", "role", "roleList"}, n.Name.Name)
	case *ast.ValueSpec:
		return slices.ContainsFunc(n.Names, func(id *ast.Ident) bool { return id.Name == "statuses" || id.Name == "states" })
	}
	return false
}

func literals(n ast.Node) (all []string) {
	ast.Inspect(n, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				all = append(all, s)
			}
		}
		return true
	})
	return all
}

var formatVerb = regexp.MustCompile(`%[-+# 0-9.*]*[a-zA-Z]|%%`)

// constantParts are the parts of a format that say something by themselves.
func constantParts(format string) (all []string) {
	for _, part := range formatVerb.Split(format, -1) {
		if part = strings.Trim(part, " .:,;("); len(strings.Fields(part)) >= 2 {
			all = append(all, part)
		}
	}
	return all
}

var yamlBlock = regexp.MustCompile("(?ms)^ *```(?:yaml|json)\n(.*?)^ *```$")

// A configuration that somebody copies from README.md must be taken.
func TestReadmesConfigurationsLoad(t *testing.T) {
	blocks := yamlBlock.FindAllStringSubmatch(readme(t, ""), -1)
	if len(blocks) < 3 {
		t.Fatalf("README.md has %d configurations", len(blocks))
	}
	for _, m := range blocks {
		var keys map[string]any
		if err := yaml.Unmarshal([]byte(m[1]), &keys); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
			continue
		}
		// The framework's part, and what the worker reads from files.
		delete(keys, "authn")
		if _, ok := keys["client_secret_file"]; ok {
			delete(keys, "client_secret_file")
			keys["client_secret"] = "from a file"
		}
		text, err := yaml.Marshal(keys)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("", func(t *testing.T) { provider(t, string(text)) })
	}
}

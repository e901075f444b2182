// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn/authntest"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section is the part below a heading of level 2.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(readme(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no heading %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
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

// keys are those of a configuration of type c, as "passkeys.device_bound".
func keys(c reflect.Type, prefix string) (all []string) {
	for f := range c.Fields() {
		key := prefix + f.Tag.Get("yaml")
		if f.Type == reflect.TypeFor[PasskeyConfig]() {
			all = append(all, keys(f.Type, key+".")...)
		} else {
			all = append(all, key)
		}
	}
	return all
}

var optionRow = regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]*) \\|")

func TestTheReadmeHasEveryOptionAndNoOther(t *testing.T) {
	defaults := make(map[string]string)
	for _, m := range optionRow.FindAllStringSubmatch(section(t, "Options"), -1) {
		if _, twice := defaults[m[1]]; twice {
			t.Errorf("%s has two rows", m[1])
		}
		defaults[m[1]] = m[2]
	}
	all := append(keys(reflect.TypeFor[Config](), ""), keys(reflect.TypeFor[OIDCConfig](), "oidc.")...)
	for _, key := range all {
		if _, ok := defaults[key]; !ok {
			t.Errorf("no row for %s", key)
		}
	}
	for key := range defaults {
		if !slices.Contains(all, key) {
			t.Errorf("a row for %s, which is no key", key)
		}
	}
	c := made(t, Config{Relay: "http://localhost:8080"}).config
	for key, want := range map[string]string{
		"payload": c.Payload, "qr": c.QR, "code": c.Code, "invert": strconv.FormatBool(c.Invert),
		"passkeys.device_bound": strconv.FormatBool(c.Passkeys.DeviceBound), "ttl": strconv.Itoa(int(maxTTL.Seconds())) + "s",
	} {
		if defaults[key] != "`"+want+"`" {
			t.Errorf("the default of %s is %s, and the table says %s", key, want, defaults[key])
		}
	}
}

var (
	formatVerb = regexp.MustCompile(`%[a-z]`)
	yamlBlock  = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
)

// TestTheReadmeExplainsEveryComplaint about the configuration, word for word.
func TestTheReadmeExplainsEveryComplaint(t *testing.T) {
	text, found := section(t, "Diagnostics"), 0
	for _, name := range []string{"config.go", "internal/proof/oidc.go", "internal/terminal/terminal.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || !complains(call, name) {
				return true
			}
			lit, ok := call.Args[len(call.Args)-1].(*ast.BasicLit)
			if len(call.Args) > 1 {
				lit, ok = call.Args[1].(*ast.BasicLit)
			}
			if !ok {
				return true
			}
			complaint, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range formatVerb.Split(complaint, -1) {
				if part = strings.Trim(part, " :,"); strings.Contains(part, " ") {
					found++
					if !strings.Contains(text, part) {
						t.Errorf("Diagnostics lacks %q, of %s", part, name)
					}
				}
			}
			return true
		})
	}
	if found < 20 {
		t.Errorf("only %d complaints were found: the test is blind", found)
	}
}

// complains reports whether a call makes an error that authnctl check shows.
func complains(call *ast.CallExpr, file string) bool {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name == "problem"
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		if !ok || x.Name != "errors" || f.Sel.Name != "New" {
			return false
		}
		lit, ok := call.Args[0].(*ast.BasicLit)
		// Of an issuer's answers, others are the details of reasons.
		return ok && (file != "internal/proof/oidc.go" || strings.Contains(lit.Value, "Key Set") || strings.Contains(lit.Value, "for signatures"))
	}
	return false
}

// A configuration that somebody copies must be taken.
func TestTheReadmesConfigurationsLoad(t *testing.T) {
	blocks := yamlBlock.FindAllStringSubmatch(readme(t), -1)
	if len(blocks) < 3 {
		t.Fatalf("found %d configurations", len(blocks))
	}
	for _, m := range blocks {
		var given map[string]any
		if err := yaml.Unmarshal([]byte(m[1]), &given); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
			continue
		}
		// The framework's part, and what the worker reads from files.
		delete(given, "authn")
		if _, ok := given["relay_token_file"]; ok {
			delete(given, "relay_token_file")
			given["relay_token"] = "from-a-file"
		}
		text, err := yaml.Marshal(given)
		if err != nil {
			t.Fatal(err)
		}
		if err := authntest.Serve(t, New, string(text)).Check(t.Context()); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
}

var (
	heading     = regexp.MustCompile("(?m)^#+ (.*)$")
	localLink   = regexp.MustCompile(`\]\(#([^)]*)\)`)
	punctuation = regexp.MustCompile(`[^a-z0-9_ -]`)
)

func TestTheReadmesLinksToItselfLeadSomewhere(t *testing.T) {
	text := readme(t)
	var anchors []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		anchors = append(anchors, strings.ReplaceAll(punctuation.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	for _, m := range localLink.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(anchors, m[1]) {
			t.Errorf("there is no heading for #%s", m[1])
		}
	}
}

// TestTheReadmesPromptIsTheProviders: the picture has the size of a real one,
// and the words are those of the code.
func TestTheReadmesPromptIsTheProviders(t *testing.T) {
	w := newWorld(t)
	var shown string
	w.login(w.direct(""), authntest.PromptFunc(question, func(prompt string) string { shown = prompt; return w.digits(prompt) })) //nolint:errcheck // what was shown is wanted
	lines := strings.Split(strings.TrimPrefix(shown, "\n"), "\n")
	_, transcript, _ := strings.Cut(section(t, "Description"), "(alice@db7)\n")
	told := strings.Split(transcript, "\n")
	if len(lines) < 20 || len(told) < len(lines) {
		t.Fatalf("%d lines are shown, and %d told of", len(lines), len(told))
	}
	for i, line := range lines[:len(lines)-2] {
		if len([]rune(line)) != len([]rune(told[i])) || strings.Trim(told[i], "\u2580\u2584\u2588 ") != "" {
			t.Errorf("line %d of the picture is %q", i+1, told[i])
		}
	}
	typed := regexp.MustCompile("[0-9A-Z]{4}(-[0-9A-Z]{4}){2}")
	page := strings.TrimPrefix(w.site.Origin, "https://")
	want := typed.ReplaceAllString(strings.Replace(lines[len(lines)-2], page, "login.example.com", 1), "TYPED")
	if got := typed.ReplaceAllString(told[len(lines)-2], "TYPED"); got != want {
		t.Errorf("the line below it is %q, want %q", got, want)
	}
	if !strings.HasPrefix(told[len(lines)-1], question) {
		t.Errorf("the question is %q", told[len(lines)-1])
	}
}

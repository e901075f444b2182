// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
)

// A holder holds secrets as a provider may: fmt calls no methods on fields
// that are not exported.
type holder struct {
	Shown  authn.Secret
	inside authn.Secret
	ptr    *authn.Secret
	list   []authn.Secret
	keyed  map[string]authn.Secret
	any    any
}

func TestSecretHidesItself(t *testing.T) {
	const text = "swordfish"
	s := authn.NewSecret(text)
	h := holder{s, s, &s, []authn.Secret{s}, map[string]authn.Secret{"k": s}, s}
	values := []any{s, &s, []authn.Secret{s}, map[string]authn.Secret{"k": s}, h, &h, []any{h}, struct{ h holder }{h}}

	printed := map[string]string{}
	for i, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%t", "%p", "%T", "%10.3s", "%U", "%!"} {
			printed[fmt.Sprintf("%s of value %d", verb, i)] = fmt.Sprintf(verb, v)
		}
		printed[fmt.Sprintf("Sprint of value %d", i)] = fmt.Sprint(v)
		for name, encode := range encoders {
			printed[fmt.Sprintf("%s of value %d", name, i)] = encode(v)
		}
	}
	printed["String"] = s.String()
	printed["GoString"] = s.GoString()
	printed["an error"] = fmt.Errorf("bad secret %v: %w", s, errors.New("no")).Error()
	for how, got := range printed {
		lower := strings.ToLower(got)
		if strings.Contains(lower, text) || strings.Contains(lower, hex.EncodeToString([]byte(text))) || strings.Contains(lower, "115 119 111") {
			t.Errorf("%s shows the secret: %s", how, got)
		}
	}
	if got := fmt.Sprintf("%v|%s|%+v", s, s, struct{ S authn.Secret }{s}); got != "<hidden>|<hidden>|{S:<hidden>}" {
		t.Errorf("printed as %s", got)
	}
	if got := encoders["json"](map[string]any{"s": s}); got != `{"s":"\u003chidden\u003e"}` {
		t.Errorf("as JSON it is %s", got)
	}
}

var encoders = map[string]func(any) string{
	"json": func(v any) string { b, _ := json.Marshal(v); return string(b) },
	"xml":  func(v any) string { b, _ := xml.Marshal(v); return string(b) },
	"yaml": func(v any) string { b, _ := yaml.Marshal(v); return string(b) },
	"slog text": func(v any) string {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).With("w", v).WithGroup("g").Info("m", "v", v)
		return b.String()
	},
	"slog json": func(v any) string {
		var b bytes.Buffer
		slog.New(slog.NewJSONHandler(&b, nil)).With("w", v).WithGroup("g").Info("m", "v", v)
		return b.String()
	},
	"template": func(v any) string {
		var b bytes.Buffer
		_ = template.Must(template.New("").Parse("{{.}} {{printf \"%v\" .}}")).Execute(&b, v)
		return b.String()
	},
}

func TestSecretIsRead(t *testing.T) {
	var fromJSON, fromYAML struct{ S authn.Secret }
	if err := json.Unmarshal([]byte(`{"S": "open sesame"}`), &fromJSON); err != nil {
		t.Error(err)
	}
	if err := yaml.Unmarshal([]byte(`s: open sesame`), &fromYAML); err != nil {
		t.Error(err)
	}
	for _, s := range []authn.Secret{fromJSON.S, fromYAML.S, authn.NewSecret("open sesame")} {
		if s.Reveal() != "open sesame" || s.IsZero() {
			t.Errorf("holds %q", s.Reveal())
		}
	}
	for _, s := range []authn.Secret{{}, authn.NewSecret("")} {
		if s.Reveal() != "" || !s.IsZero() {
			t.Errorf("an empty one holds %q", s.Reveal())
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// updateEnv, if set, makes TestGolden write what it expects:
// AUTHN_UPDATE=1 go test ./pamshim/worker/internal/config
const updateEnv = "AUTHN_UPDATE"

func TestMain(m *testing.M) {
	unix.Umask(0o022)
	os.Exit(m.Run())
}

// folder is a folder that can be trusted, with testdata/files in it.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "files"))); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "writable"), "hunter2", 0o666)
	if err := os.Symlink("secret", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// load loads text as the file "config" of a folder.
func load(t testing.TB, dir, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(dir, "config")
	write(t, path, strings.ReplaceAll(text, "@DIR@", dir), 0o600)
	return Load(path)
}

// Each testdata/NAME.good.yaml is understood as NAME.good.txt says; each
// NAME.bad.yaml is refused with all the problems of NAME.bad.txt, at once.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := folder(t)
			c, err := load(t, dir, string(text))
			if good := strings.HasSuffix(file, ".good.yaml"); good != (err == nil) {
				t.Fatalf("Load: %v", err)
			}
			got := describe(c)
			if err != nil {
				got = err.Error() + "\n"
				if strings.Contains(got, "unter2") {
					t.Errorf("a value is repeated:\n%s", got)
				}
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", strings.ReplaceAll(got, dir, "@DIR@"))
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if os.Getenv(updateEnv) != "" {
		write(t, path, got, 0o644)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// describe writes all that was understood.
func describe(c *Config) string {
	if c == nil || c.Provider == nil {
		return ""
	}
	var b strings.Builder
	f := c.Framework
	fmt.Fprintf(&b, "run_as %q\nsha256 %s\nstep %v\n", f.RunAs, hex.EncodeToString(f.SHA256), f.Step)
	sorted(&b, "env", f.Env)
	sorted(&b, "file", f.Files)
	var indented bytes.Buffer
	if err := json.Indent(&indented, []byte(c.Provider.GetJson()), "", "  "); err != nil {
		return err.Error()
	}
	fmt.Fprintf(&b, "json\n%s\n", &indented)
	sorted(&b, "line", c.Provider.GetLines())
	fmt.Fprintf(&b, "values %q\n", c.secrets)
	for _, pointer := range c.secrets {
		if o, ok := c.origin[pointer]; ok {
			fmt.Fprintf(&b, "origin %q %s %v\n", pointer, o.path, o.mode)
		}
	}
	return b.String()
}

func sorted[V any](b *strings.Builder, name string, values map[string]V) {
	var lines []string
	for k, v := range values {
		lines = append(lines, fmt.Sprintf("%s %q %v\n", name, k, v))
	}
	sort.Strings(lines)
	b.WriteString(strings.Join(lines, ""))
}

// What a file is, whatever it says.
func TestDocuments(t *testing.T) {
	tests := []struct {
		name string
		text string
		want string // the JSON, or part of the problem
	}{
		{"an_empty_file_is_an_empty_configuration", "", "{}"},
		{"so_is_one_with_comments_only", "# nothing\n\n# here\n", "{}"},
		{"so_is_one_with_a_start_only", "---\n", "{}"},
		{"so_is_null", "null\n", "{}"},
		{"so_is_an_empty_mapping", "{}", "{}"},
		{"a_byte_order_mark_is_no_text", "\ufeffa: b\n", `{"a":"b"}`},
		{"windows_line_ends_are_line_ends", "a: b\r\nc:\r\n  - d\r\n", `{"a":"b","c":["d"]}`},
		{"the_last_line_needs_no_end", "a: b", `{"a":"b"}`},
		{"json_may_have_tabs", "{\n\t\"a\": 1,\n\t\"b\": [\n\t\ttrue\n\t]\n}\n", `{"a":1,"b":[true]}`},
		{"json_may_have_no_spaces", `{"a":{"b":[1,"c",null]}}`, `{"a":{"b":[1,"c",null]}}`},
		{"json_may_escape_letters", `{"a":"\u00e9\"\\\n"}`, `{"a":"é\"\\\n"}`},
		{"an_end_mark_ends_it", "a: b\n...\n", `{"a":"b"}`},
		{"a_version_may_be_given", "%YAML 1.1\n---\na: b\n", `{"a":"b"}`},

		{"a_second_document_is_refused", "a: b\n---\nc: d\n", "config: more than one document: remove what follows the line ---"},
		{"even_an_empty_one", "a: b\n---\n", "more than one document"},
		{"a_list_is_refused", "\n- a\n", "config:2: not keys and values"},
		{"text_is_refused", "hello", "config:1: not keys and values"},
		{"a_number_is_refused", "5", "config:1: not keys and values"},
		{"a_tab_is_refused_with_its_line", "a:\n\tb: c\n", "config:2: not YAML: found character that cannot start any token: put the text in quotes, and spaces in place of tabs"},
		{"what_is_no_text_is_refused", "a: \xff\n", "not YAML: "},
		{"a_control_character_is_refused", "a: \x01\n", "not YAML: control characters are not allowed"},
		{"utf16_is_read_or_refused", "\xff\xfea\x00:\x00 \x00b\x00\n\x00", `{"a":"b"}`},
		{"a_slash_that_only_json_escapes_is_refused", `{"a":"http:\/\/x"}`, "not YAML: found unknown escape character"},
		{"half_a_character_that_only_json_has_is_refused", `{"a":"\ud83d\ude00"}`, "not YAML: found invalid Unicode character escape code"},
		{"a_later_version_is_refused", "%YAML 2.0\n---\na: b\n", "not YAML: found incompatible YAML document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := load(t, folder(t), tt.text)
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("refused: %v", err)
			case err == nil && c.Provider.GetJson() != tt.want:
				t.Errorf("it is %s, want %s", c.Provider.GetJson(), tt.want)
			}
		})
	}
}

func TestLoadRefusesFilesThatAreNotSafe(t *testing.T) {
	dir := folder(t)
	write(t, filepath.Join(dir, "large"), "a: "+strings.Repeat("x", maxFile), 0o600)
	for file, want := range map[string]string{
		"none":     "/none: cannot open it: No such file or directory: write the provider's configuration ",
		"writable": "/writable can be written by others (mode 0666): chmod go-w",
		"link":     "/link is a symbolic link",
		"large":    "/large has more than 65536 bytes",
		"":         "not a regular file",
	} {
		c, err := Load(strings.TrimSuffix(filepath.Join(dir, file), "/"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s) = %v", file, err)
		}
		if c != nil || file == "none" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Load(%s) = %v, %v", file, c, err)
		}
	}
}

// What is written small can stand for much.
func TestWhatGrowsIsBounded(t *testing.T) {
	laughs := "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
	for i := 1; i < 10; i++ {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9), ","))
	}
	problems := "a: &a {" + strings.Repeat("k: 1, ", 5000) + "}\nb: [" + strings.Repeat("*a, ", 3000) + "]\n"
	files := ""
	for i := range 300 {
		files += fmt.Sprintf("k%d_file: @DIR@/much\n", i)
	}
	tests := []struct {
		name, text, want string
	}{
		{"a_billion_laughs", laughs, "config:1: the configuration has more than 98304 bytes"},
		{"empty_lists_without_end", "a: &a [[],[],[],[],[],[],[],[]]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d]\n", "has more than 98304 bytes"},
		{"itself_in_itself", "a: &a [*a]\n", "config:1: a[0][0]"},
		{"itself_in_itself_twice", "a: &a {b: *a, c: *a}\n", "nested too deeply"},
		{"mappings_in_mappings", strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), "nested too deeply"},
		{"problems_without_end", problems, "config: there are more problems: mend these first"},
		{"files_without_end", files, "has more than 98304 bytes"},
		{"values_without_end", "a: [" + strings.Repeat("1,", 30000) + "1]", "has more than 98304 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t)
			write(t, filepath.Join(dir, "much"), strings.Repeat("x", maxFile), 0o600)
			began := time.Now()
			c, err := load(t, dir, tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Load: %.1000v", err)
			}
			if n := strings.Count(fmt.Sprint(err), "\n"); n > maxProblems {
				t.Errorf("%d problems", n)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if c != nil && c.Provider != nil && len(c.Provider.GetJson()) > 2*maxConfig+maxFile {
				t.Errorf("%d bytes of JSON", len(c.Provider.GetJson()))
			}
		})
	}
}

func TestTheLargestConfigurationFitsOnTheWire(t *testing.T) {
	for name, text := range map[string]string{
		"one_value":   "a_file: @DIR@/much\n",
		"many_values": "a: [" + strings.Repeat("1,", 4000) + "1]\n",
		"many_keys":   strings.Repeat("k", 1) + "0: x\n" + keys(2500),
	} {
		dir := folder(t)
		write(t, filepath.Join(dir, "much"), strings.Repeat("x", maxFile), 0o600)
		c, err := load(t, dir, text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wire := len(c.Provider.GetJson())
		for pointer := range c.Provider.GetLines() {
			wire += len(pointer) + 12
		}
		if wire > maxConfig+100 {
			t.Errorf("%s: %d bytes on the wire", name, wire)
		}
	}
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%d: x\n", i)
	}
	return b.String()
}

func TestCheckSecrets(t *testing.T) {
	const text = `
client_id: mittens
client_secret: hunter2
oidc:
  - {issuer: x, client_secret: hunter2}
  - {issuer: y}
roles: {a: {key: hunter2}, b: {key: hunter2}}
"odd/~key": hunter2
pin_file: @DIR@/secret
`
	tests := []struct {
		name   string
		config os.FileMode
		file   os.FileMode // of pin_file's
		keys   []string
		want   []string // one part of each problem
	}{
		{"nobody_else_can_read_it", 0o600, 0o600, []string{"client_secret", "pin"}, nil},
		{"a_group_may", 0o640, 0o640, []string{"client_secret", "pin"}, nil},
		{"there_is_no_secret_in_it", 0o644, 0o644, []string{"other", "client_id/x", "oidc/*", "oidc"}, nil},
		{"no_key_is_secret", 0o644, 0o644, nil, nil},
		{"others_can_read_it", 0o644, 0o600, []string{"client_secret", "pin"},
			[]string{"config:3: client_secret is a secret, and others can read it: chmod o-rwx '@DIR@/config'"}},
		{"others_can_only_read_it", 0o604, 0o600, []string{"client_secret"}, []string{"config:3: client_secret is a secret"}},
		{"a_file_of_its_own_is_judged_itself", 0o600, 0o604, []string{"client_secret", "pin"},
			[]string{"config:9: pin is a secret, and others can read it: chmod o-rwx '@DIR@/secret'"}},
		{"any_item_of_a_list", 0o644, 0o600, []string{"oidc/*/client_secret"}, []string{"config:5: oidc.0.client_secret is a secret"}},
		{"any_key_of_a_mapping", 0o644, 0o600, []string{"roles/*/key"}, []string{"roles.a.key is a secret", "roles.b.key is a secret"}},
		{"all_of_them_at_once", 0o644, 0o644, []string{"client_secret", "oidc/*/client_secret", "pin"},
			[]string{"client_secret", "oidc.0.client_secret", "pin"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := folder(t)
			if _, err := load(t, dir, text); err != nil {
				t.Fatal(err)
			}
			for path, mode := range map[string]os.FileMode{"config": tt.config, "secret": tt.file} {
				if err := os.Chmod(filepath.Join(dir, path), mode); err != nil {
					t.Fatal(err)
				}
			}
			c, err := Load(filepath.Join(dir, "config"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			if err := c.CheckSecrets(tt.keys); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %d problems", got, len(tt.want))
			}
			for i, want := range tt.want {
				if !strings.Contains(got[i], strings.ReplaceAll(want, "@DIR@", dir)) || strings.Contains(got[i], "hunter2") {
					t.Errorf("problem %d is %s, want %s", i, got[i], want)
				}
			}
		})
	}
}

func TestFirstSecret(t *testing.T) {
	c, err := load(t, folder(t), "a: 1\nb: {c: 2}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		keys []string
		want string
	}{{nil, ""}, {[]string{"x"}, ""}, {[]string{"b"}, ""}, {[]string{"b/c"}, "b.c"}, {[]string{"b/*", "a"}, "a"}} {
		if got := c.FirstSecret(tt.keys); got != tt.want {
			t.Errorf("FirstSecret(%q) = %q, want %q", tt.keys, got, tt.want)
		}
	}
}

func TestCheckStep(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		own, providers time.Duration
		fine           bool
	}{{0, 0, true}, {s, 0, true}, {0, s, true}, {0, time.Minute, true}, {s, s, false}, {0, time.Minute + 1, false}} {
		c := &Config{Path: "/c", Framework: Framework{Step: tt.own}}
		if err := c.CheckStep(tt.providers, false); (err == nil) != tt.fine {
			t.Errorf("authn.timing.step %v and the provider's %v: %v", tt.own, tt.providers, err)
		}
		if err := c.CheckStep(tt.providers, true); (err == nil) != (tt.fine || tt.own > 0) {
			t.Errorf("authn.timing.step %v and the provider's default %v: %v", tt.own, tt.providers, err)
		}
	}
}

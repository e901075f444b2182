// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// A faultCase is a line with a configuration. In both, $DIR is the case's
// folder, $BIN that of the programs, and $AUTHN a line's usual words. want is
// what check finds: "" if nothing.
type faultCase struct {
	name   string
	words  string // behind $AUTHN, if it does not begin with provider=
	config string // $DIR/c.yaml
	spoil  func(t *testing.T, dir string)
	want   []string
	root   bool // for root only
}

const (
	goodHash  = pamtest.PhraseConfig
	badWord   = `is unknown; the words are provider=`
	scenarioP = "provider=$BIN/authn-scenario config=$DIR/c.yaml"
)

func mode(name string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
}

func write(name, text string, mode os.FileMode) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func spoilAll(all ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		for _, f := range all {
			f(t, dir)
		}
	}
}

func link(t *testing.T, dir string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, "c.yaml"), filepath.Join(dir, "d.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("d.yaml", filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
}

func chown(name string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		if err := os.Chown(filepath.Join(dir, name), pamtest.AliceUID, -1); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
}

var faultCases = []faultCase{
	{name: "good"},
	{name: "good_with_everything", words: "timeout=5s debug passphrase.x=y"},
	{name: "good_json", config: `{"hash": "$2b$04$PcIXFHywIc53hJ9NwvpKre0IIVBPMPQciCld6k1CMqESlWkpNcN1i"}`},
	{name: "good_secret_file", config: "hash_file: $DIR/hash", spoil: spoilAll(mode("c.yaml", 0o644),
		write("hash", "$2b$04$PcIXFHywIc53hJ9NwvpKre0IIVBPMPQciCld6k1CMqESlWkpNcN1i\n", 0o600))},

	{name: "unknown_word", words: "timout=5s", want: []string{`word "timout=5s" ` + badWord}},
	{name: "word_given_twice", words: "debug debug", want: []string{`word "debug": debug is given twice on this line; remove one`}},
	{name: "several_at_once", words: "foo timeout=5 bar.x=1 log=file", want: []string{
		`word "foo" ` + badWord, `word "timeout=5": write a duration`, `word "log=file": the log goes to syslog`,
		`word "bar.x=1" is for provider "bar", but this line's is "passphrase"`}},
	{name: "both_first_passes", words: "try_first_pass use_first_pass", want: []string{"exclude each other; remove one"}},
	{name: "long_timeout", words: "timeout=2h", want: []string{"write a duration from 1s to 1h"}},
	{name: "no_provider", words: "config=$DIR/c.yaml", want: []string{"the word provider= is missing"}},
	{name: "relative_config", words: "provider=$BIN/authn-passphrase config=c.yaml", want: []string{`word "config=c.yaml": write the whole path`}},
	{name: "bad_provider_name", words: "provider=Pass", want: []string{"a provider's name is of small letters"}},
	{name: "provider_missing", words: "provider=$BIN/authn-gone config=$DIR/c.yaml",
		want: []string{"the provider: $BIN/authn-gone: cannot open it: No such file or directory"}},
	{name: "worker_missing", words: "provider=$BIN/authn-passphrase config=$DIR/c.yaml worker=/nowhere/authn-worker",
		want: []string{"/nowhere: cannot open it: No such file or directory"}},

	{name: "config_missing", spoil: remove, want: []string{"$DIR/c.yaml: cannot open it: No such file or directory: write the provider's configuration to"}},
	{name: "config_writable", spoil: mode("c.yaml", 0o620), want: []string{"can be written by others (mode 0620): chmod go-w '$DIR/c.yaml'"}},
	{name: "folder_writable", spoil: mode(".", 0o777), want: []string{"can be written by others (mode 0777): chmod go-w '$DIR'"}},
	{name: "config_is_a_link", spoil: link, want: []string{"$DIR/c.yaml is a symbolic link: name the file itself"}},
	{name: "config_is_a_users", spoil: chown("c.yaml"), root: true, want: []string{"belongs to user 19991; it must be root's: chown root '$DIR/c.yaml'"}},
	{name: "config_too_large", config: "#" + strings.Repeat("x", 65<<10), want: []string{"$DIR/c.yaml has more than 65536 bytes"}},
	{name: "readable_secret", spoil: mode("c.yaml", 0o644), want: []string{"$DIR/c.yaml:1: hash is a secret, and others can read it: chmod o-rwx '$DIR/c.yaml'"}},
	{name: "readable_secret_file", config: "hash_file: $DIR/hash", spoil: write("hash", "$2b$04$PcIXFHywIc53hJ9NwvpKre0IIVBPMPQciCld6k1CMqESlWkpNcN1i", 0o644),
		want: []string{"$DIR/c.yaml:1: hash is a secret, and others can read it: chmod o-rwx '$DIR/hash'"}},
	{name: "secret_file_missing", config: "# a comment\nhash_file: $DIR/hash", want: []string{"$DIR/c.yaml:2: hash_file: $DIR/hash: cannot open it: No such file"}},
	{name: "secret_and_its_file", config: goodHash + "hash_file: $DIR/hash", spoil: write("hash", "x", 0o600),
		want: []string{"$DIR/c.yaml:2: hash_file: hash is given too, in line 1: remove one"}},

	{name: "not_yaml", config: "hash: [", want: []string{"$DIR/c.yaml:1: not YAML: "}},
	{name: "two_documents", config: "hash: x\n---\nhash: y\n", want: []string{"$DIR/c.yaml: more than one document"}},
	{name: "a_list", config: "- hash\n", want: []string{"$DIR/c.yaml:1: not keys and values"}},
	{name: "key_given_twice", config: goodHash + "hash: y\n", want: []string{"$DIR/c.yaml:2: hash: given twice, first in line 1: remove one"}},
	{name: "odd_number", config: "hash: 0x10\n", want: []string{"$DIR/c.yaml:1: hash: write the number in plain decimal"}},
	{name: "framework_keys", config: goodHash + "authn:\n  run_sa: x\n  run_as: root\n  sha256: abc\n  env: {LD_PRELOAD: x}\n  timing: {step: 5}\n  files: {a: b}\n",
		want: []string{
			"$DIR/c.yaml:3: authn.run_sa: unknown key; remove it or correct it", "$DIR/c.yaml:4: authn.run_as: wants the name of a system user",
			"$DIR/c.yaml:5: authn.sha256: wants 64 hexadecimal digits", "$DIR/c.yaml:6: authn.env.LD_PRELOAD: this variable cannot be set",
			"$DIR/c.yaml:7: authn.timing.step: wants a duration", "$DIR/c.yaml:8: authn.files.a: wants a whole path",
		}},
	{name: "no_such_user", config: goodHash + "authn: {run_as: nosuch}", root: true,
		want: []string{"there is no user nosuch for the provider to run as: make one with: adduser"}},
	{name: "another_program", config: goodHash + "authn: {sha256: " + strings.Repeat("ab", 32) + "}",
		want: []string{"its SHA-256 is not the one of authn.sha256"}},
	{name: "two_time_steps", words: scenarioP, config: "step: 1s\nauthn: {timing: {step: 1s}}\n",
		want: []string{"authn.timing.step is given and so is the provider's own key for it: remove one"}},

	{name: "providers_key", config: goodHash + "color: blue\nsize: 3\n",
		want: []string{"$DIR/c.yaml:2: color: unknown key", "$DIR/c.yaml:3: size: unknown key"}},
	{name: "provider_refuses", config: "hash: open sesame", want: []string{"$DIR/c.yaml:1: hash: not a bcrypt hash"}},
	{name: "provider_wants_a_key", config: "{}", want: []string{"$DIR/c.yaml: hash: not a bcrypt hash"}},
	{name: "provider_exits", words: "provider=$DIR/authn-script config=$DIR/c.yaml", spoil: write("authn-script", "#!/bin/sh\n", 0o755),
		want: []string{"the provider did not start: it exited at once"}},
	{name: "provider_prints", words: "provider=$DIR/authn-script config=$DIR/c.yaml", spoil: write("authn-script", "#!/bin/sh\necho hello\n", 0o755),
		want: []string{"the provider did not start: it is not a provider"}},
	{name: "provider_not_executable", words: "provider=$DIR/authn-script config=$DIR/c.yaml", spoil: write("authn-script", "x", 0o644),
		want: []string{"the provider: $DIR/authn-script is not executable: chmod a+x"}},
	{name: "provider_writable", words: "provider=$DIR/authn-script config=$DIR/c.yaml", spoil: write("authn-script", "x", 0o757),
		want: []string{"the provider: $DIR/authn-script can be written by others"}},
}

// TestCheckFindsWhatACallRefuses has authnctl check each case, and PAM call
// the module with it: what the call is refused for, check has found, and
// nothing is found where a call goes through.
func TestCheckFindsWhatACallRefuses(t *testing.T) {
	if os.Geteuid() == 0 {
		runFaultCases(t)
	}
	if pamtest.AsUser(t) {
		runFaultCases(t)
	}
}

func runFaultCases(t *testing.T) {
	tree := newTree(t)
	for _, tt := range faultCases {
		t.Run(tt.name, func(t *testing.T) {
			if tt.root && os.Geteuid() != 0 {
				t.Skip("needs root")
			}
			f := newFault(t, tree, tt)
			findings, code := f.check()
			f.compare(findings, tt.want)
			if want := min(1, len(tt.want)); code != want {
				t.Errorf("authnctl check exits with %d, want %d", code, want)
			}
			f.call(findings)
		})
	}
}

// A fault is a case being tested.
type fault struct {
	t       *testing.T
	tree    pamtest.Tree
	dir     string
	service string
}

func newFault(t *testing.T, tree pamtest.Tree, c faultCase) *fault {
	t.Helper()
	f := &fault{t, tree, pamtest.Dir(t), fmt.Sprintf("%s-%d", strings.ReplaceAll(c.name, "_", "-"), os.Geteuid())}
	if c.config == "" {
		c.config = goodHash
	}
	write("c.yaml", f.expand(c.config), 0o600)(t, f.dir)
	if c.spoil != nil {
		c.spoil(t, f.dir)
	}
	words := c.words
	if !strings.HasPrefix(words, "provider=") && c.name != "no_provider" {
		words = "provider=$BIN/authn-passphrase config=$DIR/c.yaml " + words
	}
	if !strings.Contains(words, "worker=") {
		words = "worker=$BIN/authn-worker " + words
	}
	pamd := filepath.Join(pamtest.Dir(t), "pam.d")
	if err := os.Mkdir(pamd, 0o755); err != nil {
		t.Fatal(err)
	}
	write(f.service, f.expand("# a comment\nauth required $BIN/pam_authn.so "+words+"\n"), 0o644)(t, pamd)
	f.service = filepath.Join(pamd, f.service)
	return f
}

func (f *fault) expand(text string) string {
	return strings.NewReplacer("$DIR", f.dir, "$BIN", f.tree.Dir).Replace(text)
}

// check returns the problems that check finds, less the rule's place.
func (f *fault) check() (findings []string, code int) {
	cmd := exec.Command(filepath.Join(f.tree.Dir, "authnctl"), "check", f.service)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // the exit code says it
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines[:len(lines)-1] {
		if !strings.Contains(line, ": notice: ") && !strings.HasPrefix(line, "1 PAM file") {
			findings = append(findings, strings.TrimPrefix(line, f.service+":2: "))
		}
	}
	return findings, cmd.ProcessState.ExitCode()
}

// compare holds findings against their beginnings or middles.
func (f *fault) compare(findings, want []string) {
	f.t.Helper()
	left := slices.Clone(findings)
	for _, w := range want {
		i := slices.IndexFunc(left, func(s string) bool { return strings.Contains(s, f.expand(w)) })
		if i < 0 {
			f.t.Errorf("check does not find %q", f.expand(w))
			continue
		}
		left = slices.Delete(left, i, i+1)
	}
	if len(left) > 0 {
		f.t.Errorf("check finds %q", left)
	}
}

// call logs in with the right phrase. The reason of a refusal must consist of
// nothing but findings.
func (f *fault) call(findings []string) {
	f.t.Helper()
	service := filepath.Base(f.service)
	respond := func(pam.Style, string) (string, error) { return pamtest.Phrase, nil }
	tx, err := pam.StartConfDir(service, "alice", pam.ConversationFunc(respond), filepath.Dir(f.service))
	if err != nil {
		f.t.Fatal(err)
	}
	defer tx.End() //nolint:errcheck // a test's
	err = tx.Authenticate(0)
	if want := len(findings) == 0; (err == nil) != want {
		f.t.Errorf("the call ends with %v, but check finds %q", err, findings)
	}
	if err == nil || os.Geteuid() != 0 {
		return // nothing was refused, or its log cannot be read
	}
	log := strings.Join(pamtest.Log(f.t, service), "\n")
	all := regexp.MustCompile(`result=system_err reason=("(?:[^"\\]|\\.)*")`).FindAllStringSubmatch(log, -1)
	if len(all) == 0 {
		f.t.Fatalf("no reason in the log: %s", log)
	}
	reason, err := strconv.Unquote(all[len(all)-1][1])
	if err != nil {
		f.t.Fatal(err)
	}
	slices.SortFunc(findings, func(a, b string) int { return len(b) - len(a) })
	rest := reason
	for _, finding := range findings {
		rest = strings.Replace(rest, finding, "", 1)
	}
	rest = strings.Trim(rest, "; ")
	cut, wasCut := strings.CutSuffix(rest, "...") // a log line is bounded
	if rest != "" && !(wasCut && slices.ContainsFunc(findings, func(f string) bool { return strings.HasPrefix(f, cut) })) {
		f.t.Errorf("the call was refused for\n%s\nof which check did not find\n%s", reason, rest)
	}
}

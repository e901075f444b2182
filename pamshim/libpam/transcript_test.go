// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/msteinert/pam/v2"
	"golang.org/x/tools/txtar"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// updateEnv has the transcripts rewritten with what happens now:
// AUTHN_UPDATE=1 go test ./pamshim/libpam
const updateEnv = "AUTHN_UPDATE"

// TestTranscripts plays testdata/*.txtar. Each is one transaction, or several
// one after the other: the stack (pam), the provider's configuration
// (scenario.yaml) and other files, what the application and its user do
// (host), and what comes of it (want). A line of host is a command of
// [play.command]; want repeats the calls among them with what the user saw and
// typed, the result, and the log less what differs from run to run.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts:", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			transcript(t, file)
		})
	}
}

func transcript(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := newPlay(t)
	var script, want string
	for _, f := range archive.Files {
		switch f.Name {
		case "host":
			script = string(f.Data)
		case "want":
			want = string(f.Data)
		case "pam":
			p.stack = string(f.Data)
		default:
			if err := os.MkdirAll(filepath.Dir(p.path(f.Name)), 0o755); err != nil { //nolint:gosec // trusted only so
				t.Fatal(err)
			}
			p.write(f.Name, 0o600, p.expand(string(f.Data)))
		}
	}
	for line := range strings.Lines(script) {
		if words := fields(t, line); len(words) > 0 {
			p.command(words)
		}
	}
	p.finish()
	got := p.out.String()
	if os.Getenv(updateEnv) != "" {
		update(t, file, archive, got)
	} else if got != want {
		t.Errorf("%s is not what happens (%s=1 rewrites it):\n%s", file, updateEnv, difference(got, want))
	}
}

// difference shows where two texts begin to differ.
func difference(got, want string) string {
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	same := 0
	for same < min(len(g), len(w)) && g[same] == w[same] {
		same++
	}
	rest := func(lines []string) string { return strings.Join(lines[same:min(len(lines), same+4)], "") }
	return fmt.Sprintf("%sgot\n%swant\n%s", strings.Join(g[max(0, same-3):same], ""), rest(g), rest(w))
}

func update(t *testing.T, file string, archive *txtar.Archive, got string) {
	t.Helper()
	if last := len(archive.Files) - 1; archive.Files[last].Name == "want" {
		archive.Files = archive.Files[:last]
	}
	archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil { //nolint:gosec // a test's own file
		t.Fatal(err)
	}
}

// A play is an app that follows a script.
type play struct {
	*app
	stack string
	user  string
	out   strings.Builder
	lines int            // of the log that are written to out already
	ids   map[string]int // references, numbered
}

func newPlay(t *testing.T) *play {
	return &play{
		app:  &app{t: t, dir: pamtest.Dir(t), service: fmt.Sprintf("svc%d", services.Add(1))},
		user: "alice",
		ids:  map[string]int{},
	}
}

// fields splits a line into words, of which some may be quoted as in Go.
// Nothing follows a #.
func fields(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	for {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			return words
		}
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		word, _ := strconv.Unquote(quoted)
		words, line = append(words, word), line[len(quoted):]
	}
}

// command does what a line says:
//
//	chmod MODE FILE, chown UID FILE, remove FILE, mkdir DIR,
//	copy FILE NEW, symlink TARGET FILE, fill FILE BYTES
//	pam LINE, user NAME        begins another transaction; alice without it
//	item NAME VALUE            rhost, tty or ruser
//	authtok USER NAME VALUE    answers the question for the user, and has the
//	                           host know a password (authtok or oldauthtok)
//	putenv NAME=VALUE          into the PAM environment
//	answer TEXT, fail          at the next prompt
//	authenticate, account, setcred OP, open_session, close_session,
//	chauthtok                  the call, with "silent" or "expired" behind it
//	environment                writes the PAM environment
//	end                        ends the transaction; what follows begins another
func (p *play) command(words []string) {
	p.t.Helper()
	name, args := words[0], words[1:]
	if files[name] != nil {
		if err := files[name](p, args); err != nil {
			p.t.Fatalf("%s: %v", words, err)
		}
		return
	}
	switch name {
	case "pam":
		p.finish()
		p.stack = strings.Join(args, " ") + "\n"
		p.printf("> %s", strings.Join(words, " "))
		return
	case "user":
		p.finish()
		p.user = args[0]
		return
	}
	if p.tx == nil {
		p.start(p.user, p.stack)
	}
	switch name {
	case "item":
		p.try(p.tx.SetItem(items[args[0]], args[1]))
	case "putenv":
		p.try(p.tx.PutEnv(args[0]))
	case "authtok":
		p.answerWith(func() (string, error) {
			// libpam takes these items from modules only, one of which asks.
			return args[0], p.tx.SetItem(items[args[1]], args[2])
		})
	case "answer":
		p.answer(args...)
	case "fail":
		p.answerWith(func() (string, error) { return "", errGone })
	case "environment":
		for _, v := range p.environment() {
			p.printf("env %s", v)
		}
	case "end":
		p.finish()
	default:
		p.call(words)
	}
}

var files = map[string]func(p *play, args []string) error{
	"chmod": func(p *play, args []string) error {
		mode, err := strconv.ParseUint(args[0], 8, 32)
		if err != nil {
			return err
		}
		return syscall.Chmod(p.path(args[1]), uint32(mode)) // package os has other numbers for the sticky bit
	},
	"chown": func(p *play, args []string) error {
		uid, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		return os.Chown(p.path(args[1]), uid, -1)
	},
	"remove":  func(p *play, args []string) error { return os.RemoveAll(p.path(args[0])) },
	"mkdir":   func(p *play, args []string) error { return os.MkdirAll(p.path(args[0]), 0o755) },
	"symlink": func(p *play, args []string) error { return os.Symlink(p.path(args[0]), p.path(args[1])) },
	"copy": func(p *play, args []string) error {
		pamtest.CopyFile(p.t, p.path(args[0]), p.path(args[1]), 0o755)
		return nil
	},
	"fill": func(p *play, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return os.WriteFile(p.path(args[0]), []byte(strings.Repeat("#", n)), 0o600)
	},
}

var items = map[string]pam.Item{
	"rhost": pam.Rhost, "tty": pam.Tty, "ruser": pam.Ruser,
	"authtok": pam.Authtok, "oldauthtok": pam.Oldauthtok,
}

func (p *play) try(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

var callFlags = map[string]pam.Flags{
	"silent": pam.Silent, "expired": pam.ChangeExpiredAuthtok,
	"establish": pam.EstablishCred, "delete": pam.DeleteCred,
	"reinitialize": pam.ReinitializeCred, "refresh": pam.RefreshCred,
}

// call makes a call and writes what came of it.
func (p *play) call(words []string) {
	p.t.Helper()
	calls := map[string]func(pam.Flags) error{
		"authenticate": p.tx.Authenticate, "account": p.tx.AcctMgmt, "setcred": p.tx.SetCred,
		"open_session": p.tx.OpenSession, "close_session": p.tx.CloseSession, "chauthtok": p.tx.ChangeAuthTok,
	}
	call := calls[words[0]]
	if call == nil {
		p.t.Fatalf("no command %q", words)
	}
	var flags pam.Flags
	for _, word := range words[1:] {
		flag, ok := callFlags[word]
		if !ok {
			p.t.Fatalf("no flag %q", words)
		}
		flags |= flag
	}
	p.printf("> %s", strings.Join(words, " "))
	err := call(flags)
	for _, line := range p.saw() {
		p.printf("%s", line)
	}
	p.printf("= %s", wordOf(err))
	log := p.log()
	for _, line := range log[p.lines:] {
		p.printf("log %s", line)
	}
	p.lines = len(log)
}

// finish ends the transaction.
func (p *play) finish() {
	if p.tx == nil {
		return
	}
	if len(p.answers) > 0 {
		p.t.Errorf("%d answers were not asked for", len(p.answers))
	}
	if err := p.tx.End(); err != nil {
		p.t.Errorf("pam_end: %v", err)
	}
	p.tx, p.answers = nil, nil
}

var (
	referenceForm = regexp.MustCompile(`\b(id=|reference |AUTHN_ID=)([0-9a-f]{6})\b`)
	numberForm    = regexp.MustCompile(` ms=\d+ | process \d+|misbehave:\d+`)
	digits        = regexp.MustCompile(`\d+`)
)

// printf writes a line with what differs from run to run replaced.
func (p *play) printf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	for _, w := range p.words()[2:] {
		line = strings.ReplaceAll(line, w[1], w[0])
	}
	line = numberForm.ReplaceAllStringFunc(line, func(found string) string { return digits.ReplaceAllString(found, "N") })
	line = referenceForm.ReplaceAllStringFunc(line, func(found string) string {
		m := referenceForm.FindStringSubmatch(found)
		if p.ids[m[2]] == 0 {
			p.ids[m[2]] = len(p.ids) + 1
		}
		return fmt.Sprintf("%sID%d", m[1], p.ids[m[2]])
	})
	p.out.WriteString(line + "\n")
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

func TestMain(m *testing.M) {
	// Tests wait for processes and for times to pass, and hardly compute.
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // there is such a flag
	pamtest.Main(m)
}

// An app is a PAM application with one transaction.
type app struct {
	t       testing.TB
	dir     string // $DIR
	service string
	tx      *pam.Transaction

	answers []func() (string, error) // for the prompts to come
	shown   []string                 // what the user saw and typed
	heard   func(text string)        // if set, called with each text that asks nothing
}

var services atomic.Int32

// newApp starts a transaction of user with a service of its own. In stack and
// config, $AUTHN stands for the module with everything that it needs, and the
// other names are those of [app.expand].
func newApp(t testing.TB, user, stack, config string) *app {
	t.Helper()
	a := &app{t: t, dir: pamtest.Dir(t), service: fmt.Sprintf("svc%d", services.Add(1))}
	a.write("scenario.yaml", 0o600, a.expand(config))
	a.start(user, stack)
	return a
}

// start starts a transaction, with the stack in a folder of its own.
func (a *app) start(user, stack string) {
	a.t.Helper()
	confdir := filepath.Join(a.dir, "pam.d")
	if err := os.MkdirAll(confdir, 0o755); err != nil {
		a.t.Fatal(err)
	}
	a.write(filepath.Join("pam.d", a.service), 0o644, a.expand(stack))
	tx, err := pam.StartConfDir(a.service, user, pam.ConversationFunc(a.respond), confdir)
	if err != nil {
		a.t.Fatalf("pam_start_confdir: %v", err)
	}
	a.tx = tx
	a.t.Cleanup(func() {
		if err := tx.End(); err != nil {
			a.t.Errorf("pam_end: %v", err)
		}
	})
}

func (a *app) write(name string, mode os.FileMode, text string) string {
	a.t.Helper()
	path := a.path(name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		a.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		a.t.Fatal(err)
	}
	return path
}

// path is name, below $DIR if it is relative.
func (a *app) path(name string) string {
	name = a.expand(name)
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(a.dir, name)
}

// words are what names stand for: $AUTHN is all of a line's words that are
// needed, $BARE those before config=. $SERVICE is another one in each test.
func (a *app) words() [][2]string {
	tree := pamtest.Shared(a.t)
	bare := tree.Module() + " worker=" + tree.Worker() + " provider=" + tree.Provider("scenario")
	return [][2]string{
		{"$AUTHN", bare + " config=" + filepath.Join(a.dir, "scenario.yaml")},
		{"$BARE", bare},
		{"$MODULE", tree.Module()},
		{"$BIN", tree.Dir},
		{"$DIR", a.dir},
		{"$SERVICE", a.service},
		{"$SHA256", sum(a.t, tree.Provider("scenario"))},
	}
}

var sums sync.Map

// sum is the file's SHA-256.
func sum(t testing.TB, path string) string {
	t.Helper()
	if s, ok := sums.Load(path); ok {
		return s.(string)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%x", sha256.Sum256(data))
	sums.Store(path, s)
	return s
}

func (a *app) expand(text string) string {
	for _, w := range a.words() {
		text = strings.ReplaceAll(text, w[0], w[1])
	}
	return text
}

// answer queues what the user types at the next prompts.
func (a *app) answer(texts ...string) {
	for _, text := range texts {
		a.answerWith(func() (string, error) { return text, nil })
	}
}

// answerWith queues what happens at the next prompt.
func (a *app) answerWith(f func() (string, error)) { a.answers = append(a.answers, f) }

var errGone = errors.New("the user has gone")

// respond is the application's conversation.
func (a *app) respond(style pam.Style, text string) (string, error) {
	name := map[pam.Style]string{
		pam.PromptEchoOn: "prompt", pam.PromptEchoOff: "secret", pam.ErrorMsg: "error", pam.TextInfo: "info",
	}[style]
	if style == pam.ErrorMsg || style == pam.TextInfo {
		a.shown = append(a.shown, fmt.Sprintf("%s %q", name, text))
		if a.heard != nil {
			a.heard(text)
		}
		return "", nil
	}
	if len(a.answers) == 0 {
		a.shown = append(a.shown, fmt.Sprintf("%s %q, and nobody answers", name, text))
		return "", errGone
	}
	next := a.answers[0]
	a.answers = a.answers[1:]
	answer, err := next()
	if err != nil {
		a.shown = append(a.shown, fmt.Sprintf("%s %q, and the conversation fails", name, text))
		return "", err
	}
	a.shown = append(a.shown, fmt.Sprintf("%s %q, typed %q", name, text, answer))
	return answer, nil
}

// saw returns what the user saw since the last call of saw.
func (a *app) saw() []string {
	shown := a.shown
	a.shown = nil
	return shown
}

// want fails unless err is what PAM returns for word.
func (a *app) want(word string, err error) {
	a.t.Helper()
	if got := wordOf(err); got != word {
		a.t.Errorf("PAM returned %s, want %s; the user saw %q, the log says\n%s", got, word, a.shown, strings.Join(a.log(), "\n"))
	}
}

// wordOf is pam.conf's word for what libpam returned.
func wordOf(err error) string {
	if err == nil {
		return authn.Success.Error()
	}
	var status pam.Error
	if !errors.As(err, &status) {
		return err.Error()
	}
	return authn.Result(status).Error()
}

var (
	severities = strings.Fields("emerg alert crit err warning notice info debug")
	logForm    = regexp.MustCompile(`(?s)^<8(\d)>\w+\[\d+\]: pam_authn\(\w+:(\w+)\): (.*)$`)
)

// log returns the service's log lines as "severity group: fields", less the
// remark that a kernel has no Landlock.
func (a *app) log() []string {
	a.t.Helper()
	if os.Geteuid() != 0 {
		return nil // in AsUser
	}
	var lines []string
	for _, line := range pamtest.Log(a.t, a.service) {
		m := logForm.FindStringSubmatch(line)
		if m == nil {
			a.t.Errorf("a strange line in the log: %q", line)
			continue
		}
		if !strings.Contains(m[3], "Landlock") {
			lines = append(lines, fmt.Sprintf("%s %s: %s", severities[m[1][0]-'0'], m[2], m[3]))
		}
	}
	return lines
}

// lastLog is the last log line.
func (a *app) lastLog() string {
	a.t.Helper()
	lines := a.log()
	if len(lines) == 0 {
		a.t.Fatal("nothing in the log")
	}
	return lines[len(lines)-1]
}

// environment lists the PAM environment.
func (a *app) environment() []string {
	a.t.Helper()
	list, err := a.tx.GetEnvList()
	if err != nil {
		a.t.Fatal(err)
	}
	var all []string
	for name, value := range list {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

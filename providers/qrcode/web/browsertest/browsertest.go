// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package browsertest plays the phone: a headless Chromium with a virtual
// authenticator and a camera that sees pictures of the caller's.
//
// It drives phone.mjs, a program for Node that needs playwright-core from
// providers/qrcode/web ("npm ci --ignore-scripts" there) and Debian's chromium.
// Whatever the test is about, it fails if the page breaks its content security
// policy, throws, or asks an origin that was neither opened nor allowed.
package browsertest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// TB is what this package needs of a [testing.TB], so that programs can use it,
// too: [hosttest.TB] of pamshim is one.
//
// [hosttest.TB]: https://pkg.go.dev/github.com/pam-authn/pam-authn/pamshim/hosttest#TB
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
}

// Options says what kind of phone it is. The zero value is a phone of 390x844
// in light colours with a camera and an empty authenticator.
type Options struct {
	Desktop         bool     // a screen of 1280x800 and a mouse
	Dark            bool     // prefers dark colours
	NoCamera        bool     // the person does not allow the camera
	NoAuthenticator bool     // there is nothing to keep passkeys in
	Allow           []string // origins that the page may ask besides those opened, such as an issuer's
	Scripts         []string // run before each page's own, to take things away from a browser
	Args            []string // further arguments of Chromium's
	Resolve         []string // rules like "MAP login.test 127.0.0.1"; no other name but localhost resolves
	// IgnoreCertificates accepts any TLS certificate.
	IgnoreCertificates bool
	// Tolerate keeps what the page did wrong from failing the test: see
	// [Phone.Problems].
	Tolerate bool
}

// A Credential is a passkey as Chrome's virtual authenticator keeps it.
type Credential struct {
	CredentialID        string `json:"credentialId"` // base64, as are the others
	IsResidentCredental bool   `json:"isResidentCredential"`
	RPID                string `json:"rpId,omitempty"`
	PrivateKey          string `json:"privateKey"` // PKCS #8
	UserHandle          string `json:"userHandle,omitempty"`
	SignCount           int    `json:"signCount"`
	BackupEligibility   *bool  `json:"backupEligibility,omitempty"`
	BackupState         *bool  `json:"backupState,omitempty"`
	UserName            string `json:"userName,omitempty"`
	UserDisplayName     string `json:"userDisplayName,omitempty"`
}

// A Violation is what axe-core found wrong for people with disabilities.
type Violation struct {
	ID     string   `json:"id"`
	Impact string   `json:"impact"` // minor, moderate, serious, critical
	Help   string   `json:"help"`
	Nodes  []string `json:"nodes"`
}

// patience is how long one command may take, a state's arrival included.
const patience = 30 * time.Second

// A Phone is a browser with one page. Its methods fail the test where what they
// ask for does not happen; they are for one goroutine at a time.
type Phone struct {
	tb       TB
	options  Options
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	answers  chan answer
	last     int
	video    string
	stderr   *tail
	closed   sync.Once
	patience time.Duration
}

type answer struct {
	ID    int             `json:"id"`
	Value json.RawMessage `json:"value"`
	Error string          `json:"error"`
}

// Missing says what of the programs that a phone needs is not installed, and
// how to get it; nil if all is there.
func Missing() error {
	if _, err := exec.LookPath("node"); err != nil {
		return errors.New("node is missing: install Node 20 or newer")
	}
	if _, err := chromium(); err != nil {
		return err
	}
	dir, err := folder()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "..", "node_modules", "playwright-core")); err != nil {
		return errors.New(`playwright-core is missing: run "npm ci --ignore-scripts" in providers/qrcode/web`)
	}
	return nil
}

func chromium() (string, error) {
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path, nil
		}
	}
	return "", errors.New("chromium is missing: apt-get install chromium, or name a browser in $CHROMIUM")
}

// folder finds phone.mjs in the source tree that the working directory is in,
// or in the one that $AUTHN_SOURCE names.
func folder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if root := os.Getenv("AUTHN_SOURCE"); root != "" {
		dir = root
	}
	for {
		try := filepath.Join(dir, "providers", "qrcode", "web", "browsertest")
		if _, err := os.Stat(filepath.Join(try, "phone.mjs")); err == nil { //nolint:gosec // whoever sets the variable runs the tests
			return try, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("browsertest: not in a source tree of pam-authn")
		}
		dir = up
	}
}

// Start starts a browser, which ends with the test. Where programs are missing
// it skips the test, or fails it if CI is "true".
func Start(tb TB, o Options) *Phone {
	tb.Helper()
	if err := Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("%v", err)
		}
		tb.Skipf("%v", err)
		return nil
	}
	// On a machine without a free core, a browser may fail to start once.
	for try := 1; ; try++ {
		p := &Phone{tb: tb, options: o, answers: make(chan answer, 1), stderr: &tail{}, patience: patience}
		err := p.start()
		if err == nil {
			tb.Cleanup(p.Close)
			return p
		}
		p.kill()
		if try >= 2 {
			tb.Fatalf("browser: %v\n%s", err, p.stderr)
		}
		tb.Logf("browser: %v; trying again\n%s", err, p.stderr)
	}
}

func (p *Phone) start() error {
	dir, err := folder()
	if err != nil {
		return err
	}
	browser, err := chromium()
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "authn-phone-")
	if err != nil {
		return err
	}
	p.tb.Cleanup(func() { _ = os.RemoveAll(scratch) })
	p.video = filepath.Join(scratch, "camera.y4m")
	if err := writeVideo(p.video, blank()); err != nil {
		return err
	}
	settings, err := json.Marshal(p.settings(browser))
	if err != nil {
		return err
	}
	p.cmd = exec.Command("node", filepath.Join(dir, "phone.mjs"), string(settings)) //nolint:gosec // a file of the source tree's
	p.cmd.Env = append(os.Environ(), "HOME="+scratch, "TMPDIR="+scratch)
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go p.read(stdout)
	_, err = p.receive(0)
	return err
}

// settings are what phone.mjs is told.
func (p *Phone) settings(browser string) map[string]any {
	o := p.options
	return map[string]any{
		"chromium": browser, "video": p.video, "desktop": o.Desktop, "dark": o.Dark, "noCamera": o.NoCamera,
		"noAuthenticator": o.NoAuthenticator, "allow": o.Allow, "scripts": o.Scripts, "args": o.Args,
		"resolve": o.Resolve, "ignoreCertificates": o.IgnoreCertificates, "timeout": (patience / 2).Milliseconds(),
	}
}

func (p *Phone) read(stdout io.Reader) {
	defer close(p.answers)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var a answer
		if json.Unmarshal(lines.Bytes(), &a) == nil {
			p.answers <- a
		}
	}
}

func (p *Phone) receive(id int) (json.RawMessage, error) {
	timeout := time.After(p.patience)
	for {
		select {
		case a, open := <-p.answers:
			switch {
			case !open:
				return nil, errors.New("the browser's program ended")
			case a.ID != id:
				continue
			case a.Error != "":
				return nil, errors.New(a.Error)
			}
			return a.Value, nil
		case <-timeout:
			return nil, errors.New("no answer in time")
		}
	}
}

// try carries out one command and decodes its answer into out, unless nil.
func (p *Phone) try(name string, args map[string]any, out any) error {
	p.last++
	message := map[string]any{"id": p.last, "do": name}
	for k, v := range args {
		message[k] = v
	}
	line, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the browser's program ended: %w", err)
	}
	value, err := p.receive(p.last)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(value, out)
}

func (p *Phone) do(name string, args map[string]any, out any) {
	p.tb.Helper()
	if err := p.try(name, args, out); err != nil {
		p.tb.Fatalf("phone: %s %v: %v\n%s", name, args, err, p.stderr)
	}
}

// Close ends the browser and reports what the page did wrong. The test's end
// calls it, too.
func (p *Phone) Close() {
	p.tb.Helper()
	p.closed.Do(func() {
		p.tb.Helper()
		var problems []string
		if err := p.try("problems", nil, &problems); err != nil {
			p.tb.Errorf("phone: %v\n%s", err, p.stderr)
		}
		p.kill()
		if p.options.Tolerate {
			return
		}
		for _, problem := range slices.Compact(problems) {
			p.tb.Errorf("phone: %s", problem)
		}
	})
}

// kill lets the program end by itself, which takes the browser along, and
// insists after a while.
func (p *Phone) kill() {
	if p.cmd == nil || p.cmd.Process == nil {
		return
	}
	_ = p.stdin.Close()
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	for range p.answers { // until the program has ended
	}
	_ = p.cmd.Wait()
}

// tail keeps the end of what a program complains of.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if n := len(t.text) - 4096; n > 0 {
		t.text = t.text[n:]
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

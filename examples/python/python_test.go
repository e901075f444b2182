// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package python_test runs the provider in Python over the real wire, as the
// worker does.
package python_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/scrypt"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

const (
	interpreter = "/usr/bin/python3" // the script's own, not the PATH's
	phrase      = "open sesame"
	file        = "/etc/authn/python.yaml"
)

func TestTheRightPhraseOpens(t *testing.T) {
	p := start(t)
	id, err := p.Authenticate(t.Context(), &authn.Request{Service: "sshd", User: "mittens"}, types(phrase))
	if err != nil {
		t.Fatal(err)
	}
	if id.Subject != "mittens" {
		t.Errorf("subject is %q, want mittens", id.Subject)
	}
}

func TestAWrongPhraseIsRefused(t *testing.T) {
	p := start(t)
	for _, typed := range []string{"", "open", phrase + " ", "\xff\xfe", strings.Repeat("x", 8<<10)} {
		_, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, types(typed))
		wantResult(t, err, authn.ErrAuth)
		if typed != "" && strings.Contains(err.Error(), typed) && !strings.Contains("wrong phrase: auth_err", typed) {
			t.Errorf("the error shows what was typed: %v", err)
		}
	}
}

func TestASubjectThatIsNotTextIsAFault(t *testing.T) {
	p := start(t)
	for _, user := range []string{"", "mit\xfftens", "a\nb"} {
		_, err := p.Authenticate(t.Context(), &authn.Request{User: user}, types(phrase))
		wantResult(t, err, authn.ErrSystem)
	}
}

func TestAUserWhoIsGoneIsConvErr(t *testing.T) {
	p := start(t)
	gone := &user{answer: func() (string, error) { return "", fmt.Errorf("hung up: %w", authn.ErrConv) }}
	_, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, gone)
	wantResult(t, err, authn.ErrConv)
}

func TestUseFirstPassIsAuthErr(t *testing.T) {
	p := start(t)
	once := &user{answer: func() (string, error) { return "", fmt.Errorf("use_first_pass: %w", authn.ErrAuth) }}
	_, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, once)
	wantResult(t, err, authn.ErrAuth)
}

func TestCancellingMidPromptReturnsAtOnce(t *testing.T) {
	p := start(t)
	began := time.Now()
	for range 8 { // more than the module has threads: what lingers would block the next call
		ctx, cancel := context.WithCancel(t.Context())
		leaves := &user{answer: func() (string, error) {
			cancel()
			return "", authn.ErrConv
		}}
		if _, err := p.Authenticate(ctx, &authn.Request{User: "mittens"}, leaves); err == nil {
			t.Fatal("a cancelled call succeeded")
		}
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestCapabilitiesAreThoseOfTheClass(t *testing.T) {
	p := start(t)
	if _, ok := authn.As[authn.AccountManager](p); !ok {
		t.Error("no AccountManager")
	}
	if _, ok := authn.As[authn.SessionManager](p); ok {
		t.Error("a SessionManager that nobody wrote")
	}
	d := p.Description()
	if d.Version != "1.0" || len(d.SecretKeys) != 1 || d.SecretKeys[0] != "hash" {
		t.Errorf("it describes itself as %q with secrets %q", d.Version, d.SecretKeys)
	}
}

func TestBlockedAccountsAreTurnedAway(t *testing.T) {
	p := start(t)
	manager, _ := authn.As[authn.AccountManager](p)
	if err := manager.CheckAccount(t.Context(), &authn.Request{User: "mittens"}, &user{}); err != nil {
		t.Errorf("mittens: %v", err)
	}
	wantResult(t, manager.CheckAccount(t.Context(), &authn.Request{User: "mallory"}, &user{}), authn.ErrPermDenied)
}

func TestAnUnannouncedCallIsAFault(t *testing.T) {
	p := start(t)
	wantResult(t, p.OpenSession(t.Context(), &authn.Request{User: "mittens"}, &user{}), authn.ErrSystem)
}

func TestCheckAcceptsAGoodConfiguration(t *testing.T) {
	p := start(t)
	started := false
	p.Started = func(step time.Duration, _ bool) error {
		started = true
		if step != 0 {
			t.Errorf("a step of %s that nobody asked for", step)
		}
		return nil
	}
	if err := p.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if !started {
		t.Error("no Started")
	}
}

func TestABadConfigurationIsToldWithKeyAndLine(t *testing.T) {
	p := start(t)
	p.Config = &wire.Config{
		File: file,
		Json: `{"salt":"AAAA","hash":"a secret in the wrong place","blocked":"mallory","a/b":1}`,
		Lines: map[string]uint32{
			"/salt": 3, "/hash": 4, "/blocked": 7, "/a~1b": 9,
		},
	}
	_, authErr := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, &user{})
	for name, err := range map[string]error{"check": p.Check(t.Context()), "authenticate": authErr} {
		t.Run(name, func(t *testing.T) {
			wantResult(t, err, authn.ErrSystem)
			for _, want := range []string{
				file + ":3: salt: wants at least 16 bytes",
				file + ":4: hash: wants at least 64 bytes",
				file + ":7: blocked: wants a list",
				file + ":9: a/b: unknown key; remove it or correct it to one of: blocked, hash, salt",
			} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "secret in") {
				t.Errorf("the error shows a value:\n%v", err)
			}
		})
	}
}

func TestAnEmptyConfigurationLetsNobodyIn(t *testing.T) {
	p := start(t)
	p.Config = &wire.Config{File: file}
	_, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, &user{})
	wantResult(t, err, authn.ErrSystem)
	if !strings.Contains(err.Error(), file+": hash: ") {
		t.Errorf("the missing key is not named: %v", err)
	}
}

// gRPC's Python library does not say who is at the other end: the module looks
// at its own sockets.
func TestAConnectionOfAnotherProcessEndsTheService(t *testing.T) {
	p := start(t)
	if err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	stranger := exec.Command(interpreter, "-c",
		"import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('connected', flush=True); sys.stdin.read()",
		filepath.Join(p.dir, "provider.sock"))
	hold, err := stranger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := stranger.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = hold.Close(); _ = stranger.Wait() }()
	if _, err := said.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	// The provider sees the connection as soon as its gRPC has accepted it.
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := p.Check(t.Context()); err != nil {
			wantResult(t, err, authn.ErrSystem)
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("calls are served while another process is connected")
		}
	}
}

// Other processes of the same user must not open a provider's memory, and
// only its own user may reach its socket. /proc shows root as the owner of a
// process that is not dumpable, which says something where that is not its
// user: root runs it as nobody here.
func TestTheProcessIsClosedToOthers(t *testing.T) {
	need(t)
	uid, script := uint32(os.Geteuid()), absolute(t, "authn-python") //nolint:gosec // a uid
	if uid == 0 {
		uid, script = 65534, readable(t)
	}
	p := startAs(t, uid, script)
	mem, err := os.Stat(fmt.Sprintf("/proc/%d/mem", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	if owner := mem.Sys().(*syscall.Stat_t).Uid; owner != 0 {
		t.Errorf("its memory belongs to uid %d: it is dumpable", owner)
	}
	socket, err := os.Stat(filepath.Join(p.dir, "provider.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if socket.Mode().Perm()&0o077 != 0 {
		t.Errorf("the socket has mode %v", socket.Mode())
	}
	if _, err := p.Authenticate(t.Context(), &authn.Request{User: "mittens"}, types(phrase)); err != nil {
		t.Error(err)
	}
}

// readable copies the provider to where every user may read it.
func readable(t *testing.T) string {
	t.Helper()
	dir := socketDir(t)
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // meant to be readable
		t.Fatal(err)
	}
	for _, name := range []string{"authn-python", "authn_provider.py", "authn_pb2.py"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o755); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "authn-python")
}

func TestStdoutIsTheHandshakeAlone(t *testing.T) {
	need(t)
	dir := socketDir(t)
	cmd := provider(absolute(t, "authn-python"))
	cmd.Env = append(cmd.Env, plugin.Handshake.MagicCookieKey+"="+plugin.Handshake.MagicCookieValue,
		"PLUGIN_PROTOCOL_VERSIONS=1", "PLUGIN_UNIX_SOCKET_DIR="+dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	all, err := io.ReadAll(stdout) // the module closes it behind the handshake
	if err != nil {
		t.Fatal(err)
	}
	if want := "1|1|unix|" + dir + "/provider.sock|grpc|\n"; string(all) != want {
		t.Errorf("stdout is %q, want %q", all, want)
	}
}

func TestItEndsWithItsWorker(t *testing.T) {
	need(t)
	cmd := provider(absolute(t, "authn-python"))
	shell := exec.Command("/bin/sh", "-c", `"$@" & read -r _; echo $!`, "sh")
	shell.Args = append(shell.Args, cmd.Args...)
	shell.Env = append(cmd.Env, plugin.Handshake.MagicCookieKey+"="+plugin.Handshake.MagicCookieValue,
		"PLUGIN_UNIX_SOCKET_DIR="+socketDir(t))
	handshake, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	worker, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake.Read(make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	_ = worker.Close()
	var pid int
	if _, err := fmt.Fscan(handshake, &pid); err != nil {
		t.Fatal(err)
	}
	_ = shell.Wait()
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatal("it outlives its worker")
		}
	}
}

// alive says whether pid runs; a zombie, whose parent is this machine's
// business, does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestByHandItExplainsItself(t *testing.T) {
	need(t)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("./authn-python")
	cmd.Env = []string{"PYTHONDONTWRITEBYTECODE=1"}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Errorf("it ended with %v, want exit status 2", err)
	}
	if stdout.Len() != 0 || !strings.HasPrefix(stderr.String(), "authn-python is a provider for pam_authn") {
		t.Errorf("stdout %q, stderr:\n%s", &stdout, &stderr)
	}
}

func TestGeneratedCodeIsFresh(t *testing.T) {
	version, err := exec.Command("protoc", "--version").Output()
	switch {
	case err != nil:
		skip(t, "protoc is missing: apt-get install protobuf-compiler")
	case !bytes.HasPrefix(version, []byte("libprotoc 3.21.")):
		skip(t, fmt.Sprintf("protoc is %s, and authn_pb2.py is made with 3.21", bytes.TrimSpace(version)))
	}
	out := t.TempDir()
	if text, err := exec.Command("./generate.sh", out).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, text)
	}
	want, err := os.ReadFile(filepath.Join(out, "authn_pb2.py"))
	if err != nil {
		t.Fatal(err)
	}
	if have, err := os.ReadFile("authn_pb2.py"); err != nil || !bytes.Equal(have, want) {
		t.Errorf("authn_pb2.py is stale, run ./generate.sh (%v)", err)
	}
}

// BenchmarkStart is what a login waits for: process, handshake, Describe.
func BenchmarkStart(b *testing.B) {
	need(b)
	goodConfig()
	for b.Loop() {
		start(b).Kill()
	}
}

// process is the running provider with its folder.
type process struct {
	*plugin.Process
	dir string
}

// start starts the example as the worker does, and connects to it.
func start(t testing.TB) process {
	t.Helper()
	return startAs(t, uint32(os.Geteuid()), absolute(t, "authn-python")) //nolint:gosec // a uid
}

func startAs(t testing.TB, uid uint32, script string) process {
	t.Helper()
	need(t)
	dir := socketDir(t)
	cmd := provider(script)
	if int(uid) != os.Geteuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		if err := os.Chown(dir, int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
	}
	var stderr output
	p, err := plugin.Start(plugin.Options{Cmd: cmd, UID: uid, Dir: dir, Stderr: &stderr})
	t.Cleanup(func() {
		p.Kill()
		if text := stderr.String(); text != "" {
			t.Errorf("the provider wrote to stderr:\n%s", text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	p.Config = goodConfig()
	p.Log = func(level wire.Level, text string) { t.Errorf("an unexpected log line: %s %s", level, text) }
	return process{p, dir}
}

func absolute(t testing.TB, script string) string {
	t.Helper()
	path, err := filepath.Abs(script)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// provider is the script under the worker's limits.
func provider(script string) *exec.Cmd {
	cmd := exec.Command("/usr/bin/prlimit", "--core=0", "--fsize=1048576", "--nofile=256", "--data=536870912", "--", script)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// socketDir is not below t.TempDir, whose name may be too long for a socket.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "authn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// goodConfig knows one phrase.
var goodConfig = sync.OnceValue(func() *wire.Config {
	salt := []byte("0123456789abcdef")
	hash, err := scrypt.Key([]byte(phrase), salt, 1<<14, 8, 5, 64)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(map[string]any{
		"salt":    base64.StdEncoding.EncodeToString(salt),
		"hash":    base64.StdEncoding.EncodeToString(hash),
		"blocked": []string{"mallory"},
	})
	if err != nil {
		panic(err)
	}
	return &wire.Config{File: file, Json: string(text)}
})

// need skips where the provider cannot run.
func need(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		skip(t, why+": apt-get install python3-grpcio python3-protobuf")
	}
}

var missing = sync.OnceValue(func() string {
	text, err := exec.Command(interpreter, "-c", "import grpc, google.protobuf").CombinedOutput()
	if err == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("%s: %v: %s", interpreter, err, lines[len(lines)-1])
})

// skip skips, but not where nothing may be left out.
func skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func wantResult(t *testing.T, err error, want authn.Result) {
	t.Helper()
	if got := authn.ResultOf(err); got != want {
		t.Errorf("the result is %s (%v), want %s", got.Error(), err, want.Error())
	}
}

// user is at the prompt. The zero value expects no question.
type user struct{ answer func() (string, error) }

func types(text string) *user {
	return &user{answer: func() (string, error) { return text, nil }}
}

func (u *user) PromptSecret(text string) (authn.Secret, error) {
	if u.answer == nil || text != "Phrase: " {
		return authn.Secret{}, fmt.Errorf("an unexpected question: %q: %w", text, authn.ErrConv)
	}
	answer, err := u.answer()
	return authn.NewSecret(answer), err
}

func (u *user) Prompt(text string) (string, error) {
	return "", fmt.Errorf("an unexpected question: %q: %w", text, authn.ErrConv)
}

func (u *user) Info(text string) error  { return fmt.Errorf("unexpected: %q: %w", text, authn.ErrConv) }
func (u *user) Error(text string) error { return fmt.Errorf("unexpected: %q: %w", text, authn.ErrConv) }
func (u *user) Waiting(time.Duration)   {}

// output is a buffer that two goroutines share.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

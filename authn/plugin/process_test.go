// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/limit"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// The test's own binary is the provider, too: what it does then, by the value
// of this variable.
const actAs = "AUTHN_TEST_ACT_AS"

var acts = map[string]func(){
	"provider": func() { Main(newSentry) },
	"mute":     func() { select {} },
	"gone":     func() {},
	"closed":   func() { _ = os.Stdout.Close(); select {} },
	"garbage":  func() { fmt.Println("open sesame"); select {} },
	"endless": func() {
		for line := strings.Repeat("x", 1<<16); ; {
			fmt.Print(line)
		}
	},
	"core":      func() { handshake("2|1|unix|%s/s|grpc") },
	"version":   func() { handshake("1|2|unix|%s/s|grpc") },
	"word":      func() { handshake("1|one|unix|%s/s|grpc") },
	"netrpc":    func() { handshake("1|1|unix|%s/s|netrpc") },
	"tcp":       func() { handshake("1|1|tcp|127.0.0.1:4|grpc") },
	"abstract":  func() { handshake("1|1|unix|@s|grpc") },
	"elsewhere": func() { handshake("1|1|unix|%s/../s|grpc") },
	"deeper":    func() { handshake("1|1|unix|%s/d/s|grpc") },
	"absent":    func() { handshake("1|1|unix|%s/s|grpc") },
	"foreign":   func() { handshake("1|1|unix|%s/foreign|grpc") },
	"silent": func() {
		l, _ := net.Listen("unix", filepath.Join(os.Getenv(goplugin.EnvUnixSocketDir), "s"))
		defer l.Close() //nolint:errcheck // never reached
		handshake("1|1|unix|%s/s|grpc")
	},
	"intruder": intrude,
}

// handshake writes a provider's first line, with the folder for its socket.
func handshake(line string) {
	if strings.Contains(line, "%s") {
		line = fmt.Sprintf(line, os.Getenv(goplugin.EnvUnixSocketDir))
	}
	fmt.Println(line)
	select {}
}

func TestMain(m *testing.M) {
	if act, ok := acts[os.Getenv(actAs)]; ok {
		go func() { // nobody is left behind, whatever the test does
			time.Sleep(time.Minute)
			os.Exit(3)
		}()
		act()
		return
	}
	os.Exit(m.Run())
}

// A sentry is a provider whose answers depend on what is typed.
type sentry struct{ log *slog.Logger }

type sentryConfig struct {
	Step time.Duration `yaml:"step"`
	Key  authn.Secret  `yaml:"key"`
}

func newSentry(c sentryConfig, log *slog.Logger) (*sentry, error) {
	if c.Step < 0 {
		return nil, errors.New("step: is negative")
	}
	return &sentry{log}, nil
}

func (s *sentry) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	s.log.Info("somebody came", "service", req.Service)
	word, err := conv.Prompt("Word: ")
	if err != nil {
		return authn.Identity{}, err
	}
	switch word {
	case "panic":
		panic("the word was " + word)
	case "crash":
		go panic("the word was " + word)
		<-ctx.Done()
	case "exit":
		os.Exit(0)
	case "print":
		fmt.Println("hello")
		fmt.Fprintln(os.Stderr, "hello")
	case "ask":
		if ok, err := req.Allow(ctx, "k", 1, time.Second); !ok || err != nil {
			return authn.Identity{}, fmt.Errorf("%w: %w", authn.ErrMaxTries, err)
		}
	}
	return authn.Identity{Subject: "mittens", Env: map[string]string{"AUTHN_WORD": word}, Ticket: []byte(word)}, nil
}

func (s *sentry) CheckAccount(_ context.Context, req *authn.Request, _ authn.Conversation) error {
	return fmt.Errorf("the ticket is %q: %w", req.Ticket, authn.ErrAcctExpired)
}

// start starts this binary as a provider that acts as given.
func start(t *testing.T, act string, change func(*Options)) (*Process, error) {
	t.Helper()
	o := Options{
		Cmd:     exec.Command(os.Args[0]),
		UID:     uint32(os.Geteuid()), //nolint:gosec // a uid
		Dir:     shortDir(t),
		Timeout: 30 * time.Second,
	}
	o.Cmd.Env = []string{actAs + "=" + act, "GORACE=exitcode=66"}
	if change != nil {
		change(&o)
	}
	p, err := Start(o)
	t.Cleanup(p.Kill)
	return p, err
}

func TestStartRefusesWhatIsNoProvider(t *testing.T) {
	tests := []struct {
		act, want string
	}{
		{"gone", "it exited at once, without go-plugin's handshake line"},
		{"closed", "it exited at once, without go-plugin's handshake line"},
		{"endless", "it exited at once, without go-plugin's handshake line"},
		{"garbage", "it is not a provider"},
		{"core", "it is not a provider"},
		{"word", "it is not a provider"},
		{"version", "it speaks another version of the protocol than 1"},
		{"netrpc", "it does not speak gRPC"},
		{"tcp", `it listens on tcp "127.0.0.1:4"`},
		{"abstract", "not on a unix socket in its own folder"},
		{"elsewhere", "not on a unix socket in its own folder"},
		{"deeper", "not on a unix socket in its own folder"},
	}
	for _, tt := range tests {
		t.Run(tt.act, func(t *testing.T) {
			t.Parallel()
			_, err := start(t, tt.act, nil)
			refusedWith(t, err, tt.want)
		})
	}
}

func refusedWith(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || authn.ResultOf(err) != authn.ErrSystem || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want system_err about %q", err, want)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("%q is more than a line", err)
	}
}

func TestStartRefusesWhatDoesNotStartInTime(t *testing.T) {
	_, err := start(t, "mute", func(o *Options) { o.Timeout = 100 * time.Millisecond })
	refusedWith(t, err, "it did not start in time")
}

func TestStartRefusesAnotherChecksum(t *testing.T) {
	_, err := start(t, "provider", func(o *Options) {
		o.Secure = &goplugin.SecureConfig{Checksum: make([]byte, sha256.Size), Hash: sha256.New()}
	})
	refusedWith(t, err, "its SHA-256 is not the one of authn.sha256")
}

func TestStartRefusesAProgramThatIsAbsent(t *testing.T) {
	_, err := start(t, "provider", func(o *Options) { o.Cmd.Path = "/nonexistent/authn-mittens" })
	refusedWith(t, err, "/nonexistent/authn-mittens")
}

func TestConnectRefusesASocketOfSomebodyElse(t *testing.T) {
	p, err := start(t, "foreign", func(o *Options) {
		l, err := net.Listen("unix", filepath.Join(o.Dir, "foreign"))
		if err != nil {
			t.Fatal(err)
		}
		server := grpc.NewServer()
		wire.RegisterProviderServer(server, fake{})
		go func() { _ = server.Serve(l) }()
		t.Cleanup(server.Stop)
	})
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, connect(t, p, 10*time.Second), "not to the provider")
}

func connect(t *testing.T, p *Process, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return p.Connect(ctx)
}

func TestConnectRefusesAnotherUser(t *testing.T) {
	p, err := start(t, "provider", func(o *Options) { o.UID++ })
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, connect(t, p, 10*time.Second), "not to the provider")
}

func TestConnectRefusesASocketThatIsAbsent(t *testing.T) {
	p, err := start(t, "absent", nil)
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, connect(t, p, 10*time.Second), "Describe: the connection broke")
}

func TestConnectDoesNotWaitForASocketThatIsSilent(t *testing.T) {
	p, err := start(t, "silent", nil)
	if err != nil {
		t.Fatal(err)
	}
	refusedWith(t, connect(t, p, 200*time.Millisecond), "")
}

// connected starts a real provider.
func connected(t *testing.T) *Process {
	t.Helper()
	p, err := start(t, "provider", nil)
	if err == nil {
		err = connect(t, p, 30*time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Config = &wire.Config{File: "x.yaml", Json: `{"step": "1.5s"}`, Lines: map[string]uint32{"/step": 3}}
	return p
}

func TestAProviderInItsOwnProcess(t *testing.T) {
	p := connected(t)
	var logged []string
	p.Log = func(level wire.Level, text string) { logged = append(logged, level.String()+" "+text) }
	d := p.Description()
	if d.Version == "" || !slices.Equal(d.SecretKeys, []string{"key"}) {
		t.Errorf("it describes itself as %+v", d)
	}
	if _, ok := authn.As[authn.AccountManager](p); !ok {
		t.Error("it has no account management")
	}
	if _, ok := authn.As[authn.SessionManager](p); ok {
		t.Error("it claims to manage sessions")
	}
	id, err := p.Authenticate(t.Context(), &authn.Request{Service: "sshd"}, types("hello"))
	if err != nil || id.Subject != "mittens" || id.Env["AUTHN_WORD"] != "hello" || string(id.Ticket) != "hello" {
		t.Errorf("got %+v, %v", id, err)
	}
	if want := []string{`LEVEL_INFO msg="somebody came" service=sshd`}; !slices.Equal(logged, want) {
		t.Errorf("logged %q, want %q", logged, want)
	}
	err = p.CheckAccount(t.Context(), &authn.Request{Ticket: id.Ticket}, types(""))
	if err == nil || err.Error() != `the ticket is "hello": acct_expired` {
		t.Errorf("CheckAccount: %v", err)
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	p.Config = &wire.Config{File: "x.yaml", Json: `{"step": "-1s"}`, Lines: map[string]uint32{"/step": 3}}
	refusedWith(t, p.Check(t.Context()), "x.yaml:3: step: is negative")
}

func TestAProviderThatCrashesHasNotSucceeded(t *testing.T) {
	for word, want := range map[string]string{
		"crash": "the provider ended the call without a result",
		"exit":  "the provider ended the call without a result",
		"panic": "panic (string) in github.com/pam-authn/pam-authn/authn/plugin.(*sentry).Authenticate:",
	} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			_, err := connected(t).Authenticate(t.Context(), &authn.Request{}, types(word))
			refusedWith(t, err, want)
			if err != nil && strings.Contains(err.Error(), "the word was") {
				t.Errorf("%v repeats what the panic said", err)
			}
		})
	}
}

func TestAProviderThatIsKilledMidPromptHasNotSucceeded(t *testing.T) {
	p := connected(t)
	_, err := p.Authenticate(t.Context(), &authn.Request{}, &person{answer: func(string) (string, error) {
		p.Kill()
		return "hello", nil
	}})
	refusedWith(t, err, "the provider ended the call without a result")
}

func TestAProviderMayPrint(t *testing.T) {
	if _, err := connected(t).Authenticate(t.Context(), &authn.Request{}, types("print")); err != nil {
		t.Error(err)
	}
}

func TestAllowReachesTheWorker(t *testing.T) {
	p := connected(t)
	allow := func(ok bool) error {
		ctx := limit.With(t.Context(), func(context.Context, string, int, time.Duration) (bool, error) { return ok, nil })
		_, err := p.Authenticate(ctx, &authn.Request{}, types("ask"))
		return err
	}
	if err := allow(true); err != nil {
		t.Errorf("allowed: %v", err)
	}
	if err := allow(false); authn.ResultOf(err) != authn.ErrMaxTries {
		t.Errorf("not allowed: %v", err)
	}
	if _, err := p.Authenticate(t.Context(), &authn.Request{}, types("ask")); authn.ResultOf(err) != authn.ErrMaxTries {
		t.Errorf("without a store: %v", err)
	}
}

func TestPid(t *testing.T) {
	p := connected(t)
	if p.Pid() <= 1 || p.Pid() == os.Getpid() {
		t.Errorf("the provider is process %d", p.Pid())
	}
	var none *Process
	none.Kill() // there is nothing to kill
	if none.Pid() != 0 {
		t.Errorf("no process has id %d", none.Pid())
	}
}

// Only the parent may speak to a provider, whatever the socket's mode.
func TestAProviderHearsNobodyButItsWorker(t *testing.T) {
	p := connected(t)
	addr := p.client.ReattachConfig().Addr.String()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{actAs + "=intruder", "SOCKET=" + addr}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "refused") {
		t.Errorf("%v, %s", err, out)
	}
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("the worker is not heard any more: %v", err)
	}
}

// intrude is a process of the same user that is not the parent.
func intrude() {
	conn, err := grpc.NewClient("unix:"+os.Getenv("SOCKET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	reply, err := wire.NewProviderClient(conn).Describe(ctx, &wire.DescribeRequest{})
	if err != nil && ctx.Err() == nil {
		fmt.Println("refused:", err)
		return
	}
	fmt.Println("answered:", reply, err)
}

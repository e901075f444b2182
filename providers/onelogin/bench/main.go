// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Bench measures what people wait for when they log in with provider onelogin,
// beside the module that it replaces, in one run and in turns, with a tenant
// that is far away. The provider runs as it does in earnest: libpam, module,
// worker and the provider's own process, on a private machine. The predecessor
// is told again request by request and starts no process.
//
//	go run ./providers/onelogin/bench -build build
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

const (
	dir     = "/opt/authn" // where the machine has the build
	service = "bench"
	account = "admin"
	who     = "mittens"
)

func main() {
	build := flag.String("build", "build", "folder with what \"make build\" built")
	rounds := flag.Int("rounds", 10, "logins of each kind")
	latency := flag.Duration("latency", 50*time.Millisecond, "what each request takes longer")
	flag.Parse()
	err := hosttest.Run(os.Stderr, func(tb hosttest.TB) {
		b := start(tb, *build)
		b.compare(*rounds, *latency)
		b.requests()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// bench is a tenant and a machine whose logins ask it.
type bench struct {
	tb     hosttest.TB
	m      *hosttest.Machine
	tenant *onelogintest.Server
}

func start(tb hosttest.TB, build string) *bench {
	hosttest.Require(tb)
	tenant := onelogintest.New(tb, onelogintest.TLS(), onelogintest.ReusableCodes())
	tenant.AddUser(onelogintest.User{
		Username: who, Email: who + "@example.com", Roles: []int64{onelogintest.DemoAdmins},
		Devices: []onelogintest.Device{{Factor: onelogintest.Authenticator, Default: true}},
	})
	m := hosttest.NewMachine(tb)
	m.Timeout = 10 * time.Minute // a busy machine is slow, not wrong
	m.InstallTree(build, dir)
	m.AddUser("authn", hosttest.User{})
	m.AddUser(account, hosttest.User{})
	m.WriteFile("/etc/authn/ca.pem", 0o644, string(tenant.CAPEM))
	m.WriteFile("/etc/authn/onelogin.yaml", 0o600, fmt.Sprintf(
		"base_url: %s\nca_file: /etc/authn/ca.pem\nclient_id: %s\nclient_secret: %s\nrequest_duration_secs: 0\nuser_roles: {%s: %d}\npush: {interval: 1s}\n",
		tenant.URL, onelogintest.ClientID, onelogintest.ClientSecret, account, onelogintest.DemoAdmins))
	m.PAM(service, fmt.Sprintf("auth required %[1]s/pam_authn.so worker=%[1]s/authn-worker provider=%[1]s/authn-onelogin config=/etc/authn/onelogin.yaml\n", dir))
	return &bench{tb, m, tenant}
}

// A person takes this long to type each answer.
type person struct {
	typing time.Duration
	otp    func() string
	watch
}

// A watch measures what a person waits for.
type watch struct {
	since     time.Time
	stretches []time.Duration
}

func (w *watch) start() { w.since = time.Now() }
func (w *watch) stop()  { w.stretches = append(w.stretches, time.Since(w.since)) }

// answer types the name at the first question and the code at the second.
func (p *person) answer() string {
	p.stop()
	defer p.start()
	time.Sleep(p.typing)
	if len(p.stretches) == 1 {
		return who
	}
	return p.otp()
}

// ours logs in through libpam.
func (b *bench) ours(p *person) error {
	var err error
	b.m.Do(func() {
		respond := func(style pam.Style, text string) (string, error) {
			if style != pam.PromptEchoOff && style != pam.PromptEchoOn {
				return "", fmt.Errorf("the user is told %q", text)
			}
			return p.answer(), nil
		}
		var tx *pam.Transaction
		if tx, err = pam.StartConfDir(service, account, pam.ConversationFunc(respond), "/etc/pam.d"); err != nil {
			return
		}
		p.start()
		err = tx.Authenticate(0)
		p.stop()
		err = errors.Join(err, tx.End())
	})
	return err
}

// theirs logs in as the predecessor did.
func (b *bench) theirs(p *person) error {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.tenant.CAPEM)
	old := onelogintest.Predecessor{
		URL: b.tenant.URL, ClientID: onelogintest.ClientID, ClientSecret: onelogintest.ClientSecret,
		Roles: map[string]int64{account: onelogintest.DemoAdmins}, CAs: roots,
		Ask: func(string) string { return p.answer() },
	}
	p.start()
	err := old.Login(context.Background(), account)
	p.stop()
	return err
}

// compare takes turns, so that both meet the same noise.
func (b *bench) compare(rounds int, latency time.Duration) {
	b.tenant.Latency(latency)
	defer b.tenant.Latency(0)
	for _, handshake := range []time.Duration{0, latency} {
		b.tenant.ConnectLatency(handshake)
		for _, typing := range []time.Duration{400 * time.Millisecond, 0} {
			fmt.Printf("a login with a code, %d rounds in turns, medians; %v for each request; a TLS handshake for each connection, and %v for its way there and back; %v to type an answer, not counted\n",
				rounds, latency, handshake, typing)
			ours, theirs := b.turns(rounds, typing)
			report(ours, theirs)
		}
	}
	b.tenant.ConnectLatency(0)
}

func (b *bench) turns(rounds int, typing time.Duration) (ours, theirs [][]time.Duration) {
	for range rounds {
		for _, side := range []struct {
			login func(*person) error
			all   *[][]time.Duration
		}{{b.ours, &ours}, {b.theirs, &theirs}} {
			p := &person{typing: typing, otp: func() string { return b.tenant.TOTP(who) }}
			if err := side.login(p); err != nil || len(p.stretches) != 3 {
				b.tb.Fatalf("the login failed after %d stretches: %v", len(p.stretches), err)
			}
			*side.all = append(*side.all, p.stretches)
		}
	}
	return ours, theirs
}

func report(ours, theirs [][]time.Duration) {
	row := func(what string, of func([]time.Duration) time.Duration) {
		x, y := median(ours, of), median(theirs, of)
		fmt.Printf("  %-31s %7.1f ms  predecessor %7.1f ms  %5.2f x\n", what, ms(x), ms(y), float64(x)/float64(y))
	}
	row("from the start to the name", func(s []time.Duration) time.Duration { return s[0] })
	row("from the name to the OTP prompt", func(s []time.Duration) time.Duration { return s[1] })
	row("both: start to OTP prompt", func(s []time.Duration) time.Duration { return s[0] + s[1] })
	row("from the code to the result", func(s []time.Duration) time.Duration { return s[2] })
	row("sum (goal: 0.50 x)", func(s []time.Duration) time.Duration { return s[0] + s[1] + s[2] })
	fmt.Println()
}

func median(all [][]time.Duration, of func([]time.Duration) time.Duration) time.Duration {
	var values []time.Duration
	for _, s := range all {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// reasons say why a login makes a request, in the order in which it does.
var reasons = [][2]string{
	{"POST /auth/oauth2/v2/token", "the access token, while the name is being typed"},
	{"GET /api/2/users?email", "who has the name as email address"},
	{"GET /api/2/users?username", "who has it as username, at the same time: one name, two people is nobody"},
	{"GET /api/2/users/*", "status, state and roles now: lists may be old, and lack the roles"},
	{"GET /api/2/mfa/users/*/devices", "the factors, at the same time"},
	{"POST /api/2/mfa/users/*/verifications", "the code is checked, or the push sent: once"},
	{"GET /api/2/mfa/users/*/verifications/*", "a poll: has the push been approved"},
	{"GET /api/2/users/*", "status, state and roles once more, after the factor: these decide"},
}

// requests lists what one login of each kind asks for.
func (b *bench) requests() {
	b.tenant.OnPush(func(string, string) onelogintest.PushDecision {
		return onelogintest.PushDecision{Outcome: onelogintest.Accepted, Polls: 1}
	})
	b.tenant.Update(who, func(u *onelogintest.User) {
		u.Devices = append(u.Devices, onelogintest.Device{Factor: onelogintest.Protect})
	})
	for _, kind := range []struct {
		name string
		otp  func() string
	}{
		{"a code", func() string { return b.tenant.TOTP(who) }},
		{"a push that is approved after the first poll", func() string { return "" }},
	} {
		b.tenant.Reset()
		connections := b.tenant.Connections()
		p := &person{typing: 200 * time.Millisecond, otp: kind.otp}
		if err := b.ours(p); err != nil {
			b.tb.Fatalf("the login failed: %v", err)
		}
		b.explain(kind.name, b.tenant.Connections()-connections)
	}
	b.tenant.Reset()
	connections := b.tenant.Connections()
	if err := b.theirs(&person{otp: func() string { return b.tenant.TOTP(who) }}); err != nil {
		b.tb.Fatalf("the predecessor's login failed: %v", err)
	}
	fmt.Printf("the predecessor's login with a code: %d requests on %d connections\n", len(b.tenant.Requests()), b.tenant.Connections()-connections)
}

func (b *bench) explain(kind string, connections int) {
	calls := b.tenant.Sequence()
	fmt.Printf("a login with %s: %d requests on %d connections\n", kind, len(calls), connections)
	left := reasons
	for _, call := range calls {
		why := "unknown"
		for i, r := range left {
			if r[0] == call {
				why, left = r[1], slices.Concat(left[:i], left[i+1:])
				break
			}
		}
		if why == "unknown" && strings.Contains(call, "/verifications/*") {
			why = "as above"
		}
		fmt.Printf("  %-39s %s\n", call, why)
	}
	fmt.Println()
}

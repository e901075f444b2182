// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"flag"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// TestMain lets the attacks wait at the same time: each prompt that comes before
// an approval costs two seconds, in which nothing happens.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "48"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

const (
	subject     = "mittens@example.com"
	question    = "Code shown on your phone: "
	notAccepted = "Not accepted. " + question
)

// A world is a relay, a host with an account, and a phone whose passkey may
// approve its logins.
type world struct {
	*testing.T
	site    *qrcodetest.Site
	phone   *qrcodetest.Phone
	passkey *qrcodetest.Authenticator
	other   *qrcodetest.Authenticator // of secondKey
	issuer  *qrcodetest.Issuer        // of withIssuer
	relay   *meddler                  // of withMeddler
	config  qrcode.Config
	request authn.Request

	otherIssuer *qrcodetest.Issuer // of secondIssuer
	key         *rsa.PrivateKey    // of withPinnedKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	site := qrcodetest.NewSite(t)
	w := &world{T: t, site: site, phone: site.Phone(), passkey: site.Passkey(t)}
	w.config = qrcode.Config{Relay: site.URL, PageURL: site.Origin, Host: "a.example.com"}
	w.request = authn.Request{User: "mittens", Service: "sshd", RHost: "192.0.2.7", TTY: "ssh", Timeout: 110 * time.Second}
	w.approvers(w.passkey.Line(subject))
	return w
}

// approvers writes the account's file.
func (w *world) approvers(lines ...string) {
	w.request.Files = map[string][]byte{"approvers": []byte(strings.Join(lines, ""))}
}

// A run is one login and what became of it.
type run struct {
	*world
	evil  bool // this time, the one thing is changed
	log   *journal
	id    authn.Identity
	err   error
	ended time.Time

	mu      sync.Mutex
	prompts []string    // shown so far
	times   []time.Time // and when
	codes   []string    // digits that any phone was shown
}

// A story is what happens while the first prompt is open. It returns what is
// typed there.
type story func(r *run, shown string) string

// login makes one login. Whoever is at the prompt types what tell returns, and
// after that whatever any phone has shown, or nothing.
func (w *world) login(evil bool, tell story) *run {
	w.Helper()
	return w.loginWith(evil, tell, func(r *run, _ string) (string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.codes) == 0 {
			return "", nil
		}
		return r.codes[len(r.codes)-1], nil
	})
}

// loginWith is login with what happens at the later prompts.
func (w *world) loginWith(evil bool, tell story, later func(r *run, shown string) (string, error)) *run {
	w.Helper()
	r := &run{world: w, evil: evil, log: &journal{}}
	req := w.request
	r.id, r.err = w.provider(r.log).Authenticate(w.Context(), &req, &person{r, tell, later})
	r.ended = time.Now()
	r.discreet(append(r.log.texts(), text(r.err)))
	return r
}

// discreet wants no secret among what was logged.
func (r *run) discreet(logged []string) {
	r.Helper()
	secrets := slices.Clone(r.codes)
	if token := r.config.RelayToken.Reveal(); token != "" {
		secrets = append(secrets, token)
	}
	for _, line := range logged {
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				r.Errorf("a secret is in the log: %s", line)
			}
		}
	}
}

// provider is the host's.
func (w *world) provider(log slog.Handler) *qrcode.Provider {
	w.Helper()
	p, err := qrcode.New(w.config, slog.New(log))
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// A person is at the prompt.
type person struct {
	r     *run
	tell  story
	later func(r *run, shown string) (string, error)
}

// Prompt implements authn.Conversation.
func (p *person) Prompt(text string) (answer string, err error) {
	p.r.mu.Lock()
	p.r.prompts, p.r.times = append(p.r.prompts, text), append(p.r.times, time.Now())
	first := len(p.r.prompts) == 1
	p.r.mu.Unlock()
	if first {
		answer = p.tell(p.r, text)
	} else {
		answer, err = p.later(p.r, text)
	}
	return answer, err
}

// PromptSecret implements authn.Conversation. Nothing is asked so.
func (p *person) PromptSecret(text string) (authn.Secret, error) {
	p.r.Errorf("asked for something hidden: %q", text)
	return authn.Secret{}, authn.ErrConv
}

func (p *person) Info(string) error     { return nil }
func (p *person) Error(string) error    { return nil }
func (p *person) Waiting(time.Duration) {}

// leave is for loginWith: the person goes away.
func leave(*run, string) (string, error) { return "", authn.ErrConv }

// A journal is the host's log, and what stands in its reason= fields.
type journal struct {
	mu      sync.Mutex
	lines   []string
	reasons []string
}

func (j *journal) Enabled(context.Context, slog.Level) bool { return true }
func (j *journal) WithAttrs([]slog.Attr) slog.Handler       { return j }
func (j *journal) WithGroup(string) slog.Handler            { return j }

func (j *journal) Handle(_ context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		if a.Key == "reason" {
			j.reasons = append(j.reasons, a.Value.String())
		}
		return true
	})
	j.lines = append(j.lines, line)
	return nil
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.reasons)
}

func (j *journal) texts() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// open opens the code that a prompt shows, on a fresh page.
func (r *run) open(shown string) *qrcodetest.Visit {
	r.Helper()
	v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(shown))
	if err != nil {
		r.Fatalf("the code was not opened: %v", err)
	}
	return v
}

// hear notes what a phone is answered, and returns the digits, if any.
func (r *run) hear(verdict wire.Verdict, err error) string {
	if err != nil {
		r.Logf("evil %t: the phone hears: %v", r.evil, err)
	}
	if verdict.Code == "" {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.codes = append(r.codes, verdict.Code)
	return verdict.Code
}

// sign returns the assertion that a's phone makes for what v shows.
func (r *run) sign(v *qrcodetest.Visit, a *qrcodetest.Authenticator) json.RawMessage {
	return a.Sign(a.Request(v.Transcript, v.Phone.Origin))
}

// approve offers an assertion, and returns the digits.
func (r *run) approve(v *qrcodetest.Visit, assertion json.RawMessage) string {
	return r.hear(v.ApproveWith(r.Context(), assertion))
}

// An attack is a login that succeeds, and then the same with one thing changed:
// where run.evil is set.
type attack struct {
	name   string
	setUp  func(w *world) // of both logins
	before func(w *world) // the second one: the one thing is changed now, not in tell
	tell   story
	logged reason.Reason // what the log says of a message or an approval; empty: nothing
	want   reason.Reason // why the login is refused; empty: as logged
	digits bool          // a phone was shown digits, and rightly
}

func (a attack) run(t *testing.T) {
	t.Helper()
	t.Parallel()
	w := newWorld(t)
	if a.setUp != nil {
		a.setUp(w)
	}
	w.succeeds(a.tell)
	if a.want == "" {
		a.want = a.logged
	}
	if a.before != nil {
		a.before(w)
	}
	r := w.login(true, a.tell)
	r.refused(a)
	if a.before != nil && len(r.prompts) > 0 {
		t.Errorf("a prompt was shown: %q", r.prompts[0])
	}
}

// sub runs a as a test of its own.
func (a attack) sub(t *testing.T) {
	t.Helper()
	t.Run(a.name, a.run)
}

func runAll(t *testing.T, attacks []attack) {
	t.Helper()
	t.Parallel()
	for _, a := range attacks {
		a.sub(t)
	}
}

// succeeds is the login that is attacked, without the attack.
func (w *world) succeeds(tell story) *run {
	w.Helper()
	r := w.login(false, tell)
	if r.err != nil || r.id.Subject != subject {
		w.Fatalf(broken+": %+v, %v, log %q", r.id, r.err, r.log.all())
	}
	return r
}

// refused wants the attack to have failed, for this reason and no other.
func (r *run) refused(a attack) {
	r.Helper()
	if r.id.Subject != "" || r.err == nil {
		r.Errorf("THE ATTACK SUCCEEDED: %s is in", r.id.Subject)
	}
	if len(r.codes) > 0 && !a.digits {
		r.Errorf("DIGITS WERE SHOWN, log %q", r.log.all())
	}
	if !errors.Is(r.err, a.want) {
		r.Errorf("refused with %v, want reason %q", r.err, a.want)
	}
	if got, want := authn.ResultOf(r.err), resultOf(a.want); got != want {
		r.Errorf("PAM hears %v, want %v", got, want)
	}
	if a.logged != "" && !slices.ContainsFunc(r.log.all(), func(s string) bool { return is(s, a.logged) }) {
		r.Errorf("the log has %q, want %q", r.log.all(), a.logged)
	}
}

// is reports whether a log's text is this reason, with or without a detail.
func is(text string, want reason.Reason) bool {
	return text == string(want) || strings.HasPrefix(text, string(want)+": ")
}

// resultOf is what PAM is to hear: a fault where the relay or the configuration
// is to blame, a refusal otherwise, and never that nobody was reached.
func resultOf(r reason.Reason) authn.Result {
	switch {
	case strings.HasPrefix(string(r), "relay: "), r == reason.CodeOff, r == reason.ShortTimeout, r == reason.UnknownWord:
		return authn.ErrSystem
	}
	return authn.ErrAuth
}

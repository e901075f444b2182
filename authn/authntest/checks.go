// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// Canaries are typed where something else would be right. Nothing but chance
// could put them into a text.
const (
	hiddenCanary = "canary-5dm1xk7qhw"
	shownCanary  = "canary-8zr3vt2bny"
	configCanary = "canary-4pg9cj6fls"
)

// minSecret is the length below which text is in other text by chance.
const minSecret = 4

func rightAnswersOpen(t testing.TB, b *bench) {
	for _, c := range b.suite.Succeeds {
		user := &User{steps: c.Steps, complain: func(format string, args ...any) {
			t.Errorf("%s: "+format, append([]any{c.Name}, args...)...)
		}}
		o := b.call(context.Background(), t, b.suite.request(c), user)
		user.finish()
		switch {
		case o.err != nil:
			t.Errorf("%s: the call ended with %s\n%s", c.Name, o, user.Transcript())
		case c.Subject != "" && o.id.Subject != c.Subject:
			t.Errorf("%s: the subject is %q, want %q", c.Name, o.id.Subject, c.Subject)
		}
	}
}

func wrongAnswersDoNotOpen(t testing.TB, b *bench) {
	for _, c := range b.suite.Refuses {
		want := c.Result
		if want == authn.Success {
			want = authn.ErrAuth
		}
		if o, user := b.play(t, c, nil); o.result != want {
			t.Errorf("%s: the call ended with %s, want %s\n%s", c.Name, o, want.Error(), user.Transcript())
		}
	}
	if o, user := b.play(t, Case{}, canaries); o.result == authn.Success {
		t.Errorf("nonsense as the answer to every question opened: %s\n%s", o, user.Transcript())
	}
	for _, c := range b.suite.Succeeds {
		for n := 1; b.changed(t, c, n); n++ {
		}
	}
}

// canaries answers every question with nonsense.
func canaries(_ int, k kind, _ string) (string, error, bool) { //nolint:revive // an answer, and whether there is one
	if k == kindSecret {
		return hiddenCanary, nil, true
	}
	return shownCanary, nil, true
}

// changed tries wrong answers to the n-th question of c, if that one is
// hidden, and reports whether there is such a question.
func (b *bench) changed(t testing.TB, c Case, n int) bool {
	right, k := "", kind("")
	_, user := b.play(t, c, func(i int, asked kind, _ string) (string, error, bool) {
		if i == n {
			k = asked
		}
		return "", nil, false
	})
	right = user.typedAt(n)
	if k != kindSecret {
		return k != ""
	}
	for what, wrong := range wrongAnswers(right) {
		o, user := b.play(t, c, func(i int, _ kind, _ string) (string, error, bool) { return wrong, nil, i == n })
		if o.result == authn.Success {
			t.Errorf("%s: question %d answered with %s opened: %s\n%s", c.Name, n, what, o, user.Transcript())
		}
	}
	return true
}

func wrongAnswers(right string) map[string]string {
	wrong := map[string]string{
		"nothing":                         "",
		"nonsense":                        hiddenCanary,
		"one character more":              right + "x",
		"the right answer, then a line":   right + "\n" + hiddenCanary,
		"the right answer after nonsense": hiddenCanary + right,
	}
	if len(right) > 1 {
		wrong["one character less"] = right[:len(right)-1]
		wrong["the other case"] = otherCase(right)
	}
	for what, answer := range wrong {
		if answer == right {
			delete(wrong, what)
		}
	}
	return wrong
}

func otherCase(s string) string {
	if upper := strings.ToUpper(s); upper != s {
		return upper
	}
	return strings.ToLower(s)
}

func cancelledCallReturns(t testing.TB, b *bench) {
	for _, c := range b.suite.Succeeds {
		for n := 1; b.cancelled(t, c, n); n++ {
		}
	}
}

// cancelled ends the context while the n-th question is open, and reports
// whether there is such a question.
func (b *bench) cancelled(t testing.TB, c Case, n int) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	user := scripted(c)
	asked := make(chan struct{})
	user.act = func(i int, _ kind, _ string) (string, error, bool) {
		if i != n {
			return "", nil, false
		}
		close(asked)
		<-ctx.Done()
		return "", user.leave(), true
	}
	done := make(chan outcome, 1)
	go func() { done <- b.call(ctx, t, b.suite.request(c), user) }()
	select {
	case <-done:
		return false
	case <-asked:
		cancel()
	}
	select {
	case o := <-done:
		if o.result == authn.Success {
			t.Errorf("%s: cancelled at question %d, and still: %s", c.Name, n, o)
		}
		return true
	case <-time.After(b.suite.Patience):
		t.Errorf("%s: cancelled at question %d, and not back after %s", c.Name, n, b.suite.Patience)
		return false
	}
}

func userWhoLeftIsConvErr(t testing.TB, b *bench) {
	for _, c := range b.suite.Succeeds {
		for n := 1; ; n++ {
			o, user := b.left(t, c, n)
			if user.asked < n {
				break
			}
			if o.result != authn.ErrConv {
				t.Errorf("%s: the user left at question %d, and the call ended with %s, want conv_err\n%s",
					c.Name, n, o, user.Transcript())
			}
		}
	}
}

// left has the user leave at the n-th question.
func (b *bench) left(t testing.TB, c Case, n int) (outcome, *User) {
	return b.play(t, c, func(i int, _ kind, _ string) (string, error, bool) { return "", errGone, i == n })
}

func secretsStayHidden(t testing.TB, b *bench) {
	secrets := configSecrets(b.under, b.config)
	secrets[hiddenCanary] = "a wrong answer typed hidden"
	calls := b.everyCase(t, secrets)
	for where, text := range calls {
		for secret, what := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %s in it", where, what)
			}
		}
		if strings.Contains(text, shownCanary) && !strings.Contains(where, "shown to the user") {
			t.Errorf("%s has a wrong answer in it; people type passwords into any question", where)
		}
	}
}

// everyCase plays all cases and a wrong one, adds to secrets what was typed
// hidden, and returns all texts that came of it, by where they were.
func (b *bench) everyCase(t testing.TB, secrets map[string]string) map[string]string {
	texts := map[string]string{}
	note := func(name string, o outcome, user *User) {
		for _, answer := range user.hiddenAnswers() {
			if len(answer) >= minSecret && answer != hiddenCanary {
				secrets[answer] = "an answer typed hidden"
			}
		}
		if o.err != nil {
			texts["the error of "+name] = o.err.Error()
		}
		texts["the identity of "+name] = fmt.Sprintf("%q %q", o.id.Subject, o.id.Env)
		texts["what was shown to the user in "+name] = strings.Join(user.record.texts, "\n")
	}
	for _, c := range append(append([]Case(nil), b.suite.Succeeds...), b.suite.Refuses...) {
		o, user := b.play(t, c, nil)
		note(c.Name, o, user)
	}
	for _, change := range []func(*authn.Request){nil, b.unknownUser} {
		o, user := b.play(t, Case{Change: change}, canaries)
		note("a call with wrong answers", o, user)
	}
	texts["the log"] = b.logs.String()
	return texts
}

func (b *bench) unknownUser(req *authn.Request) { req.User = b.suite.UnknownUser }

// configSecrets finds what c holds in values of type authn.Secret.
func configSecrets(p inprocess.Provider, c *wire.Config) map[string]string {
	secrets := map[string]string{}
	config, _ := inprocess.Decode(p, c) // as much of it as can be read
	collectSecrets(reflect.ValueOf(config), secrets, 0)
	return secrets
}

func collectSecrets(v reflect.Value, found map[string]string, depth int) {
	if !v.IsValid() || depth > 16 {
		return
	}
	if v.CanInterface() {
		if s, ok := v.Interface().(authn.Secret); ok {
			if text := s.Reveal(); len(text) >= minSecret {
				found[text] = "a secret of the configuration"
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		collectSecrets(v.Elem(), found, depth+1)
	case reflect.Struct:
		for i := range v.NumField() {
			collectSecrets(v.Field(i), found, depth+1)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			collectSecrets(v.Index(i), found, depth+1)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			collectSecrets(v.MapIndex(key), found, depth+1)
		}
	}
}

// usual is a day of the provider's life: everybody who gets in, everybody who
// does not, and people who leave.
func (b *bench) usual(t testing.TB) {
	for _, c := range append(append([]Case(nil), b.suite.Succeeds...), b.suite.Refuses...) {
		b.play(t, c, nil)
		b.left(t, c, 1)
	}
	b.play(t, Case{}, canaries)
}

func nothingIsPrinted(t testing.TB, b *bench) {
	printed, err := captured(func() { b.usual(t) })
	if err != nil {
		t.Fatal(err)
	}
	if printed != "" {
		t.Errorf("written to standard output or standard error, which a provider does not own: %.500q", printed)
	}
}

func nothingIsLeftOpen(t testing.TB, b *bench) {
	b.usual(t) // what is made once and kept is made now
	b.closeIdle()
	before := openNow()
	b.usual(t)
	b.closeIdle()
	if left := leftOpen(before, b.suite.Patience); left != "" {
		t.Errorf("left after the calls:\n%s", left)
	}
}

func (b *bench) closeIdle() {
	if b.suite.CloseIdle != nil {
		b.suite.CloseIdle()
	}
}

func unknownUsersAreAskedTheSame(t testing.TB, b *bench) {
	known, unknown := b.seenBy(t, nil), b.seenBy(t, b.unknownUser)
	if known != unknown {
		t.Errorf("strangers can tell who has an account; a known user saw\n%s\nand an unknown one\n%s", known, unknown)
	}
}

// seenBy is what somebody sees who knows nothing but a name.
func (b *bench) seenBy(t testing.TB, change func(*authn.Request)) string {
	c := Case{Change: change}
	o, user := b.play(t, c, canaries)
	seen := user.Transcript() + "result  " + o.result.Error() + "\n"
	return b.suite.Mask(strings.ReplaceAll(seen, b.suite.request(c).User, "USER"))
}

// callers is how many of each sort call at the same time.
const callers = 4

// simultaneousCallsDoNotMix has people with right answers and then people
// with wrong ones and another name ask at the same time; nobody is answered
// before everybody was asked.
func simultaneousCallsDoNotMix(t testing.TB, b *bench) {
	right := b.suite.Succeeds[0]
	wrong := Case{Name: "a call with wrong answers", Change: b.unknownUser}
	rightAlone, _ := b.play(t, right, nil)
	wrongAlone, _ := b.play(t, wrong, canaries)
	if b.suite.Setup != nil {
		b.suite.Setup(t)
	}
	a, err := b.open(b.config)
	if err != nil {
		return // right_answers_open has said so
	}
	crowd := newCrowd(b.suite.Patience)
	for range callers {
		crowd.enter(t, a, b.suite.request(right), scripted(right), rightAlone)
	}
	for range callers {
		user := scripted(wrong)
		user.act = canaries
		crowd.enter(t, a, b.suite.request(wrong), user, wrongAlone)
	}
	crowd.letGo()
}

// A crowd is several calls that are held at their first question.
type crowd struct {
	patience time.Duration
	open     chan struct{}
	calls    sync.WaitGroup
}

func newCrowd(patience time.Duration) *crowd {
	return &crowd{patience: patience, open: make(chan struct{})}
}

// enter starts a call and returns once it has asked or ended.
func (c *crowd) enter(t testing.TB, a authn.Authenticator, req *authn.Request, user *User, want outcome) {
	asked, ended := make(chan struct{}), make(chan struct{})
	act := user.act
	user.act = func(n int, k kind, shown string) (string, error, bool) {
		if n == 1 {
			close(asked)
			<-c.open
		}
		if act != nil {
			return act(n, k, shown)
		}
		return "", nil, false
	}
	c.calls.Go(func() {
		defer close(ended)
		got := authenticate(context.Background(), a, req, user)
		if got.result != want.result || got.id.Subject != want.id.Subject {
			t.Errorf("beside other calls a call ended with %s, alone with %s", got, want)
		}
	})
	select {
	case <-asked:
	case <-ended:
	case <-time.After(c.patience):
		t.Errorf("beside other calls a call does not get to its first question")
	}
}

func (c *crowd) letGo() {
	close(c.open)
	c.calls.Wait()
}

func configErrorsNameTheKey(t testing.TB, b *bench) {
	for _, bad := range b.suite.BadConfigs {
		c, err := wireConfig(bad.Config)
		if err != nil {
			t.Fatal(err)
		}
		b.refusesConfig(t, c, bad.Key, configSecrets(b.under, c))
	}
	unknown, err := wireConfig(strings.TrimRight(b.suite.Config, " \n"))
	if err != nil {
		t.Fatal(err)
	}
	const key = "no_such_key_of_any_provider"
	unknown.Json = withKey(unknown.Json, key, configCanary)
	b.refusesConfig(t, unknown, key, map[string]string{configCanary: "the value of an unknown key"})
}

func withKey(object, key, value string) string {
	rest := strings.TrimPrefix(object, "{")
	if rest != "}" {
		rest = "," + rest
	}
	return fmt.Sprintf("{%q:%q%s", key, value, rest)
}

func (b *bench) refusesConfig(t testing.TB, c *wire.Config, key string, secrets map[string]string) {
	user := scripted(Case{})
	user.act = canaries
	a, err := b.open(c)
	if err == nil && b.remote != nil {
		err = authenticate(context.Background(), a, b.suite.request(Case{}), user).err
		if err == nil || user.asked > 0 {
			err = nil // it was taken, whatever came of the call
		}
	}
	if err == nil {
		t.Errorf("a configuration with a bad %s is taken", key)
		return
	}
	if !strings.Contains(err.Error(), key) {
		t.Errorf("the error about a bad %s does not name it: %v", key, err)
	}
	if !errors.Is(err, authn.ErrSystem) {
		t.Errorf("a bad %s is %v, want system_err", key, authn.ResultOf(err))
	}
	for secret, what := range secrets {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error about a bad %s has %s in it", key, what)
		}
	}
}

func capabilitiesAreThoseAnnounced(t testing.TB, b *bench) {
	if b.remote == nil || b.under.Zero == nil {
		return // nothing is announced, or everything: see plugin's Describe
	}
	a, err := inprocess.Open(b.under, b.config, discard)
	if err != nil {
		return // right_answers_open has said so
	}
	has, says := capabilities(a), capabilities(b.remote)
	for name := range has {
		switch {
		case has[name] && !says[name]:
			t.Errorf("the provider is an %s and does not announce it, so it will never be called", name)
		case !has[name] && says[name]:
			t.Errorf("the provider announces an %s and is none", name)
		}
	}
}

func capabilities(a authn.Authenticator) map[string]bool {
	_, account := authn.As[authn.AccountManager](a)
	_, credentials := authn.As[authn.CredentialSetter](a)
	_, session := authn.As[authn.SessionManager](a)
	_, password := authn.As[authn.PasswordChanger](a)
	return map[string]bool{
		"authn.AccountManager": account, "authn.CredentialSetter": credentials,
		"authn.SessionManager": session, "authn.PasswordChanger": password,
	}
}

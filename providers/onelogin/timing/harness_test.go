// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

func TestMain(m *testing.M) {
	// Tests that are parallel wait for processes, and hardly compute.
	flag.Parse()
	_ = flag.Set("test.parallel", "12") // there is such a flag
	pamtest.Main(m)
}

// The tenant's roles, and the accounts at the PAM host.
const (
	admins = 77777

	mapped   = "alice" // in user_roles
	unmapped = "nobody"
)

// wrong is a code that nobody has, and that OneLogin must be asked about all
// the same: codes may have letters.
const wrong = "wrong1"

// A host is a PAM service with provider onelogin and a tenant behind it.
type host struct {
	t       testing.TB
	tenant  *onelogintest.Server
	confdir string
}

const service = "timing"

// newHost makes one with these lines of configuration besides those that say
// where the tenant is.
func newHost(t testing.TB, config string, opts ...onelogintest.Option) *host {
	t.Helper()
	pamtest.Root(t)
	h := &host{t: t, tenant: onelogintest.New(t, opts...), confdir: pamtest.Dir(t)}
	tree := pamtest.Shared(t)
	file := filepath.Join(h.confdir, "onelogin.yaml")
	h.write(file, 0o600, fmt.Sprintf("base_url: %s\nclient_id: %s\nclient_secret: %s\nuser_roles: {%s: %d}\n%s\n",
		h.tenant.URL, onelogintest.ClientID, onelogintest.ClientSecret, mapped, admins, config))
	h.write(filepath.Join(h.confdir, service), 0o644, tree.Line("auth", "onelogin", "config="+file))
	return h
}

func (h *host) write(path string, mode os.FileMode, text string) {
	h.t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

// A login is what a person sees of one.
type login struct {
	shown     string          // prompts, texts and PAM's word, a line each
	stretches []time.Duration // from the start or an answer to the next prompt or result
}

// reference is the one thing in a text that differs from call to call.
var reference = regexp.MustCompile(`\(reference [^)]*\)`)

// try has somebody type answers, at once, to whatever is asked.
func (h *host) try(account string, answers ...string) (login, error) {
	var l login
	var shown strings.Builder
	since := time.Now()
	respond := func(style pam.Style, text string) (string, error) {
		fmt.Fprintf(&shown, "%d %q\n", style, reference.ReplaceAllString(text, "(reference R)"))
		if style != pam.PromptEchoOff && style != pam.PromptEchoOn {
			return "", nil
		}
		l.stretches = append(l.stretches, time.Since(since))
		if len(answers) == 0 {
			return "", errors.New("asked for more than is known")
		}
		answer := answers[0]
		answers = answers[1:]
		since = time.Now()
		return answer, nil
	}
	tx, err := pam.StartConfDir(service, account, pam.ConversationFunc(respond), h.confdir)
	if err != nil {
		return l, err
	}
	since = time.Now()
	result := tx.Authenticate(0)
	l.stretches = append(l.stretches, time.Since(since))
	fmt.Fprintf(&shown, "%v\n", result)
	l.shown = shown.String()
	return l, tx.End()
}

// spread makes requests that match, always or never, take between low and high
// longer, spread
// evenly, and have the faults besides. The tenant's first rule that fits
// counts.
func (h *host) spread(match func(*http.Request) bool, low, high time.Duration, faults ...onelogintest.Fault) {
	const rules = 16 // each takes an even share of what those before it left
	for i := range rules {
		d := low + (high-low)*time.Duration(i)/(rules-1)
		h.tenant.FailIf(func(r *http.Request) bool { return match(r) && rand.IntN(rules-i) == 0 },
			append([]onelogintest.Fault{onelogintest.Delay(d)}, faults...)...)
	}
}

func anything(*http.Request) bool { return true }

// to matches requests by method and by words in the path.
func to(method string, words ...string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		for _, w := range words {
			if !strings.Contains(r.URL.Path, w) {
				return false
			}
		}
		return r.Method == method
	}
}

// A suspect is a kind of person at the prompt.
type suspect struct {
	what string
	try  func() (login, error)
}

// sample has each suspect try n times, in random order, so that whatever else
// happens on the machine happens to all of them alike. So many try at a time:
// they mostly wait, but too many would wait for each other.
func sample(t testing.TB, suspects []suspect, n, together int) [][]login {
	t.Helper()
	var order []int
	for i := range suspects {
		for range n {
			order = append(order, i)
		}
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	logins := make([][]login, len(suspects))
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan int)
	for range together {
		wg.Go(func() {
			for i := range next {
				l, err := suspects[i].try()
				mu.Lock()
				if err != nil {
					t.Errorf("%s: %v", suspects[i].what, err)
				}
				logins[i] = append(logins[i], l)
				mu.Unlock()
			}
		})
	}
	for _, i := range order {
		next <- i
	}
	close(next)
	wg.Wait()
	return logins
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// suspects are people who type a wrong code.
func (h *host) suspects(names ...string) []suspect {
	var all []suspect
	for _, name := range names {
		p := people[slices.IndexFunc(people, func(p person) bool { return p.what == name })]
		all = append(all, suspect{name, func() (login, error) { return h.try(p.account, p.name, wrong) }})
	}
	return all
}

// usual is how a tenant answers in everyday life: some requests take longer
// than others, and what does not exist is quickly said.
func (h *host) usual() {
	h.spread(to(http.MethodPost, "/verifications"), 20*time.Millisecond, 30*time.Millisecond)
	h.spread(to(http.MethodGet, "/2147483647"), time.Millisecond, 3*time.Millisecond)
	h.spread(anything, 2*time.Millisecond, 8*time.Millisecond)
}

// How many log in at a time: as many as leave the machine some rest.
const (
	together        = 16
	togetherWaiting = 40 // for pushes
)

// wantNoLeaks fails if any of the suspects can be told from the first.
func wantNoLeaks(t *testing.T, suspects []suspect, together int) {
	t.Helper()
	for _, f := range leaks(t, suspects, together) {
		t.Errorf("can be told from %s: %v", suspects[0].what, f)
	}
}

func TestNobodyCanTellPeopleApart(t *testing.T) {
	h := newHost(t, "request_duration_secs: 0.15")
	populate(h.tenant)
	h.usual()
	wantNoLeaks(t, h.suspects("known", "unknown", "locked", "no_factor", "wildcard", "exclamation_mark", "wrong_role", "unmapped_account"), together)
}

// One step does not last for what is asked: how many it takes must be the same
// for all.
func TestNobodyCanTellPeopleApartWhereUpstreamIsSlow(t *testing.T) {
	h := newHost(t, "request_duration_secs: 0.1")
	populate(h.tenant)
	h.spread(anything, 15*time.Millisecond, 60*time.Millisecond)
	wantNoLeaks(t, h.suspects("known", "unknown", "locked", "no_factor", "wildcard"), together)
}

func TestNobodyCanTellPeopleApartWhereUpstreamFails(t *testing.T) {
	for name, c := range map[string]struct {
		path string
		who  []string
	}{
		"at_users":   {"/api/2/users", []string{"known", "unknown"}},
		"at_devices": {"/devices", []string{"known", "unknown", "locked"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "request_duration_secs: 0.1")
			populate(h.tenant)
			h.spread(to(http.MethodGet, c.path), time.Millisecond, 9*time.Millisecond, onelogintest.Status(http.StatusServiceUnavailable))
			h.usual()
			wantNoLeaks(t, h.suspects(c.who...), together)
		})
	}
}

// Whoever does not approve is refused at the limit, whatever the reason.
func TestNobodyCanTellPeopleApartByAPush(t *testing.T) {
	h := pushing(t)
	wantNoLeaks(t, []suspect{h.pushed("refused"), h.pushing("unknown", "nemo"), h.pushing("no_factor", "smokey")}, togetherWaiting)
}

// pushing is a host where pushes to some people are refused on their phones,
// and the others' are ignored.
func pushing(t *testing.T) *host {
	t.Helper()
	h := newHost(t, "request_duration_secs: 0.1\npush: {interval: 100ms, timeout: 1s}")
	populate(h.tenant)
	h.tenant.OnPush(func(user, _ string) onelogintest.PushDecision {
		if strings.HasPrefix(user, "refused") {
			return onelogintest.PushDecision{Outcome: onelogintest.Refused, Polls: 2}
		}
		return onelogintest.PushDecision{Outcome: onelogintest.Ignored}
	})
	h.usual()
	return h
}

// pushing is a suspect who types no code.
func (h *host) pushing(what, name string) suspect {
	return suspect{what, func() (login, error) { return h.try(mapped, name, "") }}
}

// pushed are people who get a push each: nobody gets too many.
func (h *host) pushed(what string) suspect {
	var n atomic.Int64
	return suspect{what, func() (login, error) {
		name := fmt.Sprint(what, n.Add(1))
		h.tenant.AddUser(onelogintest.User{
			Username: name, Roles: []int64{admins}, Devices: []onelogintest.Device{{Factor: onelogintest.Protect}},
		})
		return h.try(mapped, name, "")
	}}
}

// A check that cannot fail is none. Without padding, somebody is told from
// nobody, about whom the same requests are answered sooner.
func TestWithoutPaddingPeopleCanBeToldApart(t *testing.T) {
	h := newHost(t, "request_duration_secs: 0")
	populate(h.tenant)
	h.usual()
	found := leaks(t, h.suspects("known", "unknown"), 3)
	if !slices.ContainsFunc(found, func(f finding) bool { return f.what == "unknown" && f.measured == "stretch 3" }) {
		t.Errorf("nobody was told from somebody, found %v", found)
	}
}

// The refusal of a push that nobody answers comes at the limit, not a step
// after it.
func TestNobodyCanTellPeopleApartByAnIgnoredPush(t *testing.T) {
	h := pushing(t)
	wantNoLeaks(t, []suspect{h.pushing("unknown", "nemo"), h.pushed("ignored")}, togetherWaiting)
}

// Where requests fail at times, they decide the same for everybody.
func TestNobodyCanTellPeopleApartWhereMFAFailsAtTimes(t *testing.T) {
	h := newHost(t, "request_duration_secs: 0.1")
	populate(h.tenant)
	mfa := func(r *http.Request) bool {
		return to(r.Method, "/api/2/mfa/")(r) && rand.IntN(2) == 0
	}
	h.tenant.FailIf(mfa, onelogintest.Status(http.StatusServiceUnavailable))
	h.usual()
	wantNoLeaks(t, h.suspects("known", "unknown"), together)
}

// It may take the tenant longer to check a code than to look something up, so
// that more people's refusals take a step more.
func TestNobodyCanTellPeopleApartWhereCodesAreCheckedSlowly(t *testing.T) {
	h := newHost(t, "request_duration_secs: 0.1")
	populate(h.tenant)
	h.spread(to(http.MethodPost, "/verifications"), 40*time.Millisecond, 85*time.Millisecond)
	h.spread(anything, 15*time.Millisecond, 60*time.Millisecond)
	wantNoLeaks(t, h.suspects("known", "unknown"), together)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// lying starts a relay that does what script says with the host's first
// message, and then neither reads nor writes anything, until the test's end.
func lying(t *testing.T, script func(say func(...wire.Envelope), e *wire.Envelope)) host.Relay {
	t.Helper()
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // it may be closed already
		_, text, err := c.Read(r.Context())
		if err != nil {
			return
		}
		e, err := wire.ParseEnvelope(text)
		if err != nil {
			t.Error(err)
			return
		}
		script(func(list ...wire.Envelope) {
			for _, e := range list {
				text, err := json.Marshal(e)
				if err != nil || c.Write(r.Context(), websocket.MessageText, text) != nil {
					t.Error("not said")
				}
			}
		}, e)
		<-end
	}))
	t.Cleanup(func() {
		close(end)
		server.Close()
	})
	return host.Relay{URL: server.URL, Client: host.NewClient(nil, nil)}
}

// mute expects phones, and is never heard of again.
func mute(say func(...wire.Envelope), e *wire.Envelope) {
	say(wire.Envelope{Action: e.Action, Result: wire.ResultOK})
}

func quiet() host.Options {
	return host.Options{Kind: wire.Login, TTL: time.Minute, Phones: 3, Log: slog.New(slog.DiscardHandler)}
}

func TestARelayThatSaysNoFarewellHoldsNobody(t *testing.T) {
	s, err := host.Open(t.Context(), lying(t, mute), quiet())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.Close()
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %s to close", d)
	}
}

// TestARelayThatVanishesIsNoticed: without a word, as when its cable is pulled.
func TestARelayThatVanishesIsNoticed(t *testing.T) {
	t.Parallel()
	s, err := host.Open(t.Context(), lying(t, mute), quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	select {
	case <-s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed")
	}
	if !errors.Is(s.Why(), reason.RelayLost) {
		t.Errorf("it ended with %v", s.Why())
	}
}

// TestNoPhoneIsHeardBeforeTheBeginning: whatever a relay says at once, what
// answers phones has been set by then. The race detector watches.
func TestNoPhoneIsHeardBeforeTheBeginning(t *testing.T) {
	key, err := wire.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	relay := lying(t, func(say func(...wire.Envelope), e *wire.Envelope) {
		hello, err := json.Marshal(map[string]any{
			"seq": 0, "type": "hello", "v": wire.Version, "id": e.ID, "pp": wire.B64(key.PublicKey().Bytes()),
		})
		if err != nil {
			t.Error(err)
		}
		say(wire.Envelope{Action: wire.ActionPost, Ref: 1, Body: hello},
			wire.Envelope{Action: wire.ActionPost, Ref: 2, Body: hello},
			wire.Envelope{Action: e.Action, Result: wire.ResultOK})
	})
	var began *host.Session
	heard := make(chan *host.Session, 1)
	o := quiet()
	o.Begin = func(s *host.Session) { began = s }
	o.Details = func(_ context.Context, _ *host.Phone) (*wire.Details, error) {
		heard <- began
		return &wire.Details{Kind: wire.Login, TTL: int(began.Left() / time.Second)}, nil
	}
	s, err := host.Open(t.Context(), relay, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	select {
	case got := <-heard:
		if got != s {
			t.Errorf("a phone was heard by %p", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("the phone was never heard")
	}
}

func TestARelayMayShortenTheTime(t *testing.T) {
	o := quiet()
	s, err := host.Open(t.Context(), lying(t, func(say func(...wire.Envelope), e *wire.Envelope) {
		say(wire.Envelope{Action: e.Action, Result: wire.ResultOK, TTL: 1})
	}), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.TTL != time.Second || s.Left() > time.Second {
		t.Errorf("it has %s, of %s", s.Left(), s.TTL)
	}
	<-s.Done()
	if !errors.Is(s.Why(), reason.Expired) {
		t.Errorf("it ended with %v", s.Why())
	}
	longer, err := host.Open(t.Context(), lying(t, func(say func(...wire.Envelope), e *wire.Envelope) {
		say(wire.Envelope{Action: e.Action, Result: wire.ResultOK, TTL: 3600})
	}), o)
	if err != nil {
		t.Fatal(err)
	}
	defer longer.Close()
	if longer.TTL != o.TTL {
		t.Errorf("the relay made it %s", longer.TTL)
	}
}

// TestRefusedMessagesDoNotFillTheLog: the framework keeps 64 lines of a call.
func TestRefusedMessagesDoNotFillTheLog(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	unknown := s.seal(v, wire.TypePasskey)
	unknown.PP = wire.B64(make([]byte, 32))
	for range 40 {
		s.gone(v.ID, unknown, reason.PhoneUnknown)
	}
	lines := strings.Count(s.log.String(), "message of a phone refused")
	if lines != 17 || strings.Count(s.log.String(), "further ones are not logged") != 1 {
		t.Errorf("%d lines:\n%s", lines, s.log)
	}
	bad := unknown
	bad.PP, bad.Box = wire.B64(v.Key.PublicKey().Bytes()), "AAAA"
	s.gone(v.ID, bad, reason.PhoneBox) // the first for its reason is logged
}

func TestANewWaitEndsTheLast(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	s.await(func() bool { return s.session.InFlight() == 0 })
	type news struct {
		text string
		err  error
	}
	heard := make(chan news, 64)
	for n := range 40 {
		m := s.seal(v, wire.TypeWait)
		go func() {
			var end wire.End
			err := v.Send(context.WithoutCancel(t.Context()), m, wire.TypeEnd, &end)
			heard <- news{end.Result, err}
		}()
		if n == 0 {
			s.await(func() bool { return s.session.InFlight() == 1 })
			continue
		}
		if got := <-heard; got != (news{}) {
			t.Fatalf("wait %d heard %+v", n, got)
		}
	}
	other := s.meet()
	if verdict := s.send(other, s.seal(other, wire.TypePasskey)); !verdict.OK {
		t.Error("another phone is not heard")
	}
	s.session.End(wire.EndIn, nil)
	if got := <-heard; got != (news{text: wire.EndIn}) {
		t.Errorf("the last wait heard %+v", got)
	}
}

// TestOnePhoneDoesNotKeepTheOthersOut: messages ahead of their turn wait.
func TestOnePhoneDoesNotKeepTheOthersOut(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v, other := s.meet(), s.meet()
	s.seal(v, wire.TypePasskey) // is not sent
	const posts = 40
	answered := make(chan error, posts)
	began := time.Now()
	for range posts {
		m := s.seal(v, wire.TypePasskey)
		go func() {
			var verdict wire.Verdict
			answered <- v.Send(context.WithoutCancel(t.Context()), m, wire.TypeVerdict, &verdict)
		}()
	}
	for range posts - 8 {
		if err := <-answered; err == nil { // of the host or of the relay
			t.Error("it was answered")
		}
	}
	if d := time.Since(began); d > 1500*time.Millisecond { // they would wait two seconds
		t.Errorf("the ninth and those after it were in flight for %s", d)
	}
	if verdict := s.send(other, s.seal(other, wire.TypePasskey)); !verdict.OK {
		t.Error("another phone is not heard")
	}
	for range 8 {
		<-answered
	}
}

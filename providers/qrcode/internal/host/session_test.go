// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// A stage is a session at a real relay, a phone, and what the session logged.
type stage struct {
	*testing.T
	session *host.Session
	phone   *qrcodetest.Phone
	log     *logBuffer

	mu       sync.Mutex
	approved []string // types of what Approve was given
}

// A logBuffer may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newStage(t *testing.T, kind wire.Kind, phones int) *stage {
	t.Helper()
	site := qrcodetest.NewSite(t)
	s := &stage{T: t, phone: site.Phone(), log: &logBuffer{}}
	client := host.NewClient(nil, nil)
	session, err := host.Open(t.Context(), host.Relay{URL: site.URL, Client: client}, host.Options{
		Kind: kind, TTL: time.Minute, Phones: phones, Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Details: func(_ context.Context, p *host.Phone) (*wire.Details, error) {
			return &wire.Details{Kind: kind, RPID: site.RPID, PageOrigin: site.Origin, Start: int64(p.Number)}, nil
		},
		Approve: func(_ context.Context, _ *host.Phone, typ string, _ json.RawMessage) wire.Verdict {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.approved = append(s.approved, typ)
			return wire.Verdict{OK: true, Code: fmt.Sprintf("%06d", len(s.approved))}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	s.session = session
	return s
}

// meet opens the code on a fresh page.
func (s *stage) meet() *qrcodetest.Visit {
	s.Helper()
	v, err := s.phone.Meet(s.Context(), s.session.HP(), "")
	if err != nil {
		s.Fatal(err)
	}
	return v
}

// seal returns the phone's next message.
func (s *stage) seal(v *qrcodetest.Visit, typ string) wire.Sealed {
	s.Helper()
	m, err := v.Seal(typ, wire.Empty{})
	if err != nil {
		s.Fatal(err)
	}
	return m
}

// send sends a message that must be answered with a verdict.
func (s *stage) send(v *qrcodetest.Visit, m wire.Sealed) wire.Verdict {
	s.Helper()
	var verdict wire.Verdict
	if err := v.Send(s.Context(), m, wire.TypeVerdict, &verdict); err != nil {
		s.Errorf("number %d: %v", m.Seq, err)
	}
	return verdict
}

// gone posts what must be refused for this reason, and calls nobody.
func (s *stage) gone(id string, body any, want reason.Reason) {
	s.Helper()
	s.mu.Lock()
	before := len(s.approved)
	s.mu.Unlock()
	var reply wire.Reply
	if err := s.phone.Post(s.Context(), id, body, &reply); !qrcodetest.IsGone(err) {
		s.Errorf("got %+v, %v, want gone: %s", reply, err, want)
	}
	if !strings.Contains(s.log.String(), fmt.Sprintf("reason=%q", want)) {
		s.Errorf("no %q in the log:\n%s", want, s.log)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.approved) != before {
		s.Errorf("%s: it was judged", want)
	}
}

func TestEachMessageOutOfPlaceHasItsReason(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(s *stage, v *qrcodetest.Visit, m *wire.Sealed)
		want reason.Reason
	}{
		{"unknown type", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.Type = "sesame" }, reason.PhoneMalformed},
		{"no hello", func(s *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.PP = wire.B64(make([]byte, 32)) }, reason.PhoneUnknown},
		{"another phone's key", func(s *stage, _ *qrcodetest.Visit, m *wire.Sealed) {
			m.PP = wire.B64(s.meet().Key.PublicKey().Bytes())
		}, reason.PhoneBox},
		{"another type", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.Type = wire.TypeOIDC }, reason.PhoneBox},
		{"a number ahead", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.Seq = 2 }, reason.PhoneOrder},
		{"a number far ahead", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.Seq = 4294967295 }, reason.PhoneTooMany},
		{"the host's own box", func(_ *stage, v *qrcodetest.Visit, m *wire.Sealed) {
			m.Box, _ = v.Channel.Seal(wire.ToPhone, m.Seq, m.Type, wire.Empty{})
		}, reason.PhoneBox},
		{"a changed box", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) {
			raw, _ := wire.UnB64(m.Box)
			raw[20] ^= 1
			m.Box = wire.B64(raw)
		}, reason.PhoneBox},
		{"no box", func(_ *stage, _ *qrcodetest.Visit, m *wire.Sealed) { m.Box = "AAAA" }, reason.PhoneBox},
		{"a box of another kind", func(s *stage, v *qrcodetest.Visit, m *wire.Sealed) {
			c, err := wire.PhoneChannel(wire.Enroll, v.Key, s.session.HP())
			if err != nil {
				s.Fatal(err)
			}
			m.Box, _ = c.Seal(wire.ToHost, m.Seq, m.Type, wire.Empty{})
		}, reason.PhoneBox},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, wire.Login, 3)
			v := s.meet()
			good := s.seal(v, wire.TypePasskey)
			bad := good
			c.edit(s, v, &bad)
			s.gone(v.ID, bad, c.want)
			// Nothing is lost by it: the number was not used.
			if verdict := s.send(v, good); verdict.Code != "000001" {
				t.Errorf("then, the right one: got %+v", verdict)
			}
		})
	}
}

func TestAHelloIsForThisLogin(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	key, err := wire.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := wire.IDString(s.session.HP())
	hello := wire.NewHello(s.session.HP(), key.PublicKey().Bytes(), "")
	for want, edit := range map[reason.Reason]func(*wire.Hello){
		reason.PhoneOtherID:   func(h *wire.Hello) { h.ID = wire.IDString(key.PublicKey().Bytes()) },
		reason.PhoneOtherSHA1: func(h *wire.Hello) { h.SHA1 = strings.Repeat("a", 40) },
		reason.PhoneKey:       func(h *wire.Hello) { h.PP = wire.B64(make([]byte, 32)) },
		reason.PhoneMalformed: func(h *wire.Hello) { h.V = "pam-authn/qr/0" },
	} {
		h := hello
		edit(&h)
		s.gone(id, h, want)
	}
}

// TestWhatIsInABoxIsJSON: a phone that holds the keys may send anything.
func TestWhatIsInABoxIsJSON(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	m := s.seal(v, wire.TypePasskey)
	m.Box = sealText(t, v, m, bytes.Repeat([]byte{'{'}, 512))
	s.gone(v.ID, m, reason.PhoneContent)
}

// sealText puts text into a box, which Channel.Seal would not.
func sealText(t *testing.T, v *qrcodetest.Visit, m wire.Sealed, text []byte) string {
	t.Helper()
	host, err := ecdh.X25519().NewPublicKey(v.Channel.HP())
	if err != nil {
		t.Fatal(err)
	}
	secret, err := v.Key.ECDH(host)
	if err != nil {
		t.Fatal(err)
	}
	id := wire.ID(v.Channel.HP())
	salt := sha256.Sum256(wire.LP(wire.Version, "login", string(id[:]), string(v.Channel.HP()), string(v.Channel.PP())))
	key, err := hkdf.Key(sha256.New, secret, salt[:], wire.Version+" p2h", 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 12)
	aad := wire.LP(wire.Version, "login", string(id[:]), string(v.Channel.PP()), "p2h", strconv.Itoa(int(m.Seq)), m.Type)
	return wire.B64(gcm.Seal(nonce, nonce, text, aad))
}

func TestANumberIsUsedOnce(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	first := s.seal(v, wire.TypePasskey)
	for range 2 {
		if got := s.send(v, first).Code; got != "000001" {
			t.Errorf("the same bytes got another answer: %s", got)
		}
	}
	other := first
	other.Box, _ = v.Channel.Seal(wire.ToHost, first.Seq, first.Type, wire.Empty{})
	s.gone(v.ID, other, reason.PhoneReused)
	s.gone(v.ID, s.seal(v, wire.TypePasskey), reason.PhoneClosed)
	s.gone(v.ID, first, reason.PhoneClosed)
	if other := s.meet(); s.send(other, s.seal(other, wire.TypePasskey)).Code != "000002" {
		t.Error("another phone is not heard any more")
	}
}

func TestAHelloAgainGetsTheSameDetails(t *testing.T) {
	s := newStage(t, wire.Login, 1)
	v := s.meet()
	hello := wire.NewHello(s.session.HP(), v.Key.PublicKey().Bytes(), "")
	var one, two wire.Reply
	if err := s.phone.Post(t.Context(), v.ID, hello, &one); err != nil {
		t.Fatal(err)
	}
	if err := s.phone.Post(t.Context(), v.ID, hello, &two); err != nil || one != two {
		t.Errorf("got %v, %v, %v", one, two, err)
	}
}

// TestAMessageMayOvertakeAnother: browsers use several connections.
func TestAMessageMayOvertakeAnother(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	one, two := s.seal(v, wire.TypePasskey), s.seal(v, wire.TypePasskey)
	verdict := make(chan wire.Verdict, 1)
	go func() { verdict <- s.send(v, two) }()
	select {
	case <-verdict:
		t.Error("number 2 was answered before number 1 came")
	case <-time.After(50 * time.Millisecond):
	}
	if got := s.send(v, one); got.Code != "000001" {
		t.Errorf("number 1: got %+v", got)
	}
	if got := <-verdict; got.Code != "000002" {
		t.Errorf("number 2: got %+v", got)
	}
}

func TestSixteenBadBoxesCloseAChannel(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	good := s.seal(v, wire.TypePasskey)
	bad := good
	bad.Box = wire.B64(make([]byte, 540))
	for range 16 {
		s.gone(v.ID, bad, reason.PhoneBox)
	}
	s.gone(v.ID, good, reason.PhoneClosed)
}

func TestAPhoneThatTalksTooMuchIsNotHeard(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	for range 127 {
		s.send(v, s.seal(v, wire.TypePasskey))
	}
	s.gone(v.ID, s.seal(v, wire.TypePasskey), reason.PhoneTooMany)
}

func TestFiveWrongProofsCloseTheLookup(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	right := wire.NewLookup(s.session.Typed())
	wrong := right
	wrong.Proof = wire.B64(make([]byte, 32))
	if v, err := s.phone.OpenTyped(t.Context(), strings.ToLower(wire.FormatTyped(s.session.Typed()))); err != nil || v == nil {
		t.Errorf("the right code: %v", err)
	}
	for range 5 {
		s.gone(right.Loc, wrong, reason.LookupProof)
	}
	s.gone(right.Loc, right, reason.LookupClosed)
}

func TestAnEnrolmentHasNoTypedCode(t *testing.T) {
	s := newStage(t, wire.Enroll, 1)
	s.gone(wire.Loc(s.session.Typed()), wire.NewLookup(s.session.Typed()), reason.PhoneKind)
}

func TestASecondPhoneEndsAnEnrolment(t *testing.T) {
	s := newStage(t, wire.Enroll, 1)
	s.meet()
	if _, err := s.phone.Meet(t.Context(), s.session.HP(), ""); !qrcodetest.IsGone(err) {
		t.Errorf("the second: got %v, want gone", err)
	}
	<-s.session.Done()
	if err := s.session.Why(); !errors.Is(err, reason.SecondPhone) {
		t.Errorf("it ended with %v", err)
	}
}

func TestAFourthPhoneIsBusy(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	one := s.meet()
	s.meet()
	s.meet()
	if _, err := s.phone.Meet(t.Context(), s.session.HP(), ""); !qrcodetest.IsBusy(err) {
		t.Errorf("the fourth: got %v, want busy", err)
	}
	if s.send(one, s.seal(one, wire.TypePasskey)).Code != "000001" {
		t.Error("the first is not heard any more")
	}
}

func TestPhonesHearHowItEnded(t *testing.T) {
	for _, result := range []string{wire.EndIn, wire.EndRefused, wire.EndExpired, wire.EndHostGone} {
		s := newStage(t, wire.Login, 3)
		v := s.meet()
		s.session.Tell(wire.EndWrongCode)
		if got, err := v.Wait(t.Context()); got != wire.EndWrongCode || err != nil {
			t.Errorf("heard %q, %v", got, err)
		}
		s.await(func() bool { return s.session.InFlight() == 0 })
		heard := make(chan string, 1)
		go func() {
			got, err := v.Wait(context.WithoutCancel(t.Context()))
			heard <- fmt.Sprint(got, err)
		}()
		s.await(func() bool { return s.session.InFlight() == 1 })
		s.session.End(result, nil)
		if got := <-heard; got != result+"<nil>" {
			t.Errorf("heard %s, want %s", got, result)
		}
		s.session.Close()
	}
}

// await returns when there is what it waits for.
func (s *stage) await(there func() bool) {
	s.Helper()
	late := time.After(10 * time.Second)
	for !there() {
		select {
		case <-late:
			s.Fatal("nothing came")
		default:
			runtime.Gosched()
		}
	}
}

func TestAnEndIsFinal(t *testing.T) {
	s := newStage(t, wire.Login, 3)
	v := s.meet()
	m := s.seal(v, wire.TypePasskey)
	if !s.session.End(wire.EndRefused, reason.Refused) || s.session.End(wire.EndIn, nil) {
		t.Error("the second end counts, or the first does not")
	}
	s.session.Close()
	var reply wire.Reply
	if err := s.phone.Post(t.Context(), v.ID, m, &reply); !qrcodetest.IsGone(err) {
		t.Errorf("got %v, want gone", err)
	}
	if err := s.session.Why(); !errors.Is(err, reason.Refused) || len(s.approved) != 0 {
		t.Errorf("why %v, approved %v", err, s.approved)
	}
}

func TestASessionEndsWithItsContext(t *testing.T) {
	site := qrcodetest.NewSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := host.Open(ctx, host.Relay{URL: site.URL, Client: host.NewClient(nil, nil)}, host.Options{
		Kind: wire.Login, TTL: time.Minute, Phones: 3, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	<-s.Done()
	if !errors.Is(s.Why(), context.Canceled) {
		t.Errorf("it ended with %v", s.Why())
	}
}

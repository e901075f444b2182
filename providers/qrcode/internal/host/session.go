// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package host is the host's end of one code: it holds the socket to the relay
// and the channels to the phones, in the background, while a person reads a
// prompt. What an approval is worth is for its caller to say.
package host

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Numbers of the protocol, and of what a relay may keep us busy with.
const (
	maxTaken      = 3                      // codes that the relay may call taken
	maxLookups    = 5                      // wrong proofs
	maxInFlight   = 32                     // posts
	retireTimeout = 500 * time.Millisecond // for verifyauth
	flushTimeout  = 500 * time.Millisecond // for the last answers
	closeTimeout  = 250 * time.Millisecond // for the websocket's own farewell
	pingEvery     = 5 * time.Second        // so that a relay that vanished is noticed
	pingTimeout   = 5 * time.Second        // a busy machine may take a while
)

// Options say what a session is for.
type Options struct {
	Kind    wire.Kind
	TTL     time.Duration
	NeedCID bool         // ask for the connection's id, for payload qrauth
	Log     *slog.Logger // hears of refused messages, of the first of them
	Phones  int          // how many; a login's further ones are busy, an enrolment's end it

	// Begin, if set, is called with what Open is about to return, before any
	// phone is heard.
	Begin func(s *Session)

	// Details answers a phone's hello. Every phone gets one call, and p.Value
	// may keep what Approve needs.
	Details func(ctx context.Context, p *Phone) (*wire.Details, error)

	// Approve judges a message of the types passkey, oidc, enroll and
	// enroll_oidc. Calls are simultaneous. ctx ends with the session.
	Approve func(ctx context.Context, p *Phone, typ string, content json.RawMessage) wire.Verdict
}

// A Session is one code that phones can open, from [Open] until it ends. Its TTL
// is what the relay granted.
type Session struct {
	Options
	hs    *ecdh.PrivateKey
	typed string
	cid   []byte

	conn    *websocket.Conn
	ctx     context.Context // of everything that goes on in the background
	cancel  context.CancelFunc
	answers chan *wire.Envelope // of the relay, to what call asked
	slots   chan struct{}       // a post in flight holds one
	posts   sync.WaitGroup
	loops   sync.WaitGroup
	begun   chan struct{} // closed when phones are heard; what is above stays as it is then
	expires time.Time

	mu      sync.Mutex
	alarms  []func()        // stop what would end the session
	refused map[string]bool // reasons for which messages of phones were
	more    int             // such messages that had a reason which was logged already
	phones  map[string]*Phone
	lookups int           // wrong ones
	events  []string      // for the phones' waits
	news    chan struct{} // closed and replaced with every event
	done    chan struct{} // closed at the end
	ended   bool
	result  string // how, to the phones
	why     error
	lost    bool // the socket is of no use any more
}

// Open connects to the relay and has it expect phones. The error of a relay that
// nobody could reach wraps [authn.ErrAuthInfoUnavail].
//
// The session ends with ctx, when its time is up, when a phone refuses, when the
// relay is lost, or by [Session.End]. Call [Session.Close] in any case.
func Open(ctx context.Context, relay Relay, o Options) (*Session, error) {
	opening, stop := context.WithTimeout(ctx, openTimeout)
	defer stop()
	conn, err := relay.dial(opening)
	if err != nil {
		return nil, err
	}
	s := &Session{
		Options: o, conn: conn, answers: make(chan *wire.Envelope, 1), slots: make(chan struct{}, maxInFlight),
		phones: make(map[string]*Phone), news: make(chan struct{}), done: make(chan struct{}),
		begun: make(chan struct{}), refused: make(map[string]bool),
	}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.loops.Go(s.read)
	s.loops.Go(s.finish)
	if err := s.announce(opening); err != nil {
		s.End(wire.EndHostGone, err)
		s.Close()
		return nil, err
	}
	s.begin(ctx)
	return s, nil
}

// begin sets what will end the session, and has phones heard, who may be quicker
// than the relay's answer is read.
func (s *Session) begin(ctx context.Context) {
	s.expires = time.Now().Add(s.TTL)
	if s.Begin != nil {
		s.Begin(s)
	}
	close(s.begun)
	s.loops.Go(s.ping)
	s.mu.Lock()
	defer s.mu.Unlock()
	expiry := time.AfterFunc(s.TTL, func() { s.End(wire.EndExpired, reason.Expired) })
	cancelled := context.AfterFunc(ctx, func() { s.End(wire.EndHostGone, ctx.Err()) })
	s.alarms = []func(){func() { expiry.Stop() }, func() { cancelled() }}
}

// announce has the relay expect phones for a fresh key.
func (s *Session) announce(ctx context.Context) error {
	if s.NeedCID {
		if err := s.getConID(ctx); err != nil {
			return err
		}
	}
	for range maxTaken {
		switch result, err := s.expect(ctx); {
		case err != nil:
			return err
		case result == wire.ResultOK:
			return nil
		case result == wire.ResultLimit:
			return reason.RelayLimit
		case result != wire.ResultTaken:
			return reason.RelayGarbage
		}
	}
	return reason.RelayTaken
}

func (s *Session) getConID(ctx context.Context) error {
	e, err := s.call(ctx, &wire.Envelope{Action: wire.ActionGetConID})
	if err != nil {
		return err
	}
	if s.cid, err = wire.UnB64(e.CID); err != nil || len(s.cid) != wire.CIDSize {
		return reason.RelayGarbage
	}
	return nil
}

// expect offers one fresh key.
func (s *Session) expect(ctx context.Context) (string, error) {
	hs, err := newKey()
	if err != nil {
		return "", err
	}
	hp := hs.PublicKey().Bytes()
	s.mu.Lock()
	s.hs, s.typed = hs, wire.Typed(hp)
	s.mu.Unlock()
	e, err := s.call(ctx, &wire.Envelope{
		Action: wire.ActionExpectAuth, ID: wire.IDString(hp), Loc: wire.Loc(s.typed), TTL: int(s.TTL / time.Second),
	})
	if err != nil {
		return "", err
	}
	if granted := time.Duration(e.TTL) * time.Second; granted > 0 {
		s.TTL = min(s.TTL, granted) // a relay may shorten it
	}
	return e.Result, nil
}

// newKey returns a fresh key whose link begins with six letters behind the "#".
// The QR library then keeps the denser alphabet for all of it; the choice costs
// less than two of the key's 252 bits.
func newKey() (*ecdh.PrivateKey, error) {
	for {
		hs, err := wire.NewKey()
		if err != nil {
			return nil, err
		}
		_, fragment, _ := strings.Cut(wire.PageLink("", hs.PublicKey().Bytes()), "#")
		if !strings.ContainsAny(fragment[:6], "234567") {
			return hs, nil
		}
	}
}

// HP returns the host's public key, which the QR code carries.
func (s *Session) HP() []byte { return s.hs.PublicKey().Bytes() }

// Typed returns the code for people who cannot scan, without dashes.
func (s *Session) Typed() string { return s.typed }

// Left returns how long the code is still good for.
func (s *Session) Left() time.Duration { return time.Until(s.expires) }

// CID returns the connection's id if Options.NeedCID asked for it.
func (s *Session) CID() []byte { return s.cid }

// Done is closed when the session ends.
func (s *Session) Done() <-chan struct{} { return s.done }

// Why returns why the session ended: the error given to End, a
// [reason.Reason] if nobody called it, nil while it lasts.
func (s *Session) Why() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.why
}

// Tell lets the phones know of something that is not the end.
func (s *Session) Tell(result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.tellLocked(result)
	}
}

func (s *Session) tellLocked(result string) {
	s.events = append(s.events, result)
	close(s.news)
	s.news = make(chan struct{})
}

// End ends the session and tells the phones how. It reports whether the session
// had not ended before, in which case nothing changes.
func (s *Session) End(result string, why error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.ended, s.result, s.why = true, result, why
	s.tellLocked(result)
	close(s.done)
	return true
}

// Close ends the session if it has not ended, and returns when nothing of it is
// left: no socket, no goroutine, no key that is of use to anybody.
func (s *Session) Close() {
	s.End(wire.EndHostGone, nil)
	s.loops.Wait()
}

// finish waits for the end, lets the phones hear of it and has the relay forget
// the code. None of that can change how it ended.
func (s *Session) finish() {
	<-s.done
	s.mu.Lock()
	alarms := s.alarms
	s.mu.Unlock()
	for _, stop := range alarms {
		stop()
	}
	s.flush()
	s.retire()
	// CloseNow does nothing while Close waits for the relay's farewell, but the
	// end of read does: it closes the connection.
	farewell := time.AfterFunc(closeTimeout, s.cancel)
	_ = s.conn.Close(websocket.StatusNormalClosure, "")
	farewell.Stop()
	_ = s.conn.CloseNow()
	s.cancel()
	s.posts.Wait()
}

// flush waits for the answers that are on their way.
func (s *Session) flush() {
	flushed := make(chan struct{})
	go func() {
		s.posts.Wait()
		close(flushed)
	}()
	late := time.NewTimer(flushTimeout)
	defer late.Stop()
	select {
	case <-flushed:
	case <-late.C:
		s.cancel() // and with it whatever still goes on
	}
}

// retire is the protocol's verifyauth: somebody got in, and from now on the
// relay knows no such code.
func (s *Session) retire() {
	s.mu.Lock()
	in := s.result == wire.EndIn && !s.lost
	s.mu.Unlock()
	if !in {
		return // leaving is enough
	}
	challenge := make([]byte, 32)
	if _, err := rand.Read(challenge); err != nil {
		return
	}
	ctx, stop := context.WithTimeout(s.ctx, retireTimeout)
	defer stop()
	e, err := s.call(ctx, &wire.Envelope{Action: wire.ActionVerifyAuth, ID: wire.IDString(s.HP()), Challenge: wire.B64(challenge)})
	if err != nil || e.Result != wire.ResultVerified || e.Challenge != wire.B64(challenge) {
		s.Log.Debug("the relay did not confirm that it forgot the code")
	}
}

// call asks the relay something and returns its answer.
func (s *Session) call(ctx context.Context, ask *wire.Envelope) (*wire.Envelope, error) {
	ctx, stop := context.WithTimeout(ctx, stepTimeout)
	defer stop()
	if err := s.write(ctx, ask); err != nil {
		return nil, s.fault(err)
	}
	for {
		select {
		case e := <-s.answers:
			if e.Action == ask.Action {
				return e, nil
			}
		case <-ctx.Done():
			return nil, s.fault(ctx.Err())
		case <-s.ctx.Done(): // nothing more can be read
			return nil, s.fault(reason.RelayLost)
		}
	}
}

// fault says what broke while the relay was asked.
func (s *Session) fault(err error) error {
	if why := s.Why(); why != nil && errors.Is(why, authn.ErrSystem) {
		return why
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return reason.RelaySlow
	}
	return reason.RelayLost
}

func (s *Session) write(ctx context.Context, e *wire.Envelope) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.conn.Write(ctx, websocket.MessageText, text)
}

// read takes what the relay sends until nothing more comes.
func (s *Session) read() {
	for {
		typ, text, err := s.conn.Read(s.ctx)
		if err != nil {
			s.broken(reason.RelayLost)
			return
		}
		e, err := wire.ParseEnvelope(text)
		if err != nil || typ != websocket.MessageText {
			s.broken(reason.RelayGarbage)
			return
		}
		s.take(e)
	}
}

// ping notices a relay that is away without a word: nothing of it arrives, not
// even that the connection is broken.
func (s *Session) ping() {
	next := time.NewTicker(pingEvery)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-s.done:
			return
		}
		ctx, stop := context.WithTimeout(s.ctx, pingTimeout)
		err := s.conn.Ping(ctx)
		stop()
		if err != nil {
			s.broken(reason.RelayLost)
			return
		}
	}
}

// broken ends the session because of the relay.
func (s *Session) broken(why reason.Reason) {
	s.mu.Lock()
	s.lost = true
	s.mu.Unlock()
	s.End(wire.EndHostGone, why)
	s.cancel()
}

// take handles one message of the relay. Actions that this version does not
// know are a later one's.
func (s *Session) take(e *wire.Envelope) {
	switch e.Action {
	case wire.ActionPost:
		s.post(e)
	case wire.ActionDrain:
		s.End(wire.EndHostGone, reason.RelayDrains)
	case wire.ActionGetConID, wire.ActionExpectAuth, wire.ActionVerifyAuth:
		select {
		case s.answers <- e:
		default: // nobody asked
		}
	}
}

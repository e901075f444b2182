// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

const (
	waitTimeout  = 25 * time.Second // a wait without news
	orderTimeout = 2 * time.Second  // for a message that overtook another one
	maxMessages  = 128              // of one phone
	maxBadBoxes  = 16               // of one phone
	maxAtOnce    = 8                // messages of one phone in flight
	maxLogged    = 16               // refused messages, besides the first for each reason
)

// A Phone is one phone that opened the code. Its exported fields are set before
// anybody else sees it.
type Phone struct {
	Number     int // 1, 2, 3
	Channel    *wire.Channel
	Details    *wire.Details // what it was shown
	Transcript []byte        // TL or TE of these
	Value      any           // of Options.Details

	mu       sync.Mutex
	answers  []*answer     // by number
	moved    chan struct{} // closed and replaced with every answer begun
	badBoxes int
	closed   bool
	atOnce   int           // messages in flight
	heard    int           // of the session's events; of the session's mu, as the next
	waiting  chan struct{} // closed when a newer wait takes the place of the one that has it
}

// An answer is kept to be given again to the same bytes.
type answer struct {
	digest [sha256.Size]byte
	done   chan struct{} // closed when box is set
	box    string        // empty: none
}

// post answers what a phone sent, in the background.
func (s *Session) post(e *wire.Envelope) {
	s.mu.Lock()
	open := !s.ended
	if open {
		s.posts.Add(1) // before finish begins to wait
	}
	s.mu.Unlock()
	if !open {
		s.reply(e.Ref, http.StatusNotFound, wire.Reply{Error: wire.ErrorGone})
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		defer s.posts.Done()
		s.reply(e.Ref, http.StatusNotFound, wire.Reply{Error: wire.ErrorGone})
		return
	}
	go func() {
		defer s.posts.Done()
		defer func() { <-s.slots }()
		if !s.hasBegun() {
			s.reply(e.Ref, http.StatusNotFound, wire.Reply{Error: wire.ErrorGone})
			return
		}
		status, reply := s.answer(e.Body)
		s.reply(e.Ref, status, reply)
	}()
}

// hasBegun waits until phones are heard, and reports whether they ever are. A
// session that has ended meanwhile still tells them how.
func (s *Session) hasBegun() bool {
	select {
	case <-s.begun:
		return true
	default:
	}
	select {
	case <-s.begun:
		return true
	case <-s.done:
		return false
	}
}

func (s *Session) reply(ref uint64, status int, reply wire.Reply) {
	body, err := json.Marshal(reply)
	if err != nil {
		return
	}
	ctx, stop := context.WithTimeout(s.ctx, stepTimeout)
	defer stop()
	if err := s.write(ctx, &wire.Envelope{Action: wire.ActionPost, Ref: ref, Status: status, Body: body}); err != nil {
		s.Log.Debug("an answer did not reach the relay", "error", err.Error())
	}
}

// answer judges one message of a phone. Whatever is wrong with it, the phone
// hears that there is no such login.
func (s *Session) answer(body []byte) (int, wire.Reply) {
	reply, err := s.judge(body)
	if err == nil {
		return http.StatusOK, reply
	}
	if s.ctx.Err() == nil {
		s.logRefused(err)
	}
	if errors.Is(err, reason.PhoneBusy) {
		return http.StatusConflict, wire.Reply{Error: wire.ErrorBusy}
	}
	return http.StatusNotFound, wire.Reply{Error: wire.ErrorGone}
}

// logRefused logs why a message was refused: the first for each reason, and some
// more. Anybody can cause any number, and would push what matters out of the log.
func (s *Session) logRefused(err error) {
	s.mu.Lock()
	again := s.refused[err.Error()]
	s.refused[err.Error()] = true
	if again {
		s.more++
	}
	n := s.more
	s.mu.Unlock()
	switch {
	case !again, n <= maxLogged:
		s.Log.Info("message of a phone refused", "reason", err.Error())
	case n == maxLogged+1:
		s.Log.Warn("many messages of phones are refused: further ones are not logged")
	}
}

func (s *Session) judge(body []byte) (wire.Reply, error) {
	m, err := wire.ParsePhone(body)
	if err != nil {
		return wire.Reply{}, reason.PhoneMalformed
	}
	if m.Type == wire.TypeLookup {
		return s.lookup(m)
	}
	var box string
	if m.Type == wire.TypeHello {
		box, err = s.hello(m)
	} else {
		box, err = s.sealed(m)
	}
	return wire.Reply{Box: box}, err
}

// lookup tells the host's key to whoever knows the whole typed code. Enrolments
// have no typed code.
func (s *Session) lookup(m *wire.Phone) (wire.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.Kind != wire.Login:
		return wire.Reply{}, reason.PhoneKind
	case s.lookups >= maxLookups:
		return wire.Reply{}, reason.LookupClosed
	case subtle.ConstantTimeCompare(m.Proof, wire.Proof(s.typed)) != 1:
		s.lookups++
		return wire.Reply{}, reason.LookupProof
	}
	return wire.Reply{HP: wire.B64(s.HP())}, nil
}

// hello answers a phone's first message with what it shows.
func (s *Session) hello(m *wire.Phone) (string, error) {
	switch {
	case m.ID != wire.IDString(s.HP()):
		return "", reason.PhoneOtherID
	case m.SHA1 != "" && (s.cid == nil || m.SHA1 != wire.CIDSHA1(s.cid)):
		return "", reason.PhoneOtherSHA1
	}
	p, err := s.meet(m.PP)
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(wire.LP(m.ID, m.SHA1))
	return p.once(s.ctx, 0, digest, nil, func() (string, any) {
		details, err := s.Details(s.ctx, p)
		if err == nil {
			p.Details = details
			p.Transcript, err = details.Transcript(p.Channel)
		}
		if err != nil {
			s.Log.Error("what a phone is to show could not be put together", "error", err.Error())
			return "", nil
		}
		return wire.TypeDetails, details
	})
}

// meet returns the phone with public key pp, a new one if it has not been here.
func (s *Session) meet(pp []byte) (*Phone, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.phones[string(pp)]; p != nil {
		return p, nil
	}
	if s.ended {
		return nil, reason.PhoneClosed
	}
	if len(s.phones) >= s.Phones {
		return nil, s.crowdedLocked()
	}
	channel, err := wire.HostChannel(s.Kind, s.hs, pp)
	if err != nil {
		return nil, reason.PhoneKey
	}
	p := &Phone{Number: len(s.phones) + 1, Channel: channel, moved: make(chan struct{})}
	s.phones[string(pp)] = p
	return p, nil
}

// crowdedLocked refuses one phone too many. An enrolment that two phones opened
// is not to be trusted, whichever came first.
func (s *Session) crowdedLocked() error {
	if s.Kind != wire.Enroll {
		return reason.PhoneBusy
	}
	go s.End(wire.EndRefused, reason.SecondPhone)
	return reason.SecondPhone
}

// sealed answers every message behind the hello.
func (s *Session) sealed(m *wire.Phone) (string, error) {
	s.mu.Lock()
	p := s.phones[string(m.PP)]
	s.mu.Unlock()
	if p == nil {
		return "", reason.PhoneUnknown
	}
	var content json.RawMessage
	open := func() error {
		err := p.Channel.Open(wire.ToHost, m.Seq, m.Type, m.Box, &content)
		if errors.Is(err, wire.ErrBox) {
			return reason.PhoneBox
		}
		if err != nil {
			return reason.PhoneContent
		}
		return nil
	}
	return p.once(s.ctx, m.Seq, sha256.Sum256(wire.LP(m.Type, m.Box)), open, func() (string, any) {
		return s.act(p, m.Type, content)
	})
}

// act does what a phone's message asks for, and returns type and content of the
// answer.
func (s *Session) act(p *Phone, typ string, content json.RawMessage) (string, any) {
	switch typ {
	case wire.TypeWait:
		return wire.TypeEnd, wire.End{Result: s.next(p)}
	case wire.TypeRefuse:
		s.End(wire.EndRefused, reason.Refused)
		return wire.TypeEnd, wire.End{Result: wire.EndRefused}
	}
	return wire.TypeVerdict, s.Approve(s.ctx, p, typ, content)
}

// next returns what p has not heard yet, once there is something, or nothing
// after a while or when p waits anew: a page that was reloaded has no use for
// its last wait.
func (s *Session) next(p *Phone) string {
	late := time.NewTimer(waitTimeout)
	defer late.Stop()
	newer := make(chan struct{})
	s.mu.Lock()
	if p.waiting != nil {
		close(p.waiting)
	}
	p.waiting = newer
	s.mu.Unlock()
	for {
		s.mu.Lock()
		news := s.news
		if p.waiting == newer && p.heard < len(s.events) {
			p.heard++
			event := s.events[p.heard-1]
			s.mu.Unlock()
			return event
		}
		s.mu.Unlock()
		select {
		case <-newer:
			return wire.EndNone
		case <-news:
		case <-late.C:
			return wire.EndNone
		case <-s.ctx.Done():
			return wire.EndHostGone
		}
	}
}

// once gives message number seq its answer: run's the first time, the same
// again to the same bytes. Other bytes under a number that was used close the
// channel. open, if there is one, must succeed before the number counts as used.
func (p *Phone) once(ctx context.Context, seq uint32, digest [sha256.Size]byte, open func() error, run func() (string, any)) (string, error) {
	if !p.enter() {
		return "", reason.PhoneTooMany
	}
	defer p.leave()
	a, mine, err := p.claim(ctx, seq, digest, open)
	if err != nil {
		return "", err
	}
	if mine {
		defer close(a.done)
		if seq > 0 && !p.shown(ctx) {
			return "", reason.PhoneClosed
		}
		typ, content := run()
		if typ == "" {
			return "", reason.PhoneClosed
		}
		a.box, err = p.Channel.Seal(wire.ToPhone, seq, typ, content)
		return a.box, err
	}
	select {
	case <-a.done:
	case <-ctx.Done():
	}
	if ctx.Err() != nil || a.box == "" {
		return "", reason.PhoneClosed
	}
	return a.box, nil
}

// enter reports whether one message more of p may be in flight. Every phone has
// its share, so that none can keep the others out.
func (p *Phone) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.atOnce == maxAtOnce {
		return false
	}
	p.atOnce++
	return true
}

func (p *Phone) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce--
}

// shown waits until the hello has been answered, and reports whether it was.
func (p *Phone) shown(ctx context.Context) bool {
	p.mu.Lock()
	hello := p.answers[0]
	p.mu.Unlock()
	select {
	case <-hello.done:
		return hello.box != ""
	case <-ctx.Done():
		return false
	}
}

// claim finds the answer to message number seq, or begins one, which is then
// the caller's to finish.
func (p *Phone) claim(ctx context.Context, seq uint32, digest [sha256.Size]byte, open func() error) (a *answer, mine bool, err error) {
	if seq >= maxMessages {
		return nil, false, reason.PhoneTooMany
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.awaitTurn(ctx, seq); err != nil {
		return nil, false, err
	}
	switch {
	case p.closed:
		return nil, false, reason.PhoneClosed
	case int(seq) < len(p.answers) && p.answers[seq].digest == digest:
		return p.answers[seq], false, nil
	case int(seq) < len(p.answers):
		p.closed = true
		return nil, false, reason.PhoneReused
	case int(seq) > len(p.answers):
		return nil, false, reason.PhoneOrder
	}
	if open != nil {
		if err := open(); err != nil {
			p.badBoxes++
			p.closed = p.badBoxes >= maxBadBoxes
			return nil, false, err
		}
	}
	a = &answer{digest: digest, done: make(chan struct{})}
	p.answers = append(p.answers, a)
	close(p.moved)
	p.moved = make(chan struct{})
	return a, true, nil
}

// awaitTurn waits a little for the messages before seq, which may be on another
// connection of the phone's browser. p.mu is held, and let go meanwhile.
func (p *Phone) awaitTurn(ctx context.Context, seq uint32) error {
	var late <-chan time.Time
	for !p.closed && int(seq) > len(p.answers) {
		if late == nil {
			timer := time.NewTimer(orderTimeout)
			defer timer.Stop()
			late = timer.C
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
			p.mu.Lock()
		case <-late:
			p.mu.Lock()
			return reason.PhoneOrder
		case <-ctx.Done():
			p.mu.Lock()
			return reason.PhoneClosed
		}
	}
	return nil
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// TTL is how long a code is good for, unless the configuration has a ttl.
const TTL = 100 * time.Second

// Results of an [TypeEnd], for hints. Others may come.
const (
	ResultExpired     = wire.EndExpired
	ResultRefused     = wire.EndRefused
	ResultSecondPhone = "second_phone"
	ResultRelay       = "relay"
)

// server is the child's end.
type server struct {
	plan     Plan
	config   *qrcode.Config
	passkeys *proof.Passkeys
	issuers  []*proof.Issuer
	parent   *sender
	answers  chan *Message // of the parent, to offers
	session  *host.Session
	start    time.Time
	log      *slog.Logger

	mu        sync.Mutex // held while an offer is judged, and while it waits
	accepted  bool
	exchanges int
}

// Serve is all that the child does: it reads a start from r, lets one phone
// enrol, and says so on w, until the parent finishes or r ends.
func Serve(ctx context.Context, r io.Reader, w io.Writer) error {
	m, err := ReadFrame(r, MaxToChild)
	if err != nil {
		return err
	}
	s, err := newServer(m, w)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return s.run(ctx, r)
}

func newServer(m *Message, w io.Writer) (*server, error) {
	if m.Type != TypeStart || m.Start == nil {
		return nil, errors.New("the first frame is no start")
	}
	config, err := DecodeConfig(m.Start.Config)
	if err != nil {
		return nil, err
	}
	s := &server{
		plan: m.Start.Plan, config: config, parent: &sender{w: w, limit: MaxToParent}, answers: make(chan *Message), start: time.Now(),
		passkeys: &proof.Passkeys{RPID: config.RPID, Origin: config.PageURL, DeviceBound: config.Passkeys.DeviceBound},
	}
	s.log = slog.New(&noteHandler{send: s.note})
	s.issuers, err = config.Issuers(s.log)
	return s, err
}

func (s *server) run(ctx context.Context, r io.Reader) error {
	if err := s.open(ctx); err != nil {
		return s.end(err)
	}
	defer s.session.Close()
	if err := s.parent.send(&Message{Type: TypeReady, HP: s.session.HP()}); err != nil {
		return err
	}
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.listen(r)
	}()
	select {
	case <-finished:
	case <-s.session.Done():
		select {
		case <-finished: // it is over for both
		default:
			return s.end(s.session.Why())
		}
	}
	return nil
}

func (s *server) ttl() time.Duration { return ttl(s.config) }

func (s *server) open(ctx context.Context) error {
	relay, err := s.config.RelayClient()
	if err != nil {
		return err
	}
	_, err = host.Open(ctx, relay, host.Options{
		Kind: wire.Enroll, TTL: s.ttl(), Phones: 1, Log: s.log, Details: s.details, Approve: s.approve,
		Begin: func(session *host.Session) {
			s.session = session
			for _, i := range s.issuers {
				i.Discover(ctx)
			}
		},
	})
	return err
}

// listen takes what the parent says until it has nothing more to say.
func (s *server) listen(r io.Reader) {
	for {
		m, err := ReadFrame(r, MaxToChild)
		if err != nil {
			s.session.End(wire.EndHostGone, nil)
			return
		}
		switch m.Type {
		case TypeAccept, TypeRefuse:
			select {
			case s.answers <- m:
			case <-s.session.Done():
			}
		case TypeWrong:
			s.session.Tell(wire.EndWrongCode)
		case TypeFinish:
			s.session.End(m.Result, nil)
			s.session.Close() // phones hear of it first
			return
		}
	}
}

// end tells the parent why it is over.
func (s *server) end(why error) error {
	result := ResultRelay
	switch {
	case errors.Is(why, reason.Expired):
		result = ResultExpired
	case errors.Is(why, reason.Refused):
		result = ResultRefused
	case errors.Is(why, reason.SecondPhone):
		result = ResultSecondPhone
	}
	return s.parent.send(&Message{Type: TypeEnd, Result: result, Text: withoutResult(why)})
}

// withoutResult leaves out PAM's word, which means nothing here.
func withoutResult(err error) string {
	if err == nil {
		return "it ended"
	}
	text := err.Error()
	for _, r := range []authn.Result{authn.ErrAuthInfoUnavail, authn.ErrSystem, authn.ErrAuth} {
		text = strings.TrimSuffix(strings.ReplaceAll(text, r.Error()+": ", ""), ": "+r.Error())
	}
	return Plain(text)
}

// details says what the phone shows.
func (s *server) details(ctx context.Context, p *host.Phone) (*wire.Details, error) {
	d := &wire.Details{
		Kind: wire.Enroll, RPID: s.config.RPID, PageOrigin: s.config.PageURL, Host: s.config.Host,
		Account: wire.Clean(s.plan.Account), Subject: s.plan.Subject,
		UserHandle: base64.RawURLEncoding.EncodeToString(s.plan.UserHandle), Start: s.start.Unix(),
		TTL: int(s.session.Left() / time.Second), Methods: []string{wire.MethodPasskey}, Ref: "enrol",
	}
	d.OIDC, p.Value = proof.OfferAll(ctx, s.issuers, s.log)
	if len(d.OIDC) > 0 {
		d.Methods = append(d.Methods, wire.MethodOIDC)
	}
	return d, s.parent.send(&Message{Type: TypePhone})
}

// approve judges what the phone offers, and has the parent judge it too.
func (s *server) approve(ctx context.Context, p *host.Phone, typ string, content json.RawMessage) wire.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	code, err := s.offer(ctx, p, typ, content)
	if err != nil {
		s.log.Warn("the phone was refused", "reason", err.Error())
		return wire.Verdict{Ref: "enrol"}
	}
	s.accepted = true
	return wire.Verdict{OK: true, Code: code}
}

func (s *server) offer(ctx context.Context, p *host.Phone, typ string, content json.RawMessage) (code string, err error) {
	if s.accepted {
		return "", SecondKey
	}
	a, err := s.judge(ctx, p, typ, content)
	if err != nil {
		return "", err
	}
	a.Subject = s.plan.Subject
	if err := s.parent.send(&Message{Type: TypeOffer, Line: a.Line()}); err != nil {
		return "", err
	}
	select {
	case m := <-s.answers:
		if m.Type != TypeAccept {
			return "", errors.New(m.Text)
		}
		return m.Code, nil
	case <-s.session.Done():
		return "", SecondKey
	}
}

func (s *server) judge(ctx context.Context, p *host.Phone, typ string, content json.RawMessage) (*approvers.Approver, error) {
	switch typ {
	case wire.TypeEnroll:
		var m wire.EnrollPasskey
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, NewMalformed
		}
		key, err := newPasskey(s.passkeys, p.Transcript, s.plan.UserHandle, &m)
		return &approvers.Approver{Passkey: key}, err
	case wire.TypeEnrollOIDC:
		var m wire.OIDC
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, reason.OIDCMalformed
		}
		return s.judgeOIDC(ctx, p, &m)
	}
	return nil, reason.PhoneKind
}

func (s *server) judgeOIDC(ctx context.Context, p *host.Phone, m *wire.OIDC) (*approvers.Approver, error) {
	secrets, _ := p.Value.(proof.Verifiers)
	verifier, offered := secrets[m.Issuer]
	for _, i := range s.issuers {
		if i.URL != m.Issuer || !offered {
			continue
		}
		if s.exchanges++; s.exchanges > proof.MaxExchanges {
			return nil, reason.OIDCTooMany
		}
		sub, err := i.Sub(ctx, proof.Claim{Code: m.Code, Verifier: verifier, Transcript: p.Transcript, Start: s.start})
		return &approvers.Approver{Issuer: i.URL, Sub: sub}, err
	}
	return nil, reason.OIDCOff
}

// note tells the administrator something, if the parent still listens.
func (s *server) note(text string) {
	_ = s.parent.send(&Message{Type: TypeNote, Text: Plain(text)})
}

// maxNotes is how many lines of a log the parent is told. A phone can cause
// more than anybody wants to read.
const maxNotes = 40

// A noteHandler turns log lines into notes.
type noteHandler struct {
	send func(string)
	mu   sync.Mutex
	sent int
}

// Enabled implements slog.Handler.
func (h *noteHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

// Handle implements slog.Handler.
func (h *noteHandler) Handle(_ context.Context, r slog.Record) error {
	h.mu.Lock()
	h.sent++
	late := h.sent > maxNotes
	h.mu.Unlock()
	if late {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(": %v", a.Value)
		return true
	})
	h.send(text)
	return nil
}

// WithAttrs implements slog.Handler. Nobody uses it here.
func (h *noteHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler. Nobody uses it here.
func (h *noteHandler) WithGroup(string) slog.Handler { return h }

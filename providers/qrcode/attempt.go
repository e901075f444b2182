// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Limits of one login.
const (
	maxPrompts     = 6
	maxComparisons = 3
	earlyWait      = 2 * time.Second // after digits that came before an approval

	// parseDelay is how long the first prompt is out before the account's file
	// is read, which would show in the time until then who has a long one.
	parseDelay = 100 * time.Millisecond
)

// An attempt is one login: one code, up to three phones, one approval.
type attempt struct {
	*Provider
	request   *authn.Request
	parse     func() // sets approvers, once
	approvers []approvers.Approver
	passkeys  *proof.Passkeys
	issuers   []*proof.Issuer
	start     time.Time
	ttl       time.Duration
	ref       string
	log       *slog.Logger
	session   *host.Session
	stop      context.CancelFunc // of what goes on besides the session
	parsing   *time.Timer

	mu        sync.Mutex
	exchanges int
	approved  *approvers.Approver // by whom; set once
	code      string              // the digits; drawn when approved is set
	failed    error               // the last approval that was refused
	yes       chan struct{}       // closed when approved is set
}

// newRef returns what a person may tell an administrator.
func newRef() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// open has the relay expect phones. From then on the network goes on in the
// background.
func (a *attempt) open(ctx context.Context) error {
	a.yes = make(chan struct{})
	beside, stop := context.WithCancel(ctx)
	a.stop = stop
	_, err := host.Open(ctx, a.relay, host.Options{
		Kind: wire.Login, TTL: a.ttl, NeedCID: a.config.Payload == "qrauth", Phones: wire.MaxPhones, Log: a.log,
		Details: a.details, Approve: a.approve, Begin: func(s *host.Session) {
			a.session = s
			for _, i := range a.issuers {
				i.Discover(beside) // not before the relay was reached: see authn.Unreachable
			}
		},
	})
	if err != nil {
		stop()
	}
	return err
}

// close returns when nothing goes on any more.
func (a *attempt) close() {
	a.session.Close()
	a.stop()
	if a.parsing != nil && !a.parsing.Stop() {
		a.parse() // returns when the one that goes on does
	}
	for _, i := range a.issuers {
		i.Close()
	}
}

// details says what a phone shows. It depends on the configuration and on PAM's
// items, never on who may approve.
func (a *attempt) details(ctx context.Context, p *host.Phone) (*wire.Details, error) {
	d := &wire.Details{
		Kind: wire.Login, RPID: a.config.RPID, PageOrigin: a.config.PageURL, Host: a.config.Host,
		Account: wire.Clean(a.request.User), Service: wire.Clean(a.request.Service),
		RHost: wire.Clean(a.request.RHost), TTY: wire.Clean(a.request.TTY), Start: a.start.Unix(),
		TTL: int(a.session.Left() / time.Second), Methods: []string{wire.MethodPasskey}, Ref: a.ref,
	}
	d.OIDC, p.Value = proof.OfferAll(ctx, a.issuers, a.log)
	if len(d.OIDC) > 0 {
		d.Methods = append(d.Methods, wire.MethodOIDC)
	}
	return d, nil
}

// approve judges an approval. The first that is right gets the digits; to the
// phone, all others are the same.
func (a *attempt) approve(ctx context.Context, p *host.Phone, typ string, content json.RawMessage) wire.Verdict {
	by, err := a.judge(ctx, p, typ, content)
	if err == nil {
		if code, first := a.accept(by); first {
			a.log.Info("approved", "subject", by.Subject, "phone", p.Number)
			return wire.Verdict{OK: true, Code: code}
		}
		err = errSecond
	} else {
		a.mu.Lock()
		a.failed = err
		a.mu.Unlock()
	}
	a.log.Warn("approval refused", "phone", p.Number, "reason", err.Error())
	return wire.Verdict{Ref: a.ref}
}

var errSecond = errors.New("approved already, or ended")

func (a *attempt) judge(ctx context.Context, p *host.Phone, typ string, content json.RawMessage) (*approvers.Approver, error) {
	a.parse()
	switch typ {
	case wire.TypePasskey:
		var m wire.Passkey
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, reason.PasskeyMalformed
		}
		return a.passkeys.Approver(a.approvers, p.Transcript, m.Assertion)
	case wire.TypeOIDC:
		var m wire.OIDC
		if err := json.Unmarshal(content, &m); err != nil {
			return nil, reason.OIDCMalformed
		}
		return a.judgeOIDC(ctx, p, m)
	}
	return nil, reason.PhoneKind
}

func (a *attempt) judgeOIDC(ctx context.Context, p *host.Phone, m wire.OIDC) (*approvers.Approver, error) {
	secrets, _ := p.Value.(proof.Verifiers)
	verifier, offered := secrets[m.Issuer]
	for _, i := range a.issuers {
		if i.URL == m.Issuer && offered {
			if !a.mayExchange() {
				return nil, reason.OIDCTooMany
			}
			return i.Approver(ctx, a.approvers, proof.Claim{
				Code: m.Code, Verifier: verifier, Transcript: p.Transcript, Start: a.start,
			})
		}
	}
	return nil, reason.OIDCOff
}

// mayExchange counts the codes that issuers are asked about.
func (a *attempt) mayExchange() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.exchanges++
	return a.exchanges <= proof.MaxExchanges
}

// accept draws the digits for the first verified approval.
func (a *attempt) accept(by *approvers.Approver) (code string, first bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.approved != nil || a.session.Why() != nil {
		return "", false
	}
	if a.config.Code != "off" {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
		if err != nil {
			return "", false
		}
		a.code = fmt.Sprintf("%06d", n)
	}
	a.approved = by
	close(a.yes)
	return a.code, true
}

// ask shows the code and takes answers until one is right.
func (a *attempt) ask(conv authn.Conversation) (*approvers.Approver, error) {
	text, err := a.firstPrompt()
	if err != nil {
		return nil, err
	}
	a.parsing = time.AfterFunc(parseDelay, a.parse)
	comparisons := 0
	for range maxPrompts {
		answer, err := conv.Prompt(text)
		if err != nil {
			return nil, err
		}
		if err := a.over(conv); err != nil {
			return nil, err
		}
		by, compared := a.check(answer)
		if by != nil && a.session.End(wire.EndIn, nil) {
			return by, nil
		}
		if err := a.over(conv); err != nil {
			return nil, err
		}
		if compared {
			comparisons++
			if comparisons == maxComparisons {
				return nil, a.refuse(conv, reason.WrongCode)
			}
			a.session.Tell(wire.EndWrongCode)
		}
		text = "Not accepted. " + a.question()
	}
	return nil, a.refuse(conv, a.notApproved())
}

// over says why the login has ended meanwhile, if it has.
func (a *attempt) over(conv authn.Conversation) error {
	select {
	case <-a.session.Done():
	default:
		return nil
	}
	why := a.session.Why()
	switch {
	case errors.Is(why, reason.Refused):
		_ = conv.Error("This login was refused on a phone.")
	case errors.Is(why, reason.Expired):
		_ = conv.Error("The code has expired.")
	}
	if errors.Is(why, context.Canceled) || errors.Is(why, context.DeadlineExceeded) {
		return fmt.Errorf("given up: %w: %w", why, authn.ErrAuth)
	}
	return why
}

// refuse ends the login for everybody.
func (a *attempt) refuse(conv authn.Conversation, why error) error {
	a.session.End(wire.EndRefused, why)
	_ = conv.Error("Not accepted.")
	return why
}

// notApproved is the reason for six prompts without success: why the last
// approval was refused, if there was one.
func (a *attempt) notApproved() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.approved != nil:
		return reason.NoDigits
	case a.failed != nil:
		return a.failed
	}
	return reason.NotApproved
}

// check returns the approver if the answer opens the door, and whether it was
// compared with the digits. An answer before the approval is forgotten, after a
// while: nobody can type ahead.
func (a *attempt) check(answer string) (by *approvers.Approver, compared bool) {
	a.mu.Lock()
	by, code := a.approved, a.code
	a.mu.Unlock()
	if by == nil {
		return a.awaitApproval(), false
	}
	if a.config.Code == "off" {
		return by, false
	}
	digits := wire.Digits(answer)
	if len(digits) != len(code) {
		return nil, false // no guess: the Enter key, a slip
	}
	if subtle.ConstantTimeCompare([]byte(digits), []byte(code)) != 1 {
		return nil, true
	}
	return by, true
}

// awaitApproval waits a little for an approval. Only where there are no digits does one
// that comes now count.
func (a *attempt) awaitApproval() *approvers.Approver {
	late := time.NewTimer(a.early)
	defer late.Stop()
	approved := a.yes
	if a.config.Code != "off" {
		approved = nil
	}
	select {
	case <-late.C:
	case <-a.session.Done():
	case <-approved:
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.approved
	}
	return nil
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package qrcode is the provider for logins that a phone approves: the prompt
// shows a QR code, the phone shows who wants in where, a passkey or an OpenID
// Connect sign-in approves it, and six digits from the phone, typed at the
// prompt, open the door. Everything is verified on this host; the relay between
// it and the phone carries sealed boxes.
package qrcode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/host"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/proof"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// approversFile is the name of the account's file in authn.files.
const approversFile = "approvers"

// margin is how much of the PAM line's timeout is left for what is not waiting.
const margin = 10 * time.Second

// Provider asks a phone.
type Provider struct {
	config Config
	relay  host.Relay
	early  time.Duration // earlyWait, but in tests
	log    *slog.Logger
}

var (
	_ authn.Authenticator  = (*Provider)(nil)
	_ authn.AccountManager = (*Provider)(nil)
)

// New refuses a configuration with which nobody could ever get in.
func New(c Config, log *slog.Logger) (*Provider, error) {
	if err := c.setUp(); err != nil {
		return nil, err
	}
	relay, err := c.RelayClient()
	if err != nil {
		return nil, err
	}
	return &Provider{config: c, relay: relay, early: earlyWait, log: log}, nil
}

// Authenticate shows a code, and lets in whoever types the digits that a phone
// got for an approval.
func (p *Provider) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	a, err := p.attempt(req)
	if err != nil {
		return authn.Identity{}, err
	}
	if err := a.open(ctx); err != nil {
		return authn.Identity{}, err
	}
	defer a.close()
	approver, err := a.ask(conv)
	if err != nil {
		return authn.Identity{}, err
	}
	return authn.Identity{Subject: approver.Subject, Ticket: []byte(ticketOf(req.User) + approver.Fingerprint())}, nil
}

// ticketOf begins every ticket of a login to the account user; the rest is the
// approver's fingerprint. An application may change the user between the phases,
// to another whose approver is the same.
func ticketOf(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "qr1:" + hex.EncodeToString(sum[:]) + ":"
}

// CheckAccount refuses an account that has lost the approver that let this login
// in, and an account that it was not for. Logins that were not by QR code are
// none of its business.
func (p *Provider) CheckAccount(_ context.Context, req *authn.Request, _ authn.Conversation) error {
	if err := noWords(req); err != nil {
		return err
	}
	if req.Ticket == nil {
		return authn.ErrIgnore
	}
	fingerprint, ours := strings.CutPrefix(string(req.Ticket), ticketOf(req.User))
	if !ours {
		return reason.Ticket
	}
	for _, a := range p.approvers(req) {
		if a.Fingerprint() == fingerprint {
			return nil
		}
	}
	return reason.ApproverGone
}

// approvers returns who may approve logins to the account: nobody if it has no
// file, or a name that no phone could show.
func (p *Provider) approvers(req *authn.Request) []approvers.Approver {
	if !wire.Printable(req.User) {
		return nil
	}
	list, problems := approvers.Parse(req.Files[approversFile])
	for _, err := range problems {
		p.log.Warn("a line of the account's approvers is not one", "problem", err.Error())
	}
	return list
}

// noWords refuses words of the PAM line, which this provider has none of.
func noWords(req *authn.Request) error {
	if len(req.Args) == 0 {
		return nil
	}
	word, _, _ := strings.Cut(req.Args[0], "=")
	return reason.UnknownWord.With(fmt.Errorf("qrcode.%s: take it out; settings belong into the configuration file", word))
}

// attempt prepares one login. It does no network.
func (p *Provider) attempt(req *authn.Request) (*attempt, error) {
	if err := noWords(req); err != nil {
		return nil, err
	}
	if p.config.Code == "off" && !local(req) {
		return nil, reason.CodeOff
	}
	ttl, err := p.ttl(req.Timeout)
	if err != nil {
		return nil, err
	}
	a := &attempt{
		Provider: p, request: req, start: time.Now(), ttl: ttl, ref: newRef(),
		passkeys: &proof.Passkeys{RPID: p.config.RPID, Origin: p.config.PageURL, DeviceBound: p.config.Passkeys.DeviceBound},
	}
	a.parse = sync.OnceFunc(func() { a.approvers = p.approvers(req) })
	a.log = p.log.With("ref", a.ref)
	a.issuers, err = p.config.Issuers(a.log)
	return a, err
}

// ttl is the time that a code is good for.
func (p *Provider) ttl(timeout time.Duration) (time.Duration, error) {
	ttl := maxTTL
	if p.config.TTL != 0 {
		ttl = p.config.TTL
	}
	if timeout != 0 && timeout-margin < ttl {
		ttl = timeout - margin
	}
	if ttl < minTTL {
		return 0, reason.ShortTimeout
	}
	return ttl, nil
}

// local reports whether the person is at this machine: no remote host, and a
// console or a serial line. A pseudo-terminal may have anybody behind it, and so
// may a display: ":1" is as well that of a VNC or RDP server.
func local(req *authn.Request) bool {
	if req.RHost != "" {
		return false
	}
	tty := strings.TrimPrefix(req.TTY, "/dev/")
	if tty == "console" {
		return true
	}
	for _, kind := range []string{"tty", "ttyS"} {
		if n, ok := strings.CutPrefix(tty, kind); ok && n != "" && strings.Trim(n, "0123456789") == "" {
			return true
		}
	}
	return false
}

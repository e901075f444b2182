// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238, and what every authenticator app does
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// totpStep is the length of a TOTP step; codes of the step before and after
// are accepted, too.
const totpStep = 30 * time.Second

var errSecret = errors.New("not base32, as TOTP keys are")

func encodeSecret(key []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
}

func decodeSecret(text string) ([]byte, error) {
	text = strings.TrimRight(strings.ToUpper(strings.ReplaceAll(text, " ", "")), "=")
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	if err != nil {
		return nil, errSecret
	}
	return key, nil
}

// totp is the six-digit code of a step (RFC 6238 with SHA-1, RFC 4226).
func totp(key []byte, step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step)) //nolint:gosec // steps are not negative
	mac := hmac.New(sha1.New, key)
	_, _ = mac.Write(counter[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	n := binary.BigEndian.Uint32(sum[at:]) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1000000)
}

// deviceState is what happened with a device.
type deviceState struct {
	lastStep int64 // of TOTP, used up
	ahead    int64 // steps that the device's clock was put forward
}

// state is a device's, made when it is first asked for. s.mu is held.
func (s *Server) state(id int64) *deviceState {
	st := s.devices[id]
	if st == nil {
		st = &deviceState{}
		s.devices[id] = st
	}
	return st
}

// step is the TOTP step of a device now.
func (s *Server) step(st *deviceState) int64 {
	return s.now().Unix()/int64(totpStep/time.Second) + st.ahead
}

// kind is what a device can do.
type kind struct {
	word  string // for [Server.Sent]
	totp  bool
	sends bool // a code, when triggered
	push  bool
}

// kindOf knows the names that the reference and public programs mention.
func kindOf(d *Device) kind {
	switch d.Factor {
	case Protect, "OneLogin Protect":
		return kind{word: "push", totp: true, push: true}
	case Authenticator, "Authenticator", "Microsoft Authenticator":
		return kind{totp: true}
	case SMS, "OneLogin SMS":
		return kind{word: "sms", sends: true}
	case Email, "Email":
		return kind{word: "email", sends: true}
	case Voice, "Voice":
		return kind{word: "voice", sends: true}
	}
	return kind{}
}

// TOTP is a code of the user's first active device that makes TOTP codes,
// Protect included, valid now; "" if there is none. As a person would, it waits
// for the next code when this one is used up, except that it puts the device's
// clock forward and waits for nothing.
func (s *Server) TOTP(user string) string {
	return s.code(user, func(d *Device) bool { return kindOf(d).totp })
}

// Code is a code valid now of the user's first active device of this factor.
// Of factors that send codes it is the last one sent and not used up; "" if
// there is none.
func (s *Server) Code(user, factor string) string {
	return s.code(user, func(d *Device) bool { return d.Factor == factor })
}

func (s *Server) code(user string, wanted func(*Device) bool) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.find(user)
	if u == nil {
		return ""
	}
	for i := range u.Devices {
		d := &u.Devices[i]
		if d.Inactive || !wanted(d) {
			continue
		}
		if kindOf(d).totp {
			return s.freshTOTP(d)
		}
		return s.lastSent(d.ID)
	}
	return ""
}

func (s *Server) freshTOTP(d *Device) string {
	key, err := decodeSecret(d.Secret)
	if err != nil {
		return ""
	}
	st := s.state(d.ID)
	step := max(s.step(st), st.lastStep+1)
	st.ahead += step - s.step(st)
	return totp(key, step)
}

func (s *Server) lastSent(device int64) string {
	for _, ch := range slices.Backward(s.challenges) {
		if ch.device == device && ch.code != "" && ch.alive(s.now()) {
			return ch.code
		}
	}
	return ""
}

// challenge is a verification (v2) or a state token (v1, login).
type challenge struct {
	id      string
	user    int64
	device  int64
	created time.Time
	expires time.Time
	sent    string // "push", "sms" ...; "" if nothing was sent
	code    string // what was sent; "" once used
	login   bool   // made by login/auth

	polls    int
	decision PushDecision // what OnPush said
	byHand   Outcome      // what Accept and Reject said
}

func (ch *challenge) alive(now time.Time) bool { return now.Before(ch.expires) }

// An Outcome is what becomes of a push.
type Outcome int

// Outcomes of a push.
const (
	Ignored Outcome = iota // it expires, unless somebody decides by hand
	Accepted
	Refused
)

// A PushDecision says what becomes of a push, and when: after so many polls
// that found it pending, and not before Delay has passed since it was sent.
type PushDecision struct {
	Outcome Outcome
	Polls   int
	Delay   time.Duration
}

// OnPush sets who decides about pushes, user being a username, else an email,
// else "id:N". f is called when a push is sent, before the answer that tells
// so, and may call the server. Without it, or with nil, pushes wait for
// [Server.Accept] or [Server.Reject].
func (s *Server) OnPush(f func(user, verificationID string) PushDecision) {
	s.change(func() { s.onPush = f })
}

// Accept accepts the user's waiting pushes and returns how many those were.
func (s *Server) Accept(user string) int { return s.decide(user, Accepted) }

// Reject rejects the user's waiting pushes and returns how many those were.
func (s *Server) Reject(user string) int { return s.decide(user, Refused) }

func (s *Server) decide(user string, o Outcome) int {
	n := 0
	s.change(func() {
		u := s.find(user)
		if u == nil {
			return
		}
		for _, ch := range s.challenges {
			if s.undecided(ch, u) {
				ch.byHand = o
				n++
			}
		}
	})
	return n
}

// Waiting is how many of the user's pushes nobody has decided about.
func (s *Server) Waiting(user string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.find(user)
	n := 0
	for _, ch := range s.challenges {
		if u != nil && s.undecided(ch, u) {
			n++
		}
	}
	return n
}

// undecided says whether a challenge is a push of the user's that waits.
func (s *Server) undecided(ch *challenge, u *User) bool {
	return ch.user == u.ID && ch.sent == "push" && ch.alive(s.now()) && s.outcome(ch) == Ignored
}

// outcome is a push's now.
func (s *Server) outcome(ch *challenge) Outcome {
	if ch.byHand != Ignored {
		return ch.byHand
	}
	if ch.polls >= ch.decision.Polls && s.now().Sub(ch.created) >= ch.decision.Delay {
		return ch.decision.Outcome
	}
	return Ignored
}

// poll is outcome, asked by a client: pending ones count.
func (s *Server) poll(ch *challenge) Outcome {
	o := s.outcome(ch)
	if o == Ignored {
		ch.polls++
	}
	return o
}

// sent is a push, a call or a message that a user got.
type sent struct {
	user int64
	what string
}

// Sent is what was sent to the user since the start or the last Reset, in
// order: "push", "sms", "email", "voice".
func (s *Server) Sent(user string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.find(user)
	var list []string
	for _, x := range s.sent {
		if u != nil && x.user == u.ID {
			list = append(list, x.what)
		}
	}
	return list
}

// challenge makes a verification, and sends what the device sends if send is
// true.
func (s *Server) challenge(c *call, u *User, d *Device, life time.Duration, send bool) *challenge {
	s.forget()
	ch := &challenge{id: uuid(), user: u.ID, created: s.now(), expires: s.now().Add(life)}
	if d != nil {
		ch.device = d.ID
	}
	s.challenges = append(s.challenges, ch)
	if d != nil && send {
		s.send(c, ch, u, kindOf(d))
	}
	return ch
}

// forget drops what expired long ago, so that a server may run for long.
func (s *Server) forget() {
	limit := s.now().Add(-time.Hour)
	s.challenges = slices.DeleteFunc(s.challenges, func(ch *challenge) bool { return !ch.alive(limit) })
}

func (s *Server) send(c *call, ch *challenge, u *User, k kind) {
	if k.word == "" {
		return
	}
	ch.sent = k.word
	s.sent = append(s.sent, sent{u.ID, k.word})
	if k.sends {
		ch.code = s.newCode()
	}
	if k.push && s.onPush != nil {
		ask, name := s.onPush, u.called()
		c.after = append(c.after, func() {
			decision := ask(name, ch.id)
			s.change(func() { ch.decision = decision })
		})
	}
}

// newCode is a code to send: a letter and digits, or digits only.
func (s *Server) newCode() string {
	const letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
	digits := randomInt(100000)
	if s.variants.NumericCodes {
		return fmt.Sprintf("%d%05d", randomInt(10), digits)
	}
	return fmt.Sprintf("%c%05d", letters[randomInt(int64(len(letters)))], digits)
}

func randomInt(below int64) int64 {
	n, _ := rand.Int(rand.Reader, big.NewInt(below)) // never fails
	return n.Int64()
}

// challengeOf finds a living verification of a user by its id.
func (s *Server) challengeOf(user int64, id string) *challenge {
	for _, ch := range s.challenges {
		if ch.user == user && ch.id == id && ch.alive(s.now()) {
			return ch
		}
	}
	return nil
}

// device is a user's device, nil if there is none of this id.
func device(u *User, id string) *Device {
	for i := range u.Devices {
		if fmt.Sprint(u.Devices[i].ID) == id {
			return &u.Devices[i]
		}
	}
	return nil
}

// check checks a code, uses it up if it is right, and counts it as an invalid
// login attempt if it is not. A code that was sent must belong to ch, unless ch
// is nil.
func (s *Server) check(u *User, d *Device, ch *challenge, code string) bool {
	k := kindOf(d)
	ok := k.totp && s.checkTOTP(d, code) || k.sends && s.checkSent(d, ch, code)
	s.attempt(u, ok)
	return ok
}

func (s *Server) checkTOTP(d *Device, code string) bool {
	key, err := decodeSecret(d.Secret)
	if err != nil {
		return false
	}
	st := s.state(d.ID)
	now := s.step(st)
	for step := max(now-1, st.lastStep+1); step <= now+1; step++ {
		if hmac.Equal([]byte(totp(key, step)), []byte(code)) {
			if !s.opts.reuse {
				st.lastStep = step
			}
			return true
		}
	}
	return false
}

func (s *Server) checkSent(d *Device, only *challenge, code string) bool {
	for _, ch := range s.challenges {
		if only != nil && ch != only || ch.device != d.ID || ch.code == "" || !ch.alive(s.now()) {
			continue
		}
		if hmac.Equal([]byte(ch.code), []byte(code)) {
			ch.code = ""
			return true
		}
	}
	return false
}

// lockFor is how long a lock lasts.
const lockFor = 30 * time.Minute

// attempt counts a login attempt, and locks the user after too many.
func (s *Server) attempt(u *User, ok bool) {
	if ok {
		u.InvalidLoginAttempts = 0
		return
	}
	u.InvalidLoginAttempts++
	if s.lockAfter > 0 && u.InvalidLoginAttempts >= s.lockAfter {
		u.Status = Locked
		u.LockedUntil = s.now().Add(lockFor)
	}
}

// usable says whether the tenant lets a user use factors at all, in the variant
// where it asks.
func (s *Server) usable(u *User) bool {
	return !s.variants.MFARespectsStatus || u.Status == Active && u.State == Approved
}

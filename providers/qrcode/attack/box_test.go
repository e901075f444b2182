// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// A parcel is an approval on its way, before it is sealed. What is changed here
// is what the host must notice.
type parcel struct {
	v       *qrcodetest.Visit
	channel *wire.Channel // that it is sealed in
	dir     wire.Dir
	seq     uint32 // that it is sealed with
	typ     string // likewise
	content any
	sent    wire.Sealed // that it is sent as
}

// newParcel returns the approval that v's phone sends as number seq.
func (r *run) newParcel(v *qrcodetest.Visit, seq uint32) *parcel {
	return &parcel{
		v: v, channel: v.Channel, dir: wire.ToHost, seq: seq, typ: wire.TypePasskey,
		content: wire.Passkey{Assertion: r.sign(v, r.passkey)},
		sent:    wire.Sealed{Seq: seq, Type: wire.TypePasskey, PP: wire.B64(v.Channel.PP())},
	}
}

func (r *run) seal(p *parcel) wire.Sealed {
	box, err := p.channel.Seal(p.dir, p.seq, p.typ, p.content)
	if err != nil {
		r.Fatal(err)
	}
	p.sent.Box = box
	return p.sent
}

// post sends m as v's phone, and returns the digits, if any.
func (r *run) post(v *qrcodetest.Visit, m wire.Sealed) string {
	var verdict wire.Verdict
	err := v.Send(r.Context(), m, wire.TypeVerdict, &verdict)
	return r.hear(verdict, err)
}

// sealed is the story of an approval whose box is changed before it is sealed.
func sealed(change func(r *run, p *parcel, shown string)) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		p := r.newParcel(v, 1)
		if r.evil {
			change(r, p, shown)
		}
		return r.post(v, r.seal(p))
	}
}

// second is sealed for the second message of a phone; the first is an approval
// by nobody. Where it returns a message, that one is sent.
func second(change func(r *run, first wire.Sealed, p *parcel) *wire.Sealed) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		nobody := r.newParcel(v, 1)
		nobody.content = wire.Passkey{Assertion: r.sign(v, r.site.Passkey(r.T))}
		first := r.seal(nobody)
		r.post(v, first)
		p := r.newParcel(v, 2)
		if r.evil {
			if m := change(r, first, p); m != nil {
				return r.post(v, *m)
			}
		}
		return r.post(v, r.seal(p))
	}
}

// TestBoxes: every box opens in one place only.
func TestBoxes(t *testing.T) {
	attacks := []attack{
		{name: "sealed_under_another_number", want: reason.PasskeyUnknown, tell: second(func(_ *run, _ wire.Sealed, p *parcel) *wire.Sealed { p.seq = 1; return nil })},
		{name: "replayed_under_the_next_number", want: reason.PasskeyUnknown, tell: second(func(_ *run, first wire.Sealed, _ *parcel) *wire.Sealed {
			first.Seq = 2
			return &first
		})},
		{name: "sealed_as_another_type", tell: sealed(func(_ *run, p *parcel, _ string) { p.typ = wire.TypeOIDC })},
		{name: "of_the_other_direction", tell: sealed(func(_ *run, p *parcel, _ string) { p.dir = wire.ToPhone })},
		{name: "of_the_other_kind", tell: sealed(otherKind)},
		{name: "of_another_phone", tell: sealed(func(r *run, p *parcel, shown string) { p.channel = r.open(shown).Channel })},
		{name: "with_the_keys_swapped", tell: sealed(func(r *run, p *parcel, shown string) {
			p.sent.PP = wire.B64(r.open(shown).Channel.PP())
		})},
		{name: "of_another_host", tell: sealed(otherHost)},
		{name: "changed", tell: changed(func(box []byte) []byte { box[len(box)/2] ^= 1; return box })},
		{name: "cut", tell: changed(func(box []byte) []byte { return box[:len(box)-1] })},
		{name: "empty", tell: changed(func(box []byte) []byte { return box[:28] })},
		{name: "not_padded", tell: func(r *run, shown string) string {
			v := r.open(shown)
			text, err := json.Marshal(r.newParcel(v, 1).content)
			if err != nil {
				r.Fatal(err)
			}
			if n := len(text) % 512; !r.evil && n != 0 {
				text = append(text, strings.Repeat(" ", 512-n)...)
			}
			return r.post(v, wire.Sealed{Seq: 1, Type: wire.TypePasskey, PP: wire.B64(v.Channel.PP()), Box: r.sealByHand(v, 1, wire.TypePasskey, text)})
		}},
		{name: "the_hosts_own_sent_back", tell: sentBack},
	}
	for i := range attacks {
		attacks[i].logged = reason.PhoneBox
		if attacks[i].want == "" {
			attacks[i].want = reason.NotApproved
		}
	}
	runAll(t, attacks)
}

func otherKind(r *run, p *parcel, _ string) {
	c, err := wire.PhoneChannel(wire.Enroll, p.v.Key, p.v.Channel.HP())
	if err != nil {
		r.Fatal(err)
	}
	p.channel = c
}

// otherHost seals for a host that the attacker made up, with the phone's key.
func otherHost(r *run, p *parcel, _ string) {
	hs, err := wire.NewKey()
	if err != nil {
		r.Fatal(err)
	}
	c, err := wire.PhoneChannel(wire.Login, p.v.Key, hs.PublicKey().Bytes())
	if err != nil {
		r.Fatal(err)
	}
	p.channel = c
}

// changed is the story of an approval whose box is changed on its way.
func changed(change func(box []byte) []byte) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		m := r.seal(r.newParcel(v, 1))
		if r.evil {
			box, err := wire.UnB64(m.Box)
			if err != nil {
				r.Fatal(err)
			}
			m.Box = wire.B64(change(box))
		}
		return r.post(v, m)
	}
}

// sentBack posts the box with the details as an approval.
func sentBack(r *run, shown string) string {
	v := r.open(shown)
	m := r.seal(r.newParcel(v, 1))
	if r.evil {
		var reply wire.Reply
		key, err := wire.NewKey()
		if err != nil {
			r.Fatal(err)
		}
		pp := key.PublicKey().Bytes()
		if err := r.phone.Post(r.Context(), v.ID, wire.NewHello(v.Channel.HP(), pp, ""), &reply); err != nil {
			r.Fatal(err)
		}
		m.PP, m.Box = wire.B64(pp), reply.Box
	}
	return r.post(v, m)
}

// keysByHand is the protocol's K(p2h) and the message's additional data, written
// down once more.
func (r *run) keysByHand(v *qrcodetest.Visit, seq uint32, typ string) (cipher.AEAD, []byte) {
	peer, err := ecdh.X25519().NewPublicKey(v.Channel.HP())
	if err != nil {
		r.Fatal(err)
	}
	shared, err := v.Key.ECDH(peer)
	if err != nil {
		r.Fatal(err)
	}
	id, err := hex.DecodeString(v.ID)
	if err != nil {
		r.Fatal(err)
	}
	hp, pp := string(v.Channel.HP()), string(v.Channel.PP())
	salt := sha256.Sum256(wire.LP(wire.Version, "login", string(id), hp, pp))
	key, err := hkdf.Key(sha256.New, shared, salt[:], wire.Version+" p2h", 32)
	if err != nil {
		r.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		r.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		r.Fatal(err)
	}
	return aead, wire.LP(wire.Version, "login", string(id), pp, "p2h", strconv.Itoa(int(seq)), typ)
}

// sealByHand seals what a page would never put into a box.
func (r *run) sealByHand(v *qrcodetest.Visit, seq uint32, typ string, plain []byte) string {
	aead, data := r.keysByHand(v, seq, typ)
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce)
	return wire.B64(aead.Seal(nonce, nonce, plain, data))
}

// TestNumbers: every number is taken once, and in order.
func TestNumbers(t *testing.T) {
	runAll(t, []attack{
		{name: "out_of_order", logged: reason.PhoneOrder, want: reason.NotApproved, tell: sealed(func(_ *run, p *parcel, _ string) {
			p.seq, p.sent.Seq = 2, 2
		})},
		{name: "other_bytes_under_a_used_number", logged: reason.PhoneReused, want: reason.PasskeyUnknown,
			tell: second(func(_ *run, _ wire.Sealed, p *parcel) *wire.Sealed { p.seq, p.sent.Seq = 1, 1; return nil })},
		{name: "after_that", logged: reason.PhoneClosed, want: reason.PasskeyUnknown,
			tell: second(func(r *run, first wire.Sealed, p *parcel) *wire.Sealed {
				first.Box = strings.Repeat("A", 720)
				r.post(p.v, first)
				return nil
			})},
		{name: "too_many_messages", logged: reason.PhoneTooMany, want: reason.PasskeyMalformed,
			tell: many(126, func(r *run, v *qrcodetest.Visit, seq uint32) bool {
				p := r.newParcel(v, seq)
				p.content = wire.Passkey{Assertion: json.RawMessage(`{}`)}
				r.post(v, r.seal(p))
				return true
			})},
		{name: "too_many_boxes_that_do_not_open", logged: reason.PhoneClosed, want: reason.NotApproved,
			tell: many(15, func(r *run, v *qrcodetest.Visit, seq uint32) bool {
				p := r.newParcel(v, seq)
				p.dir = wire.ToPhone
				r.post(v, r.seal(p))
				return false
			})},
	})
}

// many is the story of a phone that sends n messages of which nothing comes, or
// one more, and then its approval. send reports whether the number was used.
func many(n int, send func(r *run, v *qrcodetest.Visit, seq uint32) (used bool)) story {
	return func(r *run, shown string) string {
		v, seq := r.open(shown), uint32(1)
		for i := range n + 1 {
			if (i < n || r.evil) && send(r, v, seq) {
				seq++
			}
		}
		return r.post(v, r.seal(r.newParcel(v, seq)))
	}
}

// TestReplay: what was recorded on its way is worth nothing.
func TestReplay(t *testing.T) {
	runAll(t, []attack{
		// The phone's hello and box of an approval that was good, sent again to
		// the same host and account.
		{name: "in_the_next_login", logged: reason.PhoneBox, want: reason.NotApproved, tell: func(r *run, shown string) string {
			v := r.open(shown)
			m := r.seal(r.newParcel(v, 1))
			if r.evil {
				recorded := r.record()
				r.hello(v, recorded.PP)
				m = recorded
			}
			return r.post(v, m)
		}},
		{name: "in_the_next_login_without_a_hello", logged: reason.PhoneUnknown, want: reason.NotApproved, tell: func(r *run, shown string) string {
			v := r.open(shown)
			m := r.seal(r.newParcel(v, 1))
			if r.evil {
				m = r.record()
			}
			return r.post(v, m)
		}},
		// The assertion itself: the attacker has the phone's memory, too.
		{name: "of_the_assertion", logged: reason.PasskeyChallenge, tell: elsewhere(func(*world) {})},
	})
}

// record returns the message with which somebody got in, a login ago.
func (r *run) record() (m wire.Sealed) {
	r.succeeds(func(r *run, shown string) string {
		v := r.open(shown)
		m = r.seal(r.newParcel(v, 1))
		return r.post(v, m)
	})
	return m
}

// hello introduces a phone whose private key nobody here has.
func (r *run) hello(v *qrcodetest.Visit, pp string) {
	var reply wire.Reply
	h := wire.Hello{Type: wire.TypeHello, V: wire.Version, ID: v.ID, PP: pp}
	if err := r.phone.Post(r.Context(), v.ID, h, &reply); err != nil {
		r.Error(err)
	}
}

// TestARepeatedApprovalIsNone: the same bytes get the same answer, and one
// login has one code, however often and from wherever it is approved.
func TestARepeatedApprovalIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.succeeds(func(r *run, shown string) string {
		v := r.open(shown)
		m := r.seal(r.newParcel(v, 1))
		code := r.post(v, m)
		if again := r.post(v, m); again != code {
			t.Errorf("the same bytes got %q and %q", code, again)
		}
		next := r.newParcel(v, 2)
		next.content = wire.Passkey{Assertion: r.sign(v, r.passkey)}
		if other := r.post(v, r.seal(next)); other != "" {
			t.Error("a second approval got digits")
		}
		return code
	})
}

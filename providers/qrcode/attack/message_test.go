// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"

	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/qrcodetest"
)

// TestARelayThatForges: it sees and changes all that is sent.
func TestARelayThatForges(t *testing.T) {
	attacks := []attack{
		{name: "an_approval_of_its_own_phone", logged: reason.PasskeyUnknown, want: reason.PasskeyUnknown, tell: own},
		{name: "a_box", logged: reason.PhoneBox, want: reason.NotApproved, tell: forgedBox},
		{name: "an_unheard_of_approval", logged: reason.PhoneMalformed, want: reason.NotApproved, tell: injected(wire.Envelope{
			Action: wire.ActionPost, Ref: 1 << 40, Body: json.RawMessage(`{"type":"approved","seq":1,"ok":true}`),
		})},
		{name: "an_end", want: reason.NotApproved, tell: injected(wire.Envelope{Action: wire.ActionVerifyAuth, Result: wire.ResultVerified})},
		{name: "a_later_versions_action", want: reason.NotApproved, tell: injected(wire.Envelope{Action: "approved", Result: "ok"})},
		{name: "the_phones_key", logged: reason.PhoneBox, want: reason.NotApproved, tell: swappedInHello},
		{name: "the_hosts_key", want: reason.NotApproved, tell: swappedInLookup},
		{name: "the_details", want: reason.NotApproved, tell: replied(func(r *run, _ *wire.Phone) (string, any) {
			return wire.TypeDetails, wire.Details{Kind: wire.Login, RPID: "localhost", PageOrigin: r.site.Origin, Host: "b.example.com"}
		})},
		{name: "the_verdict", want: reason.NoDigits, tell: replied(func(_ *run, m *wire.Phone) (string, any) {
			if m.Type != wire.TypePasskey {
				return "", nil
			}
			return wire.TypeVerdict, wire.Verdict{OK: true, Code: "123456"}
		})},
	}
	for i := range attacks {
		attacks[i].setUp = withMeddler
	}
	runAll(t, attacks)
}

// own has the relay, which learns the host's key from a lookup, open the code
// itself, and sign with what it has.
func own(r *run, shown string) string {
	v := r.open(shown)
	if !r.evil {
		return r.approve(v, r.sign(v, r.passkey))
	}
	mine, err := r.phone.Meet(r.Context(), v.Channel.HP(), "")
	if err != nil {
		r.Error(err)
		return ""
	}
	return r.approve(mine, r.sign(mine, r.site.Passkey(r.T)))
}

// forgedBox has the relay approve in the phone's name.
func forgedBox(r *run, shown string) string {
	v := r.open(shown)
	if !r.evil {
		return r.approve(v, r.sign(v, r.passkey))
	}
	r.inject(wire.Sealed{Seq: 1, Type: wire.TypePasskey, PP: wire.B64(v.Channel.PP()), Box: wire.B64(make([]byte, 12+16+2*512))})
	return ""
}

// inject posts to the host what no phone sent.
func (r *run) inject(m any) int {
	body, err := json.Marshal(m)
	if err != nil {
		r.Fatal(err)
	}
	status, reply := r.relay.socket().post(r.Context(), body)
	if status == http.StatusOK {
		r.Logf("the host answers %s", reply)
	}
	return status
}

// injected has the relay say something in place of the phone's approval. The
// host's answer to a message behind it shows that it was heard.
func injected(e wire.Envelope) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		if !r.evil {
			return r.approve(v, r.sign(v, r.passkey))
		}
		h := r.relay.socket()
		h.say(r.Context(), &e)
		r.open(shown)
		return ""
	}
}

// swappedInHello has the relay put its own key in place of the phone's: it can
// read the details then, which the phone cannot; and pass on what the phone
// sealed, which the host cannot read.
func swappedInHello(r *run, shown string) string {
	if !r.evil {
		return genuine(r, shown)
	}
	honest := r.open(shown)
	mine, err := wire.NewKey()
	if err != nil {
		r.Fatal(err)
	}
	pp := wire.B64(mine.PublicKey().Bytes())
	r.relay.phone = func(body []byte) []byte {
		var m map[string]any
		if json.Unmarshal(body, &m) == nil && m["pp"] != nil {
			m["pp"] = pp
			body, _ = json.Marshal(m)
		}
		return body
	}
	defer func() { r.relay.phone = nil }()
	if v, err := r.phone.Meet(r.Context(), honest.Channel.HP(), ""); err == nil {
		r.Errorf("the phone takes details that are not for it: %+v", v.Details)
	}
	return r.post(honest, r.seal(r.newParcel(honest, 1)))
}

// swappedInLookup has the relay put its own key in place of the host's.
func swappedInLookup(r *run, shown string) string {
	if r.evil {
		mine, err := wire.NewKey()
		if err != nil {
			r.Fatal(err)
		}
		r.relay.reply = func(body []byte) []byte {
			return []byte(`{"hp":"` + wire.B64(mine.PublicKey().Bytes()) + `"}`)
		}
		defer func() { r.relay.reply = nil }()
		if v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(shown)); err == nil {
			r.Errorf("the phone takes a key that is not this code's: %+v", v)
		}
		return ""
	}
	return genuine(r, shown)
}

// replied has the relay answer the phone in the host's name, in a box of keys of
// its own, unless the type is empty.
func replied(say func(r *run, m *wire.Phone) (string, any)) story {
	return func(r *run, shown string) string {
		if !r.evil {
			return genuine(r, shown)
		}
		hs, err := wire.NewKey()
		if err != nil {
			r.Fatal(err)
		}
		var mu sync.Mutex
		var asked *wire.Phone
		r.relay.phone = func(body []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			asked, _ = wire.ParsePhone(body)
			return body
		}
		r.relay.reply = func(body []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if asked == nil || asked.Type == wire.TypeLookup {
				return body
			}
			typ, content := say(r, asked)
			if typ == "" {
				return body
			}
			c, err := wire.HostChannel(wire.Login, hs, asked.PP)
			if err != nil {
				return body
			}
			box, _ := c.Seal(wire.ToPhone, asked.Seq, typ, content)
			return []byte(`{"box":"` + box + `"}`)
		}
		defer func() { r.relay.phone, r.relay.reply = nil, nil }()
		v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(shown))
		if err != nil {
			return "" // the phone did not take the details
		}
		return r.approve(v, r.sign(v, r.passkey))
	}
}

// posted is the story of a phone that posts something of its own in place of
// its approval.
func posted(body func(r *run, v *qrcodetest.Visit) any) story {
	return func(r *run, shown string) string {
		v := r.open(shown)
		if !r.evil {
			return r.approve(v, r.sign(v, r.passkey))
		}
		if status := r.inject(body(r, v)); status != http.StatusNotFound {
			r.Errorf("it is answered %d", status)
		}
		return ""
	}
}

// TestMessages: what a phone's page would never send. The relay would refuse
// some of them; this one passes them on.
func TestMessages(t *testing.T) {
	attacks := []attack{
		{name: "hello_to_another_login", logged: reason.PhoneOtherID, tell: hello(func(_ *run, h *wire.Hello) { h.ID = strings.Repeat("0", 32) })},
		{name: "hello_with_the_scan_of_another_connection", logged: reason.PhoneOtherSHA1, tell: hello(func(_ *run, h *wire.Hello) { h.SHA1 = strings.Repeat("0", 40) })},
		{name: "hello_with_a_key_that_gives_no_secret", logged: reason.PhoneKey, tell: hello(func(_ *run, h *wire.Hello) { h.PP = wire.B64(make([]byte, 32)) })},
		{name: "hello_of_another_version", logged: reason.PhoneMalformed, tell: hello(func(_ *run, h *wire.Hello) { h.V = "pam-authn/qr/2" })},
		{name: "without_a_hello", logged: reason.PhoneUnknown, tell: posted(func(r *run, v *qrcodetest.Visit) any {
			m := r.seal(r.newParcel(v, 1))
			m.PP = wire.B64(make([]byte, 32))
			return m
		})},
		{name: "an_enrolments_message", logged: reason.PhoneKind, want: reason.PhoneKind, tell: sealed(func(r *run, p *parcel, _ string) {
			p.typ, p.sent.Type = wire.TypeEnroll, wire.TypeEnroll
		})},
		{name: "a_box_of_no_JSON", logged: reason.PhoneContent, tell: func(r *run, shown string) string {
			v := r.open(shown)
			m := r.seal(r.newParcel(v, 1))
			if r.evil {
				m.Box = r.sealByHand(v, 1, wire.TypePasskey, []byte(strings.Repeat("{", 512)))
			}
			return r.post(v, m)
		}},
		{name: "a_box_of_something_else", logged: reason.PasskeyMalformed, want: reason.PasskeyMalformed, tell: sealed(func(_ *run, p *parcel, _ string) {
			p.content = []int{1, 2, 3}
		})},
	}
	for i := range attacks {
		attacks[i].setUp = withMeddler
		if attacks[i].want == "" {
			attacks[i].want = reason.NotApproved
		}
		if attacks[i].logged == reason.PhoneOtherSHA1 {
			attacks[i].setUp = func(w *world) { withMeddler(w); w.config.Payload = "qrauth" }
		}
	}
	runAll(t, attacks)
}

// hello is the story of a phone whose first message is changed.
func hello(change func(r *run, h *wire.Hello)) story {
	return func(r *run, shown string) string {
		if !r.evil {
			return genuine(r, shown)
		}
		hp := r.open(shown).Channel.HP()
		key, err := wire.NewKey()
		if err != nil {
			r.Fatal(err)
		}
		sum := sha1.Sum(cid)
		h := wire.NewHello(hp, key.PublicKey().Bytes(), "")
		if r.config.Payload == "qrauth" {
			h.SHA1 = hex.EncodeToString(sum[:])
			if status := r.inject(h); status != http.StatusOK {
				r.Errorf("the right one is answered %d", status)
			}
		}
		change(r, &h)
		if status := r.inject(h); status != http.StatusNotFound {
			r.Errorf("it is answered %d", status)
		}
		return ""
	}
}

// TestMalformedMessages are all refused alike, and do no harm to the login.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	withMeddler(w)
	key, box := wire.B64(make([]byte, 32)), wire.B64(make([]byte, 540))
	id := strings.Repeat("0", 32)
	messages := []string{
		`"text"`, `null`, `[]`, `{}`, `0`, strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		`{"type":"passkey"}`, `{"type":7}`,
		`{"seq":1,"type":"approve","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":0,"type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":-1,"type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":1.5,"type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":4294967296,"type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":"1","type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"type":"passkey","pp":"` + key + `","box":"` + box + `"}`,
		`{"seq":1,"type":"passkey","pp":"AAAA","box":"` + box + `"}`,
		`{"seq":1,"type":"passkey","pp":"` + key[:42] + `\n` + key[42:] + `","box":"` + box + `"}`,
		`{"seq":1,"type":"passkey","pp":"` + key + `","box":""}`,
		`{"seq":1,"type":"passkey","box":"` + box + `"}`,
		`{"seq":1,"type":"hello","v":"` + wire.Version + `","id":"` + id + `","pp":"` + key + `"}`,
		`{"seq":0,"type":"hello","v":"` + wire.Version + `","id":"` + strings.ToUpper(id[:31]) + `G","pp":"` + key + `"}`,
		`{"seq":0,"type":"hello","v":"` + wire.Version + `","id":"` + id + `","pp":"` + key + `","sha1":"` + strings.Repeat("0", 41) + `"}`,
		`{"type":"lookup","loc":"00000"}`, `{"type":"lookup","loc":"0000U","proof":"` + key + `"}`, `{"type":"lookup","loc":"00000","proof":"AAAA"}`,
		`{"seq":1,"type":"passkey","pp":"` + key + `","box":"` + strings.Repeat("A", wire.MaxBody) + `"}`,
	}
	r := w.succeeds(func(r *run, shown string) string {
		for _, m := range messages {
			if status := r.inject(json.RawMessage(m)); status != http.StatusNotFound {
				t.Errorf("%.200s is answered %d", m, status)
			}
		}
		return genuine(r, shown)
	})
	got := r.log.all() // which has the first few of a kind
	if len(got) == 0 || slices.ContainsFunc(got, func(s string) bool { return s != string(reason.PhoneMalformed) }) {
		t.Errorf("%d messages, the log has %q", len(messages), got)
	}
}

// TestTheRealRelayTakesNoNonsense: it is refused before a host hears of it.
func TestTheRealRelayTakesNoNonsense(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.succeeds(func(r *run, shown string) string {
		v := r.open(shown)
		for _, c := range []struct {
			body   string
			status int
		}{
			{`?`, http.StatusBadRequest},
			{`[]`, http.StatusBadRequest},
			{`{"seq":1}`, http.StatusBadRequest},
			{`{"seq":1,"type":"passkey","box":"` + strings.Repeat("A", wire.MaxBody) + `"}`, http.StatusRequestEntityTooLarge},
		} {
			err := r.phone.PostRaw(r.Context(), v.ID, []byte(c.body), nil)
			var status *qrcodetest.StatusError
			if !errors.As(err, &status) || status.Status != c.status {
				t.Errorf("%.40s: %v", c.body, err)
			}
		}
		other := *r.phone
		other.Origin = "https://evil.example.com"
		err := other.Post(r.Context(), v.ID, wire.Sealed{Seq: 1, Type: wire.TypePasskey, PP: wire.B64(v.Channel.PP()), Box: "AAAA"}, nil)
		var status *qrcodetest.StatusError
		if !errors.As(err, &status) || status.Status != http.StatusForbidden {
			t.Errorf("a page of another origin: %v", err)
		}
		return r.approve(v, r.sign(v, r.passkey))
	})
	if got := r.log.all(); len(got) != 0 {
		t.Errorf("the host heard of it: %q", got)
	}
}

// TestTypedCodesAreGuessed: whoever does not know all of it learns nothing, and
// cannot try for long.
func TestTypedCodesAreGuessed(t *testing.T) {
	guess := func(r *run, shown string) {
		typed, err := wire.ParseTyped(qrcodetest.FindTyped(shown))
		if err != nil {
			r.Fatal(err)
		}
		m := wire.NewLookup(typed)
		m.Proof = wire.B64(wire.Proof(typed[:wire.LocLen] + "0000000"))
		var reply wire.Reply
		if err := r.phone.Post(r.Context(), wire.Loc(typed), m, &reply); !qrcodetest.IsGone(err) || reply.HP != "" {
			r.Errorf("a guess gets %+v, %v", reply, err)
		}
	}
	after := func(n int) story {
		return func(r *run, shown string) string {
			for i := range n {
				if i < 4 || r.evil {
					guess(r, shown)
				}
			}
			v, err := r.phone.OpenTyped(r.Context(), qrcodetest.FindTyped(shown))
			if err != nil {
				return ""
			}
			if r.evil && n < 5 {
				return ""
			}
			return r.approve(v, r.sign(v, r.passkey))
		}
	}
	runAll(t, []attack{
		{name: "once", logged: reason.LookupProof, want: reason.NotApproved, tell: after(1)},
		{name: "too_often", logged: reason.LookupClosed, want: reason.NotApproved, tell: after(5)},
	})
}

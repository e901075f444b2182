// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/golden")

// The keys of all golden messages: bytes 1 to 32 and 33 to 64.
var (
	goldenHS = goldenKey(1)
	goldenPS = goldenKey(33)
)

func goldenKey(first byte) *ecdh.PrivateKey {
	seed := make([]byte, KeySize)
	for i := range seed {
		seed[i] = first + byte(i)
	}
	key, err := ecdh.X25519().NewPrivateKey(seed)
	if err != nil {
		panic(err)
	}
	return key
}

func goldenHP() []byte { return goldenHS.PublicKey().Bytes() }
func goldenPP() []byte { return goldenPS.PublicKey().Bytes() }

func hostChannel(t testing.TB, kind Kind) *Channel {
	t.Helper()
	c, err := HostChannel(kind, goldenHS, goldenPP())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func phoneChannel(t testing.TB, kind Kind) *Channel {
	t.Helper()
	c, err := PhoneChannel(kind, goldenPS, goldenHP())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// golden compares v with testdata/golden/name, or writes it there.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil { //nolint:gosec // to be read by all
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s differs; got\n%s", file, b.Bytes())
	}
}

func x(b []byte) string { return hex.EncodeToString(b) }

func goldenCID() []byte { return bytes.Repeat([]byte{0xc5}, CIDSize) }

func TestGoldenNames(t *testing.T) {
	typed := Typed(goldenHP())
	golden(t, "names.json", map[string]any{
		"v": Version, "hs": x(goldenHS.Bytes()), "hp": x(goldenHP()), "ps": x(goldenPS.Bytes()), "pp": x(goldenPP()),
		"id": IDString(goldenHP()), "typed": typed, "typed_shown": FormatTyped(typed), "loc": Loc(typed),
		"proof": B64(Proof(typed)), "hp_base64": B64(goldenHP()), "pp_base64": B64(goldenPP()),
		"link":   PageLink("https://login.example.com", goldenHP()),
		"qrauth": QRAuth(goldenHP(), goldenCID()), "cid": B64(goldenCID()), "cid_sha1": x(qrauthSHA1(goldenCID())),
		"lp": map[string]any{"parts": []string{"", "a", "\u00e4", "login"}, "hex": x(LP("", "a", "\u00e4", "login"))},
	})
}

func TestGoldenKeys(t *testing.T) {
	shared, err := goldenHS.ECDH(goldenPS.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]any{"shared": x(shared)}
	for _, kind := range []Kind{Login, Enroll} {
		id := ID(goldenHP())
		salt := sha256.Sum256(LP(Version, string(kind), string(id[:]), string(goldenHP()), string(goldenPP())))
		keys := map[string]string{"salt": x(salt[:])}
		for _, dir := range []Dir{ToPhone, ToHost} {
			k, err := deriveKey(shared, salt[:], dir)
			if err != nil {
				t.Fatal(err)
			}
			keys[string(dir)] = x(k)
		}
		out[string(kind)] = keys
	}
	golden(t, "keys.json", out)
}

// A goldenBox is one box and where it belongs.
type goldenBox struct {
	Name  string          `json:"name"`
	Kind  Kind            `json:"kind"`
	Dir   Dir             `json:"dir"`
	Seq   uint32          `json:"seq"`
	Type  string          `json:"type"`
	Nonce string          `json:"nonce"`
	Plain json.RawMessage `json:"plain"`
	Text  string          `json:"text"` // plain, byte for byte, before the padding
	Box   string          `json:"box"`
}

func goldenLogin() *Details {
	return &Details{
		Kind: Login, RPID: "login.example.com", PageOrigin: "https://login.example.com", Host: "db7.example.com",
		Account: "alice", Service: "sshd", RHost: "192.0.2.7", TTY: "ssh", Start: 1760000000, TTL: 97,
		Methods: []string{MethodPasskey, MethodOIDC},
		OIDC: []OIDCInfo{{Name: "Example", Issuer: "https://id.example.com",
			AuthorizeURL: "https://id.example.com/auth?tenant=7", ClientID: "pam-authn",
			CodeChallenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}},
		Ref: "7f3a90",
	}
}

func goldenEnroll() *Details {
	return &Details{
		Kind: Enroll, RPID: "login.example.com", PageOrigin: "https://login.example.com", Host: "db7.example.com",
		Account: "alice", Subject: "alice@example.com",
		UserHandle: base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0x42}, 32)), Start: 1760000000, TTL: 97,
		Methods: []string{MethodPasskey}, Ref: "7f3a91",
	}
}

// goldenLocal is a login at the machine itself: no rhost, and odd characters.
func goldenLocal() *Details {
	d := goldenLogin()
	d.RHost, d.Service, d.TTY, d.Account = "", "login", "/dev/tty1", Clean("al\x1bice")
	d.Host = `a "quoted" \ <b>host</b>`
	d.Methods, d.OIDC = []string{MethodPasskey}, nil
	return d
}

func goldenBoxes(t testing.TB) []goldenBox {
	assertion := json.RawMessage(`{"id":"AQID","rawId":"AQID","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA","userHandle":"Qg"}}`)
	boxes := []goldenBox{
		{Name: "details of a login", Kind: Login, Dir: ToPhone, Seq: 0, Type: TypeDetails, Plain: marshal(goldenLogin())},
		{Name: "details of a local login", Kind: Login, Dir: ToPhone, Seq: 0, Type: TypeDetails, Plain: marshal(goldenLocal())},
		{Name: "details of an enrolment", Kind: Enroll, Dir: ToPhone, Seq: 0, Type: TypeDetails, Plain: marshal(goldenEnroll())},
		{Name: "passkey", Kind: Login, Dir: ToHost, Seq: 1, Type: TypePasskey, Plain: marshal(Passkey{assertion})},
		{Name: "oidc", Kind: Login, Dir: ToHost, Seq: 1, Type: TypeOIDC, Plain: marshal(OIDC{"https://id.example.com", "SplxlOBeZQQYbYS6WxSbIA"})},
		{Name: "verdict yes", Kind: Login, Dir: ToPhone, Seq: 1, Type: TypeVerdict, Plain: marshal(Verdict{OK: true, Code: "042917"})},
		{Name: "verdict no", Kind: Login, Dir: ToPhone, Seq: 2, Type: TypeVerdict, Plain: marshal(Verdict{Ref: "7f3a90"})},
		{Name: "wait", Kind: Login, Dir: ToHost, Seq: 3, Type: TypeWait, Plain: marshal(Empty{})},
		{Name: "no news", Kind: Login, Dir: ToPhone, Seq: 3, Type: TypeEnd, Plain: marshal(End{EndNone})},
		{Name: "in", Kind: Login, Dir: ToPhone, Seq: 10, Type: TypeEnd, Plain: marshal(End{EndIn})},
		{Name: "refuse", Kind: Login, Dir: ToHost, Seq: 4294967295, Type: TypeRefuse, Plain: marshal(Empty{})},
		{Name: "refused", Kind: Login, Dir: ToPhone, Seq: 4294967295, Type: TypeEnd, Plain: marshal(End{EndRefused})},
		{Name: "enroll", Kind: Enroll, Dir: ToHost, Seq: 1, Type: TypeEnroll, Plain: marshal(EnrollPasskey{"AQID", "o2NmbXRkbm9uZQ", "e30", assertion})},
		{Name: "enroll oidc", Kind: Enroll, Dir: ToHost, Seq: 1, Type: TypeEnrollOIDC, Plain: marshal(OIDC{"https://id.example.com", "abc"})},
		{Name: "enrolment's digits", Kind: Enroll, Dir: ToPhone, Seq: 1, Type: TypeVerdict, Plain: marshal(Verdict{OK: true, Code: "900001"})},
	}
	for i := range boxes {
		b := &boxes[i]
		nonce := bytes.Repeat([]byte{byte(i + 1)}, nonceSize)
		b.Nonce = x(nonce)
		box, err := hostChannel(t, b.Kind).seal(nonce, b.Dir, b.Seq, b.Type, b.Plain)
		if err != nil {
			t.Fatal(err)
		}
		b.Box, b.Text = box, string(b.Plain)
	}
	return boxes
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func TestGoldenBoxes(t *testing.T) {
	boxes := goldenBoxes(t)
	golden(t, "boxes.json", boxes)
	for _, b := range boxes {
		var plain json.RawMessage
		if err := phoneChannel(t, b.Kind).Open(b.Dir, b.Seq, b.Type, b.Box, &plain); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
		if string(plain) != string(b.Plain) {
			t.Errorf("%s: got %s, want %s", b.Name, plain, b.Plain)
		}
	}
}

// A goldenTranscript is what the phone shows and what it must sign for it.
type goldenTranscript struct {
	Name       string   `json:"name"`
	Details    *Details `json:"details"`
	Transcript string   `json:"transcript"`
	Nonce      string   `json:"nonce"`
}

func TestGoldenTranscripts(t *testing.T) {
	transcripts := []goldenTranscript{
		{Name: "login", Details: goldenLogin()},
		{Name: "local login", Details: goldenLocal()},
		{Name: "enrolment", Details: goldenEnroll()},
	}
	var sum []byte
	for i := range transcripts {
		g := &transcripts[i]
		var err error
		if sum, err = g.Details.Transcript(phoneChannel(t, g.Details.Kind)); err != nil {
			t.Fatal(err)
		}
		g.Transcript, g.Nonce = x(sum), Nonce(sum)
	}
	golden(t, "transcripts.json", map[string]any{"transcripts": transcripts, "enroll_proof": map[string]string{
		"te": x(sum), "attestation_object": x([]byte("attested")), "hash": x(EnrollProof(sum, []byte("attested"))),
	}})
}

// A goldenMessage is one message in the clear.
type goldenMessage struct {
	Name string          `json:"name"`
	From string          `json:"from"` // phone or host: who sends it
	JSON json.RawMessage `json:"json"`
}

func TestGoldenPhoneMessages(t *testing.T) {
	typed := Typed(goldenHP())
	box := goldenBoxes(t)[3].Box
	messages := []goldenMessage{
		{"lookup", "phone", marshal(NewLookup(typed))},
		{"answer to lookup", "host", marshal(Reply{HP: B64(goldenHP())})},
		{"hello", "phone", marshal(NewHello(goldenHP(), goldenPP(), ""))},
		{"hello from a qrauth code", "phone", marshal(NewHello(goldenHP(), goldenPP(), x(qrauthSHA1(goldenCID()))))},
		{"busy", "host", marshal(Reply{Error: ErrorBusy})},
		{"gone", "host", marshal(Reply{Error: ErrorGone})},
		{"passkey", "phone", marshal(Sealed{1, TypePasskey, B64(goldenPP()), box})},
		{"boxed answer", "host", marshal(Reply{Box: box})},
		{"a later version's field", "phone", json.RawMessage(`{"seq":0,"type":"hello","v":"pam-authn/qr/1","id":"` +
			IDString(goldenHP()) + `","pp":"` + B64(goldenPP()) + `","colour":{"r":1}}`)},
	}
	golden(t, "phone.json", messages)
	for _, m := range messages {
		if m.From != "phone" {
			continue
		}
		if _, err := ParsePhone(m.JSON); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

func TestGoldenSocketMessages(t *testing.T) {
	id, loc := IDString(goldenHP()), Loc(Typed(goldenHP()))
	hello := marshal(NewHello(goldenHP(), goldenPP(), ""))
	challenge := B64(bytes.Repeat([]byte{7}, 32))
	messages := []goldenMessage{
		{"ask for a connection id", "host", marshal(Envelope{Action: ActionGetConID})},
		{"connection id", "relay", marshal(Envelope{Action: ActionGetConID, CID: B64(goldenCID())})},
		{"expect", "host", marshal(Envelope{Action: ActionExpectAuth, ID: id, Loc: loc, TTL: 100})},
		{"expected", "relay", marshal(Envelope{Action: ActionExpectAuth, Result: ResultOK})},
		{"taken", "relay", marshal(Envelope{Action: ActionExpectAuth, Result: ResultTaken})},
		{"limit", "relay", marshal(Envelope{Action: ActionExpectAuth, Result: ResultLimit})},
		{"post", "relay", marshal(Envelope{Action: ActionPost, Ref: 7, Body: hello})},
		{"answer", "host", marshal(Envelope{Action: ActionPost, Ref: 7, Status: 200, Body: marshal(Reply{Box: "AAAA"})})},
		{"busy", "host", marshal(Envelope{Action: ActionPost, Ref: 8, Status: 409, Body: marshal(Reply{Error: ErrorBusy})})},
		{"gone", "host", marshal(Envelope{Action: ActionPost, Ref: 9, Status: 404, Body: marshal(Reply{Error: ErrorGone})})},
		{"retire", "host", marshal(Envelope{Action: ActionVerifyAuth, ID: id, Challenge: challenge})},
		{"retired", "relay", marshal(Envelope{Action: ActionVerifyAuth, Result: ResultVerified, Challenge: challenge})},
		{"drain", "relay", marshal(Envelope{Action: ActionDrain})},
		{"a later version's action", "relay", json.RawMessage(`{"action":"weather","sky":"blue"}`)},
		{"a later version's field", "relay", json.RawMessage(`{"action":"expectauth","result":"ok","node":"b"}`)},
	}
	golden(t, "socket.json", messages)
	for _, m := range messages {
		e, err := ParseEnvelope(m.JSON)
		if err != nil {
			t.Errorf("%s: %v", m.Name, err)
			continue
		}
		if again := marshal(e); !strings.HasPrefix(m.Name, "a later") && string(again) != string(m.JSON) {
			t.Errorf("%s: read and written again is %s", m.Name, again)
		}
	}
}

// goldenInvalid is what must be refused, by each kind of reader.
type goldenInvalid struct {
	Boxes    []goldenBox     `json:"boxes"`    // opened by the phone's or host's end
	Phone    []goldenMessage `json:"phone"`    // by the host
	Socket   []goldenMessage `json:"socket"`   // by host and relay
	Typed    []string        `json:"typed"`    // typed codes
	Fragment []string        `json:"fragment"` // of links
	PP       []string        `json:"pp"`       // public keys of the other end, hex
}

func TestGoldenInvalidMessagesAreRefused(t *testing.T) {
	g := invalid(t)
	golden(t, "invalid.json", g)
	for _, b := range g.Boxes {
		var v json.RawMessage
		if err := phoneChannel(t, b.Kind).Open(b.Dir, b.Seq, b.Type, b.Box, &v); err == nil {
			t.Errorf("%s: opened: %s", b.Name, v)
		}
	}
	for _, m := range g.Phone {
		if p, err := ParsePhone(m.JSON); err == nil {
			t.Errorf("%s: taken: %+v", m.Name, p)
		}
	}
	for _, m := range g.Socket {
		if e, err := ParseEnvelope(m.JSON); err == nil {
			t.Errorf("%s: taken: %+v", m.Name, e)
		}
	}
	for _, s := range g.Typed {
		if code, err := ParseTyped(s); err == nil {
			t.Errorf("typed code %q: taken as %s", s, code)
		}
	}
	for _, s := range g.Fragment {
		if _, err := ParseKey(s); err == nil {
			t.Errorf("fragment %q: taken", s)
		}
	}
	for _, s := range g.PP {
		pp, _ := hex.DecodeString(s)
		if _, err := HostChannel(Login, goldenHS, pp); err == nil {
			t.Errorf("public key %s: taken", s)
		}
	}
}

func invalid(t *testing.T) goldenInvalid {
	hp := goldenHP()
	link := strings.SplitN(PageLink("https://x", hp), "#", 2)[1]
	return goldenInvalid{
		Boxes:    invalidBoxes(t),
		Phone:    invalidPhone(),
		Socket:   invalidSocket(),
		Typed:    []string{"", "ABCD-EFGH-JKM", "ABCD-EFGH-JKMNP", "ABCD-EFGH-JKMU", "ABCD_EFGH_JKMN", "\u00c4BCD-EFGH-JKMN"},
		Fragment: []string{"", link[1:], link + "A", "1" + link[1:], link[:51] + "B"},
		PP: []string{"", x(goldenPP()[1:]), strings.Repeat("00", 32),
			"0100000000000000000000000000000000000000000000000000000000000000",
			"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"},
	}
}

// invalidBoxes changes one thing each in a good box, or in where it is found.
func invalidBoxes(t *testing.T) []goldenBox {
	good := goldenBoxes(t)[3]
	change := func(name string, edit func(*goldenBox)) goldenBox {
		b := good
		b.Name = name
		edit(&b)
		return b
	}
	flip := func(b *goldenBox, i int) {
		raw, _ := UnB64(b.Box)
		raw[(len(raw)+i)%len(raw)] ^= 1
		b.Box = B64(raw)
	}
	return []goldenBox{
		change("the other direction", func(b *goldenBox) { b.Dir = ToPhone }),
		change("the other kind", func(b *goldenBox) { b.Kind = Enroll }),
		change("another number", func(b *goldenBox) { b.Seq = 2 }),
		change("another type", func(b *goldenBox) { b.Type = TypeOIDC }),
		change("changed nonce", func(b *goldenBox) { flip(b, 0) }),
		change("changed text", func(b *goldenBox) { flip(b, 100) }),
		change("changed tag", func(b *goldenBox) { flip(b, -1) }),
		change("cut by one byte", func(b *goldenBox) { raw, _ := UnB64(b.Box); b.Box = B64(raw[1:]) }),
		change("cut by one unit", func(b *goldenBox) { raw, _ := UnB64(b.Box); b.Box = B64(raw[boxUnit:]) }),
		change("nothing", func(b *goldenBox) { b.Box = "" }),
		change("a nonce and a tag", func(b *goldenBox) { b.Box = B64(make([]byte, nonceSize+tagSize)) }),
		change("base64url", func(b *goldenBox) { raw, _ := UnB64(b.Box); b.Box = base64.RawURLEncoding.EncodeToString(raw) }),
		change("a line break", func(b *goldenBox) { b.Box = b.Box[:40] + "\n" + b.Box[40:] }),
		change("too large", func(b *goldenBox) { b.Box = B64(make([]byte, nonceSize+tagSize+MaxPlain+boxUnit)) }),
	}
}

func invalidPhone() []goldenMessage {
	id, pp, box := IDString(goldenHP()), B64(goldenPP()), B64(make([]byte, 540))
	m := func(name, text string) goldenMessage { return goldenMessage{name, "phone", json.RawMessage(text)} }
	hello := func(v, id, pp string) string {
		return `{"seq":0,"type":"hello","v":"` + v + `","id":"` + id + `","pp":"` + pp + `"}`
	}
	return []goldenMessage{
		m("no object", `[]`),
		m("nothing in it", `{}`),
		m("hello of another version", hello("pam-authn/qr/2", id, pp)),
		m("hello with an upper-case id", hello(Version, strings.ToUpper(id), pp)),
		m("hello with a short key", hello(Version, id, B64(goldenPP()[1:]))),
		m("hello with a key in base64url", hello(Version, id, base64.RawURLEncoding.EncodeToString(goldenPP()))),
		m("hello with a number", strings.Replace(hello(Version, id, pp), `"seq":0`, `"seq":1`, 1)),
		m("hello without a number", strings.Replace(hello(Version, id, pp), `"seq":0,`, ``, 1)),
		m("unknown type", `{"seq":1,"type":"sesame","pp":"`+pp+`","box":"`+box+`"}`),
		m("number zero", `{"seq":0,"type":"passkey","pp":"`+pp+`","box":"`+box+`"}`),
		m("negative number", `{"seq":-1,"type":"passkey","pp":"`+pp+`","box":"`+box+`"}`),
		m("fraction", `{"seq":1.5,"type":"passkey","pp":"`+pp+`","box":"`+box+`"}`),
		m("number too large", `{"seq":4294967296,"type":"passkey","pp":"`+pp+`","box":"`+box+`"}`),
		m("no key", `{"seq":1,"type":"passkey","box":"`+box+`"}`),
		m("no box", `{"seq":1,"type":"passkey","pp":"`+pp+`"}`),
		m("box is no text", `{"seq":1,"type":"passkey","pp":"`+pp+`","box":7}`),
		m("lookup without proof", `{"type":"lookup","loc":"ABCDE"}`),
		m("lookup with a short proof", `{"type":"lookup","loc":"ABCDE","proof":"AAAA"}`),
		m("lookup in lower case", `{"type":"lookup","loc":"abcde","proof":"`+B64(make([]byte, 32))+`"}`),
		m("lookup with six characters", `{"type":"lookup","loc":"ABCDEF","proof":"`+B64(make([]byte, 32))+`"}`),
	}
}

func invalidSocket() []goldenMessage {
	m := func(name, text string) goldenMessage { return goldenMessage{name, "either", json.RawMessage(text)} }
	return []goldenMessage{
		m("no object", `"expectauth"`),
		m("nothing in it", `{}`),
		m("action is no text", `{"action":1}`),
		m("odd id", `{"action":"expectauth","id":"../x","loc":"ABCDE","ttl":100}`),
		m("odd loc", `{"action":"expectauth","id":"`+IDString(goldenHP())+`","loc":"ABCDU","ttl":100}`),
		m("negative ttl", `{"action":"expectauth","id":"`+IDString(goldenHP())+`","loc":"ABCDE","ttl":-1}`),
		m("ttl of a day", `{"action":"expectauth","id":"`+IDString(goldenHP())+`","loc":"ABCDE","ttl":86400}`),
		m("post without a number", `{"action":"post","body":{}}`),
		m("post with a negative number", `{"action":"post","ref":-7,"body":{}}`),
	}
}

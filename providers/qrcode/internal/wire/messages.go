// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// The types of what a phone sends. TypeLookup and TypeHello are in the clear,
// the others in a box of that type.
const (
	TypeLookup     = "lookup"
	TypeHello      = "hello"
	TypeRefuse     = "refuse"
	TypePasskey    = "passkey"
	TypeOIDC       = "oidc"
	TypeWait       = "wait"
	TypeEnroll     = "enroll"
	TypeEnrollOIDC = "enroll_oidc"
)

// The types of what a phone is answered.
const (
	TypeDetails = "details" // to hello
	TypeVerdict = "verdict" // to passkey, oidc, enroll and enroll_oidc
	TypeEnd     = "end"     // to refuse and wait
)

// The values of [Reply.Error], with the HTTP status of each.
const (
	ErrorGone     = "gone"      // 404: unknown, used, expired, dead
	ErrorBusy     = "busy"      // 409: three phones are there already
	ErrorSlowDown = "slow down" // 429
)

// MaxPhones is how many phones may open one code.
const MaxPhones = 3

// A Lookup asks for the host's key by typed code.
type Lookup struct {
	Type  string `json:"type"`
	Loc   string `json:"loc"`
	Proof string `json:"proof"` // [Proof], base64
}

// A Hello is a phone's first message.
type Hello struct {
	Seq  uint32 `json:"seq"` // 0
	Type string `json:"type"`
	V    string `json:"v"`
	ID   string `json:"id"`
	PP   string `json:"pp"` // the phone's public key, base64
	SHA1 string `json:"sha1,omitempty"`
}

// A Sealed is every later message of a phone.
type Sealed struct {
	Seq  uint32 `json:"seq"` // 1, 2, 3...
	Type string `json:"type"`
	PP   string `json:"pp"`
	Box  string `json:"box"`
}

// NewHello returns the hello of the phone with public key pp to the host with
// public key hp. sha1 is what a qrauth code carried, else empty.
func NewHello(hp, pp []byte, sha1 string) Hello {
	return Hello{Type: TypeHello, V: Version, ID: IDString(hp), PP: B64(pp), SHA1: sha1}
}

// NewLookup returns the question for the key of a typed code.
func NewLookup(typed string) Lookup {
	return Lookup{TypeLookup, Loc(typed), B64(Proof(typed))}
}

// A Phone is a message of a phone, checked: what its Type needs is there and
// has the right form.
type Phone struct {
	Type  string
	Seq   uint32
	ID    string // of a hello
	SHA1  string // of a hello, may be empty
	PP    []byte // of all but a lookup
	Box   string // of all but a lookup and a hello
	Loc   string // of a lookup
	Proof []byte // of a lookup
}

// ParsePhone reads what a phone sent. Unknown fields are ignored.
func ParsePhone(body []byte) (*Phone, error) {
	if len(body) > MaxBody {
		return nil, errors.New("message too large")
	}
	var m struct {
		Seq                        *uint32
		Type, V, ID, PP, SHA1, Box string
		Loc, Proof                 string
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("phone's message: %w", err)
	}
	p := &Phone{Type: m.Type, ID: m.ID, SHA1: m.SHA1, Box: m.Box, Loc: m.Loc}
	if m.Type == TypeLookup {
		return p, p.checkLookup(m.Proof)
	}
	if m.Seq == nil {
		return nil, fmt.Errorf("%.20q: no seq", m.Type)
	}
	p.Seq = *m.Seq
	var err error
	if p.PP, err = UnB64(m.PP); err != nil || len(p.PP) != KeySize {
		return nil, fmt.Errorf("%.20q: bad pp", m.Type)
	}
	if m.Type == TypeHello {
		return p, p.checkHello(m.V)
	}
	return p, p.checkSealed()
}

func (p *Phone) checkLookup(proof string) (err error) {
	if p.Proof, err = UnB64(proof); err != nil || len(p.Proof) != sha256.Size {
		return errors.New("lookup: bad proof")
	}
	if !ValidLoc(p.Loc) {
		return errors.New("lookup: bad loc")
	}
	return nil
}

func (p *Phone) checkHello(v string) error {
	switch {
	case v != Version:
		return errors.New("hello: another version")
	case p.Seq != 0:
		return errors.New("hello: seq is not 0")
	case !ValidID(p.ID):
		return errors.New("hello: bad id")
	case len(p.SHA1) > 40:
		return errors.New("hello: bad sha1")
	}
	return nil
}

func (p *Phone) checkSealed() error {
	switch p.Type {
	case TypeRefuse, TypePasskey, TypeOIDC, TypeWait, TypeEnroll, TypeEnrollOIDC:
	default:
		return fmt.Errorf("phone's message: unknown type %.20q", p.Type)
	}
	if p.Seq == 0 || p.Box == "" {
		return fmt.Errorf("%s: no seq or no box", p.Type)
	}
	return nil
}

// A Reply is what a phone is answered, outside the box.
type Reply struct {
	Box   string `json:"box,omitempty"`
	HP    string `json:"hp,omitempty"` // to a lookup: the host's public key, base64
	Error string `json:"error,omitempty"`
}

// Methods of approval.
const (
	MethodPasskey = "passkey"
	MethodOIDC    = "oidc"
)

// Details is what the phone shows before it asks for an approval: the answer to
// its hello. TTY, Service and RHost are a login's; Subject and UserHandle an
// enrolment's.
type Details struct {
	Kind       Kind   `json:"kind"`
	RPID       string `json:"rp_id"`
	PageOrigin string `json:"page_origin"`
	Host       string `json:"host"`
	Account    string `json:"account"`
	Service    string `json:"service"`
	RHost      string `json:"rhost"`
	TTY        string `json:"tty"`
	Subject    string `json:"subject,omitempty"`
	UserHandle string `json:"user_handle,omitempty"` // base64url, as WebAuthn has it
	Start      int64  `json:"start"`                 // seconds since 1970
	TTL        int    `json:"ttl,omitempty"`         // seconds left; for a countdown, in no transcript

	Methods []string   `json:"methods"`
	OIDC    []OIDCInfo `json:"oidc,omitempty"`
	Ref     string     `json:"ref"` // for the person to tell an administrator
}

// OIDCInfo is what a phone needs to send its person to an issuer. It adds
// response_type=code, response_mode=fragment, redirect_uri=page_origin+"/",
// scope=openid, a random state, nonce=[Nonce], max_age=0, prompt=login and
// code_challenge_method=S256 to AuthorizeURL.
type OIDCInfo struct {
	Name          string `json:"name"`
	Issuer        string `json:"iss"`
	AuthorizeURL  string `json:"authorize_url"`
	ClientID      string `json:"client_id"`
	CodeChallenge string `json:"code_challenge"`
}

// Transcript returns TL or TE, as the kind says: the hash of all that is shown
// and of the keys of c. A passkey signs it, an ID token repeats it.
// It is what d says, so clean the fields (see [Clean]) before sealing them.
func (d *Details) Transcript(c *Channel) ([]byte, error) {
	parts := []string{Version, string(d.Kind), d.RPID, d.PageOrigin, d.Host, d.Account}
	start := strconv.FormatInt(d.Start, 10)
	switch d.Kind {
	case Login:
		parts = append(parts, d.Service, d.RHost, d.TTY, start)
	case Enroll:
		handle, err := base64.RawURLEncoding.DecodeString(d.UserHandle)
		if err != nil {
			return nil, errors.New("details: user_handle is not base64url")
		}
		parts = append(parts, d.Subject, string(handle), start)
	default:
		return nil, fmt.Errorf("details: unknown kind %.20q", d.Kind)
	}
	if d.Kind != c.kind {
		return nil, errors.New("details: of the other kind")
	}
	sum := sha256.Sum256(LP(append(parts, string(c.id[:]), string(c.hp), string(c.pp))...))
	return sum[:], nil
}

// Nonce returns a transcript as WebAuthn's challenge and OIDC's nonce write it.
func Nonce(transcript []byte) string { return base64.RawURLEncoding.EncodeToString(transcript) }

// EnrollProof returns the challenge of the second signature of an enrolment,
// which proves that the phone holds the key that the first message names.
func EnrollProof(te, attestationObject []byte) []byte {
	sum := sha256.Sum256(LP(Version, "enroll-proof", string(te), string(attestationObject)))
	return sum[:]
}

// Passkey approves with a passkey. Assertion is what
// PublicKeyCredential.toJSON gives.
type Passkey struct {
	Assertion json.RawMessage `json:"assertion"`
}

// OIDC approves with a code that an issuer gave.
type OIDC struct {
	Issuer string `json:"iss"`
	Code   string `json:"code"`
}

// EnrollPasskey offers a new passkey. Texts are base64url; Assertion is as in
// [Passkey], over [EnrollProof].
type EnrollPasskey struct {
	ID                string          `json:"id"` // of the credential
	AttestationObject string          `json:"attestationObject"`
	ClientDataJSON    string          `json:"clientDataJSON"`
	Assertion         json.RawMessage `json:"assertion"`
}

// Empty is what refuse and wait hold.
type Empty struct{}

// A Verdict answers an approval.
type Verdict struct {
	OK   bool   `json:"ok"`
	Code string `json:"code,omitempty"` // six digits to be typed at the terminal
	Ref  string `json:"ref,omitempty"`
}

// The values of [End.Result]. EndNone and EndWrongCode are not the end: poll
// again.
const (
	EndNone      = ""
	EndIn        = "in"
	EndWrongCode = "wrong_code"
	EndRefused   = "refused"
	EndExpired   = "expired"
	EndHostGone  = "host_gone"
)

// An End answers wait and refuse.
type End struct {
	Result string `json:"result"`
}

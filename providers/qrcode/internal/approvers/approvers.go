// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package approvers reads and writes the file that says who may approve logins
// to an account: one line for each passkey or OpenID Connect identity, in the
// manner of authorized_keys, good on every host that has a copy.
//
//	passkey SUBJECT RP_ID DATA [COMMENT]
//	oidc SUBJECT ISSUER SUB [COMMENT]
//
// DATA is base64url of a JSON object. In SUB, "%", spaces and what is not
// printable ASCII are percent-encoded.
package approvers

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/pam-authn/pam-authn/authn"
)

// MaxFile is how large a file of approvers may be, in bytes.
const MaxFile = 64 << 10

// The first words of lines.
const (
	KindPasskey = "passkey"
	KindOIDC    = "oidc"
)

// An Approver is one line. Either Passkey is set, or Issuer and Sub are.
type Approver struct {
	Subject string // who it is: "alice@example.com"
	Passkey *Passkey
	Issuer  string
	Sub     string
	Comment string
}

// A Passkey is a public key and what a phone says with it.
type Passkey struct {
	RPID           string
	ID             []byte // of the credential
	COSE           []byte // the public key
	UserHandle     []byte
	BackupEligible bool // may be synced to other devices
	AAGUID         []byte
}

// data is the JSON of a passkey's line. encoding/json writes bytes as base64.
type data struct {
	ID     []byte `json:"id"`
	COSE   []byte `json:"cose"`
	UH     []byte `json:"uh"`
	BE     *bool  `json:"be"`
	AAGUID []byte `json:"aaguid,omitempty"`
}

// Parse reads a file. Each error is of one line, which it numbers, and which is
// then no approver.
func Parse(file []byte) ([]Approver, []error) {
	if len(file) > MaxFile {
		return nil, []error{fmt.Errorf("more than %d bytes", MaxFile)}
	}
	var list []Approver
	var problems []error
	n := 0
	for line := range bytes.Lines(file) {
		n++
		text := strings.TrimSpace(string(line))
		if text == "" || text[0] == '#' {
			continue
		}
		a, err := ParseLine(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("line %d: %w", n, err))
			continue
		}
		list = append(list, a)
	}
	return list, problems
}

// ParseLine reads one line, which is neither empty nor a comment.
func ParseLine(line string) (Approver, error) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return Approver{}, errors.New("wants KIND SUBJECT and two fields more")
	}
	a := Approver{Subject: fields[1], Comment: strings.Join(fields[4:], " ")}
	if err := CheckSubject(a.Subject); err != nil {
		return Approver{}, err
	}
	switch fields[0] {
	case KindPasskey:
		p, err := parsePasskey(fields[2], fields[3])
		if err != nil {
			return Approver{}, err
		}
		a.Passkey = p
	case KindOIDC:
		if err := a.parseOIDC(fields[2], fields[3]); err != nil {
			return Approver{}, err
		}
	default:
		return Approver{}, errors.New(`begins with neither "passkey" nor "oidc"`)
	}
	return a, nil
}

// CheckSubject says whether a person may be called subject: printable ASCII
// without spaces, not longer than the framework allows.
func CheckSubject(subject string) error {
	if subject == "" || len(subject) > authn.MaxSubject {
		return fmt.Errorf("subject wants 1 to %d characters", authn.MaxSubject)
	}
	for i := range len(subject) {
		if subject[i] <= ' ' || subject[i] > '~' {
			return errors.New("subject wants printable ASCII without spaces")
		}
	}
	return nil
}

func parsePasskey(rpID, encoded string) (*Passkey, error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("data is not base64url")
	}
	var d data
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&d); err != nil {
		return nil, errors.New("data is not a passkey's")
	}
	if len(d.ID) == 0 || len(d.COSE) == 0 || len(d.UH) == 0 || d.BE == nil {
		return nil, errors.New("data lacks id, cose, uh or be")
	}
	return &Passkey{rpID, d.ID, d.COSE, d.UH, *d.BE, d.AAGUID}, nil
}

func (a *Approver) parseOIDC(issuer, sub string) error {
	u, err := url.Parse(issuer)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return errors.New("issuer is not a URL")
	}
	decoded, err := url.PathUnescape(sub)
	if err != nil || decoded == "" {
		return errors.New("sub is not percent-encoded")
	}
	a.Issuer, a.Sub = issuer, decoded
	return nil
}

// Line returns a as one line, without a line's end. It reads back as a.
func (a Approver) Line() string {
	line := a.key()
	if a.Comment != "" {
		line += " " + strings.Join(strings.Fields(a.Comment), " ")
	}
	return line
}

// key is the line without its comment.
func (a Approver) key() string {
	if a.Passkey == nil {
		return strings.Join([]string{KindOIDC, a.Subject, a.Issuer, escape(a.Sub)}, " ")
	}
	p := a.Passkey
	text, err := json.Marshal(data{p.ID, p.COSE, p.UserHandle, &p.BackupEligible, p.AAGUID})
	if err != nil {
		panic(err) // bytes and a bool always have a JSON
	}
	return strings.Join([]string{KindPasskey, a.Subject, p.RPID, base64.RawURLEncoding.EncodeToString(text)}, " ")
}

func escape(sub string) string {
	var b strings.Builder
	for i := range len(sub) {
		if c := sub[i]; c <= ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// Fingerprint names a for a ticket or a list: 64 hex digits. It changes with
// everything but the comment.
func (a Approver) Fingerprint() string {
	sum := sha256.Sum256([]byte("pam-authn approver " + a.key()))
	return hex.EncodeToString(sum[:])
}

// String returns what a list shown to people says of a, without the key.
func (a Approver) String() string {
	if a.Passkey == nil {
		return fmt.Sprintf("oidc %s %s", a.Subject, a.Issuer)
	}
	return fmt.Sprintf("passkey %s %s", a.Subject, a.Passkey.RPID)
}

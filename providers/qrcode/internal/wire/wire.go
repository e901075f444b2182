// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package wire is the protocol pam-authn/qr/1 between host, relay and phone:
// its keys, names, boxes, transcripts and messages, and nothing that decides.
//
// testdata/golden holds messages that this package and the page's script both
// read; "go test ./providers/qrcode/internal/wire -update" writes them.
package wire

import (
	"crypto/sha1" //nolint:gosec // a format of the predecessor's
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
)

// Version names the protocol. Everything that is hashed begins with it.
const Version = "pam-authn/qr/1"

// Sizes of the protocol, in bytes.
const (
	KeySize = 32 // an X25519 public key
	IDSize  = 16
	CIDSize = 32 // a connection's id, which only payload qrauth uses

	MaxBody      = 16 << 10 // a message of the phone
	MaxEnvelope  = 20 << 10 // a message on the host's socket
	MaxAssertion = 8 << 10  // a passkey's assertion as JSON

	TypedLen = 12 // characters of a typed code
	LocLen   = 5  // of these, what the relay learns
)

// A Kind is what a code is for.
type Kind string

// The kinds. They are hashed into every key, so that no message of one is good
// in the other.
const (
	Login  Kind = "login"
	Enroll Kind = "enroll"
)

// LP returns the parts behind each other, each after its length in four bytes,
// so that no two lists of parts give the same bytes.
func LP(parts ...string) []byte {
	n := 0
	for _, p := range parts {
		n += 4 + len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p))) //nolint:gosec // no part is near 4 GiB
		b = append(b, p...)
	}
	return b
}

// hash returns SHA-256 of the protocol's name, what, and data.
func hash(what, data string) [sha256.Size]byte {
	return sha256.Sum256([]byte(Version + " " + what + data))
}

// ID returns the name of a pending login whose host has the public key hp.
func ID(hp []byte) (id [IDSize]byte) {
	sum := hash("id", string(hp))
	copy(id[:], sum[:])
	return id
}

// IDString returns the id of hp as it stands in URLs and messages: 32
// lower-case hex digits.
func IDString(hp []byte) string {
	id := ID(hp)
	return hex.EncodeToString(id[:])
}

// ValidID reports whether s has the form that [IDString] returns.
func ValidID(s string) bool {
	return len(s) == 2*IDSize && strings.Trim(s, "0123456789abcdef") == ""
}

// crockford is the alphabet of typed codes: no I, L, O or U.
const crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// Typed returns the code of hp for people who cannot scan: TypedLen characters,
// without dashes.
func Typed(hp []byte) string {
	sum := hash("typed", string(hp))
	bits := binary.BigEndian.Uint64(sum[:8])
	var b strings.Builder
	for i := range TypedLen {
		b.WriteByte(crockford[bits>>(64-5*(i+1))&31])
	}
	return b.String()
}

// Loc returns the part of a typed code that the relay finds the host by.
func Loc(typed string) string { return typed[:LocLen] }

// ValidLoc reports whether s has the form that [Loc] returns.
func ValidLoc(s string) bool {
	return len(s) == LocLen && strings.Trim(s, crockford) == ""
}

// FormatTyped returns a typed code as it is shown: XXXX-XXXX-XXXX.
func FormatTyped(typed string) string {
	return typed[:4] + "-" + typed[4:8] + "-" + typed[8:]
}

var typedReplacer = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1")

// ParseTyped returns the code that a person typed, in the form of [Typed]: any
// case, with or without dashes and spaces, O for 0 and I or L for 1.
func ParseTyped(s string) (string, error) {
	if len(s) > 4*TypedLen {
		return "", errors.New("a typed code has 12 characters")
	}
	s = typedReplacer.Replace(strings.ToUpper(s))
	if len(s) != TypedLen || strings.Trim(s, crockford) != "" {
		return "", errors.New("a typed code has 12 letters and digits, none of them a U")
	}
	return s, nil
}

// Proof returns what a phone shows the host to have it tell its key: that it
// knows the whole typed code, of which the relay knows only the beginning.
func Proof(typed string) []byte {
	sum := hash("lookup", typed)
	return sum[:]
}

var base32Key = base32.StdEncoding.WithPadding(base32.NoPadding)

// PageLink returns the link that the QR code holds, in upper case, which makes
// the code smaller. origin is the page's, such as "https://login.example.com".
// The key is in the fragment, which no browser sends anywhere.
func PageLink(origin string, hp []byte) string {
	return strings.ToUpper(origin) + "/1#" + base32Key.EncodeToString(hp)
}

// qrauthSHA1 is how a qrauth code names the host's connection.
func qrauthSHA1(cid []byte) []byte {
	sum := sha1.Sum(cid) //nolint:gosec // the predecessor's format; nothing rests on it
	return sum[:]
}

// QRAuth returns what a QR code holds with payload qrauth.
func QRAuth(hp, cid []byte) string {
	return "qrauth:" + B64(hp) + ":" + CIDSHA1(cid)
}

// CIDSHA1 returns what a [Hello] after a qrauth code carries as sha1.
func CIDSHA1(cid []byte) string { return hex.EncodeToString(qrauthSHA1(cid)) }

// ParseKey returns the host's key from the fragment of a link.
func ParseKey(fragment string) ([]byte, error) {
	hp, err := base32Key.DecodeString(strings.ToUpper(fragment))
	if err != nil || len(hp) != KeySize || base32Key.EncodeToString(hp) != strings.ToUpper(fragment) {
		return nil, errors.New("not one of our links")
	}
	return hp, nil
}

// B64 returns data as the protocol writes it in JSON.
func B64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// UnB64 is the reverse of [B64]. It takes exactly one spelling of each value.
func UnB64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64 with line breaks")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return b, nil
}

// Digits returns the digits that a person typed, who may group them by spaces
// and dashes, or nothing if there is anything else.
func Digits(typed string) string {
	digits := strings.NewReplacer(" ", "", "-", "").Replace(typed)
	if strings.Trim(digits, "0123456789") != "" {
		return ""
	}
	return digits
}

// Clean returns s as it may be shown on a phone and be part of a transcript:
// itself if it is printable ASCII of at most 255 bytes, else Unprintable.
func Clean(s string) string {
	if !Printable(s) {
		return Unprintable
	}
	return s
}

// Unprintable stands for what cannot be shown.
const Unprintable = "(unprintable)"

// Printable reports whether s is printable ASCII of at most 255 bytes.
func Printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 255
}

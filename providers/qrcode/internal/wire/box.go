// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// A Dir is the direction of a box.
type Dir string

// The directions. Each has a key of its own.
const (
	ToPhone Dir = "h2p"
	ToHost  Dir = "p2h"
)

// Boxes are padded to multiples of boxUnit, so that their size says little.
const (
	boxUnit   = 512
	nonceSize = 12
	tagSize   = 16

	// MaxPlain is how much JSON a box can hold.
	MaxPlain = 20 * boxUnit
)

// ErrBox is why a box was not opened: everybody who does not hold the keys,
// and every message out of its place, gets no further than this.
var ErrBox = errors.New("box does not open")

// NewKey returns a fresh X25519 key.
func NewKey() (*ecdh.PrivateKey, error) { return ecdh.X25519().GenerateKey(rand.Reader) }

// A Channel seals and opens the boxes between one host and one phone.
type Channel struct {
	kind Kind
	id   [IDSize]byte
	hp   []byte
	pp   []byte
	aead map[Dir]cipher.AEAD
}

// HostChannel returns the host's end, for the phone with public key pp.
func HostChannel(kind Kind, hs *ecdh.PrivateKey, pp []byte) (*Channel, error) {
	return newChannel(kind, hs, pp, hs.PublicKey().Bytes(), pp)
}

// PhoneChannel returns the phone's end, for the host with public key hp.
func PhoneChannel(kind Kind, ps *ecdh.PrivateKey, hp []byte) (*Channel, error) {
	return newChannel(kind, ps, hp, hp, ps.PublicKey().Bytes())
}

func newChannel(kind Kind, own *ecdh.PrivateKey, peer, hp, pp []byte) (*Channel, error) {
	key, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("the other end's key: %w", err)
	}
	shared, err := own.ECDH(key) // refuses an all-zero secret
	if err != nil {
		return nil, fmt.Errorf("the other end's key: %w", err)
	}
	c := &Channel{kind: kind, id: ID(hp), hp: bytes.Clone(hp), pp: bytes.Clone(pp), aead: make(map[Dir]cipher.AEAD)}
	salt := sha256.Sum256(LP(Version, string(kind), string(c.id[:]), string(hp), string(pp)))
	for _, dir := range []Dir{ToPhone, ToHost} {
		k, err := deriveKey(shared, salt[:], dir)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, err
		}
		if c.aead[dir], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// deriveKey is the protocol's K(dir).
func deriveKey(shared, salt []byte, dir Dir) ([]byte, error) {
	return hkdf.Key(sha256.New, shared, salt, Version+" "+string(dir), 32)
}

// PP returns the phone's public key. It is not to be changed.
func (c *Channel) PP() []byte { return c.pp }

// HP returns the host's public key. It is not to be changed.
func (c *Channel) HP() []byte { return c.hp }

// aad is what a box is bound to: every one opens in one place only.
func (c *Channel) aad(dir Dir, seq uint32, typ string) []byte {
	return LP(Version, string(c.kind), string(c.id[:]), string(c.pp), string(dir),
		strconv.FormatUint(uint64(seq), 10), typ)
}

// Seal returns the box that holds v as JSON. typ is the message's type; an
// answer has the number of what it answers.
func (c *Channel) Seal(dir Dir, seq uint32, typ string, v any) (string, error) {
	nonce := make([]byte, nonceSize)
	if _, err := rand.Read(nonce); err != nil {
		return "", err
	}
	return c.seal(nonce, dir, seq, typ, v)
}

func (c *Channel) seal(nonce []byte, dir Dir, seq uint32, typ string, v any) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if len(plain) > MaxPlain {
		return "", fmt.Errorf("%s: %d bytes are more than a box holds", typ, len(plain))
	}
	if rest := len(plain) % boxUnit; rest != 0 {
		plain = append(plain, bytes.Repeat([]byte{' '}, boxUnit-rest)...)
	}
	return B64(c.aead[dir].Seal(nonce, nonce, plain, c.aad(dir, seq, typ))), nil
}

// Open decodes what box holds into v. An error wraps [ErrBox] unless the box is
// genuine and its content is not what v wants.
func (c *Channel) Open(dir Dir, seq uint32, typ, box string, v any) error {
	raw, err := UnB64(box)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBox, err)
	}
	sealed := len(raw) - nonceSize - tagSize
	if sealed < boxUnit || sealed > MaxPlain || sealed%boxUnit != 0 {
		return fmt.Errorf("%w: odd size", ErrBox)
	}
	plain, err := c.aead[dir].Open(nil, raw[:nonceSize], raw[nonceSize:], c.aad(dir, seq, typ))
	if err != nil {
		return ErrBox
	}
	if err := json.Unmarshal(plain, v); err != nil {
		return fmt.Errorf("%s: %w", typ, err)
	}
	return nil
}

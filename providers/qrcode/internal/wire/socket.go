// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Paths of a relay.
const (
	SocketPath = "/ws"
	PhonePath  = "/api/1/" // and the id, or the loc of a lookup
	ConfigPath = "/config.json"
)

// The actions of an [Envelope].
const (
	ActionGetConID   = "getconid"
	ActionExpectAuth = "expectauth"
	ActionPost       = "post"
	ActionVerifyAuth = "verifyauth"
	ActionDrain      = "drain"
)

// The results of actions.
const (
	ResultOK       = "ok"           // expectauth: the id is yours
	ResultTaken    = "taken"        // expectauth: somebody holds this id or loc
	ResultLimit    = "limit"        // expectauth: too many pending ones of this token
	ResultVerified = "authverified" // verifyauth: the id is retired
)

// An Envelope is one message on the host's socket, in either direction. An
// answer carries the action that it answers. Fields that an action does not use
// are zero, and absent from the JSON.
type Envelope struct {
	Action string `json:"action"`

	ID  string `json:"id,omitempty"`  // expectauth, verifyauth: of the pending login
	Loc string `json:"loc,omitempty"` // expectauth: its typed code's beginning
	TTL int    `json:"ttl,omitempty"` // expectauth: seconds until it is forgotten

	CID       string `json:"cid,omitempty"`       // answer to getconid: CIDSize bytes, base64
	Challenge string `json:"challenge,omitempty"` // verifyauth and its answer: base64
	Result    string `json:"result,omitempty"`    // answers to expectauth and verifyauth

	// Of a post: the relay's number for it, which the answer repeats, and what
	// the phone sent or is to get. Status is the answer's: 200, 404 or 409.
	Ref    uint64          `json:"ref,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Status int             `json:"status,omitempty"`
}

// ParseEnvelope reads one message of a socket. Fields it does not know are
// ignored, so that either end may be a version ahead; so is an unknown action,
// by the caller if it is the host.
func ParseEnvelope(data []byte) (*Envelope, error) {
	if len(data) > MaxEnvelope {
		return nil, errors.New("message too large")
	}
	var e Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("message is not JSON of ours: %w", err)
	}
	switch {
	case e.Action == "":
		return nil, errors.New("message without an action")
	case e.ID != "" && !ValidID(e.ID):
		return nil, fmt.Errorf("%.20q: bad id", e.Action)
	case e.Loc != "" && !ValidLoc(e.Loc):
		return nil, fmt.Errorf("%.20q: bad loc", e.Action)
	case e.TTL < 0 || e.TTL > 3600:
		return nil, fmt.Errorf("%.20q: bad ttl", e.Action)
	case e.Action == ActionPost && e.Ref == 0:
		return nil, errors.New("post without a ref")
	}
	return &e, nil
}

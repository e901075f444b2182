// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Bounds of frames. A frame is its length in four bytes, big end first, and so
// many bytes of JSON.
const (
	MaxToChild  = 512 << 10 // bytes; the configuration may name files
	MaxToParent = 16 << 10  // bytes
	MaxFrames   = 200       // to the parent, in all
	MaxText     = 400       // bytes of a text for people
)

// The types of a [Message], by who sends it.
const (
	// The parent's.
	TypeStart  = "start"  // once, first
	TypeAccept = "accept" // the offer is taken: Code is for the phone
	TypeRefuse = "refuse" // it is not: Text says why
	TypeWrong  = "wrong"  // other digits were typed
	TypeFinish = "finish" // Result is how it ended, for the phone; last

	// The child's.
	TypeReady = "ready" // HP is what the code carries
	TypePhone = "phone" // a phone has opened it
	TypeNote  = "note"  // Text is for the administrator
	TypeOffer = "offer" // Line is what a phone has proven to hold
	TypeEnd   = "end"   // Text says why it ended, Result in a word; last
)

// A Message is one frame between parent and child. Fields that its type does
// not use are zero.
type Message struct {
	Type   string `json:"type"`
	Start  *Start `json:"start,omitempty"`
	HP     []byte `json:"hp,omitempty"`
	Code   string `json:"code,omitempty"`
	Line   string `json:"line,omitempty"`
	Result string `json:"result,omitempty"`
	Text   string `json:"text,omitempty"`
}

// A Start is all that the child is told.
type Start struct {
	Config []byte `json:"config"` // the provider's part, as YAML
	Plan   Plan   `json:"plan"`
}

// WriteFrame writes m, if it is not larger than limit.
func WriteFrame(w io.Writer, m *Message, limit int) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > limit {
		return fmt.Errorf("%s: a frame of %d bytes, more than %d", m.Type, len(body), limit)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body))) //nolint:gosec // at most limit
	_, err = w.Write(append(frame, body...))
	return err
}

// ReadFrame reads one message of at most limit bytes. Nothing larger is ever
// held. At the end of r, between frames, it returns io.EOF itself.
func ReadFrame(r io.Reader, limit int) (*Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || int64(size) > int64(limit) {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("half a frame: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	var m Message
	if err := dec.Decode(&m); err != nil {
		return nil, errors.New("a frame that is no message")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("a frame that is more than a message")
	}
	return &m, nil
}

// fromChild reports what is wrong with a message for the parent.
func (m *Message) fromChild() error {
	want := Message{Type: m.Type}
	switch m.Type {
	case TypeReady:
		if len(m.HP) != 32 {
			return errors.New("ready: bad key")
		}
		want.HP = m.HP
	case TypePhone:
	case TypeNote:
		want.Text = m.Text
	case TypeOffer:
		want.Line = m.Line
	case TypeEnd:
		want.Text, want.Result = m.Text, m.Result
	default:
		return errors.New("a message that is not a child's")
	}
	if m.Start != nil || m.Code != want.Code || m.Line != want.Line || m.Result != want.Result || m.Text != want.Text || len(m.HP) != len(want.HP) {
		return fmt.Errorf("%s: a field that it does not have", m.Type)
	}
	m.Text, m.Result = Plain(m.Text), Plain(m.Result)
	return nil
}

// Plain returns text as it may be shown on a terminal: of a bounded length, and
// nothing but printable ASCII.
func Plain(text string) string {
	if len(text) > MaxText {
		text = text[:MaxText] + "..."
	}
	b := []byte(text)
	for i := range b {
		if b[i] < ' ' || b[i] > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// A sender writes frames, one at a time.
type sender struct {
	mu      sync.Mutex
	w       io.Writer
	limit   int
	timeout time.Duration // for one frame, if w is a pipe; 0: none
	broken  error         // half a frame may have been written: no other follows
}

func (s *sender) send(m *Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if f, ok := s.w.(*os.File); ok && s.timeout > 0 {
		if err := f.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return err
		}
	}
	err := WriteFrame(s.w, m, s.limit)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.broken = err
	}
	return err
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// The frames once more, written from frame.h's comment instead of frame.c: what
// the fuzz targets hold the codec against.

// reference splits a body into its fields.
func reference(body []byte) (fields [][]byte, ok bool) {
	for len(body) > 0 {
		if len(body) < 5 {
			return nil, false
		}
		n := uint64(binary.BigEndian.Uint32(body))
		if n > uint64(len(body)-5) || body[4+n] != 0 {
			return nil, false
		}
		fields = append(fields, body[4:4+n])
		body = body[5+n:]
	}
	return fields, true
}

// reader takes fields one by one.
type reader struct {
	fields [][]byte
	bad    bool
}

func newReader(body []byte) *reader {
	fields, ok := reference(body)
	return &reader{fields, !ok}
}

func (r *reader) next() []byte {
	if len(r.fields) == 0 {
		r.bad = true
		return nil
	}
	f := r.fields[0]
	r.fields = r.fields[1:]
	return f
}

func (r *reader) u32() uint32 {
	f := r.next()
	if len(f) != 4 {
		r.bad = true
		return 0
	}
	return binary.BigEndian.Uint32(f)
}

func (r *reader) text() string {
	f := r.next()
	r.bad = r.bad || bytes.IndexByte(f, 0) >= 0
	return string(f)
}

func (r *reader) texts(n uint32) (all []string) {
	for ; n > 0 && !r.bad; n-- {
		all = append(all, r.text())
	}
	return all
}

func (r *reader) done() bool { return !r.bad && len(r.fields) == 0 }

func referenceConv(body []byte) (messages []frame.Message, ok bool) {
	r := newReader(body)
	n := r.u32()
	if n < 1 || n > 32 {
		return nil, false
	}
	for ; n > 0 && !r.bad; n-- {
		m := frame.Message{Style: r.u32(), Text: r.text()}
		r.bad = r.bad || m.Style < 1 || m.Style > 4
		messages = append(messages, m)
	}
	return messages, r.done()
}

func referenceResult(body []byte) (res frame.Result, ok bool) {
	r := newReader(body)
	res.Code, res.Subject, res.Ticket = int(r.u32()), r.text(), r.next()
	n := r.u32()
	if n > 40 {
		return res, false
	}
	res.Variables = r.texts(n)
	strange := func(v string) bool { return !strings.HasPrefix(v, "AUTHN_") || !strings.Contains(v, "=") }
	return res, r.done() && !slices.ContainsFunc(res.Variables, strange)
}

func referenceReply(body []byte) (rep frame.Reply, ok bool) {
	r := newReader(body)
	rep.Code = int(int32(r.u32()))
	n := r.u32()
	rep.Answers = r.texts(n)
	return rep, r.done() && n <= 32
}

func referenceStart(body []byte) (s frame.Start, ok bool) {
	r := newReader(body)
	version := r.u32()
	s.Call, s.Flags = int(r.u32()), r.u32()
	bits := r.u32()
	s.HostPid = int(r.u32())
	s.ID, s.Service, s.User, s.RHost, s.TTY, s.RUser = r.text(), r.text(), r.text(), r.text(), r.text(), r.text()
	token := r.text()
	s.Subject, s.Ticket = r.text(), r.next()
	s.Words = r.texts(r.u32())
	s.Exists, s.Claimed, s.Stderr = bits&1 != 0, bits&4 != 0, bits&8 != 0
	if bits&2 != 0 {
		s.Token = &token
	}
	fine := version == 1 && s.Call >= 1 && s.Call <= 6 && bits < 16 && (bits&2 != 0 || token == "")
	return s, r.done() && fine
}

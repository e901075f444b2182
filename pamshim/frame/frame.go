// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package frame is what the PAM module and its worker say to each other. The
// codec exists once, in C: the module compiles frame.c, and this package
// reaches it through cgo. PAM's numbers come from PAM's own headers, too.
package frame

/*
#cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra
#include <stdlib.h>
#include <string.h>
#include <security/pam_modules.h>
#include "frame.h"

static struct cursor cursor_of(const uint8_t *body, size_t len)
{
	struct cursor c = {body, body + len, false};
	return c;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unsafe"
)

// The calls of a START frame; they are authn.Call's.
const (
	Authenticate = int(C.FRAME_AUTHENTICATE)
	SetCred      = int(C.FRAME_SETCRED)
	Account      = int(C.FRAME_ACCOUNT)
	OpenSession  = int(C.FRAME_OPEN_SESSION)
	CloseSession = int(C.FRAME_CLOSE_SESSION)
	Password     = int(C.FRAME_PASSWORD)
)

// The styles of a message.
const (
	PromptEchoOff = uint32(C.PAM_PROMPT_ECHO_OFF)
	PromptEchoOn  = uint32(C.PAM_PROMPT_ECHO_ON)
	ErrorMsg      = uint32(C.PAM_ERROR_MSG)
	TextInfo      = uint32(C.PAM_TEXT_INFO)
)

// The flags of a call that the worker looks at.
const (
	Silent               = uint32(C.PAM_SILENT)
	EstablishCred        = uint32(C.PAM_ESTABLISH_CRED)
	DeleteCred           = uint32(C.PAM_DELETE_CRED)
	ReinitializeCred     = uint32(C.PAM_REINITIALIZE_CRED)
	RefreshCred          = uint32(C.PAM_REFRESH_CRED)
	ChangeExpiredAuthtok = uint32(C.PAM_CHANGE_EXPIRED_AUTHTOK)
	PrelimCheck          = uint32(C.PAM_PRELIM_CHECK)
)

// Max is the largest length a frame may announce.
const Max = int(C.FRAME_MAX)

// Messages is how many messages a CONV may hold, Variables how many variables
// a RESULT.
const (
	Messages  = int(C.FRAME_MESSAGES)
	Variables = int(C.FRAME_VARIABLES)
)

// Start is what the module says about a call.
type Start struct {
	Call    int
	Flags   uint32
	Exists  bool // the account exists here
	Claimed bool // Subject comes from the environment
	Stderr  bool // descriptor 4 is the host's stderr
	HostPid int
	ID      string

	Service, User, RHost, TTY, RUser string

	Token   *string // the host's password, or nil if there is none for us
	Subject string
	Ticket  []byte
	Words   []string
}

// Reply is the host's answer to a CONV.
type Reply struct {
	Code    int // PAM's
	Answers []string
}

// A Message is one of a CONV.
type Message struct {
	Style uint32
	Text  string
}

// Result ends a call.
type Result struct {
	Code      int // PAM's
	Subject   string
	Ticket    []byte
	Variables []string // NAME=VALUE
}

// ErrMalformed is every way in which a frame is not as it must be.
var ErrMalformed = errors.New("malformed frame")

// writer fills a C frame.
type writer struct{ f *C.struct_frame }

func newWriter(kind C.enum_frame_type) writer {
	w := writer{(*C.struct_frame)(C.calloc(1, C.sizeof_struct_frame))}
	C.frame_begin(w.f, kind)
	return w
}

func (w writer) u32(v uint32) { C.frame_put_u32(w.f, C.uint32_t(v)) }

func (w writer) bytes(b []byte) {
	C.frame_put(w.f, unsafe.Pointer(unsafe.SliceData(b)), C.size_t(len(b)))
}

// string appends what the module reads as a C string.
func (w writer) string(s string) {
	if strings.IndexByte(s, 0) >= 0 {
		w.f.bad = true
	}
	C.frame_put(w.f, unsafe.Pointer(unsafe.StringData(s)), C.size_t(len(s)))
}

// finish returns the whole frame, and clears the C one.
func (w writer) finish() ([]byte, error) {
	defer C.free(unsafe.Pointer(w.f))
	defer C.frame_wipe(w.f)
	if !bool(C.frame_end(w.f)) {
		return nil, fmt.Errorf("%w: more than %d bytes, or a NUL in a text", ErrMalformed, Max)
	}
	return C.GoBytes(unsafe.Pointer(&w.f.data[0]), C.int(w.f.len)), nil
}

// Conv encodes a CONV frame.
func Conv(messages []Message) ([]byte, error) {
	if len(messages) < 1 || len(messages) > Messages {
		return nil, fmt.Errorf("%w: %d messages", ErrMalformed, len(messages))
	}
	w := newWriter(C.FRAME_CONV)
	w.u32(uint32(len(messages)))
	for _, m := range messages {
		w.u32(m.Style)
		w.string(m.Text)
	}
	return w.finish()
}

// Encode encodes a RESULT frame.
func (r Result) Encode() ([]byte, error) {
	if len(r.Variables) > Variables || r.Code < 0 || r.Code > math.MaxInt32 {
		return nil, fmt.Errorf("%w: code %d, %d variables", ErrMalformed, r.Code, len(r.Variables))
	}
	w := newWriter(C.FRAME_RESULT)
	w.u32(uint32(r.Code))
	w.string(r.Subject)
	w.bytes(r.Ticket)
	w.u32(uint32(len(r.Variables)))
	for _, v := range r.Variables {
		w.string(v)
	}
	return w.finish()
}

// Encode encodes a START frame, as the module does; tests use it.
func (s Start) Encode() ([]byte, error) {
	w := newWriter(C.FRAME_START)
	for _, v := range []uint32{C.FRAME_VERSION, uint32(s.Call), s.Flags, s.bits(), uint32(s.HostPid)} {
		w.u32(v)
	}
	token := ""
	if s.Token != nil {
		token = *s.Token
	}
	for _, v := range []string{s.ID, s.Service, s.User, s.RHost, s.TTY, s.RUser, token, s.Subject} {
		w.string(v)
	}
	w.bytes(s.Ticket)
	w.u32(uint32(len(s.Words)))
	for _, v := range s.Words {
		w.string(v)
	}
	return w.finish()
}

func (s Start) bits() uint32 {
	var b uint32
	for _, bit := range []struct {
		set  bool
		mask uint32
	}{
		{s.Exists, C.FRAME_EXISTS}, {s.Token != nil, C.FRAME_HAS_TOKEN},
		{s.Claimed, C.FRAME_CLAIMED}, {s.Stderr, C.FRAME_HAS_STDERR},
	} {
		if bit.set {
			b |= bit.mask
		}
	}
	return b
}

// Encode encodes a REPLY frame, as the module does; tests use it.
func (r Reply) Encode() ([]byte, error) {
	w := newWriter(C.FRAME_REPLY)
	w.u32(uint32(r.Code))
	w.u32(uint32(len(r.Answers)))
	for _, a := range r.Answers {
		w.string(a)
	}
	return w.finish()
}

// Read reads one frame and returns its type and body. An io.EOF means that
// the other side closed between frames.
func Read(r io.Reader) (kind byte, body []byte, err error) {
	var header [C.FRAME_HEADER]byte
	switch _, err := io.ReadFull(r, header[:]); {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, cutShort(err)
	case err != nil:
		return 0, nil, err
	}
	n := int(C.frame_length((*C.uint8_t)(&header[0])))
	if n == 0 {
		return 0, nil, fmt.Errorf("%w: a length out of bounds", ErrMalformed)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		clear(buf)
		return 0, nil, cutShort(err)
	}
	return buf[0], buf[1:], nil
}

// cutShort is the error of a frame that ends too early.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: cut short: %w", ErrMalformed, err)
}

// cursor reads the fields of a body that lies in C memory.
type cursor struct {
	memory unsafe.Pointer
	len    C.size_t
	c      C.struct_cursor
}

// newCursor copies body to C memory, with room for nothing else: a sanitizer
// sees the first byte read past its end.
func newCursor(body []byte) *cursor {
	n := C.size_t(len(body))
	p := C.malloc(max(n, 1))
	if n > 0 {
		C.memcpy(p, unsafe.Pointer(unsafe.SliceData(body)), n)
	}
	return &cursor{p, n, C.cursor_of((*C.uint8_t)(p), n)}
}

// close clears the memory first: there are passwords in frames.
func (c *cursor) close() {
	C.explicit_bzero(c.memory, c.len)
	C.free(c.memory)
}

func (c *cursor) u32() uint32 { return uint32(C.cursor_u32(&c.c)) }

func (c *cursor) bytes() []byte {
	return bytesOf(C.cursor_next(&c.c))
}

// bytesOf copies a field. An empty one is nil.
func bytesOf(f C.struct_field) []byte {
	if f.len == 0 {
		return nil
	}
	return C.GoBytes(unsafe.Pointer(f.bytes), C.int(f.len))
}

func (c *cursor) string() string { return C.GoString(C.cursor_string(&c.c)) }

func (c *cursor) end() error {
	if !bool(C.cursor_done(&c.c)) {
		return ErrMalformed
	}
	return nil
}

// list reads as many strings as count says, which a short body ends early.
func (c *cursor) list() []string {
	var all []string
	for n := c.u32(); n > 0 && !bool(c.c.bad); n-- {
		all = append(all, c.string())
	}
	return all
}

// ParseStart decodes the frame (kind, body) as a START.
func ParseStart(kind byte, body []byte) (Start, error) {
	c := newCursor(body)
	defer c.close()
	if kind != C.FRAME_START {
		return Start{}, fmt.Errorf("%w: type %d instead of START", ErrMalformed, kind)
	}
	if v := c.u32(); v != C.FRAME_VERSION {
		return Start{}, fmt.Errorf("%w: the module speaks version %d, the worker %d: install both from one release",
			ErrMalformed, v, int(C.FRAME_VERSION))
	}
	s := Start{Call: int(c.u32()), Flags: c.u32()}
	bits := c.u32()
	s.Exists, s.Claimed, s.Stderr = bits&C.FRAME_EXISTS != 0, bits&C.FRAME_CLAIMED != 0, bits&C.FRAME_HAS_STDERR != 0
	s.HostPid = int(c.u32())
	for _, to := range []*string{&s.ID, &s.Service, &s.User, &s.RHost, &s.TTY, &s.RUser} {
		*to = c.string()
	}
	token := c.string()
	if bits&C.FRAME_HAS_TOKEN != 0 {
		s.Token = &token
	}
	s.Subject, s.Ticket = c.string(), c.bytes()
	s.Words = c.list()
	if err := c.end(); err != nil || bits&^C.FRAME_BITS != 0 || s.Call < Authenticate || s.Call > Password ||
		s.Token == nil && token != "" {
		return Start{}, fmt.Errorf("%w: START", ErrMalformed)
	}
	return s, nil
}

// ParseReply decodes the frame (kind, body) as a REPLY.
func ParseReply(kind byte, body []byte) (Reply, error) {
	c := newCursor(body)
	defer c.close()
	if kind != C.FRAME_REPLY {
		return Reply{}, fmt.Errorf("%w: type %d instead of REPLY", ErrMalformed, kind)
	}
	r := Reply{Code: int(int32(c.u32())), Answers: c.list()}
	if err := c.end(); err != nil || len(r.Answers) > Messages {
		return Reply{}, fmt.Errorf("%w: REPLY", ErrMalformed)
	}
	return r, nil
}

// ParseConv decodes a CONV's body as the module does.
func ParseConv(body []byte) ([]Message, error) {
	c := newCursor(body)
	defer c.close()
	conv := (*C.struct_frame_conv)(C.calloc(1, C.sizeof_struct_frame_conv))
	defer C.free(unsafe.Pointer(conv))
	if !bool(C.frame_parse_conv((*C.uint8_t)(c.memory), C.size_t(len(body)), conv)) {
		return nil, fmt.Errorf("%w: CONV", ErrMalformed)
	}
	all := make([]Message, conv.count)
	for i := range all {
		m := conv.messages[i]
		all[i] = Message{uint32(m.style), C.GoString(m.text)}
	}
	return all, nil
}

// ParseResult decodes a RESULT's body as the module does.
func ParseResult(body []byte) (Result, error) {
	c := newCursor(body)
	defer c.close()
	res := (*C.struct_frame_result)(C.calloc(1, C.sizeof_struct_frame_result))
	defer C.free(unsafe.Pointer(res))
	if !bool(C.frame_parse_result((*C.uint8_t)(c.memory), C.size_t(len(body)), res)) {
		return Result{}, fmt.Errorf("%w: RESULT", ErrMalformed)
	}
	r := Result{
		Code: int(res.code), Subject: C.GoString(res.subject), Ticket: bytesOf(res.ticket),
	}
	for i := range int(res.count) {
		r.Variables = append(r.Variables, C.GoString(res.variables[i]))
	}
	return r, nil
}

// Allowed reports whether PAM's code can be the outcome of call, as the module
// sees it.
func Allowed(call, code int) bool {
	if call < 0 || call > math.MaxInt32 || code < 0 || code > math.MaxInt32 {
		return false
	}
	return bool(C.frame_allowed(C.uint32_t(call), C.uint32_t(code)))
}

// Duration reads a duration as the module does.
func Duration(text string) (time.Duration, bool) {
	if strings.IndexByte(text, 0) >= 0 {
		return 0, false
	}
	s := C.CString(text)
	defer C.free(unsafe.Pointer(s))
	var ms C.int64_t
	ok := bool(C.frame_duration(s, &ms))
	return time.Duration(ms) * time.Millisecond, ok
}

// Words are PAM's results as its header numbers them, by pam.conf's word, for
// the test that holds authn.Result against them.
func Words() map[string]int {
	return map[string]int{
		"success": C.PAM_SUCCESS, "open_err": C.PAM_OPEN_ERR, "symbol_err": C.PAM_SYMBOL_ERR,
		"service_err": C.PAM_SERVICE_ERR, "system_err": C.PAM_SYSTEM_ERR, "buf_err": C.PAM_BUF_ERR,
		"perm_denied": C.PAM_PERM_DENIED, "auth_err": C.PAM_AUTH_ERR,
		"cred_insufficient": C.PAM_CRED_INSUFFICIENT, "authinfo_unavail": C.PAM_AUTHINFO_UNAVAIL,
		"user_unknown": C.PAM_USER_UNKNOWN, "maxtries": C.PAM_MAXTRIES,
		"new_authtok_reqd": C.PAM_NEW_AUTHTOK_REQD, "acct_expired": C.PAM_ACCT_EXPIRED,
		"session_err": C.PAM_SESSION_ERR, "cred_unavail": C.PAM_CRED_UNAVAIL,
		"cred_expired": C.PAM_CRED_EXPIRED, "cred_err": C.PAM_CRED_ERR,
		"no_module_data": C.PAM_NO_MODULE_DATA, "conv_err": C.PAM_CONV_ERR,
		"authtok_err": C.PAM_AUTHTOK_ERR, "authtok_recover_err": C.PAM_AUTHTOK_RECOVERY_ERR,
		"authtok_lock_busy": C.PAM_AUTHTOK_LOCK_BUSY, "authtok_disable_aging": C.PAM_AUTHTOK_DISABLE_AGING,
		"try_again": C.PAM_TRY_AGAIN, "ignore": C.PAM_IGNORE, "abort": C.PAM_ABORT,
		"authtok_expired": C.PAM_AUTHTOK_EXPIRED, "module_unknown": C.PAM_MODULE_UNKNOWN,
		"bad_item": C.PAM_BAD_ITEM, "conv_again": C.PAM_CONV_AGAIN, "incomplete": C.PAM_INCOMPLETE,
	}
}

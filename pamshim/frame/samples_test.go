// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// The types of frames, as frame.h numbers them.
const (
	typeStart  = 1
	typeConv   = 2
	typeReply  = 3
	typeResult = 4
)

// A conversation and a value that encodes itself are all there is to encode.
type conv []frame.Message

func (c conv) Encode() ([]byte, error) { return frame.Conv(c) }

type encoder interface{ Encode() ([]byte, error) }

// samples are well-formed frames: the golden ones, and what round trips.
var samples = []struct {
	name  string
	value encoder
}{
	{"start_of_a_login", frame.Start{
		Call: frame.Authenticate, Flags: frame.Silent, Exists: true, HostPid: 4711, ID: "7f3a1c",
		Service: "sshd", User: "admin", RHost: "192.0.2.7", TTY: "ssh",
		Words: []string{"provider=onelogin", "timeout=90s"},
	}},
	{"start_of_an_end", frame.Start{
		Call: frame.CloseSession, Claimed: true, Stderr: true, HostPid: 1, ID: "000000",
		Service: "login", User: "admin", TTY: "tty1", RUser: "root", Subject: "mittens@example.com",
		Words: []string{"provider=qrcode"},
	}},
	{"start_with_all_there_is", frame.Start{
		Call: frame.Password, Flags: 1<<31 | frame.PrelimCheck, Exists: true, Claimed: true, Stderr: true,
		HostPid: 1 << 22, ID: "abcdef", Service: "passwd", User: "m\xfcller", RHost: "a", TTY: "b", RUser: "c",
		Token: pointer("pa\xdfword"), Subject: "mittens", Ticket: []byte{0, 1, 0, 255}, Words: []string{"", "a=b", ""},
	}},
	{"start_with_an_empty_password", frame.Start{Call: frame.Authenticate, Token: pointer("")}},
	{"start_with_nothing", frame.Start{Call: frame.SetCred}},
	{"conv_with_one_prompt", conv{{frame.PromptEchoOff, "Password: "}}},
	{"conv_with_all_styles", conv{
		{frame.TextInfo, "A notification was sent.\n\tLook at it."},
		{frame.ErrorMsg, "Größe: \xff"},
		{frame.PromptEchoOn, "Code: "},
		{frame.PromptEchoOff, ""},
	}},
	{"conv_with_as_many_as_fit", conv(times(frame.Messages, frame.Message{Style: frame.TextInfo, Text: "."}))},
	{"reply_with_one_answer", frame.Reply{Answers: []string{"open sesame"}}},
	{"reply_with_no_answer_to_information", frame.Reply{Answers: []string{"", "123456"}}},
	{"reply_of_a_conversation_that_failed", frame.Reply{Code: 19}},
	{"reply_with_a_code_that_pam_lacks", frame.Reply{Code: -1}},
	{"reply_with_as_many_as_fit", frame.Reply{Answers: times(frame.Messages, "\xff")}},
	{"result_of_a_login", frame.Result{
		Subject: "mittens@example.com", Ticket: []byte("opaque\x00"),
		Variables: []string{"AUTHN_PROVIDER=onelogin", "AUTHN_SUBJECT=mittens@example.com", "AUTHN_ID=7f3a1c"},
	}},
	{"result_with_as_many_as_fit", frame.Result{Variables: times(frame.Variables, "AUTHN_X=")}},
	{"result_of_a_refusal", frame.Result{Code: 7}},
}

func pointer(s string) *string { return &s }

func times[T any](n int, v T) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = v
	}
	return all
}

// kindOf is the type of frame that v becomes.
func kindOf(v encoder) byte {
	switch v.(type) {
	case frame.Start:
		return typeStart
	case conv:
		return typeConv
	case frame.Reply:
		return typeReply
	}
	return typeResult
}

// parse decodes a body as the frame of that type.
func parse(kind byte, body []byte) (encoder, error) {
	switch kind {
	case typeStart:
		return parsed(frame.ParseStart(kind, body))
	case typeConv:
		messages, err := frame.ParseConv(body)
		return parsed(conv(messages), err)
	case typeReply:
		return parsed(frame.ParseReply(kind, body))
	}
	return parsed(frame.ParseResult(body))
}

func parsed[T encoder](v T, err error) (encoder, error) { return v, err }

// whole puts header and type before a body.
func whole(kind byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+1)), append([]byte{kind}, body...)...)
}

// body joins fields: an int is a number, a string or []byte the bytes.
func body(fields ...any) []byte {
	var b bytes.Buffer
	for _, f := range fields {
		var v []byte
		switch f := f.(type) {
		case int:
			v = binary.BigEndian.AppendUint32(nil, uint32(f))
		case string:
			v = []byte(f)
		case []byte:
			v = f
		case raw:
			b.WriteString(string(f))
			continue
		default:
			panic(fmt.Sprintf("a field of type %T", f))
		}
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(v))))
		b.Write(v)
		b.WriteByte(0)
	}
	return b.Bytes()
}

// raw goes into a body as it is.
type raw string

// start is a START's body with one field in place of the usual one.
func start(at int, value any, more ...any) []byte {
	fields := []any{1, frame.Authenticate, 0, 0, 4711, "id", "sshd", "admin", "", "", "", "", "", "", 1, "debug"}
	if at >= 0 {
		fields[at] = value
	}
	return body(append(fields, more...)...)
}

// malformed are bodies that must be refused.
var malformed = []struct {
	name string
	kind byte
	body []byte
}{
	{"conv_of_nothing", typeConv, nil},
	{"conv_without_messages", typeConv, body(0)},
	{"conv_with_more_than_it_says", typeConv, body(1, 3, "one", 3, "two")},
	{"conv_with_less_than_it_says", typeConv, body(2, 3, "one")},
	{"conv_with_too_many", typeConv, body(append([]any{33}, times(66, any(3))...)...)},
	{"conv_with_four_billion", typeConv, body(0xffffffff, 3, "one")},
	{"conv_with_a_count_of_three_bytes", typeConv, body("\x00\x00\x01", 3, "one")},
	{"conv_with_a_count_of_five_bytes", typeConv, body("\x00\x00\x00\x00\x01", 3, "one")},
	{"conv_with_an_empty_count", typeConv, body("", 3, "one")},
	{"conv_with_style_zero", typeConv, body(1, 0, "one")},
	{"conv_with_a_binary_prompt", typeConv, body(1, 7, "one")},
	{"conv_with_style_minus_one", typeConv, body(1, 0xffffffff, "one")},
	{"conv_with_a_nul_in_a_text", typeConv, body(1, 3, "on\x00e")},
	{"conv_with_a_nul_as_the_text", typeConv, body(1, 3, "\x00")},
	{"conv_without_the_text", typeConv, body(1, 3)},
	{"conv_without_the_last_nul", typeConv, body(1, 3, raw("\x00\x00\x00\x03one"))},
	{"conv_with_something_in_place_of_the_nul", typeConv, body(1, 3, raw("\x00\x00\x00\x03one!"))},
	{"conv_with_a_length_cut_short", typeConv, body(1, 3, raw("\x00\x00\x00"))},
	{"conv_with_a_length_one_too_large", typeConv, body(1, 3, raw("\x00\x00\x00\x04one\x00"))},
	{"conv_with_the_largest_length", typeConv, body(1, 3, raw("\xff\xff\xff\xffone\x00"))},
	{"conv_with_a_length_that_wraps_around", typeConv, body(1, 3, raw("\xff\xff\xff\xfbone\x00"))},
	{"conv_with_a_byte_behind_it", typeConv, append(body(1, 3, "one"), 0)},

	{"result_of_nothing", typeResult, nil},
	{"result_that_is_only_a_code", typeResult, body(0)},
	{"result_without_variables_counted", typeResult, body(0, "mittens", "")},
	{"result_with_a_code_of_one_byte", typeResult, body("\x00", "mittens", "", 0)},
	{"result_with_a_nul_in_the_subject", typeResult, body(0, "mit\x00tens", "", 0)},
	{"result_with_too_many_variables", typeResult, body(append([]any{0, "", "", 41}, times(41, any("AUTHN_X="))...)...)},
	{"result_with_more_variables_than_it_says", typeResult, body(0, "", "", 0, "AUTHN_X=1")},
	{"result_with_fewer_variables_than_it_says", typeResult, body(0, "", "", 2, "AUTHN_X=1")},
	{"result_with_another_variable", typeResult, body(0, "", "", 1, "LD_PRELOAD=/x")},
	{"result_with_a_variable_in_small_letters", typeResult, body(0, "", "", 1, "authn_x=1")},
	{"result_with_a_variable_that_begins_late", typeResult, body(0, "", "", 1, " AUTHN_X=1")},
	{"result_with_a_variable_without_value", typeResult, body(0, "", "", 1, "AUTHN_X")},
	{"result_with_an_empty_variable", typeResult, body(0, "", "", 1, "")},
	{"result_with_a_nul_before_the_value", typeResult, body(0, "", "", 1, "AUTHN_X\x00=1")},
	{"result_with_a_nul_in_the_prefix", typeResult, body(0, "", "", 1, "AUTHN\x00_X=1")},
	{"result_with_a_ticket_longer_than_the_body", typeResult, body(0, "", raw("\x00\x01\x00\x00"), 0)},
	{"result_with_a_byte_behind_it", typeResult, append(body(0, "", "", 0), 0)},

	{"start_of_nothing", typeStart, nil},
	{"start_of_the_next_version", typeStart, start(0, 2)},
	{"start_of_version_zero", typeStart, start(0, 0)},
	{"start_of_no_call", typeStart, start(1, 0)},
	{"start_of_a_seventh_call", typeStart, start(1, 7)},
	{"start_of_a_negative_call", typeStart, start(1, 0xffffffff)},
	{"start_with_an_unknown_bit", typeStart, start(3, 16)},
	{"start_with_flags_of_no_bytes", typeStart, start(2, "")},
	{"start_with_a_nul_in_the_user", typeStart, start(7, "ad\x00min")},
	{"start_with_a_nul_in_the_password", typeStart, start(11, "a\x00b")},
	{"start_with_a_password_that_it_denies", typeStart, start(11, "open sesame")},
	{"start_with_a_nul_in_a_word", typeStart, start(15, "de\x00bug")},
	{"start_with_more_words_than_it_says", typeStart, start(-1, nil, "another")},
	{"start_with_fewer_words_than_it_says", typeStart, start(14, 2)},
	{"start_with_four_billion_words", typeStart, start(14, 0xffffffff)},
	{"start_with_a_byte_behind_it", typeStart, append(start(-1, nil), 0)},

	{"reply_of_nothing", typeReply, nil},
	{"reply_that_is_only_a_code", typeReply, body(0)},
	{"reply_with_too_many_answers", typeReply, body(append([]any{0, 33}, times(33, any(""))...)...)},
	{"reply_with_four_billion_answers", typeReply, body(0, 0xffffffff, "")},
	{"reply_with_fewer_answers_than_it_says", typeReply, body(0, 2, "one")},
	{"reply_with_more_answers_than_it_says", typeReply, body(0, 1, "one", "two")},
	{"reply_with_a_nul_in_an_answer", typeReply, body(0, 1, "a\x00b")},
	{"reply_with_a_byte_behind_it", typeReply, append(body(0, 1, "one"), 0)},
}

// durations are texts for Duration, with milliseconds or 0 for a refusal.
var durations = []struct {
	text string
	ms   int64
}{
	{"90s", 90000},
	{"1m30s", 90000},
	{"1.5s", 1500},
	{"1h", 3600000},
	{"24h", 86400000},
	{"86400s", 86400000},
	{"86400000ms", 86400000},
	{"86400000000us", 86400000},
	{"250ms", 250},
	{"1ms", 1},
	{"1000us", 1},
	{"1999us", 1},
	{"999.999us0.001us", 1},
	{"0.001s", 1},
	{".5s", 500},
	{"5.s", 5000},
	{"007s", 7000},
	{"1.250m", 75000},
	{"0.001h", 3600},
	{"0.5us0.5us999us", 1},
	{"1s1s", 2000},
	{"30s1m", 90000},
	{"0h0m1s", 1000},
	{"00000000000000000000000000000000000001s", 1000},

	{"", 0},
	{"0", 0},
	{"0s", 0},
	{"999us", 0},
	{"90", 0},
	{"s", 0},
	{".s", 0},
	{".", 0},
	{"-1s", 0},
	{"+1s", 0},
	{" 1s", 0},
	{"1s ", 0},
	{"1 s", 0},
	{"1S", 0},
	{"1d", 0},
	{"1ns", 0},
	{"1µs", 0},
	{"1.5", 0},
	{"1.2.3s", 0},
	{"1,5s", 0},
	{"1e3s", 0},
	{"0x10s", 0},
	{"1.2345s", 0},
	{"24h1ms", 0},
	{"25h", 0},
	{"86401s", 0},
	{"9223372036854775807s", 0},
	{"9223372036854775808us", 0},
	{"99999999999999999999999999999999h", 0},
	{"1s\x00", 0},
	{"1s\x002s", 0},
	{"infinity", 0},
	{strings.Repeat("9", 400) + "s", 0},
}

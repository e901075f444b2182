// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/frame"
)

func TestMalformedBodiesAreRefused(t *testing.T) {
	for _, m := range malformed {
		t.Run(m.name, func(t *testing.T) {
			if got, err := parse(m.kind, m.body); !errors.Is(err, frame.ErrMalformed) {
				t.Errorf("parsed as %#v, %v", got, err)
			}
		})
	}
}

// Whatever is cut off or changed in its length, no part of a frame passes for
// one.
func TestNoPartOfAFrameIsAFrame(t *testing.T) {
	for _, s := range samples {
		out, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		kind, body := out[4], out[5:]
		for n := range body {
			if got, err := parse(kind, body[:n]); err == nil {
				t.Errorf("%s: its first %d bytes are %#v", s.name, n, got)
			}
		}
	}
}

func TestAFrameOfAnotherTypeIsRefused(t *testing.T) {
	out, err := frame.Reply{Answers: []string{"x"}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for kind := range byte(255) {
		if _, err := frame.ParseReply(kind, out[5:]); (err == nil) != (kind == typeReply) {
			t.Errorf("ParseReply of type %d: %v", kind, err)
		}
		if _, err := frame.ParseStart(kind, start(-1, nil)); (err == nil) != (kind == typeStart) {
			t.Errorf("ParseStart of type %d: %v", kind, err)
		}
	}
}

func TestAnotherVersionSaysWhatToInstall(t *testing.T) {
	_, err := frame.ParseStart(typeStart, start(0, 2))
	if err == nil || !strings.Contains(err.Error(), "the module speaks version 2, the worker 1") {
		t.Errorf("got %v", err)
	}
}

func TestWhatDoesNotFitIsNotEncoded(t *testing.T) {
	// length, type, code, subject, ticket and count of a RESULT
	const rest = frame.Max - 1 - (5 + 4) - 5 - 5 - (5 + 4)
	largest := frame.Result{Ticket: make([]byte, rest)}
	tests := []struct {
		name  string
		value encoder
		fits  bool
	}{
		{"the_largest_frame_fits", largest, true},
		{"one_byte_more_does_not", frame.Result{Ticket: make([]byte, rest+1)}, false},
		{"a_ticket_that_fills_all_but_its_nul_does_not", frame.Result{Ticket: make([]byte, rest+6)}, false},
		{"what_follows_a_field_that_did_not_fit_does_not_either", frame.Result{Ticket: make([]byte, frame.Max), Variables: []string{"AUTHN_X="}}, false},
		{"a_field_larger_than_any_frame_does_not", frame.Result{Ticket: make([]byte, 1<<20)}, false},
		{"a_variable_too_many_does_not", frame.Result{Variables: times(frame.Variables+1, "AUTHN_X=")}, false},
		{"no_message_is_no_conversation", conv{}, false},
		{"a_message_too_many_does_not", conv(times(frame.Messages+1, frame.Message{Style: frame.TextInfo})), false},
		{"a_long_text_does_not", conv{{frame.TextInfo, strings.Repeat("x", frame.Max)}}, false},
		{"a_nul_in_a_text_does_not", conv{{frame.TextInfo, "a\x00b"}}, false},
		{"a_nul_in_a_subject_does_not", frame.Result{Subject: "a\x00"}, false},
		{"a_nul_in_a_variable_does_not", frame.Result{Variables: []string{"AUTHN_X=\x00"}}, false},
		{"a_negative_code_does_not", frame.Result{Code: -1}, false},
		{"a_code_that_would_wrap_around_to_success_does_not", frame.Result{Code: 1 << 32}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := tt.value.Encode()
			switch {
			case tt.fits && (err != nil || len(out) != 4+frame.Max):
				t.Errorf("%d bytes, %v", len(out), err)
			case !tt.fits && !errors.Is(err, frame.ErrMalformed):
				t.Errorf("%d bytes, %v, want ErrMalformed", len(out), err)
			}
		})
	}
	out, _ := largest.Encode()
	kind, body, err := frame.Read(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := parse(kind, body); err != nil || !reflect.DeepEqual(back, largest) {
		t.Errorf("the largest frame came back as something else: %v", err)
	}
}

func TestRead(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name string
		in   io.Reader
		kind byte
		body string
		want error // nil: the frame is read
	}{
		{"a_frame_is_read", strings.NewReader("\x00\x00\x00\x04\x07abc"), 7, "abc", nil},
		{"what_follows_is_left", strings.NewReader("\x00\x00\x00\x02\x07a\x00"), 7, "a", nil},
		{"a_frame_that_comes_byte_by_byte_is_read", iotest.OneByteReader(strings.NewReader("\x00\x00\x00\x04\x07abc")), 7, "abc", nil},
		{"a_body_may_be_empty", strings.NewReader("\x00\x00\x00\x01\x07"), 7, "", nil},
		{"nothing_is_eof", strings.NewReader(""), 0, "", io.EOF},
		{"part_of_a_header_is_malformed", strings.NewReader("\x00\x00\x00"), 0, "", frame.ErrMalformed},
		{"a_header_alone_is_malformed", strings.NewReader("\x00\x00\x00\x04"), 0, "", frame.ErrMalformed},
		{"part_of_a_body_is_malformed", strings.NewReader("\x00\x00\x00\x04\x07ab"), 0, "", frame.ErrMalformed},
		{"no_length_is_malformed", strings.NewReader("\x00\x00\x00\x00\x07"), 0, "", frame.ErrMalformed},
		{"a_length_over_the_limit_is_malformed", strings.NewReader("\x00\x01\x00\x01" + strings.Repeat("x", frame.Max+1)), 0, "", frame.ErrMalformed},
		{"the_largest_length_is_malformed", strings.NewReader("\xff\xff\xff\xff"), 0, "", frame.ErrMalformed},
		{"an_error_before_a_frame_is_itself", iotest.ErrReader(broken), 0, "", broken},
		{"an_error_in_a_frame_is_kept", io.MultiReader(strings.NewReader("\x00\x00\x00\x04\x07"), iotest.ErrReader(broken)), 0, "", broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kind, body, err := frame.Read(tt.in)
			if kind != tt.kind || string(body) != tt.body || !errors.Is(err, tt.want) {
				t.Errorf("got %d, %q, %v", kind, body, err)
			}
			if errors.Is(err, io.EOF) && !errors.Is(tt.want, io.EOF) {
				t.Error("it reads like a proper end")
			}
		})
	}
}

func TestResultsAreThoseOfPAMsHeader(t *testing.T) {
	words := frame.Words()
	if len(words) != 32 {
		t.Errorf("the header has %d results, want 32", len(words))
	}
	for word, number := range words {
		if got := authn.Result(number).Error(); got != word {
			t.Errorf("PAM's %d is %s, authn calls it %s", number, word, got)
		}
		if got, ok := authn.ParseResult(word); !ok || int(got) != number {
			t.Errorf("PAM's %s is %d, authn says %d, %v", word, number, int(got), ok)
		}
	}
}

func TestCallsAreThoseOfPackageAuthn(t *testing.T) {
	for call, want := range map[int]authn.Call{
		frame.Authenticate: authn.CallAuthenticate, frame.SetCred: authn.CallSetCred, frame.Account: authn.CallAccount,
		frame.OpenSession: authn.CallOpenSession, frame.CloseSession: authn.CallCloseSession, frame.Password: authn.CallPassword,
	} {
		if authn.Call(call) != want {
			t.Errorf("%s is call %d to the module", want, call)
		}
	}
}

// Module and worker must agree on which result can be the outcome of a call:
// the module refuses what the worker lets through.
func TestAllowedIsTheSameInCAndGo(t *testing.T) {
	for call := -2; call < 300; call++ {
		for code := -2; code < 300; code++ {
			if got, want := frame.Allowed(call, code), authn.Result(code).Allowed(authn.Call(call)); got != want {
				t.Errorf("call %d, %s: C says %v, Go says %v", call, authn.Result(code).Error(), got, want)
			}
		}
	}
	for _, large := range []int{1 << 31, 1 << 32, 1<<32 + 1, -1 << 32} {
		if frame.Allowed(frame.Authenticate, large) || frame.Allowed(large, 0) {
			t.Errorf("%d wraps around to something that is allowed", large)
		}
	}
}

func TestDuration(t *testing.T) {
	for _, d := range durations {
		want := time.Duration(d.ms) * time.Millisecond
		if got, ok := frame.Duration(d.text); got != want || ok != (want != 0) {
			t.Errorf("Duration(%.40q) = %v, %v, want %v", d.text, got, ok, want)
		}
	}
}

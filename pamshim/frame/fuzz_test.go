// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// hold holds what the codec made of a body against the reference, and encodes
// it again: there is one way to write a frame.
func hold(t *testing.T, kind byte, body []byte, want encoder, ok bool) {
	t.Helper()
	got, err := parse(kind, body)
	if (err == nil) != ok {
		t.Fatalf("the codec says %v, the reference %v", err, ok)
	}
	if err != nil {
		if !errors.Is(err, frame.ErrMalformed) {
			t.Errorf("the error is %v, not ErrMalformed", err)
		}
		return
	}
	if !reflect.DeepEqual(normal(got), normal(want)) {
		t.Fatalf("the codec reads %#v, the reference %#v", got, want)
	}
	again, err := got.Encode()
	switch {
	case len(body) >= frame.Max:
		return
	case err != nil:
		t.Fatalf("%#v cannot be encoded again: %v", got, err)
	case !bytes.Equal(again, whole(kind, body)):
		t.Fatalf("encoded again it is %x", again)
	}
}

// normal makes no ticket and an empty one the same.
func normal(v encoder) encoder {
	switch v := v.(type) {
	case frame.Start:
		v.Ticket = append([]byte{}, v.Ticket...)
		return v
	case frame.Result:
		v.Ticket = append([]byte{}, v.Ticket...)
		return v
	}
	return v
}

func FuzzConv(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := referenceConv(body)
		hold(t, typeConv, body, conv(want), ok)
	})
}

func FuzzResult(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := referenceResult(body)
		if ok && want.Code > math.MaxInt32 {
			if _, err := want.Encode(); err == nil {
				t.Errorf("code %d can be encoded", want.Code)
			}
			return
		}
		hold(t, typeResult, body, want, ok)
	})
}

func FuzzStart(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := referenceStart(body)
		hold(t, typeStart, body, want, ok)
	})
}

func FuzzReply(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		want, ok := referenceReply(body)
		hold(t, typeReply, body, want, ok)
	})
}

func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		kind, body, err := frame.Read(r)
		taken := len(stream) - r.Len()
		switch {
		case err == nil && !bytes.Equal(whole(kind, body), stream[:taken]):
			t.Errorf("Read returned %d %x", kind, body)
		case errors.Is(err, io.EOF) != (len(stream) == 0):
			t.Errorf("of %d bytes, Read says %v", len(stream), err)
		case err != nil && len(stream) > 0 && !errors.Is(err, frame.ErrMalformed):
			t.Errorf("the error is %v, not ErrMalformed", err)
		case taken > 4+frame.Max:
			t.Errorf("Read took %d bytes", taken)
		}
	})
}

func FuzzDuration(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := frame.Duration(text)
		if !ok {
			return
		}
		want, err := time.ParseDuration(text)
		if err != nil || got != want.Truncate(time.Millisecond) || got <= 0 || got > 24*time.Hour {
			t.Errorf("Duration(%q) = %v, Go says %v, %v", text, got, want, err)
		}
	})
}

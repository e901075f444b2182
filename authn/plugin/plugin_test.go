// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

func TestAProviderStartedByHandExplainsItself(t *testing.T) {
	tests := []struct {
		args   []string
		code   int
		stdout string
		stderr []string
	}{
		{[]string{"/usr/libexec/authn/providers/authn-cat"}, 2, "", []string{
			"authn-cat is a provider for pam_authn", "provider=cat\n", "/etc/authn/cat.yaml", "--provider cat --user NAME",
		}},
		{[]string{"build/authn-cat"}, 2, "", []string{"provider=" + here(t, "build/authn-cat") + "\n", "/etc/authn/cat.yaml"}},
		{[]string{"./cat", "-help"}, 2, "", []string{"cat is a provider", "provider=" + here(t, "cat") + "\n"}},
		{[]string{"authn-"}, 2, "", []string{"authn- is a provider"}},
		{[]string{"build/authn-cat", "--version"}, 0, "authn-cat ", nil},
		{[]string{"build/authn-cat", "-version"}, 0, "authn-cat ", nil},
	}
	for _, tt := range tests {
		var stdout, stderr bytes.Buffer
		if code := byHand(&stdout, &stderr, tt.args); code != tt.code {
			t.Errorf("%q: code %d, want %d", tt.args, code, tt.code)
		}
		if !strings.HasPrefix(stdout.String(), tt.stdout) || (stdout.Len() > 0) != (tt.stdout != "") {
			t.Errorf("%q: stdout %q", tt.args, stdout.String())
		}
		for _, want := range tt.stderr {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("%q: stderr lacks %q:\n%s", tt.args, want, stderr.String())
			}
		}
	}
}

// here is the whole path of a relative one: PAM lines take no other.
func here(t *testing.T, path string) string {
	t.Helper()
	whole, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

func TestWireText(t *testing.T) {
	for _, tt := range []struct {
		in    string
		limit int
		want  string
	}{
		{"hello", 5, "hello"}, {"hello", 4, "hell"}, {"", 0, ""}, {"x", 0, ""},
		{"üü", 3, "ü"}, {"a\xffb", 9, "a?b"}, {"日本", 5, "日"}, {"日本", 2, ""},
	} {
		if got := wireText(tt.in, tt.limit); got != tt.want {
			t.Errorf("wireText(%q, %d) = %q, want %q", tt.in, tt.limit, got, tt.want)
		}
	}
}

func TestDurationsOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		d  time.Duration
		ms uint64
	}{
		{0, 0}, {-1, 0}, {math.MinInt64, 0}, {1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2},
		{90 * time.Second, 90000}, {math.MaxInt64, math.MaxInt64/1000000 + 1},
	} {
		if got := toMillis(tt.d); got != tt.ms {
			t.Errorf("toMillis(%d) = %d, want %d", tt.d, got, tt.ms)
		}
	}
	for _, tt := range []struct {
		ms uint64
		d  time.Duration
	}{
		{0, 0}, {1500, 1500 * time.Millisecond}, {math.MaxUint64, math.MaxInt64}, {math.MaxInt64/1000000 + 1, math.MaxInt64},
	} {
		if got := millis(tt.ms); got != tt.d {
			t.Errorf("millis(%d) = %d, want %d", tt.ms, got, tt.d)
		}
	}
}

func TestADescriptionIsCutAndCleaned(t *testing.T) {
	remote := describer{reply: &wire.DescribeReply{
		Version:      "\x1b[2J" + strings.Repeat("v", 100),
		Capabilities: []wire.Capability{wire.Capability_CAPABILITY_ACCOUNT, 99},
	}}
	d, err := describe(t.Context(), remoteOf(t, remote).rpc)
	if err != nil || d.Version != "?[2J"+strings.Repeat("v", 60) {
		t.Errorf("got %+v, %v", d, err)
	}
	r := &Remote{desc: d}
	if _, ok := authn.As[authn.AccountManager](r); !ok {
		t.Error("the capability is lost")
	}
	if _, ok := authn.As[authn.PasswordChanger](r); ok {
		t.Error("a capability that was not announced")
	}
}

type describer struct {
	wire.UnimplementedProviderServer
	reply *wire.DescribeReply
}

func (d describer) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeReply, error) {
	return d.reply, nil
}

func TestAProviderThatCannotDescribeItselfIsRefused(t *testing.T) {
	_, err := describe(t.Context(), remoteOf(t, fake{}).rpc)
	refusedWith(t, err, "Describe: not implemented by this provider")
}

// The first message must be Start, and a call that nobody knows is refused.
func TestAWorkerThatBreaksTheProtocolIsRefused(t *testing.T) {
	remote := remoteOf(t, service(newSentry))
	stream, err := remote.rpc.Call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&wire.FromWorker{Message: &wire.FromWorker_Answer{Answer: &wire.Answer{}}})
	if m, err := stream.Recv(); err == nil {
		t.Errorf("got %v", m)
	}
	_, err = remote.call(t.Context(), &wire.Start{Call: 7}, &authn.Request{}, types(""))
	refusedWith(t, err, "call 7 is unknown to this provider")
}

// needy has an As that cannot do without its fields.
type needy struct{ inside *sentry }

func (n *needy) As(any) bool { return n.inside != nil }

func (n *needy) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	return n.inside.Authenticate(ctx, req, conv)
}

func TestAnAsThatPanicsBeforeThereIsAProviderAnnouncesEverything(t *testing.T) {
	s := &server{zero: (*needy)(nil)}
	if got := len(s.capabilities()); got != 4 {
		t.Errorf("%d capabilities", got)
	}
}

// A worker may give up by closing its side, without breaking the stream.
func TestAWorkerThatClosesItsSideEndsTheCall(t *testing.T) {
	stream, err := remoteOf(t, service(newSentry)).rpc.Call(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&wire.FromWorker{Message: &wire.FromWorker_Start{Start: &wire.Start{Call: wire.CallType_CALL_AUTHENTICATE}}})
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.GetPrompt() != nil {
			_ = stream.CloseSend()
		}
		if r := m.GetResult(); r != nil {
			if authn.Result(r.GetCode()) != authn.ErrConv {
				t.Errorf("got %v, want conv_err", r)
			}
			return
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// refused dials where nobody listens.
func refused(t testing.TB) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = net.Dial("tcp", addr)
	return addr, err
}

// resolver asks a name server that cannot be dialed.
func resolver(dialError error) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, dialError
	}}
}

func lookup(ctx context.Context, dialError error) error {
	d := net.Dialer{Resolver: resolver(dialError)}
	_, err := d.DialContext(ctx, "tcp", "idp.example.com:443")
	return err
}

func dialOf(errno syscall.Errno) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
}

func get1(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

func TestUnreachable(t *testing.T) {
	addr, refusedErr := refused(t)
	past, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	cancelled, cancelNow := context.WithCancel(t.Context())
	cancelNow()
	_, timeout := new(net.Dialer).DialContext(past, "tcp", addr)
	_, given := new(net.Dialer).DialContext(cancelled, "tcp", addr)
	tlsErr := tlsError(t)
	dnsErr := lookup(t.Context(), dialOf(syscall.ECONNREFUSED))

	tests := []struct {
		name string
		err  error
		want authn.Result
	}{
		{"a_refused_dial", refusedErr, authn.ErrAuthInfoUnavail},
		{"a_refused_request", get1(http.DefaultClient, "http://"+addr), authn.ErrAuthInfoUnavail},
		{"a_dial_that_timed_out", timeout, authn.ErrAuthInfoUnavail},
		{"a_name_that_no_server_resolves", dnsErr, authn.ErrAuthInfoUnavail},
		{"a_name_that_is_not_found", &net.DNSError{Err: "no such host", IsNotFound: true}, authn.ErrAuthInfoUnavail},
		{"no_route", dialOf(syscall.ENETUNREACH), authn.ErrAuthInfoUnavail},
		{"a_host_that_is_down", dialOf(syscall.EHOSTUNREACH), authn.ErrAuthInfoUnavail},
		{"wrapped", fmt.Errorf("log in: %w", refusedErr), authn.ErrAuthInfoUnavail},
		{"several_all_unreached", errors.Join(refusedErr, timeout, fmt.Errorf("b: %w", dnsErr)), authn.ErrAuthInfoUnavail},
		{"a_result_inside_does_not_count", fmt.Errorf("%w: %w", refusedErr, authn.ErrAuth), authn.ErrSystem},

		{"a_bare_error", errors.New("refused"), authn.ErrSystem},
		{"an_errno_alone", syscall.ECONNREFUSED, authn.ErrSystem},
		{"a_tls_error", tlsErr, authn.ErrSystem},
		{"a_dial_that_was_cancelled", given, authn.ErrSystem},
		{"a_lookup_that_was_cancelled", lookup(cancelled, context.Canceled), authn.ErrSystem},
		{"too_few_descriptors", dialOf(syscall.EMFILE), authn.ErrSystem},
		{"too_few_descriptors_in_all", dialOf(syscall.ENFILE), authn.ErrSystem},
		{"not_permitted", dialOf(syscall.EPERM), authn.ErrSystem},
		{"out_of_memory", dialOf(syscall.ENOMEM), authn.ErrSystem},
		{"try_again", dialOf(syscall.EAGAIN), authn.ErrSystem},
		{"no_local_address", dialOf(syscall.EADDRNOTAVAIL), authn.ErrSystem},
		{"a_lookup_without_descriptors", &net.DNSError{Err: "x", UnwrapErr: dialOf(syscall.EMFILE)}, authn.ErrSystem},
		{"a_dial_whose_lookup_had_none", &net.OpError{Op: "dial", Err: &net.DNSError{UnwrapErr: dialOf(syscall.EMFILE)}}, authn.ErrSystem},
		{"a_connection_that_broke", &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, authn.ErrSystem},
		{"a_connection_that_fell_silent", silence(t), authn.ErrSystem},
		{"an_answer_that_did_not_come", unanswered(t), authn.ErrSystem},
		{"one_of_several_reached", errors.Join(refusedErr, tlsErr), authn.ErrSystem},
		{"nothing_joined", joined{}, authn.ErrSystem},
		{"nothing_inside", nilUnwrapper{}, authn.ErrSystem},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := authn.Unreachable(tt.err)
			if got := authn.ResultOf(err); got != tt.want {
				t.Errorf("Unreachable(%v) is %s, want %s", tt.err, got.Error(), tt.want.Error())
			}
			if !strings.Contains(err.Error(), tt.err.Error()) {
				t.Errorf("%q does not say %q", err, tt.err)
			}
		})
	}
	if authn.Unreachable(nil) != nil {
		t.Error("nil is no outage")
	}
}

// The caller may still look for what it knows.
func TestUnreachableKeepsTheErrorButNotItsResult(t *testing.T) {
	_, refusedErr := refused(t)
	for _, inner := range []error{refusedErr, fmt.Errorf("%w: %w", refusedErr, authn.ErrIgnore)} {
		err := authn.Unreachable(inner)
		var op *net.OpError
		if !errors.As(err, &op) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v: the cause is lost", err)
		}
		if errors.Is(err, authn.ErrIgnore) {
			t.Errorf("%v: the result inside is not hidden", err)
		}
	}
}

type joined []error

func (j joined) Error() string   { return "joined" }
func (j joined) Unwrap() []error { return j }

func tlsError(t *testing.T) error {
	t.Helper()
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	return get1(&http.Client{Transport: &http.Transport{}}, "https://"+s.Listener.Addr().String())
}

// listener accepts and says nothing.
func listener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func silence(t *testing.T) error {
	t.Helper()
	conn, err := net.Dial("tcp", listener(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // nothing was sent
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	_, err = conn.Read(make([]byte, 1))
	return err
}

func unanswered(t *testing.T) error {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{}, Timeout: 50 * time.Millisecond}
	return get1(client, "http://"+listener(t))
}

// TestHostileLimits runs in a child that a user of su could have made: with so
// few file descriptors that nothing can be reached.
func TestHostileLimits(t *testing.T) {
	if os.Getenv("AUTHN_TEST_CHILD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHostileLimits$", "-test.v")
		cmd.Env = append(os.Environ(), "AUTHN_TEST_CHILD=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestHostileLimits") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	_, refusedErr := refused(t)
	if got := authn.ResultOf(authn.Unreachable(refusedErr)); got != authn.ErrAuthInfoUnavail {
		t.Fatalf("with enough descriptors: %s", got.Error())
	}
	leave(t, 2)
	conn, dialErr := net.Dial("tcp", "127.0.0.1:1")
	_, lookupErr := (&net.Resolver{PreferGo: true}).LookupHost(t.Context(), "idp.example.com")
	leave(t, 0)
	conn2, emfile := net.Dial("tcp", "127.0.0.1:1")
	if conn != nil || conn2 != nil || !errors.Is(emfile, syscall.EMFILE) {
		t.Fatalf("dialed: %v, %v", dialErr, emfile)
	}
	leave(t, 4)
	for _, err := range []error{refusedErr, dialErr, lookupErr, emfile} {
		if got := authn.ResultOf(authn.Unreachable(err)); got != authn.ErrSystem {
			t.Errorf("without descriptors %v is %s, want system_err", err, got.Error())
		}
	}
}

// leave sets the limit so that n descriptors can still be opened.
func leave(t *testing.T, n uint64) {
	t.Helper()
	cur := uint64(0) // the number after the n-th free one
	for free := uint64(0); ; cur++ {
		if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(cur), syscall.F_GETFD, 0); errno == syscall.EBADF {
			if free == n {
				break
			}
			free++
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = cur
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

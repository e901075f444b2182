// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// stepTimeout bounds each step of a connection, and openTimeout all of them
// until a code can be shown.
const (
	stepTimeout = 5 * time.Second
	openTimeout = 15 * time.Second
)

// A Relay is where codes are found by phones.
type Relay struct {
	URL    string       // https://HOST[:PORT], or http:// on loopback
	Token  authn.Secret // may be empty on loopback
	Client *http.Client // of [NewClient]
}

// NewClient returns a client that trusts roots (nil: the system's), goes
// through proxy unless it is nil, follows no redirection and waits for nobody
// longer than some seconds. The environment changes nothing of it.
func NewClient(roots *x509.CertPool, proxy *url.URL) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyURL(proxy),
			DialContext:            (&net.Dialer{Timeout: stepTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    stepTimeout,
			ResponseHeaderTimeout:  stepTimeout,
			MaxResponseHeaderBytes: 16 << 10,
			TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial opens the socket to the relay. If nobody was reached, the error says so
// as [authn.Unreachable] does; nothing else has been sent or received then.
func (r *Relay) dial(ctx context.Context) (*websocket.Conn, error) {
	header := http.Header{}
	if !r.Token.IsZero() {
		header.Set("Authorization", "Bearer "+r.Token.Reveal())
	}
	address := "ws" + strings.TrimPrefix(r.URL, "http") + wire.SocketPath
	options := &websocket.DialOptions{HTTPClient: r.Client, HTTPHeader: header}
	conn, resp, err := websocket.Dial(ctx, address, options) //nolint:bodyclose // the library does
	r.Client.CloseIdleConnections()
	switch {
	case err == nil:
		conn.SetReadLimit(wire.MaxEnvelope)
		return conn, nil
	case resp != nil:
		return nil, answered(resp)
	}
	return nil, notConnected(err)
}

// answered says what an answer means that is not the upgrade.
func answered(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return reason.RelayToken
	case http.StatusForbidden:
		return reason.RelayForbidden
	case http.StatusTooManyRequests:
		return reason.RelayBusy
	}
	return reason.RelayAnswer.With(fmt.Errorf("HTTP %d", resp.StatusCode))
}

// notConnected tells an outage, which may open the administrator's fallback,
// from everything else.
func notConnected(err error) error {
	unreached := authn.Unreachable(beyondProxy(err))
	switch {
	case errors.Is(unreached, authn.ErrAuthInfoUnavail):
		return fmt.Errorf("relay: %w", unreached)
	case isTLS(err):
		return reason.RelayTLS.With(shortest(err))
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return reason.RelaySlow
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return reason.RelayLost.With(shortest(err))
	}
	return fmt.Errorf("relay: %w", unreached)
}

// beyondProxy returns err, or why a proxy was not reached, which net/http wraps
// in an operation of its own.
func beyondProxy(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return op.Err
	}
	return err
}

func isTLS(err error) bool {
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &cert) || errors.As(err, &record) || errors.As(err, &alert) ||
		strings.Contains(err.Error(), "tls: ") || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// shortest returns the part of err that net/http and the websocket library did
// not add: no URL, no method.
func shortest(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

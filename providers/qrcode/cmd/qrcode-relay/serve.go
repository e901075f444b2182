// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
	"github.com/pam-authn/pam-authn/providers/qrcode/web"
)

// serve runs the relay until a signal ends it.
func serve(args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal ends it at once
	return o.serve(ctx)
}

func (o *options) serve(ctx context.Context) error {
	logger := o.logger()
	s := &o.relay
	s.Log = logger
	var err error
	if s.Tokens, err = relay.OpenTokens(o.tokens); err != nil {
		return hinted{fmt.Errorf("tokens: %w", err), "run as the user that --tokens belongs to, or name another file"}
	}
	host, _, _ := net.SplitHostPort(o.listen)
	s.Open = isLoopback(host) && len(s.TrustedProxies) == 0
	if o.page == "on" {
		s.Page = web.Handler(o.web())
	}
	if s.NATS, err = o.nats(logger); err != nil {
		return err
	}
	if s.NATS != nil {
		defer s.NATS.Close()
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server := httpServer(s, logger)
	if o.tlsCert != "" {
		certs, err := newCertificates(o.tlsCert, o.tlsKey, logger)
		if err != nil {
			_ = listener.Close()
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: certs.get, NextProtos: []string{"http/1.1"}})
	}
	o.announce(logger, listener)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		o.leave(server)
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, s.Close(), server.Close())
}

func (o *options) announce(logger *slog.Logger, listener net.Listener) {
	s := &o.relay
	logger.Info("listening", "address", listener.Addr().String(), "tls", o.tlsCert != "", "version", version,
		"nats", s.NATS != nil, "page", o.page, "tokens", len(s.Tokens.List()))
	switch {
	case !s.NeedsToken():
		logger.Warn("hosts on this machine need no token, until one is issued: qrcode-relay token NAME")
	case len(s.Tokens.List()) == 0:
		logger.Warn("no host can come: issue a token with qrcode-relay token NAME")
	}
}

// leave tells hosts, waits for them and then for the phones.
func (o *options) leave(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), o.drain)
	defer cancel()
	if err := o.relay.Drain(ctx); err != nil {
		o.relay.Log.Warn("hosts stayed, and were closed")
	}
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = server.Shutdown(ctx) // what is left then, Close ends
}

// httpServer has the limits that a handler cannot have. HTTP/1.1 only: hosts
// need it, and a phone posts five times.
func httpServer(s *relay.Server, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      s.AnswerTimeout + 15*time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(nameless{logger}, "", 0),
	}
}

// nameless logs what net/http complains of, without the address that it is
// about: up to " from " or " serving ", where addresses begin.
type nameless struct{ log *slog.Logger }

func (n nameless) Write(line []byte) (int, error) {
	text := string(line)
	for _, before := range []string{" from ", " serving "} {
		if what, _, ok := strings.Cut(text, before); ok {
			text = what
		}
	}
	what, _, _ := strings.Cut(text, "\n")
	n.log.Debug("http", "problem", what)
	return len(line), nil
}

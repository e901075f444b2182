// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates are a certificate and its key, read again when their files have
// changed. What cannot be read leaves the old ones in use.
type certificates struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamps  [2]time.Time
	checked time.Time
}

// certCheck is how often the files are looked at.
const certCheck = time.Second

func newCertificates(certFile, keyFile string, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, fmt.Errorf("TLS files: %w", err)
	}
	return c, nil
}

// get is for [tls.Config].
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) > certCheck {
		c.checked = now
		if err := c.load(); err != nil {
			c.log.Error("TLS files not read, the old ones stay", "error", err)
		}
	}
	return c.current, nil
}

func (c *certificates) load() error {
	var stamps [2]time.Time
	for i, name := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		stamps[i] = info.ModTime()
	}
	if c.current != nil && stamps == c.stamps {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	if c.current != nil {
		c.log.Info("TLS files read again")
	}
	c.current, c.stamps = &pair, stamps
	return nil
}

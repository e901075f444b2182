// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// IssuerOptions says who may use an issuer.
type IssuerOptions struct {
	ClientID     string   // defaults to pam-authn
	ClientSecret string   // a public client if empty
	RedirectURIs []string // where people may be sent back to: the page's origin and "/"
}

// An Issuer is an OpenID Connect issuer on this machine.
type Issuer struct {
	URL string // https://localhost:PORT
	CA  string // its certificate, PEM
}

// StartIssuer starts an issuer, npm's oidc-provider, that ends with the test.
// Whoever types a name at its sign-in page is that person: see
// [Phone.SignInAs]. Phones that go there need [Options.IgnoreCertificates].
func StartIssuer(tb TB, o IssuerOptions) *Issuer {
	tb.Helper()
	if err := Missing(); err != nil {
		if os.Getenv("CI") == "true" {
			tb.Fatalf("%v", err)
		}
		tb.Skipf("%v", err)
		return nil
	}
	if o.ClientID == "" {
		o.ClientID = "pam-authn"
	}
	i, err := startIssuer(tb, o)
	if err != nil {
		tb.Fatalf("issuer: %v", err)
	}
	return i
}

func startIssuer(tb TB, o IssuerOptions) (*Issuer, error) {
	dir, err := folder()
	if err != nil {
		return nil, err
	}
	key, cert, err := certificate()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(map[string]any{"client": o.ClientID, "secret": o.ClientSecret, "redirects": o.RedirectURIs, "key": key, "cert": cert})
	if err != nil {
		return nil, err
	}
	errs := &tail{}
	cmd := exec.Command("node", filepath.Join(dir, "issuer.mjs")) //nolint:gosec // a file of the source tree's
	cmd.Stderr = errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	tb.Cleanup(func() {
		_ = stdin.Close()
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait()
	})
	if _, err := stdin.Write(append(settings, '\n')); err != nil {
		return nil, err
	}
	address, err := firstLine(stdout)
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, errs)
	}
	return &Issuer{URL: address, CA: cert}, nil
}

// certificate returns a fresh key and certificate of localhost's, PEM.
func certificate() (key, cert string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return key, cert, nil
}

// firstLine reads the address that the issuer prints when it listens.
func firstLine(stdout io.Reader) (string, error) {
	line := make(chan string, 1)
	go func() {
		s := bufio.NewScanner(stdout)
		s.Scan()
		line <- s.Text()
	}()
	var said struct{ URL string }
	select {
	case text := <-line:
		if err := json.Unmarshal([]byte(text), &said); err != nil {
			return "", fmt.Errorf("it said %q", text)
		}
		return said.URL, nil
	case <-time.After(patience):
		return "", errors.New("it does not start")
	}
}

// SignInAs is [Phone.SignIn] at an issuer of [StartIssuer], as the person
// called name; it returns the view that follows.
func (p *Phone) SignInAs(button, name string) string {
	p.tb.Helper()
	p.SignIn(button)
	p.Fill("#login", name)
	p.Click("#sign-in")
	return p.Wait("digits", "enrol-digits", "not-accepted", "details", "enrol", "sent-link", "gone", "expired", "offline", "trouble")
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Qrcode-relay carries sealed boxes between hosts where people log in and the
// phones that approve it, and serves the approver page.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// Exit codes, as the usage and the README have them.
const (
	fine    = 0
	failed  = 1
	misused = 2
)

const usage = `qrcode-relay joins hosts where people log in with the phones that approve it.

Usage:
    qrcode-relay [--listen ADDRESS] [OPTION...]
    qrcode-relay token [--tokens FILE] NAME
    qrcode-relay token [--tokens FILE] --list
    qrcode-relay token [--tokens FILE] --revoke NAME
    qrcode-relay version

Where it listens, and whom it trusts:

    --listen ADDRESS         default 127.0.0.1:8080
    --tls-cert FILE          certificate chain; read again when it changes
    --tls-key FILE           its key
    --trusted-proxy LIST     addresses or networks of proxies that speak TLS for
                             us; X-Forwarded-For is believed from these only
    --metrics-from LIST      who may read /metrics, besides this machine
    --tokens FILE            host tokens; default /var/lib/qrcode-relay/tokens

On loopback, as long as no token was issued and no proxy is trusted, hosts need
none, at localhost. Anywhere else they do, one token per host, and TLS or a
trusted proxy is needed, too.

The page:

    --page on|off            default on
    --page-origin ORIGIN     only pages from there may post, such as
                             https://login.example.com; default: from here
    --rp-id NAME             the passkeys' domain. Changing it loses every
                             passkey. Default: the name that the page is at
    --issuer URL             where people may be sent to sign in with OIDC: an
                             authorization endpoint, whole, such as
                             https://id.example.com/authorize; may be repeated
    --page-relay ORIGIN      a relay that the page is for, where it is not this
                             one; may be repeated

More nodes:

    --nats-url URL           tls://host:port, with commas between several
    --nats-token-file FILE   what the NATS server wants to hear
    --nats-ca FILE           its certificate authority; default the system's

Limits:

    --max-post BYTES         of a phone's post; default 16384
    --answer-timeout TIME    for the host's answer; default 30s
    --read-timeout TIME      for a post to arrive; default 10s
    --expect-timeout TIME    for a host to say what it waits for; default 10s
    --ping TIME              between pings of a host; default 20s
    --ttl TIME               longest wait for an approval; default 100s
    --pending N              logins waiting per host token; default 300
    --phones N               new phones per address and minute; default 10
    --posts N                posts per address and minute; default 240
    --posts-in-flight N      unanswered posts per login; default 16
    --drain TIME             for hosts to leave after SIGTERM; default 10s

    --log text|json          default text
    --debug                  more of it

A token is printed once and stored as SHA-256. Exit codes: 0 fine; 1 failed;
2 wrong usage.

Examples:
    qrcode-relay --listen 127.0.0.1:8080
    qrcode-relay token web1
    qrcode-relay --listen :443 --tls-cert cert.pem --tls-key key.pem --rp-id login.example.com
`

// version is set by the build.
var version = "devel"

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		complain(os.Stderr, err)
	}
	os.Exit(code)
}

// run does what args say, and returns the exit code. It prints what was asked
// for to out; logs go to stderr.
func run(args []string, out io.Writer) (int, error) {
	var err error
	switch first(args) {
	case "token":
		err = token(args[1:], out)
	case "version", "--version":
		_, err = fmt.Fprintln(out, "qrcode-relay", version)
	case "help", "-h", "-help", "--help":
		err = flag.ErrHelp
	default:
		err = serve(args)
	}
	var wrong usageError
	switch {
	case errors.Is(err, flag.ErrHelp):
		_, err = io.WriteString(out, usage)
		return fine, err
	case errors.As(err, &wrong):
		return misused, err
	case err != nil:
		return failed, err
	}
	return fine, nil
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// A usageError is the caller's mistake, with what to do about it.
type usageError struct {
	error
	hint string
}

func misuse(hint, format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...), hint}
}

// hinted is any other error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func complain(w io.Writer, err error) {
	for _, line := range strings.Split(err.Error(), "\n") {
		_, _ = fmt.Fprintln(w, "qrcode-relay: error:", line)
	}
	var wrong usageError
	var other hinted
	switch {
	case errors.As(err, &wrong) && wrong.hint != "":
		_, _ = fmt.Fprintln(w, "qrcode-relay: hint:", wrong.hint)
	case errors.As(err, &other):
		_, _ = fmt.Fprintln(w, "qrcode-relay: hint:", other.hint)
	}
}

// newFlags returns an empty set that leaves it to us to say what is wrong.
func newFlags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	return f
}

func parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return misuse(`run "qrcode-relay help"`, "%w", err)
	}
	return err
}

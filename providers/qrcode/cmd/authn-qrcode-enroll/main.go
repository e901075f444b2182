// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-qrcode-enroll says who may approve logins to an account with a phone:
// it enrols a new phone, lists those that are enrolled, and removes lost ones.
// It is the administrator's, and has nothing to do with PAM.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
)

// Exit codes, as the usage and README.md have them.
const (
	fine      = 0
	refused   = 1 // nothing was enrolled, or there was nothing to remove
	misused   = 2
	failed    = 3   // could not run
	cancelled = 130 // Ctrl-C, as any shell says
)

const usage = `authn-qrcode-enroll says whose phones may approve logins by QR code.

Usage:
    authn-qrcode-enroll [OPTION...] ACCOUNT SUBJECT [COMMENT...]
    authn-qrcode-enroll list [OPTION...] [ACCOUNT]
    authn-qrcode-enroll remove [OPTION...] ACCOUNT SUBJECT|CREDENTIAL
    authn-qrcode-enroll remove [OPTION...] --subject SUBJECT --all
    authn-qrcode-enroll help | version

The first shows a QR code for the phone of SUBJECT, such as mittens@example.com,
who will be able to approve logins to ACCOUNT. One phone can open it, once; then
six digits appear there. Nothing is written before they are typed here. (An
account that is called like a command is written behind "--".)

    --link           show a link to be sent, and no QR code
    --worker FILE    authn-worker; default beside this program, else the installed
    --provider FILE  authn-qrcode; likewise

list shows who may approve, for one account or for all. The first column is the
CREDENTIAL that remove takes. A line of the files is good on every host: copy it.

    --lines          show the lines of the files themselves

remove takes the right away, at once and on this host. A lost phone:

    --subject SUBJECT --all
                     all that SUBJECT can approve with, for every account

All commands:

    --config FILE    the provider's configuration; default /etc/authn/qrcode.yaml

Exit codes: 0 fine; 1 refused, or nothing to remove; 2 wrong usage; 3 could not
run.

Examples:
    authn-qrcode-enroll alice mittens@example.com "work phone"
    authn-qrcode-enroll list alice
    authn-qrcode-enroll remove --subject mittens@example.com --all
`

// Where things are installed. The linker sets what depends on PREFIX.
var (
	version           = "devel"
	installedWorker   = "/usr/libexec/authn/authn-worker"
	installedProvider = "/usr/libexec/authn/providers/authn-qrcode"
	defaultConfig     = "/etc/authn/qrcode.yaml"
)

// commands are what the first argument may be.
var commands = map[string]func(args []string) (int, error){
	"list":              list,
	"remove":            remove,
	"version":           showVersion,
	"help":              help,
	enroll.ChildCommand: network,
}

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		complain(os.Stderr, err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		_, _ = io.WriteString(os.Stderr, usage)
		return misused, nil
	}
	command, ok := commands[args[0]]
	if ok {
		args = args[1:]
	} else {
		command = enrol
	}
	code, err := command(args)
	if errors.Is(err, flag.ErrHelp) {
		return help(nil)
	}
	return code, err
}

func help([]string) (int, error) {
	_, err := io.WriteString(os.Stdout, usage)
	return fine, err
}

func showVersion([]string) (int, error) {
	_, err := fmt.Printf("authn-qrcode-enroll %s\n", version)
	return fine, err
}

// network is the child: see package enroll.
func network([]string) (int, error) {
	if err := enroll.Confine(); err != nil {
		return misused, withHint(err, `run "authn-qrcode-enroll help"`)
	}
	if err := enroll.Serve(context.Background(), os.Stdin, os.Stdout); err != nil {
		// Its parent shows this as a part of its own complaint.
		_, _ = fmt.Fprintln(os.Stderr, err)
		return failed, nil
	}
	return fine, nil
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

func withHint(err error, hint string) error { return hinted{err, hint} }

func complain(w io.Writer, err error) {
	_, _ = fmt.Fprintf(w, "authn-qrcode-enroll: error: %v\n", err)
	var h hinted
	if errors.As(err, &h) {
		_, _ = fmt.Fprintf(w, "authn-qrcode-enroll: hint: %s\n", h.hint)
	}
}

// options are a command's flags; parse takes them before, between and behind
// the other arguments, which it returns.
type options struct {
	*flag.FlagSet
	config, worker, provider string
}

func newOptions(command string) *options {
	o := &options{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	o.SetOutput(io.Discard) // complain says it
	o.StringVar(&o.config, "config", defaultConfig, "")
	return o
}

func (o *options) parse(args []string) (rest []string, err error) {
	for {
		if err := o.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, wrong("%v", err)
		}
		if o.NArg() == 0 {
			return rest, nil
		}
		if dashes := len(args) - o.NArg(); dashes > 0 && args[dashes-1] == "--" {
			return append(rest, o.Args()...), nil
		}
		rest, args = append(rest, o.Arg(0)), o.Args()[1:]
	}
}

// wrong is an error of usage.
func wrong(format string, args ...any) error {
	return withHint(fmt.Errorf(format, args...), `run "authn-qrcode-enroll help"`)
}

// store finds the files of approvers, as root.
func (o *options) store() (*enroll.Store, error) {
	config, err := o.configFile()
	if err != nil {
		return nil, err
	}
	return enroll.LoadStore(config)
}

func (o *options) configFile() (string, error) {
	if os.Geteuid() != 0 {
		return "", withHint(errors.New("only root may say who approves logins"), "use sudo")
	}
	return filepath.Abs(o.config)
}

// settings reads all of the configuration, as root.
func (o *options) settings() (*enroll.Settings, error) {
	config, err := o.configFile()
	if err != nil {
		return nil, err
	}
	worker, err := locate(o.worker, "authn-worker", installedWorker)
	if err != nil {
		return nil, err
	}
	provider, err := locate(o.provider, "authn-qrcode", installedProvider)
	if err != nil {
		return nil, err
	}
	s, err := enroll.Load(context.Background(), config, worker, provider)
	if err != nil {
		return nil, withHint(err, "what logins would be refused for, authnctl check shows too")
	}
	return s, nil
}

// locate finds a program: where the flag says, beside this one, or where it is
// installed.
func locate(flagged, name, installed string) (string, error) {
	if flagged != "" {
		return filepath.Abs(flagged)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	if _, err := os.Stat(installed); err != nil {
		return "", withHint(fmt.Errorf("%s is neither beside this program nor installed: %w", name, err), "install pam_authn with provider qrcode")
	}
	return installed, nil
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authnctl is the administrator's and the provider author's tool: it checks
// PAM lines and configurations offline, and tries a login without installing
// anything.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Exit codes, as the usage and docs/admin.md have them.
const (
	fine      = 0
	found     = 1 // problems, or a login refused
	misused   = 2
	failed    = 3   // could not run, or could not look at everything
	cancelled = 130 // Ctrl-C, as any shell says
)

const usage = `authnctl checks what PAM files say of pam_authn, and tries logins.

Usage:
    authnctl check [--provider NAME] [FILE...]
    authnctl try --provider NAME --user USER [OPTION...] [WORD...]
    authnctl version

check finds all that a login would be refused for, offline and at once. A FILE
is a PAM file or a provider's configuration: what lies in a folder pam.d is a
PAM file, what ends in .yaml, .yml or .json is a configuration, and anything
else is a PAM file if a line of it begins as PAM's do (auth, account, ...).
Without FILE, it checks every file of /etc/pam.d that calls pam_authn.so, with
what that includes, and the configurations of /etc/authn.

    --provider NAME  the provider of the configurations named; else their PAM
                     line's, or the one that has the file's name

try makes the calls of a login in this terminal, through libpam and the real
module, with a PAM file of its own that is gone afterwards. A WORD is one more
for the PAM line, such as NAME.KEY=VALUE for provider NAME.

    --provider NAME  the provider, or the path of its program
    --user USER      the account to log in to
    --config FILE    its configuration; default /etc/authn/NAME.yaml
    --service NAME   the application's name for PAM; default authnctl
    --call LIST      what to call, of auth, account, setcred, session and
                     chauthtok, in this order; default auth,account
    --timeout TIME   the line's timeout, such as 30s
    --debug          also show the steps
    --module FILE    pam_authn.so; default beside authnctl, else the installed

All commands:

    --worker FILE    authn-worker; default beside authnctl, else the installed

Exit codes: 0 fine; 1 problems found, or the login was refused; 2 wrong usage;
3 could not run, or could not look at everything.

Examples:
    authnctl check
    authnctl check /etc/pam.d/sshd
    authnctl try --provider onelogin --user admin
    build/authnctl try --provider build/authn-mine --config my.yaml --user me
`

// commands are what the first argument may be.
var commands = map[string]func(args []string) (int, error){
	"check":   check,
	"try":     try,
	"version": showVersion,
	"help":    help,
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
	switch args[0] {
	case "-h", "-help", "--help":
		return help(nil)
	}
	command, ok := commands[args[0]]
	if !ok {
		return misused, withHint(fmt.Errorf("unknown command %q", args[0]), `run "authnctl help"`)
	}
	code, err := command(args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return help(nil)
	}
	return code, err
}

func help([]string) (int, error) {
	_, err := io.WriteString(os.Stdout, usage)
	return fine, err
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func withHint(err error, hint string) error { return hinted{err, hint} }

func complain(w io.Writer, err error) {
	_, _ = fmt.Fprintf(w, "authnctl: error: %v\n", err)
	var h hinted
	if errors.As(err, &h) {
		_, _ = fmt.Fprintf(w, "authnctl: hint: %s\n", h.hint)
	}
}

// options is a command's flags; parse takes them before, between and behind
// the other arguments, which it returns.
type options struct{ *flag.FlagSet }

func newOptions(command string) options {
	o := options{flag.NewFlagSet(command, flag.ContinueOnError)}
	o.SetOutput(io.Discard) // complain says it
	return o
}

func (o options) parse(args []string) (rest []string, err error) {
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
	return withHint(fmt.Errorf(format, args...), `run "authnctl help"`)
}

// Where things are installed. The linker sets what depends on PREFIX.
var (
	version         = "devel"
	installedWorker = "/usr/libexec/authn/authn-worker"
	installedModule = "/lib/security/pam_authn.so"
)

// locate finds a part of pam_authn: where the flag says, beside this program,
// or where it is installed.
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
		return "", withHint(fmt.Errorf("%s is neither beside authnctl nor installed: %w", name, err),
			fmt.Sprintf("install pam_authn, or name it with --%s", flagOf[name]))
	}
	return installed, nil
}

// program is the path of a provider that may be given as a path, or by the name
// of one beside a worker that is not the installed one. Other names stay: the
// worker knows where providers are installed.
func program(provider, worker string) (string, error) {
	if strings.Contains(provider, "/") {
		return filepath.Abs(provider)
	}
	beside := filepath.Join(filepath.Dir(worker), "authn-"+provider)
	if _, err := os.Stat(beside); err == nil && worker != installedWorker { //nolint:gosec // the caller's own
		return beside, nil
	}
	return provider, nil
}

var flagOf = map[string]string{workerName: "worker", moduleName: "module"}

const (
	workerName = "authn-worker"
	moduleName = "pam_authn.so"
)

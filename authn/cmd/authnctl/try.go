// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/safefile"
)

// A trial is a login to try.
type trial struct {
	provider, config string // as they are in the line
	module, worker   string
	user, service    string
	calls            []string
	words            []string // the rest of the line
}

func try(args []string) (int, error) {
	t, err := parseTrial(args)
	if err != nil {
		return misused, err
	}
	if err := t.locate(); err != nil {
		return failed, err
	}
	if err := t.safe(); err != nil {
		return failed, err
	}
	dir, err := t.stack()
	if err != nil {
		return failed, err
	}
	defer os.RemoveAll(dir)                                 //nolint:errcheck // in a temporary folder
	console := newConsole(func() { _ = os.RemoveAll(dir) }) //nolint:gosec // a folder of our making
	defer console.close()
	return t.run(dir, console)
}

func parseTrial(args []string) (*trial, error) {
	o := newOptions("try")
	var t trial
	o.StringVar(&t.provider, "provider", "", "")
	o.StringVar(&t.user, "user", "", "")
	o.StringVar(&t.config, "config", "", "")
	o.StringVar(&t.service, "service", "authnctl", "")
	o.StringVar(&t.module, "module", "", "")
	o.StringVar(&t.worker, "worker", "", "")
	calls := o.String("call", "auth,account", "")
	timeout := o.String("timeout", "", "")
	debug := o.Bool("debug", false, "")
	words, err := o.parse(args)
	if err != nil {
		return nil, err
	}
	t.calls, t.words = strings.Split(*calls, ","), words
	if *timeout != "" {
		t.words = append(t.words, "timeout="+*timeout)
	}
	if *debug {
		t.words = append(t.words, "debug")
	}
	return &t, t.complete()
}

var serviceName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]*$`)

func (t *trial) complete() error {
	switch {
	case t.provider == "":
		return wrong("--provider is missing: which one is to be tried?")
	case t.user == "":
		return wrong("--user is missing: which account is to be logged in to?")
	case !serviceName.MatchString(t.service):
		return wrong("--service %q: a PAM service is of small letters, digits, _, . and -", t.service)
	}
	for _, name := range t.calls {
		if _, ok := calls[name]; !ok {
			return wrong("--call %q: the calls are auth, account, setcred, session and chauthtok", name)
		}
	}
	return nil
}

// locate makes every path absolute.
func (t *trial) locate() (err error) {
	if t.worker, err = locate(t.worker, workerName, installedWorker); err != nil {
		return err
	}
	if t.module, err = locate(t.module, moduleName, installedModule); err != nil {
		return err
	}
	if t.provider, err = program(t.provider, t.worker); err != nil {
		return err
	}
	if t.config != "" {
		t.config, err = filepath.Abs(t.config)
	}
	return err
}

// safe refuses early what the module and the worker would, to say more about
// it than their log line does.
func (t *trial) safe() error {
	if err := safefile.CheckProgram(t.worker); err != nil {
		return asWhom("the worker", err)
	}
	if filepath.IsAbs(t.provider) {
		if err := safefile.CheckProgram(t.provider); err != nil {
			return asWhom("the provider", err)
		}
	}
	if t.config == "" {
		return nil
	}
	f, err := safefile.Open(t.config)
	if err != nil {
		return asWhom("the configuration", err)
	}
	return f.Close()
}

// asWhom explains whom files must belong to.
func asWhom(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case !errors.Is(err, syscall.EPERM):
		return err
	case os.Geteuid() == 0:
		return withHint(err, "root uses only files that root alone can change: try as the user they belong to, "+
			"or copy or install them to folders of root's")
	}
	return withHint(err, "only files that you or root alone can change are used, and so are the folders above them")
}

// run makes the calls, and says what came of each.
func (t *trial) run(dir string, c *console) (int, error) {
	tx, err := pam.StartConfDir(t.service, t.user, c, dir)
	if err != nil {
		return failed, fmt.Errorf("libpam does not start: %w", err)
	}
	defer tx.End() //nolint:errcheck // nothing is left to be done
	if err := items(tx, c); err != nil {
		return failed, err
	}
	var useful []string
	for _, name := range t.calls {
		for _, step := range calls[name] {
			result := resultOf(step.call(tx))
			c.flush()
			report(tx, step.name, result)
			switch {
			case result == authn.Success:
				useful = append(useful, name)
			case result != authn.ErrIgnore || name == "auth":
				return found, nil
			}
		}
	}
	t.showLines(slices.Compact(useful))
	return fine, nil
}

// items says what an application in a terminal would.
func items(tx *pam.Transaction, c *console) error {
	if me, err := user.Current(); err == nil {
		if err := tx.SetItem(pam.Ruser, me.Username); err != nil {
			return err
		}
	}
	if tty := c.name(); tty != "" {
		return tx.SetItem(pam.Tty, tty)
	}
	return nil
}

// A step is one call of libpam.
type step struct {
	name string
	call func(*pam.Transaction) error
}

// calls are what --call may list. A session is opened and closed.
var calls = map[string][]step{
	"auth":    {{"auth", func(tx *pam.Transaction) error { return tx.Authenticate(0) }}},
	"account": {{"account", func(tx *pam.Transaction) error { return tx.AcctMgmt(0) }}},
	"setcred": {{"setcred", func(tx *pam.Transaction) error { return tx.SetCred(pam.EstablishCred) }}},
	"session": {
		{"open_session", func(tx *pam.Transaction) error { return tx.OpenSession(0) }},
		{"close_session", func(tx *pam.Transaction) error { return tx.CloseSession(0) }},
	},
	"chauthtok": {{"chauthtok", func(tx *pam.Transaction) error { return tx.ChangeAuthTok(0) }}},
}

func resultOf(err error) authn.Result {
	var status pam.Error
	switch {
	case err == nil:
		return authn.Success
	case errors.As(err, &status):
		return authn.Result(status)
	}
	return authn.ErrSystem
}

// report says what a call's result means, and what it gave the login.
func report(tx *pam.Transaction, name string, r authn.Result) {
	fmt.Printf("%s: %s: %s\n", name, r.Error(), meaning(name, r))
	if name != "auth" || r != authn.Success {
		return
	}
	env, err := tx.GetEnvList()
	if err != nil {
		return
	}
	var names []string
	for name := range env {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("    %s=%s\n", name, env[name])
	}
}

var meanings = map[authn.Result]string{
	authn.ErrAuth:               "refused: it was not proven who this is",
	authn.ErrPermDenied:         "refused: they are known and may not do this",
	authn.ErrUserUnknown:        "refused: there is no such user",
	authn.ErrMaxTries:           "refused: asked too often",
	authn.ErrAcctExpired:        "refused: the account may no longer be used",
	authn.ErrNewAuthtokRequired: "the application would now ask for a new password",
	authn.ErrAuthInfoUnavail:    "refused: nobody who could decide was reached",
	authn.ErrConv:               "refused: you could not be asked, or gave up",
	authn.ErrSystem:             "refused: something broke; the log line says what",
	authn.ErrService:            "refused: the provider could not do its work; the log line says why",
	authn.ErrIgnore:             "the provider has no say in this; the rest of a stack decides",
	moduleUnknown:               "libpam could not load the module; it tells syslog why",
}

// moduleUnknown is libpam's own.
const moduleUnknown authn.Result = 28

func meaning(name string, r authn.Result) string {
	switch {
	case r == authn.Success && name == "auth":
		return "it was proven who this is"
	case r == authn.Success && name == "account":
		return "they may use the account"
	case r == authn.Success:
		return "done"
	case meanings[r] != "":
		return meanings[r]
	}
	return "refused"
}

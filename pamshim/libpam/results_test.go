// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"fmt"
	"strings"
	"testing"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// A pamCall is one of PAM's calls, with the scenario's name for it.
type pamCall struct {
	name  string
	call  authn.Call
	group string // of pam.conf
	make  func(tx *pam.Transaction) error
}

var pamCalls = []pamCall{
	{"authenticate", authn.CallAuthenticate, "auth", func(tx *pam.Transaction) error { return tx.Authenticate(0) }},
	{"account", authn.CallAccount, "account", func(tx *pam.Transaction) error { return tx.AcctMgmt(0) }},
	{"setcred", authn.CallSetCred, "auth", func(tx *pam.Transaction) error { return tx.SetCred(pam.EstablishCred) }},
	{"open_session", authn.CallOpenSession, "session", func(tx *pam.Transaction) error { return tx.OpenSession(0) }},
	{"close_session", authn.CallCloseSession, "session", func(tx *pam.Transaction) error { return tx.CloseSession(0) }},
	{"can_change_password", authn.CallPassword, "password", func(tx *pam.Transaction) error { return tx.ChangeAuthTok(0) }},
	{"change_password", authn.CallPassword, "password", func(tx *pam.Transaction) error { return tx.ChangeAuthTok(0) }},
}

// TestResults has the provider answer each call with each word of pam.conf.
func TestResults(t *testing.T) {
	for _, c := range pamCalls {
		for word := range frame.Words() {
			t.Run(c.name+"_"+word, func(t *testing.T) {
				pamtest.Root(t)
				t.Parallel()
				a := newApp(t, "alice", c.group+" required $AUTHN setcred\n", fmt.Sprintf("%s: [{result: %s}]\n", c.name, word))
				if c.call == authn.CallSetCred {
					a.want("success", a.tx.Authenticate(0)) // libpam remembers which modules that asked
				}
				module, libpam := wantResult(word, c.call)
				a.want(libpam, c.make(a.tx))
				if got := a.lastLog(); !strings.Contains(got, " result="+module+" ") {
					t.Errorf("the log says %q, want result=%s", got, module)
				}
			})
		}
	}
}

// wantResult says what the module returns for a provider's word, and what
// libpam makes of that with "required".
func wantResult(word string, call authn.Call) (module, libpam string) {
	r, _ := authn.ParseResult(word)
	switch {
	case r == authn.Success || !r.Allowed(call): // an error that says success is a fault
		return "system_err", "system_err"
	case r == authn.ErrIgnore:
		return "ignore", "perm_denied" // nobody else decides
	}
	return word, word
}

// Whoever returned new_authtok_reqd from here would let everybody in:
// "required" takes it for success.
func TestNewAuthtokReqdIsForTheAccountOnly(t *testing.T) {
	pamtest.Root(t)
	config := "authenticate: [{result: new_authtok_reqd}]\nopen_session: [{result: new_authtok_reqd}]\naccount: [{result: new_authtok_reqd}]\n"
	a := newApp(t, "alice", "auth required $AUTHN\nsession required $AUTHN\naccount required $AUTHN\n", config)
	a.want("system_err", a.tx.Authenticate(0))
	a.want("system_err", a.tx.OpenSession(0))
	a.want("new_authtok_reqd", a.tx.AcctMgmt(0))
}

func TestIdentitiesHaveBounds(t *testing.T) {
	t.Parallel()
	variables := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "AUTHN_V%d: x, ", i)
		}
		return "env: {" + b.String() + "}"
	}
	for name, c := range map[string]struct{ identity, result string }{
		"largest_ticket":      {"ticket: " + strings.Repeat("t", authn.MaxTicket), "success"},
		"too_large_a_ticket":  {"ticket: " + strings.Repeat("t", authn.MaxTicket+1), "system_err"},
		"longest_value":       {"env: {AUTHN_X: " + strings.Repeat("v", authn.MaxEnvValue) + "}", "success"},
		"too_long_a_value":    {"env: {AUTHN_X: " + strings.Repeat("v", authn.MaxEnvValue+1) + "}", "system_err"},
		"most_variables":      {variables(authn.MaxEnv), "success"},
		"too_many_variables":  {variables(authn.MaxEnv + 1), "system_err"},
		"longest_subject":     {"subject: " + strings.Repeat("s", authn.MaxSubject), "success"},
		"too_long_a_subject":  {"subject: " + strings.Repeat("s", authn.MaxSubject+1), "system_err"},
		"subject_of_any_text": {`subject: "\u732b 'quoted' \"twice\" a=b"`, "success"},
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			t.Parallel()
			identity := c.identity
			if !strings.HasPrefix(identity, "subject:") {
				identity = "subject: someone, " + identity
			}
			a := newApp(t, "alice", "auth required $AUTHN\naccount required $AUTHN\n", "authenticate: [{succeed: {"+identity+"}}]\n")
			a.want(c.result, a.tx.Authenticate(0))
			if got := len(a.environment()) > 0; got != (c.result == "success") {
				t.Errorf("the environment is %q", a.environment())
			}
			a.want("success", a.tx.AcctMgmt(0))
		})
	}
}

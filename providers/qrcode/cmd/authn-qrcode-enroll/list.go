// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
)

// shortID is how many digits of a credential's name are shown, and the fewest
// that remove takes.
const shortID = 12

func credential(a approvers.Approver) string { return a.Fingerprint()[:shortID] }

// list shows who may approve.
func list(args []string) (int, error) {
	o := newOptions("list")
	lines := o.Bool("lines", false, "")
	rest, err := o.parse(args)
	if err != nil {
		return misused, err
	}
	if len(rest) > 1 {
		return misused, wrong("list takes one ACCOUNT at most")
	}
	store, err := o.store()
	if err != nil {
		return failed, err
	}
	accounts, err := pick(store, rest)
	if err != nil {
		return failed, err
	}
	show := table
	if *lines {
		show = plainLines
	}
	if err := show(accounts); err != nil {
		return failed, err
	}
	return warn(accounts), nil
}

// pick returns the account that was named, or all.
func pick(store *enroll.Store, names []string) ([]enroll.Account, error) {
	if len(names) == 0 {
		return store.List()
	}
	if err := enroll.CheckAccount(names[0]); err != nil {
		return nil, err
	}
	return []enroll.Account{store.Account(names[0])}, nil
}

func table(accounts []enroll.Account) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	n := 0
	for _, account := range accounts {
		for _, a := range account.Approvers {
			if n == 0 {
				_, _ = fmt.Fprintln(w, "CREDENTIAL\tACCOUNT\tSUBJECT\tKIND\tOF\tCOMMENT")
			}
			n++
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", credential(a), account.Name, a.Subject, kind(a), of(a), enroll.Plain(a.Comment))
		}
	}
	if n == 0 {
		_, _ = fmt.Fprintln(w, "Nobody can approve.")
	}
	return w.Flush()
}

func kind(a approvers.Approver) string {
	switch {
	case a.Passkey == nil:
		return approvers.KindOIDC
	case a.Passkey.BackupEligible:
		return "passkey, synced"
	}
	return approvers.KindPasskey
}

func of(a approvers.Approver) string {
	if a.Passkey == nil {
		return enroll.Plain(a.Issuer)
	}
	return enroll.Plain(a.Passkey.RPID)
}

// plainLines shows what can be copied to another host's file.
func plainLines(accounts []enroll.Account) error {
	for _, account := range accounts {
		for _, a := range account.Approvers {
			if _, err := fmt.Println(a.Line()); err != nil {
				return err
			}
		}
	}
	return nil
}

// warn shows what is wrong with the files.
func warn(accounts []enroll.Account) int {
	code := fine
	for _, account := range accounts {
		for _, err := range account.Problems {
			complain(os.Stderr, errors.New(enroll.Plain(err.Error())))
			code = failed
		}
	}
	return code
}

// remove takes approvers away.
func remove(args []string) (int, error) {
	o := newOptions("remove")
	subject := o.String("subject", "", "")
	all := o.Bool("all", false, "")
	rest, err := o.parse(args)
	if err != nil {
		return misused, err
	}
	what := *subject
	switch {
	case *all && *subject != "" && len(rest) == 0:
	case !*all && *subject == "" && len(rest) == 2:
		what = rest[1]
	case !*all && *subject != "" && len(rest) == 1:
	default:
		return misused, wrong("remove wants ACCOUNT and SUBJECT or CREDENTIAL, or --subject SUBJECT --all")
	}
	store, err := o.store()
	if err != nil {
		return failed, err
	}
	accounts, err := pick(store, rest[:min(1, len(rest))])
	if err != nil {
		return failed, err
	}
	return removeFrom(store, accounts, what, *subject != "")
}

// removeFrom goes on where one file cannot be changed: each phone less is good.
func removeFrom(store *enroll.Store, accounts []enroll.Account, what string, subjectOnly bool) (int, error) {
	code, n := warn(accounts), 0
	for _, account := range accounts {
		removed, err := store.Remove(account.Name, func(a approvers.Approver) bool {
			return a.Subject == what || (!subjectOnly && isCredential(what) && strings.HasPrefix(a.Fingerprint(), what))
		})
		if err != nil {
			complain(os.Stderr, fmt.Errorf("%s: %w", account.Name, err))
			code = failed
			continue
		}
		for _, a := range removed {
			audit("removed", account.Name, a)
			fmt.Printf("Removed %s from %s: %s %s of %s\n", credential(a), account.Name, a.Subject, kind(a), of(a))
		}
		n += len(removed)
	}
	switch {
	case code != fine:
		return code, nil
	case n == 0:
		return refused, withHint(fmt.Errorf("there is no approver %s here", enroll.Plain(what)), `see "authn-qrcode-enroll list"`)
	}
	fmt.Println("Sessions that are open stay open, and other hosts have files of their own.")
	return fine, nil
}

func isCredential(s string) bool {
	return len(s) >= shortID && strings.Trim(s, "0123456789abcdef") == ""
}

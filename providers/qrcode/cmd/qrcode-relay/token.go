// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
)

const defaultTokens = "/var/lib/qrcode-relay/tokens" //nolint:gosec // a path, not a token

// token issues, lists and revokes host tokens.
func token(args []string, out io.Writer) error {
	f := newFlags("token")
	path := f.String("tokens", defaultTokens, "")
	list := f.Bool("list", false, "")
	revoke := f.String("revoke", "", "")
	if err := parse(f, args); err != nil {
		return err
	}
	names := f.NArg()
	switch {
	case *list && *revoke == "" && names == 0:
	case !*list && *revoke != "" && names == 0:
	case !*list && *revoke == "" && names == 1:
	default:
		return misuse(`run "qrcode-relay token NAME", or with --list or --revoke NAME`, "token: what is it to do?")
	}
	tokens, err := relay.OpenTokens(*path)
	if err != nil {
		return err
	}
	switch {
	case *list:
		return listTokens(tokens, out)
	case *revoke != "":
		return tokens.Revoke(*revoke)
	}
	issued, err := tokens.Issue(f.Arg(0))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, issued)
	return err
}

func listTokens(tokens *relay.Tokens, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, t := range tokens.List() {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", t.Name, t.Issued)
	}
	return w.Flush()
}

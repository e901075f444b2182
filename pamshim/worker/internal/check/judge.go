// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/pam-authn/pam-authn/authn"
)

// refusals are what pam_authn may answer instead of success. What only a
// provider that reached nobody says is judged apart: administrators map it.
var refusals = []authn.Result{
	authn.ErrAuth, authn.ErrPermDenied, authn.ErrUserUnknown, authn.ErrMaxTries, authn.ErrAcctExpired,
	authn.ErrSystem, authn.ErrService, authn.ErrConv, authn.ErrCredInsufficient, authn.ErrAbort,
}

// Modules whose success proves nothing about the person, with what they may
// answer in the groups auth and account. All others are taken to prove it.
var proveNothing = sync.OnceValue(func() map[string][]authn.Result {
	const success, ignore, refuse = authn.Success, authn.ErrIgnore, authn.ErrAuth
	all := map[string][]authn.Result{
		"pam_permit": {success}, "pam_deny": {refuse}, "pam_selinux": {refuse},
	}
	for _, m := range strings.Fields("gnome_keyring kwallet kwallet5 cap") {
		all["pam_"+m] = []authn.Result{success, ignore}
	}
	for _, m := range strings.Fields("env group issue warn echo mail keyinit motd faildelay") {
		all["pam_"+m] = []authn.Result{ignore}
	}
	for _, m := range strings.Fields("nologin securetty faillock tally tally2 wheel succeed_if localuser usertype " +
		"access listfile shells time lastlog") {
		all["pam_"+m] = []authn.Result{success, ignore, refuse}
	}
	return all
})

func moduleName(r *rule) string { return strings.TrimSuffix(filepath.Base(r.module), ".so") }

// answers is what rule r may answer if nothing that proves the person lets
// them in, except for the rules that granting lists.
func answers(r *rule, granting ...*rule) []authn.Result {
	known, ok := proveNothing()[moduleName(r)]
	switch {
	case len(r.faults) > 0:
		return []authn.Result{authn.ErrPermDenied}
	case slices.Contains(granting, r):
		return []authn.Result{authn.Success}
	case ok && moduleName(r) == "pam_faillock" && slices.Contains(r.words, "authfail"):
		return []authn.Result{authn.ErrAuth}
	case ok:
		return known
	}
	return []authn.Result{authn.ErrAuth, authn.ErrUserUnknown}
}

// thrown are the results of rule r among all after which the stack may still
// let in, if only granting prove anything.
func thrown(stack []link, r *rule, all []authn.Result, granting ...*rule) (list []authn.Result) {
	for _, result := range all {
		open := lets(stack, r, func(other *rule) []authn.Result {
			if other == r {
				return []authn.Result{result}
			}
			return answers(other, granting...)
		})
		if open {
			list = append(list, result)
		}
	}
	return list
}

// A verdict is what is to be said about a rule's place in its stack.
type verdict struct {
	problem bool
	text    string
}

// judge says whether the stack keeps to what rule r of pam_authn answers.
func judge(group string, stack []link, r *rule) []verdict {
	switch group {
	case "auth":
		return judgeAuth(stack, r)
	case "account":
		return judgeAccount(stack, r)
	case "session":
		return judgeSession(stack, r)
	}
	return nil
}

func judgeAuth(stack []link, r *rule) (all []verdict) {
	outage := []authn.Result{authn.ErrAuthInfoUnavail}
	open := thrown(stack, r, refusals)
	if len(open) > 0 {
		all = append(all, verdict{true, fmt.Sprintf("control %q throws %s away, and nothing else in this stack proves "+
			"who it is: whoever is refused here gets in; write required", r.control, wordsOf(open))})
	} else if len(thrown(stack, r, outage)) > 0 {
		all = append(all, verdict{true, "authinfo_unavail: whoever can cut the network gets in, since nothing else in this " +
			"stack proves who it is; see Break-glass in docs/admin.md"})
	}
	if len(all) > 0 {
		return all
	}
	others := provers(stack, r)
	if open, who := alternatives(stack, r, refusals, others); len(open) > 0 {
		return append(all, verdict{false, fmt.Sprintf("after %s here, %s can still let in: either is enough; "+
			"where both are wanted, write required", wordsOf(open), who)})
	}
	if open, who := alternatives(stack, r, outage, others); len(open) > 0 {
		all = append(all, verdict{false, fmt.Sprintf("authinfo_unavail: when nobody can be reached, %s can let in, and whoever "+
			"cuts the network chooses that; see Break-glass in docs/admin.md", who)})
	}
	return all
}

// provers are the other rules of the stack that may prove who it is.
func provers(stack []link, r *rule) (all []*rule) {
	for _, l := range stack {
		if _, harmless := proveNothing()[moduleName(l.rule)]; !harmless && !l.sub && l.rule != r && !slices.Contains(all, l.rule) {
			all = append(all, l.rule)
		}
	}
	return all
}

// alternatives names the rules that let in after r has answered one of
// results: each by itself, or all of them together.
func alternatives(stack []link, r *rule, results []authn.Result, others []*rule) (open []authn.Result, who string) {
	var names []string
	for _, other := range others {
		if list := thrown(stack, r, results, other); len(list) > 0 {
			names = append(names, other.name(r))
			open = list
		}
	}
	if len(names) > 0 {
		return open, strings.Join(names, " or ")
	}
	for _, other := range others {
		names = append(names, other.name(r))
	}
	return thrown(stack, r, results, others...), strings.Join(names, " with ")
}

// name names a rule for a message about another one.
func (r *rule) name(from *rule) string {
	if r.file == from.file {
		return fmt.Sprintf("%s (line %d)", filepath.Base(r.module), r.line)
	}
	return fmt.Sprintf("%s (%s)", filepath.Base(r.module), r.where())
}

// passable reports whether the stack can let in if rule r answers ignore and
// all others what suits that best.
func passable(stack []link, r *rule) bool {
	return lets(stack, r, func(other *rule) []authn.Result {
		switch {
		case other == r:
			return []authn.Result{authn.ErrIgnore}
		case len(other.faults) > 0 || moduleName(other) == "pam_deny":
			return []authn.Result{authn.ErrPermDenied}
		}
		return []authn.Result{authn.Success, authn.ErrIgnore, authn.ErrPermDenied}
	})
}

// judgeAccount expects every other rule to let in, as they mostly do.
func judgeAccount(stack []link, r *rule) []verdict {
	open := thrown(stack, r, refusals, provers(stack, r)...)
	if len(open) == 0 {
		return nil
	}
	return []verdict{{false, fmt.Sprintf("control %q throws %s away: whoever this line turns away gets in; write required",
		r.control, wordsOf(open))}}
}

// judgeSession looks for pam_env, which may read a file of the user's, before
// our rule.
func judgeSession(stack []link, r *rule) []verdict {
	for _, l := range stack {
		if l.rule == r {
			return nil
		}
		if moduleName(l.rule) == "pam_env" {
			return []verdict{{false, fmt.Sprintf("behind %s, which may set variables from a file of the user's, so that "+
				"claimed_subject in the log can be forged: put this line before it", l.rule.name(r))}}
		}
	}
	return nil
}

// wordsOf names results, or says that it is every refusal.
func wordsOf(list []authn.Result) string {
	if len(list) == len(refusals) {
		return "a refusal"
	}
	var words []string
	for _, r := range list {
		words = append(words, r.Error())
	}
	return strings.Join(words, ", ")
}

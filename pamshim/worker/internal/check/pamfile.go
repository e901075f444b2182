// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pam-authn/pam-authn/authn"
)

// A rule is one line of a PAM file as libpam reads it.
type rule struct {
	file    string
	line    int      // where it begins
	group   string   // auth, account, password or session; "" for @include
	control string   // as written
	actions actions  // what control says
	module  string   // or the file that is included
	include bool     // @include or include
	sub     bool     // substack
	words   []string // the module's
	faults  []string // what libpam would stumble over
}

func (r *rule) where() string { return fmt.Sprintf("%s:%d", r.file, r.line) }

// ours reports whether the rule calls pam_authn.
func (r *rule) ours() bool {
	return !r.include && !r.sub && filepath.Base(r.module) == "pam_authn.so"
}

// A logical line is what libpam makes of lines that end with a backslash.
type logical struct {
	line int
	text string
	size int // bytes in the file
}

// assemble reads lines as libpam's _pam_assemble_line does: # begins a comment
// anywhere, a backslash before it does not count, and lines that are empty or
// all comment do not end a continued one. The second result is the number of a
// last line that is continued by nothing, or 0.
func assemble(data string) (all []logical, open int) {
	var l logical
	for i, raw := range strings.Split(data, "\n") {
		text := strings.TrimLeft(raw, " \t")
		if text == "" || text[0] == '#' {
			continue
		}
		if l.line == 0 {
			l.line = i + 1
		}
		l.size += len(raw) + 1
		text, _, comment := strings.Cut(text, "#")
		if before, more := strings.CutSuffix(strings.TrimRight(text, " \t"), `\`); more && !comment {
			l.text += before + " "
			continue
		}
		l.text += text
		all = append(all, l)
		l = logical{}
	}
	return all, l.line
}

// token takes the next word off s as libpam's _pam_StrTok does: "[...]" is one
// word, in which "\]" stands for "]".
func token(s string) (word, rest string, ok bool) {
	s = strings.TrimLeft(s, " \n\t")
	if s == "" {
		return "", "", false
	}
	if s[0] != '[' {
		end := strings.IndexAny(s, " \n\t")
		if end < 0 {
			return s, "", true
		}
		return s[:end], s[end+1:], true
	}
	var b strings.Builder
	i := 1
	for ; i < len(s) && s[i] != ']'; i++ {
		if s[i] == '\\' && i+1 < len(s) && s[i+1] == ']' {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), s[min(i+1, len(s)):], true
}

// parseFile reads the rules of a PAM file. Faults that belong to no rule are
// kept with the rule that they would have been.
func parseFile(file, data string) []*rule {
	lines, open := assemble(data)
	var rules []*rule
	for _, l := range lines {
		rules = append(rules, parseRule(file, l))
	}
	if open > 0 {
		rules = append(rules, &rule{file: file, line: open, group: "auth", actions: allBad(), faults: []string{
			"the file ends with a backslash, so that libpam refuses all of it: remove it"}})
	}
	return rules
}

// maxLine is how much Linux-PAM before 1.6 reads of a line.
const maxLine = 1023

func parseRule(file string, l logical) *rule {
	r := &rule{file: file, line: l.line, actions: allBad()}
	if l.size > maxLine {
		r.fault("the line has more than %d bytes, which Linux-PAM before 1.6 cuts: shorten it", maxLine)
	}
	if strings.Contains(l.text, "\r") {
		r.fault("a carriage return, which libpam takes for part of a word: write the file with Unix line ends")
	}
	first, rest, _ := token(l.text)
	if strings.EqualFold(first, "@include") {
		r.include = true
		r.module, _, _ = token(rest)
		return r
	}
	r.parseGroup(first)
	var ok bool
	if r.control, rest, ok = token(rest); !ok {
		r.fault("no control, such as required, behind the group")
		return r
	}
	r.parseControl()
	if r.module, rest, ok = token(rest); !ok {
		r.fault("no module behind the control")
	}
	for {
		var word string
		if word, rest, ok = token(rest); !ok {
			return r
		}
		r.words = append(r.words, word)
	}
}

func (r *rule) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

// parseGroup takes an illegal group for auth, as libpam does.
func (r *rule) parseGroup(word string) {
	name := strings.ToLower(strings.TrimPrefix(word, "-"))
	switch name {
	case "auth", "account", "password", "session":
		r.group = name
	default:
		r.group = "auth"
		r.fault("%q is no group, and libpam takes it for an auth rule that always fails: write auth, account, password or session", word)
	}
}

func (r *rule) parseControl() {
	switch strings.ToLower(r.control) {
	case "include":
		r.include = true
	case "substack":
		r.sub = true
	case "required", "requisite", "optional", "sufficient":
		r.actions = simpleActions(strings.ToLower(r.control))
	default:
		var err error
		if r.actions, err = parseActions(r.control); err != nil {
			r.fault("control %q: %v; libpam takes it for one that always fails", r.control, err)
		}
	}
}

// An action is what a result makes the stack do; a positive one jumps over so
// many rules.
type action int

const (
	actIgnore action = -iota
	actOK
	actDone
	actBad
	actDie
	actReset
	actUndef
)

// results is how many results PAM has.
const results = 32

type actions [results]action

func fill(a action) (all actions) {
	for i := range all {
		all[i] = a
	}
	return all
}

func allBad() actions { return fill(actBad) }

func simpleActions(control string) actions {
	var all actions
	good := actOK
	switch control {
	case "required":
		all = fill(actBad)
		all[authn.ErrIgnore] = actIgnore
	case "requisite":
		all = fill(actDie)
		all[authn.ErrIgnore] = actIgnore
	case "optional":
		all = fill(actIgnore)
	case "sufficient":
		all = fill(actIgnore)
		good = actDone
	}
	all[authn.Success], all[authn.ErrNewAuthtokRequired] = good, good
	return all
}

var actionWords = []string{"ignore", "ok", "done", "bad", "die", "reset"}

// parseActions reads "success=ok default=die" as libpam's _pam_parse_control
// does; a value that is given twice counts the last time, and default fills
// what was not given before it.
func parseActions(control string) (actions, error) {
	all := fill(actUndef)
	rest := skip(control)
	for rest != "" {
		result, after, ok := prefixOf(rest, resultWords())
		if !ok {
			return allBad(), fmt.Errorf("%q is no result", firstWord(rest))
		}
		after, ok = strings.CutPrefix(skip(after), "=")
		if !ok {
			return allBad(), fmt.Errorf("no = behind %q", resultWords()[result])
		}
		act, after, err := parseAction(skip(after))
		if err != nil {
			return allBad(), err
		}
		if result < results {
			all[result] = act
		} else {
			all.setDefault(act)
		}
		rest = skip(after)
	}
	all.setDefault(actBad)
	return all, nil
}

func (a *actions) setDefault(act action) {
	for i := range a {
		if a[i] == actUndef {
			a[i] = act
		}
	}
}

func parseAction(s string) (action, string, error) {
	if i, rest, ok := prefixOf(s, actionWords); ok {
		return action(-i), rest, nil
	}
	n, i := 0, 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9' && n < 1e6; i++ {
		n = n*10 + int(s[i]-'0')
	}
	if n == 0 {
		return 0, "", fmt.Errorf("%q is no action: write ok, done, bad, die, ignore, reset or how many rules to jump over", firstWord(s))
	}
	return action(n), s[i:], nil
}

// resultWords are PAM's results, and "default" for all others.
var resultWords = sync.OnceValue(func() (words []string) {
	for r := range authn.Result(results) {
		words = append(words, r.Error())
	}
	return append(words, "default")
})

func prefixOf(s string, words []string) (i int, rest string, ok bool) {
	for i, w := range words {
		if rest, ok := strings.CutPrefix(s, w); ok {
			return i, rest, true
		}
	}
	return 0, s, false
}

func skip(s string) string { return strings.TrimLeft(s, " \t\n\v\f\r") }

func firstWord(s string) string {
	if i := strings.IndexAny(s, " \t=]"); i > 0 {
		return s[:i]
	}
	return s
}

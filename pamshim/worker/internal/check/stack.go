// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pam-authn/pam-authn/authn"
)

// maxDepth is how many files deep libpam follows substacks; it follows
// includes for ever.
const maxDepth = 16

// vendorDir is where libpam looks for what /etc/pam.d does not have.
const (
	pamDir    = "/etc/pam.d"
	vendorDir = "/usr/lib/pam.d"
)

// A link is a rule at its place in a stack.
type link struct {
	*rule
	level int // of the substack it is in
}

// A service is a PAM file with all that it includes.
type service struct {
	file   string
	rules  []*rule            // of all files, each once
	files  map[string][]*rule // that were read
	stacks map[string][]link  // by group
	faults []fault            // of including
}

// A fault is something wrong at a place.
type fault struct{ where, text string }

// readService reads the PAM file and what it includes.
func readService(file string) (*service, error) {
	s := &service{file: file, files: map[string][]*rule{}, stacks: map[string][]link{}}
	return s, s.load(file, "", 0, 0)
}

// load adds the rules of file to the stacks: all of them, or those of one
// group.
func (s *service) load(file, group string, level, depth int) error {
	if depth > maxDepth || level >= maxDepth {
		return fmt.Errorf("more than %d files deep: it includes itself", maxDepth)
	}
	if s.files[file] == nil {
		data, err := os.ReadFile(file) //nolint:gosec // the administrator's own
		if err != nil {
			return err
		}
		s.files[file] = parseFile(file, string(data))
		s.rules = append(s.rules, s.files[file]...)
	}
	for _, r := range s.files[file] {
		if group == "" || r.group == "" || r.group == group {
			s.add(r, group, level, depth)
		}
	}
	return nil
}

func (s *service) add(r *rule, group string, level, depth int) {
	if r.group != "" {
		group = r.group
	}
	if !r.include && !r.sub {
		s.stacks[group] = append(s.stacks[group], link{r, level})
		return
	}
	inner := level
	if r.sub {
		s.stacks[group] = append(s.stacks[group], link{r, level})
		inner++
	}
	err := os.ErrNotExist
	if r.module != "" {
		err = s.load(find(s.file, r.module), group, inner, depth+1)
	}
	if err != nil {
		s.faults = append(s.faults, fault{r.where(),
			fmt.Sprintf("%q cannot be included, and libpam refuses: %v", r.module, err)})
	}
}

// find is where libpam looks for an included file. For a service that lies
// elsewhere than in /etc/pam.d, its own folder comes first.
func find(service, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	for _, dir := range []string{filepath.Dir(service), pamDir, vendorDir} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(pamDir, name)
}

// A state is how far a walk through a stack has come.
type state struct {
	i       int // the next link
	prev    int // the level of the last one
	mood    mood
	entered [maxDepth]mood // at the entry of each substack
	asked   bool           // the rule in question was reached
}

// mood is libpam's impression and status: what the stack would answer now.
type mood uint8

const (
	undecided mood = iota // nothing has counted yet, which is a refusal
	granting              // positive, success
	odd                   // positive, but with another status than success
	refusing
)

// lets reports whether the stack can answer success, though the rule in
// question was asked, if each rule can have one of the results that possible
// gives for it. It walks as libpam's _pam_dispatch_aux does, and tries all
// ways.
func lets(stack []link, question *rule, possible func(*rule) []authn.Result) bool {
	seen := map[state]bool{}
	todo := []state{{}}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[s] {
			continue
		}
		seen[s] = true
		if s.i >= len(stack) {
			if s.mood == granting && s.asked {
				return true
			}
			continue
		}
		todo = append(todo, steps(s, stack, question, possible)...)
	}
	return false
}

// steps are the states that can follow s.
func steps(s state, stack []link, question *rule, possible func(*rule) []authn.Result) (next []state) {
	l := stack[s.i]
	if s.prev < l.level {
		s.entered[l.level] = s.mood
	}
	s.prev = l.level
	if l.sub { // a place holder
		s.i++
		return []state{s}
	}
	s.asked = s.asked || l.rule == question
	for _, r := range possible(l.rule) {
		next = append(next, s.after(stack, l, r))
	}
	return next
}

// after is the state behind link l that had result r.
func (s state) after(stack []link, l link, r authn.Result) state {
	switch act := l.actions[r]; act {
	case actReset:
		s.mood = s.entered[l.level]
	case actOK, actDone:
		if s.mood == undecided || s.mood == granting {
			s.mood = odd
			if r == authn.Success {
				s.mood = granting
			}
		}
		if act == actDone && s.mood != refusing {
			s.leave(stack, l.level)
		}
	case actBad, actDie:
		s.mood = refusing
		if act == actDie {
			s.leave(stack, l.level)
		}
	case actIgnore:
	default:
		s.jump(stack, l.level, int(act))
	}
	s.i++
	return s
}

// leave goes to the last link of this substack.
func (s *state) leave(stack []link, level int) {
	for s.i+1 < len(stack) && stack[s.i+1].level >= level {
		s.i++
	}
}

// jump goes over n rules, a substack being one. A jump too far refuses.
func (s *state) jump(stack []link, level, n int) {
	for s.i+1 < len(stack) && stack[s.i+1].level >= level && n > 0 {
		s.i++
		for s.i+1 < len(stack) && stack[s.i+1].level > level {
			s.i++
		}
		n--
	}
	if n > 0 {
		s.mood = refusing
	}
}

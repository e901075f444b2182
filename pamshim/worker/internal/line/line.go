// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package line reads the words of a pam_authn line.
package line

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// DefaultTimeout is a line's without the word timeout.
const DefaultTimeout = 90 * time.Second

// MaxTimeout is the longest that a line may ask for.
const MaxTimeout = time.Hour

// A Line is what the words of a PAM line say.
type Line struct {
	Name    string // the provider's name
	Program string // the provider's program
	Config  string // its configuration file
	Worker  string // another worker, if the line names one
	Timeout time.Duration
	SetCred bool
	Debug   bool
	Stderr  bool // log=stderr
	Args    []string

	TryFirstPass, UseFirstPass bool
}

// Parse reads the words. It reports every problem at once, each naming the
// word and the mend; a Line with a problem is to be refused.
func Parse(words []string) (Line, error) {
	p := parser{line: Line{Timeout: DefaultTimeout}, seen: map[string]bool{}}
	for _, word := range words {
		p.word(word)
	}
	p.finish()
	return p.line, errors.Join(p.problems...)
}

type parser struct {
	line     Line
	seen     map[string]bool
	foreign  []string // words NAME.KEY=VALUE, before NAME is known
	problems []error
}

func (p *parser) problem(format string, args ...any) {
	p.problems = append(p.problems, fmt.Errorf(format, args...))
}

func (p *parser) word(word string) {
	key, value, hasValue := strings.Cut(word, "=")
	if hasValue && strings.Contains(key, ".") {
		p.foreign = append(p.foreign, word)
		return
	}
	if p.seen[key] {
		p.problem("word %q: %s is given twice on this line; remove one", word, key)
		return
	}
	p.seen[key] = true
	if !p.flag(word) && (!hasValue || !p.setting(key, value)) {
		p.problem("word %q is unknown; the words are provider= config= timeout= setcred debug log=stderr "+
			"try_first_pass use_first_pass worker= and NAME.KEY=VALUE for provider NAME", word)
	}
}

func (p *parser) flag(word string) bool {
	switch word {
	case "setcred":
		p.line.SetCred = true
	case "debug":
		p.line.Debug = true
	case "try_first_pass":
		p.line.TryFirstPass = true
	case "use_first_pass":
		p.line.UseFirstPass = true
	default:
		return false
	}
	return true
}

// setting takes a word with a value. It returns false for an unknown one.
func (p *parser) setting(key, value string) bool {
	switch key {
	case "provider":
		p.provider(value)
	case "config":
		p.line.Config = p.absolute(key, value)
	case "worker":
		p.line.Worker = p.absolute(key, value)
	case "timeout":
		p.timeout(value)
	case "log":
		if value != "stderr" {
			p.problem("word %q: the log goes to syslog, or with log=stderr to standard error", key+"="+value)
		}
		p.line.Stderr = value == "stderr"
	default:
		return false
	}
	return true
}

func (p *parser) absolute(key, value string) string {
	if !filepath.IsAbs(value) || filepath.Clean(value) != value {
		p.problem("word %q: write the whole path, from / on", key+"="+value)
	}
	return value
}

func (p *parser) timeout(value string) {
	d, ok := frame.Duration(value)
	if !ok || d < time.Second || d > MaxTimeout {
		p.problem(`word "timeout=%s": write a duration from 1s to 1h with its unit, such as timeout=90s`, value)
		return
	}
	p.line.Timeout = d
}

// provider takes a name, or a path whose base name tells the name.
func (p *parser) provider(value string) {
	name := value
	if strings.Contains(value, "/") {
		p.line.Program = p.absolute("provider", value)
		name = strings.TrimPrefix(filepath.Base(value), "authn-")
	} else {
		p.line.Program = filepath.Join(paths.Providers, "authn-"+value)
	}
	if !isName(name) {
		p.problem("word %q: a provider's name is of small letters, digits, - and _, and starts with a letter", "provider="+value)
		return
	}
	p.line.Name = name
}

func isName(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-' && c != '_') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

func (p *parser) finish() {
	if !p.seen["provider"] {
		p.problem("the word provider= is missing: name the provider, such as provider=passphrase")
	}
	if p.line.TryFirstPass && p.line.UseFirstPass {
		p.problem("try_first_pass and use_first_pass exclude each other; remove one")
	}
	if p.line.Config == "" && p.line.Name != "" {
		p.line.Config = filepath.Join(paths.Config, p.line.Name+".yaml")
	}
	for _, word := range p.foreign {
		key, value, _ := strings.Cut(word, "=")
		prefix, rest, _ := strings.Cut(key, ".")
		switch {
		case p.line.Name == "": // which is a problem already
		case prefix != p.line.Name:
			p.problem("word %q is for provider %q, but this line's is %q", word, prefix, p.line.Name)
		case rest == "" || p.seen[key]:
			p.problem("word %q has no key, or one that is given twice; remove it", word)
		default:
			p.seen[key] = true
			p.line.Args = append(p.line.Args, rest+"="+value)
		}
	}
}

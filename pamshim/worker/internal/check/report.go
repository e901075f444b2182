// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"io"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// lazy compiles a regular expression when it is first used: this package is
// part of a program that starts for every login.
func lazy(pattern string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(pattern) })
}

// A kind of finding.
type kind int

const (
	problem kind = iota
	notice
	unread
)

// A report collects findings, each once.
type report struct {
	count map[kind]int
	seen  map[string]bool
	bad   map[string]bool // places with a problem
	files map[string]int  // in which order they came up
	all   []finding
}

// A finding is a line of output.
type finding struct {
	file, line int
	text       string
}

func newReport() *report {
	return &report{count: map[kind]int{}, seen: map[string]bool{}, bad: map[string]bool{}, files: map[string]int{}}
}

func (r *report) add(k kind, where, text string) {
	label := [...]string{problem: "", notice: "notice: ", unread: "not checked: "}[k]
	full := printable(fmt.Sprintf("%s: %s%s", where, label, text))
	if r.seen[full] {
		return
	}
	r.seen[full] = true
	r.count[k]++
	file, line := where, 0
	if m := numbered().FindStringSubmatch(where); m != nil {
		file = m[1]
		line, _ = strconv.Atoi(m[2])
	}
	if _, ok := r.files[file]; !ok {
		r.files[file] = len(r.files)
	}
	r.all = append(r.all, finding{r.files[file], line, full})
}

var numbered = lazy(`^(.+?):(\d+)$`)

// write writes the findings by file and line.
func (r *report) write(out io.Writer) {
	sort.SliceStable(r.all, func(i, j int) bool {
		a, b := r.all[i], r.all[j]
		return a.file < b.file || a.file == b.file && a.line < b.line
	})
	for _, f := range r.all {
		_, _ = fmt.Fprintln(out, f.text) // nobody to tell
	}
}

func (r *report) problem(where, text string) {
	r.bad[where] = true
	r.add(problem, where, text)
}

func (r *report) notice(where, text string) { r.add(notice, where, text) }

var place = lazy(`^(.+?:\d+): (.*)$`)

// problems reports err, which may be many: errors.Join puts each on a line.
// One that says its own place in file, keeps it; the others are put at where.
func (r *report) problems(where, file string, err error) {
	if err == nil {
		return
	}
	for _, text := range strings.Split(err.Error(), "\n") {
		switch m := place().FindStringSubmatch(text); {
		case file != "" && m != nil && strings.HasPrefix(text, file+":"):
			r.one(m[1], m[2])
		case file != "" && strings.HasPrefix(text, file+": "):
			r.one(file, strings.TrimPrefix(text, file+": "))
		default:
			r.one(where, text)
		}
	}
}

func (r *report) one(where, text string) {
	if asRoot(text) != "" {
		r.add(unread, where, text+asRoot(text))
		return
	}
	r.problem(where, text)
}

// follow is problems without those at places that already had one: they come
// of it.
func (r *report) follow(where, file string, err error) {
	if err == nil {
		return
	}
	var fresh []string
	for _, text := range strings.Split(err.Error(), "\n") {
		if m := place().FindStringSubmatch(text); m == nil || !r.bad[m[1]] {
			fresh = append(fresh, text)
		}
	}
	if len(fresh) > 0 {
		r.problems(where, file, fmt.Errorf("%s", strings.Join(fresh, "\n")))
	}
}

// printable takes out what could act on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}

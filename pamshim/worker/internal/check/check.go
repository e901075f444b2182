// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package check finds, offline and all at once, what a call of PAM would be
// refused for. It asks the very code that serves calls.
//
// A problem is what refuses a call, or what lets in somebody who was refused.
// A notice is what an administrator may have meant.
package check

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// Exit codes, which authnctl passes on.
const (
	fine       = 0
	found      = 1
	misused    = 2
	incomplete = 3 // something could not be looked at
)

// Run is "authn-worker check": args are flags and files. It returns the exit
// code.
func Run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("check", flag.ContinueOnError)
	flags.SetOutput(stderr)
	provider := flags.String("provider", "", "the `NAME` or path of the provider of the configuration files")
	if flags.Parse(args) != nil {
		return misused
	}
	c := &checker{report: newReport(), provider: *provider, done: map[string]bool{}, uses: map[string]authn.Authenticator{}, idle: map[string]bool{}}
	defer c.leaveNothing()
	if err := c.prepare(); err != nil {
		c.problem("this process", err.Error())
		return c.finish(stdout)
	}
	if flags.NArg() == 0 {
		c.everything()
	}
	for _, file := range flags.Args() {
		c.file(file)
	}
	c.system()
	return c.finish(stdout)
}

type checker struct {
	*report
	provider string          // of configuration files
	done     map[string]bool // what was checked already
	uses     map[string]authn.Authenticator
	idle     map[string]bool // rules whose provider does nothing in their group
	pamFiles int
	configs  int
	syslog   bool // a line logs there
}

// prepare makes this process what the module would have made it.
func (c *checker) prepare() error {
	if err := launch.Detach(); err != nil {
		return err
	}
	return launch.LimitSelf()
}

func (c *checker) leaveNothing() { launch.KillChildren() }

// everything checks what a system has: all of /etc/pam.d, then what
// /etc/authn has besides.
func (c *checker) everything() {
	for _, s := range c.services(pamDir) {
		c.service(s)
	}
	for _, file := range c.list(paths.Config) {
		if isConfig(file) {
			c.config(file, false)
		}
	}
}

// services reads the services of a folder that call pam_authn, those that
// others include last: their rules are then known in their stacks.
func (c *checker) services(dir string) (all []*service) {
	included := map[string]bool{}
	for _, file := range c.list(dir) {
		s, err := readService(file)
		if err != nil {
			c.unread(file, err)
			continue
		}
		if s.ours() == nil {
			continue
		}
		all = append(all, s)
		for name := range s.files {
			included[name] = included[name] || name != file
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return !included[all[i].file] && included[all[j].file] })
	return all
}

// list lists the files of a folder, without those that editors and package
// managers leave.
func (c *checker) list(dir string) (files []string) {
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		c.unread(dir, err)
	}
	for _, e := range entries {
		if !e.IsDir() && !leftover().MatchString(e.Name()) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files
}

var leftover = lazy(`^\.|~$|\.(dpkg-\w+|rpm(new|save|orig)|ucf-\w+|swp)$`)

// file checks one argument.
func (c *checker) file(name string) {
	name, err := filepath.Abs(name)
	if err != nil {
		c.unread(name, err)
		return
	}
	data, err := os.ReadFile(name) //nolint:gosec // the administrator's own
	switch {
	case err != nil:
		c.unread(name, err)
	case !isPAM(name, data):
		c.config(name, true)
	default:
		s, err := readService(name)
		if err != nil {
			c.unread(name, err)
			return
		}
		if s.ours() == nil {
			c.notice(name, "nothing in it, or in what it includes, calls pam_authn.so")
		}
		c.service(s)
	}
}

func isConfig(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

var pamRule = lazy(`(?mi)^[ \t]*(-?(auth|account|password|session)[ \t]|@include[ \t])`)

// isPAM tells PAM files from configuration files: by a folder pam.d, by the
// name's ending, by lines that begin as PAM's do.
func isPAM(name string, data []byte) bool {
	if filepath.Base(filepath.Dir(name)) == "pam.d" {
		return true
	}
	return !isConfig(name) && (pamRule().Match(data) || bytes.Contains(data, []byte("pam_authn.so")))
}

// ours are the service's rules of pam_authn.
func (s *service) ours() (all []*rule) {
	for _, r := range s.rules {
		if r.ours() {
			all = append(all, r)
		}
	}
	return all
}

// service checks a service: each rule of ours, and its place.
func (c *checker) service(s *service) {
	c.pamFiles++
	for _, f := range s.faults {
		c.problem(f.where, f.text)
	}
	for _, r := range s.rules {
		for _, text := range r.faults {
			c.problem(r.where(), text)
		}
		if r.ours() {
			c.rule(r)
		}
	}
	c.grace(s)
	for _, group := range []string{"auth", "account", "session", "password"} {
		stack := s.stacks[group]
		for _, l := range stack {
			if l.ours() {
				c.place(group, stack, l.rule)
			}
		}
	}
}

// place checks a rule of ours in its stack.
func (c *checker) place(group string, stack []link, r *rule) {
	if c.idle[r.where()] {
		if !passable(stack, r) {
			c.problem(r.where(), fmt.Sprintf("its provider does nothing in the group %s and answers ignore, and nothing else in "+
				"this stack lets anybody in: remove the line, or add one such as: %s required pam_unix.so", group, group))
		}
		return
	}
	for _, v := range judge(group, stack, r) {
		if v.problem {
			c.problem(r.where(), v.text)
		} else {
			c.notice(r.where(), v.text)
		}
	}
}

// rule checks what a rule of ours names.
func (c *checker) rule(r *rule) {
	if !c.once("rule " + r.where()) {
		return
	}
	l, err := line.Parse(r.words)
	c.problems(r.where(), "", err)
	c.syslog = c.syslog || !l.Stderr
	c.module(r)
	c.worker(r, l)
	if l.Name == "" || !filepath.IsAbs(l.Config) || !filepath.IsAbs(l.Program) {
		return
	}
	if p := c.call(use{where: r.where(), program: l.Program, config: l.Config}); p != nil {
		c.offers(r, l, p)
	}
}

func (c *checker) once(what string) bool {
	before := c.done[what]
	c.done[what] = true
	return !before
}

// finish writes the findings and a summary.
func (c *checker) finish(out io.Writer) int {
	c.write(out)
	if c.pamFiles+c.configs == 0 && c.count[problem]+c.count[unread] == 0 {
		_, _ = fmt.Fprintf(out, "nothing to check: no file of %s calls pam_authn.so, and %s has no configuration\n", pamDir, paths.Config)
		return fine
	}
	var what []string
	for _, n := range []string{some(c.pamFiles, "PAM file"), some(c.configs, "configuration")} {
		if n != "" {
			what = append(what, n)
		}
	}
	parts := []string{number(c.count[problem], "problem"), number(c.count[notice], "notice")}
	if c.count[unread] > 0 {
		parts = append(parts, number(c.count[unread], "thing")+" not checked")
	}
	_, _ = fmt.Fprintf(out, "%s: %s%s\n", cmp.Or(strings.Join(what, " and "), "nothing"), strings.Join(parts, ", "), viewpoint())
	switch {
	case c.count[problem] > 0:
		return found
	case c.count[unread] > 0:
		return incomplete
	}
	return fine
}

// viewpoint says for whom this holds: whom files must belong to, and whom a
// provider runs as, depends on who runs the application.
func viewpoint() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return fmt.Sprintf("\nThis is how it is for applications that run as uid %d; for all others, check as root.", os.Geteuid())
}

// some is "" for none.
func some(n int, what string) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func number(n int, what string) string { return cmp.Or(some(n, what), "no "+what) }

// unread reports what could not be looked at.
func (c *checker) unread(file string, err error) {
	if pathErr, ok := err.(*fs.PathError); ok { //nolint:errorlint // os.ReadFile's own
		err = pathErr.Err
	}
	c.add(unread, file, fmt.Sprintf("cannot be read: %v%s", err, asRoot(err.Error())))
}

// asRoot is the mend for what this user may not read.
func asRoot(text string) string {
	if os.Geteuid() != 0 && strings.Contains(strings.ToLower(text), "permission denied") {
		return "; check as root"
	}
	return ""
}

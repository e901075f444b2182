// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
	"github.com/pam-authn/pam-authn/pamshim/safefile"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// startTimeout bounds the start of a provider, as in a call; checkTimeout what
// it does with its configuration.
const (
	startTimeout = 10 * time.Second
	checkTimeout = 10 * time.Second
)

// module checks the module's own file. libpam does not care who may write it.
func (c *checker) module(r *rule) {
	path := r.module
	if !filepath.IsAbs(path) {
		path = filepath.Join(securityDir(), path)
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		c.problem(r.where(), fmt.Sprintf("there is no module %s: install it (make install) or correct the path", path))
		return
	}
	if err == nil {
		var f *os.File
		if f, err = safefile.Open(real); err == nil {
			_ = f.Close()
		}
	}
	c.prefixed(r.where(), "the module: ", err)
}

// securityDir is where libpam looks for modules.
func securityDir() string {
	if paths.Security != "" {
		return paths.Security
	}
	for _, pattern := range []string{"/lib/*-linux-*/security", "/usr/lib/*-linux-*/security", "/lib64/security", "/usr/lib64/security"} {
		if dirs, _ := filepath.Glob(pattern); len(dirs) > 0 {
			return dirs[0]
		}
	}
	return "/lib/security"
}

func (c *checker) prefixed(where, prefix string, err error) {
	if err != nil {
		c.problems(where, "", errors.New(prefix+err.Error()))
	}
}

// worker checks the program that the module would start, as the module does.
func (c *checker) worker(r *rule, l line.Line) {
	path := l.Worker
	if path == "" {
		path = paths.Worker
	}
	switch err := safefile.CheckProgram(path); {
	case errors.Is(err, fs.ErrNotExist):
		c.prefixed(r.where(), "the worker: ", fmt.Errorf("%w: install it, or name it with worker=", err))
		return
	case err != nil:
		c.prefixed(r.where(), "the worker: ", err)
		return
	}
	if l.Worker != "" && !isSelf(path) {
		c.notice(r.where(), fmt.Sprintf("it starts %s, and another worker checked it: use authnctl check --worker %s", path, path))
	}
}

func isSelf(path string) bool {
	a, err1 := os.Stat(path)
	b, err2 := os.Stat("/proc/self/exe")
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// config checks a configuration file by itself: with the provider that the
// command line or its name says.
func (c *checker) config(file string, named bool) {
	if !c.once("config " + file) {
		return
	}
	c.configs++
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if named {
		name = cmp.Or(c.provider, providerOf(file), name)
	}
	l, err := line.Parse([]string{"provider=" + name, "config=" + file})
	if err != nil {
		c.problem(file, fmt.Sprintf("no provider can be called %q; say which one it is for with --provider", name))
		return
	}
	_, missing := os.Stat(l.Program)
	if errors.Is(missing, fs.ErrNotExist) {
		c.orphan(file, l.Program, named)
		return
	}
	c.call(use{where: file, program: l.Program, config: l.Config})
}

// providerOf finds the provider of a configuration in the PAM lines of the
// system, or returns "".
func providerOf(file string) string {
	silent := &checker{report: newReport()}
	for _, s := range silent.services(pamDir) {
		for _, r := range s.ours() {
			if l, err := line.Parse(r.words); err == nil && l.Config == file {
				return l.Program
			}
		}
	}
	return ""
}

// orphan checks what can be checked without a provider. In /etc/authn it may
// lie for some day; where it was named, its provider is missed.
func (c *checker) orphan(file, program string, named bool) {
	text := fmt.Sprintf("there is no provider %s: install it, or say which one this is for with --provider", program)
	if named {
		c.problem(file, text)
	} else {
		c.notice(file, "no PAM file uses it, and "+text)
	}
	_, err := config.Load(file)
	c.problems(file, file, err)
}

// A use is a provider with its configuration.
type use struct {
	where           string // what wants it
	program, config string
}

// call does what a call does, up to the provider's own work, and goes on where
// a call would have ended. It returns the provider, of which only capabilities
// are left, or nil if it did not get that far. Equal uses are checked once.
func (c *checker) call(u use) authn.Authenticator {
	key := u.program + "\x00" + u.config
	p, known := c.uses[key]
	if !known {
		p = c.tryCall(u)
		c.uses[key] = p
	}
	return p
}

func (c *checker) tryCall(u use) authn.Authenticator {
	if c.once("config " + u.config) {
		c.configs++
	}
	conf, err := config.Load(u.config)
	if errors.Is(err, fs.ErrNotExist) {
		c.problem(u.where, err.Error())
	} else {
		c.problems(u.where, u.config, err)
	}
	if conf == nil || conf.Provider == nil || badFramework(u.config, err) {
		c.problems(u.where, "", launch.CheckProgram(u.program))
		return nil
	}
	c.files(conf)
	return c.provide(u, conf)
}

// startKey begins what is wrong with the keys that a start needs, or with all
// of the file.
var startKey = lazy(`^authn(:|\.(run_as|env|sha256))|^not `)

// badFramework reports whether the provider cannot be started as the
// configuration means it.
func badFramework(file string, err error) bool {
	if err == nil {
		return false
	}
	for _, text := range strings.Split(err.Error(), "\n") {
		m := place().FindStringSubmatch(text)
		if m == nil || !strings.HasPrefix(text, file) || startKey().MatchString(m[2]) {
			return true
		}
	}
	return false
}

// provide starts the provider and has it judge its configuration.
func (c *checker) provide(u use, conf *config.Config) authn.Authenticator {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout+checkTimeout)
	defer cancel()
	var stderr launch.Head
	p, err := launch.Start(ctx, launch.Spec{
		Program: u.program, Framework: conf.Framework, Timeout: startTimeout, Stderr: &stderr,
	})
	defer p.Close() //nolint:staticcheck // with an error, too: there may be a process
	if p.Sandbox != "" {
		c.notice(u.program, p.Sandbox)
	}
	if err != nil {
		c.problems(u.where, "", plain(p.Died(err)))
		c.wrote(p, u.program, &stderr)
		return nil
	}
	keys := p.Description().SecretKeys
	c.problems(u.where, u.config, conf.CheckSecrets(keys))
	if secret := conf.FirstSecret(keys); secret != "" && os.Geteuid() == 0 {
		c.notice(u.config, secret+" is a secret: applications that run as a user, such as screen lockers, cannot use this configuration")
	}
	p.Config, p.Started = conf.Provider, conf.CheckStep
	p.Log = func(level wire.Level, text string) {
		if level >= wire.Level_LEVEL_WARN {
			c.notice(u.config, "the provider says: "+text)
		}
	}
	if err := p.Check(ctx); err != nil {
		c.follow(u.where, u.config, plain(p.Died(err)))
		c.wrote(p, u.program, &stderr)
	}
	return p
}

// plain takes off the word that PAM would hear.
func plain(err error) error {
	return errors.New(strings.TrimSuffix(err.Error(), ": "+authn.ErrSystem.Error()))
}

// wrote passes on what a provider that failed wrote to standard error, which
// comes with its end.
func (c *checker) wrote(p *launch.Provider, program string, stderr *launch.Head) {
	p.Kill()
	p.Ended()
	if text := stderr.String(); text != "" {
		c.notice(program, "it wrote to standard error:\n"+strings.TrimRight(text, "\n"))
	}
}

// offers notes what the provider has no use for: the word setcred, and for
// later, this rule's group.
func (c *checker) offers(r *rule, l line.Line, a authn.Authenticator) {
	_, account := authn.As[authn.AccountManager](a)
	_, session := authn.As[authn.SessionManager](a)
	_, password := authn.As[authn.PasswordChanger](a)
	_, setcred := authn.As[authn.CredentialSetter](a)
	has := map[string]bool{"auth": true, "account": account, "session": session, "password": password}
	c.idle[r.where()] = !has[r.group]
	if l.SetCred && !setcred {
		c.notice(r.where(), fmt.Sprintf("provider %s has no credentials to set: remove the word setcred", l.Name))
	}
}

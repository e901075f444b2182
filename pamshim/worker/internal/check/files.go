// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/limits"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// files checks authn.files: the folders, and what is in them by now. A call
// goes on without a file that it cannot have, so nobody would learn why they
// are refused.
func (c *checker) files(conf *config.Config) {
	var names []string
	for name := range conf.Framework.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		c.pattern(conf.Path+": authn.files."+name, conf.Framework.Files[name])
	}
}

func (c *checker) pattern(where, path string) {
	before, _, perUser := strings.Cut(path, "%u")
	if !perUser {
		c.safe(where, path)
		return
	}
	folder := filepath.Dir(before + "x")
	switch err := safefile.CheckFolder(folder); {
	case errors.Is(err, fs.ErrNotExist):
		c.notice(where, fmt.Sprintf("%v: nobody has such a file yet", err))
		return
	case err != nil:
		c.problems(where, "", err)
		return
	}
	escaped := strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
	matches, err := filepath.Glob(strings.ReplaceAll(escaped, "%u", "*"))
	if err != nil {
		c.problem(where, fmt.Sprintf("%s: %v", path, err))
	}
	for _, match := range matches {
		c.safe(where, match)
	}
}

func (c *checker) safe(where, path string) {
	switch _, err := config.ReadFile(path); {
	case errors.Is(err, fs.ErrNotExist):
		c.notice(where, fmt.Sprintf("%v: calls go on without it", err))
	case err != nil:
		c.problems(where, "", err)
	}
}

// system checks what is no file's.
func (c *checker) system() {
	if c.pamFiles+c.configs == 0 {
		return
	}
	if c.syslog && !logs() {
		c.notice("/dev/log", "nobody listens: what pam_authn logs is lost; start rsyslog or journald, "+
			"or in a container write log=stderr on the lines")
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := launch.EnsureDir(paths.Run, 0o711); err != nil {
		c.problem(paths.Run, err.Error())
	}
	if err := launch.EnsureDir(paths.State, 0o700); err != nil {
		c.problem(paths.State, err.Error())
		return
	}
	store := limits.Store{Dir: paths.State}
	if err := store.Check(); err != nil {
		c.problem(paths.State, err.Error())
	}
}

// logs reports whether somebody takes what is written to /dev/log.
func logs() bool {
	conn, err := net.DialTimeout("unixgram", "/dev/log", time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package launch starts a provider with as little as it can do with: an
// unprivileged user, bounded resources, a private folder, a sandbox, and an
// environment made from nothing.
package launch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"runtime"
	"sort"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/pamshim/safefile"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
)

// minFiles is the hard RLIMIT_NOFILE below which a provider would see
// failures that look like an outage of the network.
const minFiles = 64

// LimitSelf bounds this process, and with it the provider, which inherits. It
// refuses to go on where the host's own limit is too low: under su that is
// the attacker's choice.
func LimitSelf() error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("reading RLIMIT_NOFILE: %w", err)
	}
	if now.Max < minFiles {
		return fmt.Errorf("only %d file descriptors are allowed here: raise RLIMIT_NOFILE to %d", now.Max, minFiles)
	}
	for _, l := range []struct {
		resource int
		name     string
		value    uint64
	}{
		{unix.RLIMIT_CORE, "RLIMIT_CORE", 0},
		{unix.RLIMIT_FSIZE, "RLIMIT_FSIZE", 1 << 20},
		{unix.RLIMIT_NOFILE, "RLIMIT_NOFILE", 256},
		{unix.RLIMIT_DATA, "RLIMIT_DATA", 512 << 20},
	} {
		if err := lower(l.resource, l.value); err != nil {
			return fmt.Errorf("setting %s: %w", l.name, err)
		}
	}
	return nil
}

func lower(resource int, value uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(resource, &now); err != nil {
		return err
	}
	value = min(value, now.Max)
	// Package syscall's, since the runtime then leaves NOFILE alone in children.
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}

// A Provider is a running provider with its private folder.
type Provider struct {
	*plugin.Process
	dir     folder
	Sandbox string // what could not be had of it, for the log; "" if all
}

// Spec says what to start.
type Spec struct {
	Program   string
	Framework config.Framework
	Timeout   time.Duration // of the start
	Stderr    io.Writer
}

// Start starts the provider and connects to it. Close what it returns, even
// with an error.
func Start(ctx context.Context, s Spec) (*Provider, error) {
	p := &Provider{}
	if err := CheckProgram(s.Program); err != nil {
		return p, err
	}
	who, err := identity(s.Framework.RunAs)
	if err != nil {
		return p, err
	}
	if p.dir, err = privateDir(who); err != nil {
		return p, err
	}
	box, err := newSandbox(s.Program, p.dir.path)
	if err != nil {
		p.Sandbox = err.Error()
	}
	defer box.close()
	cmd := command(s, p.dir.path, who)
	p.Process, err = onThread(box, plugin.Options{
		Cmd: cmd, UID: who.uid, Dir: p.dir.path, Timeout: s.Timeout, Stderr: s.Stderr, Secure: pin(s.Framework.SHA256),
	})
	if err != nil {
		return p, err
	}
	return p, p.Connect(ctx)
}

// CheckProgram checks that a provider's program may be started.
func CheckProgram(program string) error {
	err := safefile.CheckProgram(program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the provider: %w: install %s, or correct provider=", err, program)
	case err != nil:
		return fmt.Errorf("the provider: %w", err)
	}
	return nil
}

// Died says how the provider ended, where that is why the connection broke.
func (p *Provider) Died(err error) error {
	if !errors.Is(err, plugin.ErrHungUp) {
		return err
	}
	if how := p.Ended(); how != "" {
		return fmt.Errorf("the provider died (%s): %w", how, err)
	}
	return err
}

// Close kills the provider and removes its folder. What the provider started
// itself is the waiter's to end.
func (p *Provider) Close() {
	p.Kill()
	p.dir.remove(time.Now().Add(closeTime))
}

func pin(sum []byte) *goplugin.SecureConfig {
	if sum == nil {
		return nil
	}
	return &goplugin.SecureConfig{Checksum: sum, Hash: sha256.New()}
}

// command prepares the provider's process.
func command(s Spec, dir string, who user) *exec.Cmd {
	cmd := &exec.Cmd{
		Path: s.Program,
		Args: []string{s.Program},
		Dir:  "/",
		Env:  environment(s.Framework.Env, dir),
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	if who.change {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid, Groups: []uint32{}}
	}
	return cmd
}

func environment(extra map[string]string, dir string) []string {
	all := map[string]string{
		"PATH":   "/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG":   "C.UTF-8",
		"TMPDIR": dir,
	}
	for name, value := range extra {
		all[name] = value
	}
	var env []string
	for name, value := range all {
		env = append(env, name+"="+value)
	}
	sort.Strings(env)
	return env
}

// onThread starts the provider from an OS thread that is confined and then
// kept until this process ends: Landlock, no_new_privs and the parent-death
// signal all belong to the thread. The other threads stay free.
func onThread(box *sandbox, o plugin.Options) (*plugin.Process, error) {
	type started struct {
		p   *plugin.Process
		err error
	}
	ch := make(chan started)
	go func() {
		runtime.LockOSThread() // never unlocked
		if err := box.enter(); err != nil {
			ch <- started{nil, err}
			return
		}
		p, err := plugin.Start(o)
		ch <- started{p, err}
		select {} // Pdeathsig fires when this thread ends
	}()
	s := <-ch
	return s.p, s.err
}

// errUser is what every problem with the provider's user ends with.
var errUser = errors.New("make one with: adduser --system --group --no-create-home")

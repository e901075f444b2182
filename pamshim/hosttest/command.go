// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Cmd is an [exec.Cmd] that runs in a machine, whatever method starts it.
type Cmd struct {
	*exec.Cmd
	m *Machine
}

// Command prepares a program to run as user: in the user's home folder, with the
// environment of a login, without a terminal, and dead when this process dies.
// The fields of the Cmd may be changed before it is started.
func (m *Machine) Command(user, name string, args ...string) *Cmd {
	m.tb.Helper()
	var (
		a    Account
		file string
	)
	m.inside(func() (err error) {
		if a, err = lookAccount(user); err != nil {
			return err
		}
		if _, err := os.Stat(a.Home); err != nil {
			a.Home = "/" // as login does
		}
		file, err = lookPath(name)
		return err
	})
	return &Cmd{m: m, Cmd: &exec.Cmd{
		Path: file,
		Args: append([]string{name}, args...),
		Dir:  a.Home,
		Env: []string{
			"USER=" + a.Name, "LOGNAME=" + a.Name, "HOME=" + a.Home, "SHELL=" + a.Shell,
			"PATH=" + searchPath, "LANG=C.UTF-8", "TERM=dumb",
		},
		SysProcAttr: &syscall.SysProcAttr{
			Credential: credential(a),
			Setsid:     true, // else su and ssh would ask at the developer's terminal
			Pdeathsig:  syscall.SIGKILL,
		},
		// What a program leaves behind may keep its output open.
		WaitDelay: 2 * time.Second,
	}}
}

func credential(a Account) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID)}
	for _, gid := range a.Groups {
		c.Groups = append(c.Groups, uint32(gid))
	}
	return c
}

// lookPath finds a program in the machine's PATH, or the system's: they are the
// same.
func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range filepath.SplitList(searchPath) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("no program %q in %s", name, searchPath)
}

// Start starts the command and does not wait for it.
func (c *Cmd) Start() (err error) {
	c.m.Do(func() { err = c.Cmd.Start() })
	return err
}

// Run starts the command and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns its output and its errors.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Run runs a program as user, without a terminal, and returns its output, its
// errors among it, and its exit code: that of a shell, 128 and the signal's
// number if one killed it.
func (m *Machine) Run(user, name string, args ...string) (output string, code int) {
	m.tb.Helper()
	c := m.Command(user, name, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		m.tb.Fatalf("%s: %v", name, err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
			m.tb.Fatalf("%s: %v", name, err)
		}
		return out.String(), exitCode(c.ProcessState)
	case <-time.After(m.Timeout):
		c.Process.Kill()
		<-done
		m.fatalf("%s: no end after %v; output: %s", name, m.Timeout, out.String())
		return "", 0
	}
}

// exitCode is a shell's $?.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

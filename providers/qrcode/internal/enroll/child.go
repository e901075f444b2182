// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ChildCommand is the argument with which the program becomes the child.
const ChildCommand = "network"

const (
	closeTimeout = 3 * time.Second // for a child to say goodbye to its phone
	sendTimeout  = 2 * time.Second // for a child to take a frame
)

// A Child is the process that does the network.
type Child struct {
	// Messages has what it says, checked as far as one message can be. It is
	// closed when nothing more comes; Wait then says why.
	Messages <-chan *Message

	parent *sender
	in     io.Closer
	cmd    *exec.Cmd
	stderr head
	ended  chan struct{}
	broken error // why Messages was closed, if not by the child's end
	how    error // of the process
}

// StartChild starts this program again as user name, who is not root: with no
// group but its own, an environment made from nothing, in a session of its own
// and unable to gain anything by executing programs. It dies with this process.
func StartChild(name string) (*Child, error) {
	who, err := identity(name)
	if err != nil {
		return nil, err
	}
	// What whoever started us left open is not for the child.
	if err := unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("closing descriptors: %w", err)
	}
	// What the child leaves behind becomes ours, to be ended with it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("adopting what the child leaves: %w", err)
	}
	cmd := exec.Command("/proc/self/exe", ChildCommand)
	cmd.Args[0] = os.Args[0]
	cmd.Env, cmd.Dir, cmd.WaitDelay = environment, "/", closeTimeout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, Credential: who}
	// Not StdinPipe, which has no deadline.
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe, which Wait would close before all of it is read.
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	cmd.Stdin, cmd.Stdout = theirIn, theirOut
	messages := make(chan *Message)
	c := &Child{Messages: messages, parent: &sender{w: in, limit: MaxToChild, timeout: sendTimeout}, in: in, cmd: cmd, ended: make(chan struct{})}
	cmd.Stderr = &c.stderr
	err = c.start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, fmt.Errorf("starting as user %s: %w", name, err)
	}
	go c.read(out, messages)
	return c, nil
}

// start runs the child from a thread that is kept for it: no_new_privs and the
// parent-death signal belong to the thread, which ends with the child.
func (c *Child) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not to be used again
		err := leaveBehind()
		if err == nil {
			err = c.cmd.Start()
		}
		started <- err
		if err == nil {
			c.how = c.cmd.Wait()
			close(c.ended)
		}
	}()
	return <-started
}

// leaveBehind gives up, for the calling thread and what it starts, what root
// has and the child must not: programs that give rights, and root's keys.
func leaveBehind() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) // without a name
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("leaving root's keyring: %w", err)
	}
	return nil
}

// identity finds the child's user in /etc/passwd.
func identity(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("there is no user %s to do the network as: adduser --system --group --no-create-home %s", name, name)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	const nobody = 65534
	if err1 != nil || err2 != nil || uid == 0 || gid == 0 || uid == nobody {
		return nil, fmt.Errorf("user %s is nobody to do the network as: name another in authn.run_as", name)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}, nil
}

// read passes on what the child says, as long as it keeps to the rules.
func (c *Child) read(r io.ReadCloser, messages chan<- *Message) {
	defer close(messages)
	defer r.Close() //nolint:errcheck // only read
	for range MaxFrames {
		m, err := ReadFrame(r, MaxToParent)
		if errors.Is(err, io.EOF) {
			return
		}
		if err == nil {
			err = m.fromChild()
		}
		if err != nil {
			c.broken = err
			return
		}
		messages <- m
	}
	c.broken = errors.New("more frames than anybody needs")
}

// Send tells the child something. A child that is gone is told nothing. One
// that takes nothing is told no more either: the error is then
// os.ErrDeadlineExceeded.
func (c *Child) Send(m *Message) error { return c.parent.send(m) }

// Close ends the child, which may still tell its phone how it ended, and
// returns when it is gone with all that it started. Messages that nobody took
// are lost. This process must have no other children.
func (c *Child) Close() {
	_ = c.in.Close()
	go func() {
		for range c.Messages { // so that read ends
		}
	}()
	late := time.NewTimer(closeTimeout)
	defer late.Stop()
	select {
	case <-c.ended:
	case <-late.C:
		_ = c.cmd.Process.Kill()
		<-c.ended
	}
	killChildren()
}

// killChildren ends what the child left behind, which an honest one does not.
// Each round sees what the ones before it left.
func killChildren() {
	for {
		files, _ := filepath.Glob("/proc/self/task/*/children")
		for _, file := range files {
			data, _ := os.ReadFile(file) //nolint:gosec // our own
			for _, field := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(field); err == nil {
					_ = unix.Kill(pid, unix.SIGKILL)
				}
			}
		}
		_, err := unix.Wait4(-1, nil, unix.WALL, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // none is left
		}
	}
}

// Why says why Messages was closed. It closes the child.
func (c *Child) Why() error {
	c.Close()
	if c.broken != nil {
		return fmt.Errorf("the network process broke the rules: %w", c.broken)
	}
	text := c.stderr.String()
	switch {
	case text != "":
		return fmt.Errorf("the network process failed: %s", text)
	case c.how != nil:
		return fmt.Errorf("the network process failed: %w", c.how)
	}
	return errors.New("the network process ended")
}

// head keeps the beginning of what is written to it.
type head struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if room := MaxText - h.b.Len(); room > 0 {
		h.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Plain(string(bytes.TrimSpace(h.b.Bytes())))
}

// Confine is the first thing that the child does: it makes sure that it is
// what [StartChild] starts, and bounds itself.
func Confine() error {
	var in unix.Stat_t
	if err := unix.Fstat(0, &in); err != nil || in.Mode&unix.S_IFMT != unix.S_IFIFO {
		return errors.New("only authn-qrcode-enroll itself starts this")
	}
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getgid() == 0 {
		return errors.New("the network is not for root")
	}
	alone, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil || alone != 1 {
		return errors.New("no_new_privs is not set")
	}
	// The program's mode says the same, where it is installed 0711.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding from other processes of this user: %w", err)
	}
	unix.Umask(0o077)
	for _, l := range []struct {
		resource int
		value    uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_FSIZE, 0}, {unix.RLIMIT_NOFILE, 64}, {unix.RLIMIT_DATA, 512 << 20}} {
		if err := lower(l.resource, l.value); err != nil {
			return fmt.Errorf("setting limits: %w", err)
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
	return syscall.Setrlimit(resource, &syscall.Rlimit{Cur: value, Max: value})
}

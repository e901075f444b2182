// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a provider leaves running. All of it has the provider's pipes, ignores
// every signal that can be ignored, and is in sessions of its own.
func init() {
	add(map[string]func(){
		"leaves_a_child":           calls(func(p *peer) error { leave("stubborn", 1); p.send(started(), refuses("left")); return nil }),
		"leaves_a_daemon":          calls(func(p *peer) error { leave("daemon", 1); p.send(started(), refuses("left")); return nil }),
		"leaves_many":              calls(func(p *peer) error { script(crowd); waitFor("crowd"); p.send(started(), refuses("left")); return nil }),
		"leaves_a_fork_chain":      calls(func(p *peer) error { script(chain); p.send(started(), refuses("left")); return nil }),
		"leaves_fork_chains":       calls(func(p *peer) error { chains(16, unix.SYS_GETPID); p.send(started(), refuses("left")); return nil }),
		"leaves_fork_sessions":     calls(func(p *peer) error { chains(16, unix.SYS_SETSID); p.send(started(), refuses("left")); return nil }),
		"forks_in_a_call":          calls(func(p *peer) error { p.send(started()); chains(16, unix.SYS_GETPID); return p.hang() }),
		"leaves_a_stopped_child":   calls(func(p *peer) error { leave("stopped", 1); p.send(started(), refuses("left")); return nil }),
		"leaves_a_writer":          calls(func(p *peer) error { leave("writer", 1); p.send(started(), refuses("left")); return nil }),
		"leaves_a_namespace":       calls(func(p *peer) error { leave("namespace", 1); p.send(started(), refuses("left")); return nil }),
		"leaves_a_subreaper":       calls(subreaper),
		"leaves_a_sibling":         calls(func(p *peer) error { sibling(); p.send(started(), refuses("left")); return nil }),
		"leaves_a_child_and_hangs": calls(func(p *peer) error { leave("stubborn", 3); p.send(started()); return p.hang() }),
		"leaves_a_child_and_dies":  func() { leave("stubborn", 1); os.Exit(0) },
		"leaves_a_daemon_and_dies": func() { leave("daemon", 1); os.Exit(0) },
		"leaves_a_child_to_answer": func() { leave("listens", 1); waitFor("listening"); handshake("unix", socketPath()); os.Exit(0) },
		"leaves_pipes_to_a_child": calls(func(p *peer) error {
			leave("stubborn", 1)
			p.send(started())
			return die()
		}),
	})
}

// crowd is 200 processes that ignore what can be ignored.
const crowd = `trap '' HUP INT QUIT TERM PIPE USR1 USR2
i=0
while [ $i -lt 200 ]; do
	setsid sleep 1000 &
	i=$((i + 1))
done
: >"$TMPDIR/at-crowd"
wait`

// chain is four processes that are gone, each with a child in its place, before
// anybody can look.
const chain = `f() { f & exit; }
f & f & f & f &`

func script(text string) {
	cmd := exec.Command("/bin/sh", "-c", text)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	must(cmd.Start())
}

func spawn(role string) {
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this program
	cmd.Env = append(os.Environ(), childKey+"="+role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if role == "namespace" && namespaces() {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID
	}
	must(cmd.Start())
}

// namespaces reports whether this system gives users namespaces of their own.
func namespaces() bool {
	cmd := exec.Command("/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID}
	return cmd.Run() == nil
}

// leave starts n children and waits until each is at its work.
func leave(role string, n int) {
	for range n {
		_ = os.Remove(folder() + "/at-" + role)
		spawn(role)
		waitFor(role)
	}
}

func waitFor(at string) {
	for range 2000 {
		if _, err := os.Lstat(folder() + "/at-" + at); err == nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
	panic("no child came to " + at)
}

// child is what a descendant does.
func child(role string) {
	signal.Ignore()
	switch role {
	case "listens":
		l := listen()
		arrived("listening")
		must((&service{call: succeeds}).server().Serve(l))
	case "daemon":
		spawn("demon")
		waitFor("demon")
		arrived(role)
	case "stopped":
		arrived(role)
		signalSelf(syscall.SIGSTOP)
	case "writer":
		arrived(role)
		writer()
	case "namespace":
		spawn("stubborn")
		waitFor("stubborn")
		arrived(role)
		forever()
	default:
		arrived(role)
		forever()
	}
}

// writer makes files as fast as it can, also where a folder was just removed.
func writer() {
	for n := 0; ; n = (n + 1) % 5000 {
		dir := folder() + "/" + string(rune('a'+n%26))
		_ = os.Mkdir(dir, 0o700)
		_ = os.WriteFile(dir+"/"+string(rune('a'+n%23)), nil, 0o600)
	}
}

// subreaper adopts its grandchildren before the waiter can.
func subreaper(p *peer) error {
	must(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
	leave("daemon", 1)
	p.send(started(), refuses("left"))
	return nil
}

// sibling makes a process whose parent is the worker. It must not run Go.
func sibling() {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_PARENT, 0, 0, 0, 0, 0)
	if errno != 0 {
		must(errno)
	}
	if pid == 0 {
		for {
			_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
		}
	}
}

// chains starts processes that are gone as soon as anybody looks, each with a
// child in its place: as fast as the kernel forks, for none of it runs Go. Each
// makes a system call of its own first.
func chains(n int, call uintptr) {
	for range n {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			must(errno)
		}
		if pid != 0 {
			continue
		}
		for {
			_, _, _ = unix.RawSyscall(call, 0, 0, 0)
			if pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0); pid != 0 {
				_, _, _ = unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
			}
		}
	}
}

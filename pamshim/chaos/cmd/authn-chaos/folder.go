// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// What a provider does to its private folder, which root removes.
func init() {
	add(map[string]func(){
		"leaves_a_mess":          leaving(mess),
		"leaves_depth":           leaving(func() { depth(1500, 8) }),
		"leaves_depth_in_a_call": calls(func(p *peer) error { depth(1500, 8); p.send(started()); return p.hang() }),
		"leaves_long_paths":      leaving(func() { depth(200, 250) }),
		"leaves_many_files":      leaving(func() { files(20_000) }),
		"leaves_links":           leaving(links),
		"removes_its_folder":     leaving(removes),
		"locks_its_folder":       leaving(func() { must(os.Chmod(folder(), 0)) }),
	})
}

// leaving is a mode that makes something and then refuses.
func leaving(make func()) func() {
	return calls(func(p *peer) error {
		make()
		p.send(started(), refuses("left"))
		return nil
	})
}

// mess has one of everything that makes removing hard.
func mess() {
	for _, dir := range []string{"a/b/c", "closed/inner", "blind/inner"} {
		must(os.MkdirAll(folder()+"/"+dir, 0o700))
	}
	for _, file := range []string{"a/file", "a/b/.hidden", "closed/inner/file", "blind/inner/file", "a/" + strings.Repeat("n", 255), "a/-rf", "a/\n\xff*"} {
		must(os.WriteFile(folder()+"/"+file, []byte("x"), 0o600))
	}
	l, err := net.Listen("unix", folder()+"/a/socket")
	must(err)
	_ = l
	must(syscall.Mkfifo(folder()+"/a/fifo", 0))
	must(os.Chmod(folder()+"/a/file", 0))
	must(os.Chmod(folder()+"/closed/inner", 0))
	must(os.Chmod(folder()+"/closed", 0))
	must(os.Chmod(folder()+"/blind", 0o500))
}

// depth nests folders; their path is longer than any system call takes.
func depth(levels, length int) {
	must(syscall.Chdir(folder()))
	name := strings.Repeat("d", length)
	for range levels {
		must(syscall.Mkdir(name, 0o700))
		must(syscall.Chdir(name))
	}
	must(os.WriteFile("bottom", nil, 0o600))
	must(syscall.Chdir("/"))
}

func files(n int) {
	for i := range n {
		must(os.WriteFile(fmt.Sprintf("%s/%d", folder(), i), nil, 0o600))
	}
}

// links points at what must stay.
func links() {
	for name, target := range map[string]string{
		"passwd": "/etc/passwd", "etc": "/etc/authn", "root": "/", "up": "..", "run": "/run/authn", "arg": os.Getenv(argKey),
	} {
		must(os.Symlink(target, folder()+"/"+name))
	}
	_ = os.Link("/etc/passwd", folder()+"/hard")
}

// removes takes away what it can of its folder while it is in use.
func removes() {
	_ = os.RemoveAll(folder())
	_ = os.Remove(folder())
	_ = os.Rename(folder(), folder()+"-moved")
}

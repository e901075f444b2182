// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPeerChecks(t *testing.T) {
	tests := []struct {
		name  string
		check peerCheck
		peer  syscall.Ucred
		want  bool
	}{
		{"the_parent_is_the_worker", peerParent, syscall.Ucred{Pid: int32(os.Getppid())}, true}, //nolint:gosec // a pid
		{"this_process_is_not", peerParent, syscall.Ucred{Pid: int32(os.Getpid())}, false},      //nolint:gosec // as above
		{"nor_is_init", peerParent, syscall.Ucred{Pid: 1}, os.Getppid() == 1},
		{"nor_a_process_out_of_sight", peerParent, syscall.Ucred{Pid: 0}, false},
		{"the_process_is_the_provider", peerProcess(7, 12), syscall.Ucred{Pid: 7, Uid: 12}, true},
		{"another_process_is_not", peerProcess(7, 12), syscall.Ucred{Pid: 8, Uid: 12}, false},
		{"another_user_is_not", peerProcess(7, 12), syscall.Ucred{Pid: 7, Uid: 0}, false},
		{"no_process_is_nobody's", peerProcess(0, 0), syscall.Ucred{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.check(&tt.peer); (err == nil) != tt.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPeerOfAUnixSocketIsTheKernelsWord(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(shortDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // as above
	cred, err := peerOf(conn)
	if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Geteuid() {
		t.Errorf("got %+v, %v", cred, err)
	}
}

func TestHandshakeClosesWhatItRefuses(t *testing.T) {
	ours, theirs := net.Pipe() // not a unix socket
	defer theirs.Close()       //nolint:errcheck // nothing was written
	_, _, err := peerCredentials{check: func(*syscall.Ucred) error { return nil }}.ServerHandshake(ours)
	if err == nil {
		t.Error("a connection that is no unix socket is taken")
	}
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

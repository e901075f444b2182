// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc/credentials"
)

// A peerCheck judges who is at the other end of a unix socket. The kernel
// recorded these credentials when the other end connected or listened; its pid
// is 0 for a process that this one cannot see.
type peerCheck func(*syscall.Ucred) error

// peerParent accepts only the process that started this one.
func peerParent(c *syscall.Ucred) error {
	if c.Pid <= 0 || int(c.Pid) != os.Getppid() {
		return fmt.Errorf("process %d is not this provider's worker", c.Pid)
	}
	return nil
}

// peerProcess accepts only the process pid under user id uid.
func peerProcess(pid int, uid uint32) peerCheck {
	return func(c *syscall.Ucred) error {
		if c.Pid <= 0 || int(c.Pid) != pid || c.Uid != uid {
			return fmt.Errorf("the socket belongs to process %d of uid %d, not to the provider", c.Pid, c.Uid)
		}
		return nil
	}
}

// peerCredentials is gRPC's transport security by SO_PEERCRED: both ends are
// processes of this kernel, which says who they are for nothing, where
// go-plugin's AutoMTLS costs 38 ms a login (docs/decisions).
type peerCredentials struct{ check peerCheck }

func (p peerCredentials) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

func (p peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return p.handshake(conn)
}

func (p peerCredentials) handshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cred, err := peerOf(conn)
	if err == nil {
		err = p.check(cred)
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	return conn, info, nil
}

func peerOf(conn net.Conn) (*syscall.Ucred, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "peercred"}
}

func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

func (peerCredentials) OverrideServerName(string) error { return nil }

type peerInfo struct{ credentials.CommonAuthInfo }

func (peerInfo) AuthType() string { return "peercred" }

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-worker serves one call of PAM for pam_authn.so, which starts it with
// the frame socket as descriptor 3. People use authnctl instead, which starts
// it as "authn-worker check" and "authn-worker version".
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/call"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/check"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/journal"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/launch"
)

// The descriptors that the module hands over.
const (
	frameFD  = 3
	stderrFD = 4
)

func main() {
	began := time.Now()
	if len(os.Args) > 1 {
		os.Exit(forAuthnctl(os.Args[1], os.Args[2:]))
	}
	module, err := frameSocket()
	if err != nil {
		os.Exit(byHand())
	}
	if err := serve(module, began); err != nil {
		os.Exit(1) // the module logs that no result came
	}
}

// forAuthnctl runs what authnctl wants; the module gives no arguments.
func forAuthnctl(command string, args []string) int {
	switch command {
	case "check":
		return check.Run(args, os.Stdout, os.Stderr)
	case "version":
		fmt.Printf("authn-worker %s\nprotocol %d\n", cmp.Or(plugin.Version, "devel"), plugin.ProtocolVersion)
		return 0
	}
	return byHand()
}

func byHand() int {
	fmt.Fprintln(os.Stderr, "authn-worker: error: only pam_authn.so starts this program")
	fmt.Fprintln(os.Stderr, "authn-worker: hint: use \"authnctl try\" or \"authnctl check\"")
	return 2
}

// frameSocket takes over the module's socket.
func frameSocket() (net.Conn, error) {
	f := os.NewFile(frameFD, "frames")
	defer f.Close() //nolint:errcheck // FileConn duplicates it
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if conn.LocalAddr().Network() != "unix" {
		return nil, errors.New("descriptor 3 is not a unix socket")
	}
	return conn, nil
}

func serve(module net.Conn, began time.Time) error {
	syscall.CloseOnExec(stderrFD) // it is not for the provider
	limitErr := launch.LimitSelf()
	if err := module.SetReadDeadline(began.Add(10 * time.Second)); err != nil {
		return err
	}
	start, startErr := readStart(module)
	if err := module.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	j := newJournal(start)
	result := frame.Result{Code: int(authn.ErrSystem)}
	if err := errors.Join(startErr, limitErr); err != nil {
		j.Line(journal.Err, "result", authn.ErrSystem.Error(), "reason", err.Error())
	} else {
		c := call.Call{Start: start, Module: module, Journal: j, Began: began}
		result = c.Serve(context.Background())
	}
	out, err := result.Encode()
	if err != nil {
		return err
	}
	_, err = module.Write(out)
	return err
}

func readStart(module net.Conn) (frame.Start, error) {
	kind, body, err := frame.Read(module)
	if err != nil {
		return frame.Start{}, err
	}
	defer clear(body)
	return frame.ParseStart(kind, body)
}

func newJournal(s frame.Start) *journal.Journal {
	syscall.CloseOnExec(stderrFD) // it is the host's, and no provider's business
	j := &journal.Journal{Service: s.Service, Group: group(s.Call), Pid: s.HostPid, ID: s.ID}
	if s.Stderr {
		j.Stderr = os.NewFile(stderrFD, "host's stderr")
	}
	return j
}

// group is what pam_unix and its kin write behind the service's name.
func group(call int) string {
	switch c := authn.Call(call); c {
	case authn.CallOpenSession, authn.CallCloseSession:
		return "session"
	default:
		return c.String()
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// A link in the provider's own folder leads to a socket of somebody else's, who
// would be sent the configuration with its secrets.
func TestAProviderCannotLeadTheWorkerElsewhere(t *testing.T) {
	m := newMachine(t)
	path := filepath.Join(pamtest.Dir(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan int64, 1)
	go func() {
		var total int64
		for {
			c, err := l.Accept()
			if err != nil {
				heard <- total
				return
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			n, _ := io.Copy(io.Discard, c)
			total += n
			_ = c.Close()
		}
	}()
	f := fact{mode: "linked_elsewhere", arg: path, reason: violation + `the socket belongs to process \d+ of uid 0, not to the provider$`}
	f.prove(t, m)
	_ = l.Close()
	if n := <-heard; n > 0 {
		t.Errorf("the stranger heard %d bytes", n)
	}
}

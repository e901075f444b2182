// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest_test

import (
	"log"
	"os"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// A program that shows a login to whoever looks on.
func ExampleRun() {
	err := hosttest.Run(os.Stderr, func(tb hosttest.TB) {
		hosttest.Require(tb, "sshd")
		m := hosttest.NewMachine(tb)
		m.Screen = os.Stdout
		m.AddUser("alice", hosttest.User{Password: "open sesame"})
		m.PAM("sshd", hosttest.UnixStack)

		c := m.SSHD(hosttest.SSHD{}).Login(hosttest.Login{User: "alice", Command: "id"})
		c.Answer("Password: ", "open sesame")
		c.WantExit(0)
	})
	if err != nil {
		log.Fatal(err)
	}
}

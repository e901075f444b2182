// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package hosttest drives the real programs that use PAM (sshd, sudo, su,
// login, atd), each with a PAM stack of the test's own, and leaves nothing
// behind.
//
// A [Machine] is a private view of the system it runs on: the same programs and
// libraries, but accounts, /etc/pam.d, sudoers, home folders, logs, terminals
// and /dev/log of its own. Nothing that is written there reaches a disk:
//
//   - /etc, /opt, /usr and /var are the system's and can be written
//   - /dev, /home, /root, /run, /tmp, /var/log, /var/mail and /var/spool are new
//   - all other folders are the system's, and read-only
//
// [Machine.Install] brings in what was built outside. Processes, /proc and the
// network are shared with the system, so that a test can look at what runs
// inside, and a server there can be reached from outside.
//
//	m := hosttest.NewMachine(t)
//	m.AddUser("alice", hosttest.User{Password: "open sesame", Groups: []string{"sudo"}})
//	m.PAM("sudo", hosttest.UnixStack)
//
//	c := m.Spawn("alice", "sudo", "id", "-un")
//	c.Answer("password for alice: ", "open sesame")
//	c.Expect("root\n")
//	c.WantExit(0)
//
// A [Terminal] is a person's terminal: see [Terminal.Expect]. [Machine.SSHD]
// starts a server and [Server.Login] a client for it.
//
// It needs root, because a private view is a mount namespace: tests begin with
// [Require]. A program that is no test gets its [TB] from [Run].
package hosttest

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"os"
	"path/filepath"
	"strings"
)

const atSpool = "/var/spool/cron/atjobs"

// At runs a shell script the way cron would: through atd (PAM service "atd",
// no terminal and nobody to talk to), as the user. It waits for the end and
// returns the job's output, which is empty as well if PAM refused: see the log.
// at is told the script by the user, but atd does the PAM calls.
func (m *Machine) At(user, script string) string {
	m.tb.Helper()
	m.startAtd()
	m.WriteFile(mailbox(user), 0o666, "")
	cmd := m.Command(user, "at", "now")
	cmd.Stdin = strings.NewReader(script + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		m.fatalf("at: %v: %s", err, out)
	}
	if !m.poll(m.noJobs) {
		m.fatalf("the job of %s did not end", user)
	}
	_, body, _ := strings.Cut(m.ReadFile(mailbox(user)), "\n\n")
	return body
}

func mailbox(user string) string { return "/var/mail/" + user }

// startAtd starts atd with an empty spool. It mails what jobs print.
func (m *Machine) startAtd() {
	m.tb.Helper()
	m.mu.Lock()
	running := m.atd
	m.atd = true
	m.mu.Unlock()
	if running {
		return
	}
	m.WriteFile("/usr/sbin/sendmail", 0o755, "#!/bin/sh\nexec cat >>\"/var/mail/$(id -un)\"\n")
	daemon := m.Account("daemon")
	m.inside(func() error { return makeAtSpool(daemon) })
	cmd := m.Command("root", "atd", "-f")
	if err := cmd.Start(); err != nil {
		m.tb.Fatalf("atd: %v", err)
	}
	go cmd.Wait()
	m.mu.Lock()
	m.services[cmd.Process.Pid] = "atd"
	m.mu.Unlock()
	if !m.poll(func() bool { return len(m.Glob("/run/atd.pid")) == 1 }) {
		m.fatalf("atd does not start")
	}
}

func makeAtSpool(daemon Account) error {
	if err := replaceFile(atSpool+"/.SEQ", 0o600, []byte("0\n")); err != nil {
		return err
	}
	if err := mkdirs(folder{atSpool, 0o1770}, folder{"/var/spool/cron/atspool", 0o1770}); err != nil {
		return err
	}
	for _, path := range []string{atSpool, atSpool + "/.SEQ", "/var/spool/cron/atspool"} {
		if err := os.Chown(path, daemon.UID, daemon.GID); err != nil {
			return err
		}
	}
	return nil
}

// noJobs reports whether atd has nothing to do and nothing is being done.
func (m *Machine) noJobs() bool {
	// A job that PAM refused stays in the spool, renamed to =...
	if len(m.Glob(filepath.Join(atSpool, "[^.=]*"))) > 0 {
		return false
	}
	all := m.Processes()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range all {
		if m.services[p.PID] == "atd" && len(below(all, p.PID)) > 0 {
			return false
		}
	}
	return true
}

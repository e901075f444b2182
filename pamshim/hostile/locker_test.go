// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// A host that runs as its user, as screen lockers do: there the provider does
// so, too, in a folder below TMPDIR.
func TestHostsThatRunAsTheirUser(t *testing.T) {
	for _, test := range []struct {
		name, tmp, traits string
		code              int
		prepare           func(m *hosttest.Machine)
	}{
		{name: "no TMPDIR"},
		{name: "an empty TMPDIR", tmp: "TMPDIR="},
		{name: "their own TMPDIR", tmp: "TMPDIR=/home/alice"},
		{name: "a link as TMPDIR", tmp: "TMPDIR=/home/alice/link", prepare: func(m *hosttest.Machine) {
			m.Run("alice", "ln", "-s", "/tmp", "/home/alice/link")
		}},
		{name: "a TMPDIR that is a file", tmp: "TMPDIR=/etc/hostname", code: systemErr},
		{name: "a TMPDIR that is missing", tmp: "TMPDIR=/nowhere", code: systemErr},
		{name: "a TMPDIR that they may not write", tmp: "TMPDIR=/etc", code: systemErr},
		{name: "a TMPDIR too long for a socket", tmp: "TMPDIR=/home/alice/" + strings.Repeat("x", 90),
			prepare: func(m *hosttest.Machine) { m.Run("alice", "mkdir", "/home/alice/"+strings.Repeat("x", 90)) }},
		{name: "all at once", traits: "ignores,masks,no_stdio,no_cwd,umask=0777,adopts,threads=65536"},
		{name: "proc that hides others", prepare: hideProcesses},
		{name: "folders of others in tmp", prepare: func(m *hosttest.Machine) {
			m.Run("nobody", "mkdir", "-p", "-m", "777", "/tmp/authn-"+uidOf(m, "alice")+"-1-1/x")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			if test.prepare != nil {
				test.prepare(m)
			}
			before := folders(m)
			env := []string{"PATH=/usr/bin:/bin"}
			if test.tmp != "" {
				env = append(env, test.tmp)
			}
			h := start(t, m, spec{user: "alice", env: env, traits: test.traits})
			alice := m.Account("alice")
			look := func(string, string) {
				if test.code == success {
					pristine(t, m, alice.UID, alice.GID, env[1:]...)
				}
			}
			for _, r := range h.play(look) {
				if r.code != test.code {
					t.Errorf("%s returned %d instead of %d", r.call, r.code, test.code)
				}
				if len(before) == len(r.foldersNow) {
					r.foldersNow = nil
				}
				r.unchanged(t)
			}
		})
	}
}

func uidOf(m *hosttest.Machine, user string) string { return strconv.Itoa(m.Account(user).UID) }

// hideProcesses gives the machine a /proc in which users see their own only.
func hideProcesses(m *hosttest.Machine) {
	m.Run("root", "mount", "-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
}

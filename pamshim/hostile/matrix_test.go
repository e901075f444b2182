// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// A variant is one kind of host.
type variant struct {
	name string
	spec
	code  int  // of all calls
	blind bool // do not look at the call's processes: others look like them, or have other limits
}

var variants = []variant{
	{name: "deaf to SIGCHLD", spec: spec{traits: "deaf"}},
	{name: "SIGCHLD handler"},
	{name: "handler that reaps any child", spec: spec{traits: "reaps"}},
	{name: "SIGCHLD ignored", spec: spec{traits: "ignores"}},
	{name: "waits for any child as login does", spec: spec{traits: "waits"}},
	{name: "all signals masked", spec: spec{traits: "masks"}},
	{name: "eight threads fork and dlopen", spec: spec{traits: "noise=8"}, blind: true},
	{name: "children hold copies of all descriptors", spec: spec{traits: "holds"}, blind: true},
	{name: "descriptors 0 to 2 closed", spec: spec{traits: "no_stdio"}},
	{name: "as many descriptors allowed as possible", spec: spec{traits: limit(unix.RLIMIT_NOFILE, most(), most())}},
	{name: "seven descriptors allowed", spec: spec{traits: limit(unix.RLIMIT_NOFILE, 7, 7)}, code: systemErr},
	{name: "twelve descriptors allowed", spec: spec{traits: limit(unix.RLIMIT_NOFILE, 12, 12)}, code: systemErr},
	{name: "64 descriptors allowed", spec: spec{traits: limit(unix.RLIMIT_NOFILE, 64, 64)}, blind: true},
	{name: "umask 0777", spec: spec{traits: "umask=0777"}},
	{name: "umask 0", spec: spec{traits: "umask=0"}},
	{name: "working folder deleted", spec: spec{traits: "no_cwd"}},
	{name: "subreaper", spec: spec{traits: "adopts"}},
	{name: "pid 1 of a namespace, proc of another", spec: spec{flags: unix.CLONE_NEWPID}},
	{name: "calls in threads that end", spec: spec{traits: "threads"}},
	{name: "threads with 64 KiB of stack", spec: spec{traits: "threads=65536"}},
	{name: "alarms every millisecond", spec: spec{traits: "alarms=1000"}},
	{name: "clone3 unknown", spec: spec{traits: refuse(unix.SYS_CLONE3, unix.ENOSYS)}},
	// As in containers of old, where no program of this libc can make a thread.
	{name: "clone3 refused", spec: spec{traits: refuse(unix.SYS_CLONE3, unix.EPERM)}, code: systemErr},
	{name: "close_range unknown", spec: spec{traits: refuse(unix.SYS_CLOSE_RANGE, unix.ENOSYS)}},
	{name: "close_range refused", spec: spec{traits: refuse(unix.SYS_CLOSE_RANGE, unix.EPERM)}},
	{name: "close_range refused, descriptors above the limit", spec: spec{traits: refuse(unix.SYS_CLOSE_RANGE, unix.EPERM) +
		"," + limit(unix.RLIMIT_NOFILE, 40, most())}},
	{name: "pidfd_open unknown", spec: spec{traits: refuse(unix.SYS_PIDFD_OPEN, unix.ENOSYS)}},
	{name: "pidfd_open refused", spec: spec{traits: refuse(unix.SYS_PIDFD_OPEN, unix.EPERM)}},
	{name: "everything at once", spec: spec{traits: "ignores,masks,no_stdio,no_cwd,umask=0777,adopts,threads=65536"}},
	{name: "hostile environment", spec: spec{env: hostileEnvironment}},
}

// hostileEnvironment would change what a Go program does, and say so where it
// was handed on.
var hostileEnvironment = []string{
	"PATH=/tmp/hostile", "TMPDIR=/tmp/hostile", "GODEBUG=hostile=1,netdns=cgo", "GOGC=hostile", "GOMEMLIMIT=hostile",
	"GOTRACEBACK=hostile", "HTTPS_PROXY=http://hostile", "HTTP_PROXY=http://hostile", "ALL_PROXY=hostile",
	"SSL_CERT_FILE=/tmp/hostile", "SSL_CERT_DIR=/tmp/hostile", "RES_OPTIONS=hostile", "LOCALDOMAIN=hostile",
	"HOSTALIASES=/tmp/hostile", "LD_LIBRARY_PATH=/tmp/hostile", "LD_BIND_NOW=hostile", "GCONV_PATH=/tmp/hostile",
	"MALLOC_PERTURB_=165", "AUTHN_SUBJECT=hostile", "AUTHN_PROVIDER=scenario", "AUTHN_ID=hostil", "AUTHN_WORKER=/tmp/hostile",
	"PLUGIN_UNIX_SOCKET_DIR=/tmp/hostile", "PLUGIN_PROTOCOL_VERSIONS=hostile", "LC_ALL=hostile", "IFS=hostile",
}

// most is how many descriptors this system lets a process have, a million at
// most.
func most() uint64 {
	var l unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return min(l.Max, 1<<20)
}

func limit(resource int, soft, hard uint64) string {
	return fmt.Sprintf("limit=%d:%d:%d", resource, soft, hard)
}

func refuse(call int, err unix.Errno) string { return fmt.Sprintf("refuse=%d:%d", call, int(err)) }

func TestCallsLeaveTheHostAsItWas(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			v.repeat = soak()
			h := start(t, m, v.spec)
			look := func(string, string) { pristine(t, m, 0, 0) }
			if v.blind || v.code != success {
				look = nil
			}
			for _, r := range h.play(look) {
				t.Run(r.call, func(t *testing.T) {
					if r.code != v.code {
						t.Errorf("returned %d instead of %d", r.code, v.code)
					}
					r.unchanged(t)
				})
				t.Logf("%s %d %d ms %d stack", r.call, r.code, r.ms, r.stack)
			}
			if t.Failed() {
				t.Logf("%s", m.LogText())
			}
		})
	}
}

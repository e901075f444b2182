// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// Another process of the provider's user, in no sandbox, tries to open the
// memory of every process as it starts. A provider that is installed unreadable
// gives it no moment; one that can be read closes itself first thing in its
// main, which is a few milliseconds late.
func TestNobodyReadsAProvidersMemory(t *testing.T) {
	for _, mode := range []os.FileMode{0o711, 0o755} {
		t.Run(fmt.Sprintf("installed_%04o", mode), func(t *testing.T) {
			m := newMachine(t)
			program := filepath.Join(pamtest.Dir(t), "authn-chaos")
			pamtest.CopyFile(t, m.program, program, mode)
			opened := 0
			for range 3 * repeats() {
				if m.peek(t, program) {
					opened++
				}
			}
			t.Logf("opened %d of %d at their start", opened, 3*repeats())
			if mode == 0o711 && opened > 0 {
				t.Errorf("the memory of %d providers could be opened", opened)
			}
		})
	}
}

// peek makes a call of the provider in program while another process of its
// user peeks, and reports whether that could open its memory.
func (m *machine) peek(t *testing.T, program string) bool {
	t.Helper()
	p := m.newPlace(t, "waits_alive", "", "timeout=1s")
	p.use(t, program)
	peeker := exec.Command(m.program)
	peeker.Env = []string{"CHAOS=peeks"}
	peeker.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(p.uid), Gid: uint32(p.uid)}}
	var out bytes.Buffer
	begun, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := peeker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	peeker.Stdout = stdout
	if err := peeker.Start(); err != nil {
		t.Fatal(err)
	}
	defer peeker.Wait() //nolint:errcheck // below
	defer stdin.Close() //nolint:errcheck // ends it
	_ = stdout.Close()
	p.known = []int{peeker.Process.Pid}
	if _, err := begun.Read(make([]byte, len("peeking\n"))); err != nil {
		t.Fatal(err)
	}

	later := error(nil)
	s := &step{at: "call", do: func(_, provider int) {
		cmd := exec.Command("/bin/sh", "-c", fmt.Sprintf(": </proc/%d/mem", provider)) //nolint:gosec // a pid
		cmd.SysProcAttr = peeker.SysProcAttr
		later = cmd.Run()
	}}
	if o := p.call(t, &person{}, authn.CallAuthenticate, s); o.result != authn.ErrSystem || !s.ran.Load() || len(o.left) > 0 {
		t.Fatalf("%s, left %s\n%s", o.result.Error(), o.left, strings.Join(o.lines, "\n"))
	}
	if later == nil {
		t.Error("the memory of a provider in its call could be opened")
	}
	if _, err := stdin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.ReadFrom(begun); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(out.String(), program+"\n")
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// keeperScript ends a machine: it waits for the end of its input, which comes
// when this process closes it or dies in whatever way, and kills all that lives
// in its mount namespace. Setuid programs lose Pdeathsig, daemons leave their
// parents and their process groups; nothing leaves the namespace.
const keeperScript = `
trap '' HUP INT QUIT TERM PIPE
read -r line
round=0
while [ $round -lt 1000 ]; do
	left=
	for p in /proc/[0-9]*; do
		if [ "$p" != "/proc/$$" ] && [ "$p/ns/mnt" -ef /proc/self/ns/mnt ]; then
			kill -KILL "${p#/proc/}" 2>/dev/null
			left="$left ${p#/proc/}"
		fi
	done
	[ "$left" ] || exit 0
	round=$((round + 1))
	sleep 0.01
done
echo "still alive:$left" >&2
exit 1
`

type keeper struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr strings.Builder
}

// startKeeper runs on the machine's thread.
func startKeeper() (*keeper, error) {
	k := &keeper{cmd: exec.Command("/bin/sh", "-c", `eval "$script"`)} // ps shows the arguments
	k.cmd.Args[0] = "hosttest-keeper"
	k.cmd.Stderr = &k.stderr
	k.cmd.Env = []string{"PATH=" + searchPath, "script=" + keeperScript}
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of Ctrl-C and of killed groups
	stdin, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	k.stdin = stdin
	return k, k.cmd.Start()
}

func (k *keeper) stop() error {
	k.stdin.Close()
	if err := k.cmd.Wait(); err != nil {
		return fmt.Errorf("keeper: %w: %s", err, strings.TrimSpace(k.stderr.String()))
	}
	return nil
}

// A Process is a process that lives in a machine.
type Process struct {
	PID, PPID int
	UID       int // the effective one
	Args      []string
}

func (p Process) String() string {
	return fmt.Sprintf("%d (child of %d, uid %d): %s", p.PID, p.PPID, p.UID, strings.Join(p.Args, " "))
}

// list writes one process a line.
func list(processes []Process) string {
	var b strings.Builder
	for _, p := range processes {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

// Processes returns all that runs in the machine but the package's own helper:
// sshd, atd, what is at the terminals, and whatever was left behind by any of
// them. Zombies do not count.
func (m *Machine) Processes() []Process {
	return slices.DeleteFunc(processesIn(m.ns), func(p Process) bool {
		return p.PID == m.keeper.cmd.Process.Pid
	})
}

// WaitIdle waits until only the servers that this package started are left in
// the machine. It ends the test, naming the rest, if that does not come true:
// a session or a helper of a PAM module has outlived its use.
func (m *Machine) WaitIdle() {
	m.tb.Helper()
	var left []Process
	if !m.poll(func() bool { left = m.strays(); return len(left) == 0 }) {
		m.fatalf("after %v there are still processes:\n%s", m.Timeout, list(left))
	}
}

func (m *Machine) strays() []Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(m.Processes(), func(p Process) bool { return m.services[p.PID] != "" })
}

// processesIn finds the processes of a mount namespace, as the system sees them.
func processesIn(ns string) []Process {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	var found []Process
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || target != ns {
			continue
		}
		if p, ok := readProcess(filepath.Dir(filepath.Dir(link))); ok {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Process) int { return a.PID - b.PID })
	return found
}

// readProcess reports false for a process that ended in the meantime.
func readProcess(dir string) (Process, bool) {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Process{}, false
	}
	var p Process
	p.PID, _ = strconv.Atoi(filepath.Base(dir))
	name := ""
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "Name":
			name = strings.TrimSpace(value)
		case key == "PPid":
			p.PPID, _ = strconv.Atoi(fields[0])
		case key == "Uid":
			p.UID, _ = strconv.Atoi(fields[1])
		}
	}
	args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	if p.Args = strings.Split(strings.TrimRight(string(args), "\x00"), "\x00"); p.Args[0] == "" {
		p.Args = []string{name}
	}
	return p, true
}

// below returns the processes that descend from pid.
func below(all []Process, pid int) []Process {
	parent := map[int]int{}
	for _, p := range all {
		parent[p.PID] = p.PPID
	}
	return slices.DeleteFunc(slices.Clone(all), func(p Process) bool {
		for at := p.PPID; at != pid; at = parent[at] {
			if at == 0 {
				return true
			}
		}
		return false
	})
}

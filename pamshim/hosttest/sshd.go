// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// An SSHD says how a server differs from the plainest one.
type SSHD struct {
	// Service is the name of the PAM stack. Defaults to "sshd".
	Service string
	// Options are lines of sshd_config. They win over the package's own, which
	// are: UsePAM and KbdInteractiveAuthentication yes, PasswordAuthentication
	// no, PermitRootLogin yes.
	Options []string
}

// A Server is an sshd in a machine, on a port of 127.0.0.1.
type Server struct {
	Port int

	m       *Machine
	service string
	cmd     *Cmd
	changed bell
	ended   chan struct{}
	logged  chan struct{} // closed once nobody can write to log any more

	mu  sync.Mutex
	log strings.Builder
}

const hostKey = "/etc/ssh/hosttest_ed25519"

// SSHD starts a server and waits until it listens.
func (m *Machine) SSHD(config SSHD) *Server {
	m.tb.Helper()
	if config.Service == "" {
		config.Service = "sshd"
	}
	m.makeHostKey()
	// Another program may take the free port before sshd does.
	for range 5 {
		if s := m.startSSHD(config, freePort(m.tb)); s != nil {
			return s
		}
	}
	m.tb.Fatalf("sshd found no free port")
	return nil
}

func (m *Machine) makeHostKey() {
	m.tb.Helper()
	if len(m.Glob(hostKey)) > 0 {
		return
	}
	if out, code := m.Run("root", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", hostKey); code != 0 {
		m.tb.Fatalf("ssh-keygen: %s", out)
	}
}

func freePort(tb TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// startSSHD returns nil if the port is taken.
func (m *Machine) startSSHD(config SSHD, port int) *Server {
	m.tb.Helper()
	file := fmt.Sprintf("/etc/ssh/sshd_config_%d", port)
	m.WriteFile(file, 0o644, sshdConfig(config, port))
	s := &Server{Port: port, m: m, service: config.Service, ended: make(chan struct{}), logged: make(chan struct{})}
	// This sshd's PAM service is the name it was called by.
	s.cmd = m.Command("root", m.linkSSHD(config.Service), "-D", "-e", "-f", file)
	s.run()
	listening := func() bool {
		return s.over() || strings.Contains(s.Log(), fmt.Sprintf("listening on 127.0.0.1 port %d.", port))
	}
	s.changed.await(m.Timeout, listening)
	if s.over() {
		<-s.logged // it has no children yet
	}
	switch {
	case !s.over():
	case strings.Contains(s.Log(), "Address already in use"):
		return nil
	default:
		m.tb.Fatalf("sshd does not start: %s", s.Log())
	}
	m.mu.Lock()
	m.servers = append(m.servers, s)
	m.mu.Unlock()
	m.trustHostKey(port)
	return s
}

func sshdConfig(config SSHD, port int) string {
	lines := append([]string(nil), config.Options...) // sshd heeds the first of two
	lines = append(lines, fmt.Sprintf("ListenAddress 127.0.0.1:%d", port),
		"HostKey "+hostKey, "PidFile none", "UsePAM yes", "KbdInteractiveAuthentication yes",
		"PasswordAuthentication no", "PermitRootLogin yes", "UseDNS no", "PrintMotd no",
		"PrintLastLog no", "LogLevel DEBUG")
	return strings.Join(lines, "\n") + "\n"
}

func (m *Machine) linkSSHD(service string) string {
	m.tb.Helper()
	const sshd = "/usr/sbin/sshd"
	if service == "sshd" {
		return sshd
	}
	link := filepath.Join("/usr/local/sbin", service)
	m.inside(func() error {
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return err
		}
		return os.Symlink(sshd, link)
	})
	return link
}

// trustHostKey spares the clients the question about a new host.
func (m *Machine) trustHostKey(port int) {
	m.tb.Helper()
	key := m.ReadFile(hostKey + ".pub")
	line := fmt.Sprintf("[127.0.0.1]:%d %s\n", port, strings.TrimSpace(key))
	const file = "/etc/ssh/ssh_known_hosts"
	m.inside(func() error {
		if _, err := os.Stat(file); err != nil {
			return replaceFile(file, 0o644, []byte(line))
		}
		return appendFile(file, line)
	})
}

// run starts sshd, with its log going to this process. A pipe of our own: that
// of exec.Cmd makes Wait wait for sessions, too.
func (s *Server) run() {
	s.m.tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.m.tb.Fatalf("%v", err)
	}
	s.cmd.Stderr = w
	if err := s.cmd.Start(); err != nil {
		s.m.tb.Fatalf("sshd: %v", err)
	}
	w.Close()
	s.m.mu.Lock()
	s.m.services[s.cmd.Process.Pid] = s.service
	s.m.mu.Unlock()
	go s.readLog(r)
	go func() {
		s.cmd.Wait()
		close(s.ended)
		s.changed.ring()
	}()
}

func (s *Server) readLog(r *os.File) {
	defer close(s.logged)
	defer r.Close()
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		s.mu.Lock()
		s.log.WriteString(strings.ReplaceAll(line, "\r", ""))
		s.mu.Unlock()
		s.changed.ring()
		if err != nil {
			return
		}
	}
}

// Log returns what sshd and its session processes have logged, at level DEBUG.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// WaitLog waits until sshd has logged text.
func (s *Server) WaitLog(text string) {
	s.m.tb.Helper()
	if !s.changed.await(s.m.Timeout, func() bool { return strings.Contains(s.Log(), text) }) {
		s.m.fatalf("sshd has not logged %q", text)
	}
}

// Sessions returns the processes below this sshd: of logins, of sessions and
// whatever they started and did not daemonize. See also [Machine.WaitIdle].
func (s *Server) Sessions() []Process {
	return below(s.m.Processes(), s.cmd.Process.Pid)
}

// WaitNoSessions waits until no process is left below this sshd.
func (s *Server) WaitNoSessions() {
	s.m.tb.Helper()
	var left []Process
	if !s.m.poll(func() bool { left = s.Sessions(); return len(left) == 0 }) {
		s.m.fatalf("sshd still has\n%s", list(left))
	}
}

// Stop kills sshd and all below it. The machine's end does so too.
func (s *Server) Stop() {
	s.m.tb.Helper()
	sessions := s.Sessions()
	s.cmd.Process.Kill()
	<-s.ended
	for _, p := range sessions {
		kill(p.PID, s.m.ns)
	}
	s.m.mu.Lock()
	delete(s.m.services, s.cmd.Process.Pid)
	s.m.mu.Unlock()
}

// kill ends a process if it (still) lives in the namespace.
func kill(pid int, ns string) {
	p, err := os.FindProcess(pid) // holds on to the process, not to its number
	if err != nil {
		return
	}
	defer p.Release()
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && at == ns {
		p.Kill()
	}
}

func (s *Server) over() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// A Login says how somebody logs in with ssh.
type Login struct {
	User    string   // the account on the server
	Command string   // defaults to the account's shell, on a terminal
	TTY     bool     // give Command a terminal, too
	Key     string   // private key file of the machine: see [Machine.Key]
	Options []string // of ssh_config, such as "NumberOfPasswordPrompts=3"
	From    string   // who runs ssh; defaults to root
}

// Login starts an ssh client on a new terminal. It answers keyboard-interactive
// requests (one only, unless Options say more), after the Key if there is one.
func (s *Server) Login(l Login) *Terminal {
	s.m.tb.Helper()
	if l.From == "" {
		l.From = "root"
	}
	return s.m.Spawn(l.From, "ssh", s.sshArgs(l)...)
}

func (s *Server) sshArgs(l Login) []string {
	methods := "keyboard-interactive"
	if l.Key != "" {
		methods = "publickey,keyboard-interactive"
	}
	options := append(append([]string(nil), l.Options...),
		"PreferredAuthentications="+methods, "NumberOfPasswordPrompts=1",
		"UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes")
	args := []string{"-F", "none", "-p", fmt.Sprint(s.Port)}
	for _, o := range options {
		args = append(args, "-o", o)
	}
	if l.Key != "" {
		args = append(args, "-i", l.Key)
	}
	if l.TTY {
		args = append(args, "-tt")
	}
	args = append(args, l.User+"@127.0.0.1")
	if l.Command != "" {
		args = append(args, l.Command)
	}
	return args
}

// Key makes a key pair for the user, lets it log in, and returns the private
// key's path.
func (m *Machine) Key(user string) string {
	m.tb.Helper()
	const script = `umask 077 && mkdir -p ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519 &&
cat ~/.ssh/id_ed25519.pub >>~/.ssh/authorized_keys`
	if out, code := m.Run(user, "/bin/sh", "-c", script); code != 0 {
		m.tb.Fatalf("make a key for %s: %s", user, out)
	}
	return filepath.Join(m.Account(user).Home, ".ssh/id_ed25519")
}

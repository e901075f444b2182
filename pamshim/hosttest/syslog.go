// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// An Entry is what a program in the machine wrote to syslog.
type Entry struct {
	Facility string // "authpriv"
	Severity string // "notice"
	Tag      string // the program
	PID      int    // 0 if it did not say
	Text     string
}

// String writes the entry as "authpriv.notice sudo[123]: text".
func (e Entry) String() string {
	pid := ""
	if e.PID != 0 {
		pid = fmt.Sprintf("[%d]", e.PID)
	}
	return fmt.Sprintf("%s.%s %s%s: %s", e.Facility, e.Severity, e.Tag, pid, e.Text)
}

// Log returns what was written to syslog up to now, all that any program wrote
// before the call included.
func (m *Machine) Log() []Entry {
	m.tb.Helper()
	if err := m.syslog.flush(m); err != nil {
		m.tb.Fatalf("read the log: %v", err)
	}
	return m.syslog.entries()
}

// LogText returns the [Machine.Log] as lines of text.
func (m *Machine) LogText() string {
	m.tb.Helper()
	return joinEntries(m.Log())
}

// WaitLog waits for an entry whose String matches the regular expression and
// returns the first.
func (m *Machine) WaitLog(pattern string) Entry {
	m.tb.Helper()
	re, err := regexp.Compile(pattern)
	if err != nil {
		m.tb.Fatalf("%v", err)
	}
	var found Entry
	ok := m.syslog.changed.await(m.Timeout, func() bool {
		for _, e := range m.syslog.entries() {
			if re.MatchString(e.String()) {
				found = e
				return true
			}
		}
		return false
	})
	if !ok {
		m.fatalf("nothing in the log matches %q", pattern)
	}
	return found
}

func joinEntries(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		b.WriteString(e.String() + "\n")
	}
	return b.String()
}

// syslog is the machine's syslogd.
type syslog struct {
	conn    *net.UnixConn
	self    *net.UnixConn // to write to conn
	changed bell
	ended   chan struct{}

	mu    sync.Mutex
	all   []Entry
	marks map[string]bool // of ours, that have come back
	next  int
}

// listenSyslog runs on the machine's thread.
func listenSyslog(path string) (*syslog, error) {
	addr := &net.UnixAddr{Name: path, Net: "unixgram"}
	conn, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		conn.Close()
		return nil, err
	}
	self, err := net.DialUnix("unixgram", nil, addr)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := &syslog{conn: conn, self: self, ended: make(chan struct{}), marks: map[string]bool{}}
	go s.read()
	return s, nil
}

func (s *syslog) close() {
	s.self.Close()
	s.conn.Close()
	<-s.ended
}

func (s *syslog) read() {
	defer close(s.ended)
	buf := make([]byte, 64<<10)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			return
		}
		s.add(string(buf[:n]))
		s.changed.ring()
	}
}

// mark begins what flush writes; syslog's own begin with "<".
const mark = "hosttest mark "

func (s *syslog) add(packet string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(packet, mark) {
		s.marks[packet] = true
		return
	}
	s.all = append(s.all, parseEntry(packet))
}

// flush writes a mark and waits for it: what was written before has then been
// read, for a socket keeps the order.
func (s *syslog) flush(m *Machine) error {
	s.mu.Lock()
	s.next++
	packet := mark + strconv.Itoa(s.next)
	s.mu.Unlock()
	if _, err := s.self.Write([]byte(packet)); err != nil {
		return err
	}
	seen := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.marks[packet]
	}
	if !s.changed.await(m.Timeout, seen) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (s *syslog) entries() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Entry(nil), s.all...)
}

var (
	facilities = strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp " +
		"12 13 14 15 local0 local1 local2 local3 local4 local5 local6 local7")
	severities = strings.Fields("emerg alert crit err warning notice info debug")

	// What syslog(3) writes: "<85>Feb  3 10:11:12 sudo[123]: text".
	packetForm = regexp.MustCompile(`(?s)^<(\d+)>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(?:([^\s\[:]+)(?:\[(\d+)\])?: ?)?(.*)$`)
)

// parseEntry keeps what it does not understand as text.
func parseEntry(packet string) Entry {
	packet = strings.TrimRight(packet, "\n\x00")
	match := packetForm.FindStringSubmatch(packet)
	if match == nil {
		return Entry{Facility: "?", Severity: "?", Text: packet}
	}
	priority, _ := strconv.Atoi(match[1])
	e := Entry{Facility: "?", Severity: severities[priority%8], Tag: match[2], Text: match[4]}
	if priority/8 < len(facilities) {
		e.Facility = facilities[priority/8]
	}
	e.PID, _ = strconv.Atoi(match[3])
	return e
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package journal writes the administrator's log: one line per call, in
// logfmt, to syslog or to the host's standard error.
package journal

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A Level is a syslog severity.
type Level int

// The severities that are used.
const (
	Alert   Level = 1
	Err     Level = 3
	Warning Level = 4
	Notice  Level = 5
	Info    Level = 6
	Debug   Level = 7
)

const authpriv = 10 << 3

// maxValue bounds a value as it is written, maxReason the value of those
// fields that are sentences: all of a line together stay below maxLine, so that
// nobody can push the result off its end.
const (
	maxValue  = 256
	maxReason = 1024
	maxLine   = 4096 // PIPE_BUF: what a pipe that is ready takes at once
)

// patience is how long a log that takes nothing may hold up a login, in all.
const patience = time.Second

// A Journal writes the lines of one call.
type Journal struct {
	Service string // PAM_SERVICE
	Group   string // auth, account, ...
	Pid     int    // the host's
	ID      string // joins the lines of an attempt
	Debug   bool

	// Stderr, if set, takes the lines instead of syslog.
	Stderr *os.File

	socket string      // syslog's; "": /dev/log
	stuck  atomic.Bool // the log took nothing for as long as we have patience
}

// Line writes fields (name, value, name, value ...), those with an empty value
// left out, and the id. Values are quoted where they need it, so that nobody
// can forge a line or a field.
func (j *Journal) Line(level Level, fields ...string) {
	if level == Debug && !j.Debug {
		return
	}
	service := tag(j.Service)
	text := fmt.Sprintf("%s[%d]: pam_authn(%s:%s): %s", service, j.Pid, service, j.Group,
		format(append(slices.Clip(fields), "id", j.ID)))
	if j.Stderr != nil {
		j.toStderr(text)
	} else {
		j.toSyslog(fmt.Sprintf("<%d>%s", authpriv|int(level), text))
	}
}

// Debugf writes a step that the word debug asks for.
func (j *Journal) Debugf(format string, args ...any) {
	if j.Debug {
		j.Line(Debug, "debug", fmt.Sprintf(format, args...))
	}
}

func format(fields []string) string {
	var parts []string
	for i := 0; i+1 < len(fields); i += 2 {
		limit := maxValue
		switch fields[i] {
		case "reason", "log", "debug":
			limit = maxReason
		}
		if fields[i+1] != "" {
			parts = append(parts, fields[i]+"="+Value(fields[i+1], limit))
		}
	}
	return strings.Join(parts, " ")
}

// Value writes s as a logfmt value: as it is, or quoted as Go does where it
// needs that. What has more than limit bytes ends in dots.
func Value(s string, limit int) string {
	quote := s == "" || strings.IndexFunc(s, special) >= 0
	var b strings.Builder
	for s != "" {
		_, size := utf8.DecodeRuneInString(s)
		piece := s[:size]
		if quote {
			piece = strings.TrimSuffix(strconv.Quote(piece)[1:], `"`)
		}
		if b.Len()+len(piece) > limit {
			b.WriteString("...")
			break
		}
		b.WriteString(piece)
		s = s[size:]
	}
	if quote {
		return `"` + b.String() + `"`
	}
	return b.String()
}

// special reports whether r makes a value need quotes.
func special(r rune) bool {
	return r == '"' || r == '=' || r == '\\' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
}

// tag keeps of a service's name what a syslog tag may hold.
func tag(service string) string {
	clean := strings.Map(func(r rune) rune {
		if r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return -1
	}, service)
	if len(clean) > 32 {
		clean = clean[:32]
	}
	if clean == "" {
		return "pam_authn"
	}
	return clean
}

// wait is how long to wait for a log that takes nothing.
func (j *Journal) wait() time.Duration {
	if j.stuck.Load() {
		return 0
	}
	return patience
}

// toSyslog sends one datagram, as RFC 3164 has it but for the time, which the
// log adds. There is nobody to tell if that fails.
func (j *Journal) toSyslog(line string) {
	path := j.socket
	if path == "" {
		path = "/dev/log"
	}
	conn, err := net.DialTimeout("unixgram", path, patience)
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // a datagram is sent or not
	if err := conn.SetWriteDeadline(time.Now().Add(max(j.wait(), time.Millisecond))); err != nil {
		return
	}
	if _, err := io.WriteString(conn, line); errors.Is(err, os.ErrDeadlineExceeded) {
		j.stuck.Store(true)
	}
}

// toStderr drops a line rather than blocking a login: the host's standard
// error may be a pipe that nobody reads. The writing is left to itself, since
// another process may fill the pipe in between.
func (j *Journal) toStderr(line string) {
	line = line[:min(len(line), maxLine-1)] + "\n"
	if !writable(j.Stderr, j.wait()) {
		j.stuck.Store(true)
		return
	}
	written := make(chan struct{})
	go func() {
		_, _ = io.WriteString(j.Stderr, line)
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(patience):
		j.stuck.Store(true)
	}
}

func writable(f *os.File, wait time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}} //nolint:gosec // a descriptor
	for {
		n, err := unix.Poll(fds, int(wait.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return err == nil && n == 1 && fds[0].Revents&unix.POLLOUT != 0
		}
	}
}

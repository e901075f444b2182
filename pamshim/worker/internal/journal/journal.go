// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package journal writes the administrator's log: one line per call, in
// logfmt, to syslog or to the host's standard error.
package journal

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
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

// maxValue bounds a value, maxReason the value of reason.
const (
	maxValue  = 256
	maxReason = 1024
)

// A Journal writes the lines of one call.
type Journal struct {
	Service string // PAM_SERVICE
	Group   string // auth, account, ...
	Pid     int    // the host's
	ID      string // joins the lines of an attempt
	Debug   bool

	// Stderr, if set, takes the lines instead of syslog.
	Stderr *os.File
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
		format(append(fields, "id", j.ID)))
	if j.Stderr != nil {
		writeIfReady(j.Stderr, text+"\n")
		return
	}
	// Nobody to tell if there is no syslog.
	_ = toSyslog(fmt.Sprintf("<%d>%s", authpriv|int(level), text))
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
		if fields[i] == "reason" || fields[i] == "log" {
			limit = maxReason
		}
		if fields[i+1] != "" {
			parts = append(parts, fields[i]+"="+Value(fields[i+1], limit))
		}
	}
	return strings.Join(parts, " ")
}

// Value writes s as a logfmt value of at most limit bytes before quoting.
func Value(s string, limit int) string {
	if len(s) > limit {
		cut := limit
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	if s != "" && strings.IndexFunc(s, special) < 0 {
		return s
	}
	return strconv.Quote(s)
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

func toSyslog(line string) error {
	conn, err := net.DialTimeout("unixgram", "/dev/log", time.Second)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a datagram is sent or not
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	_, err = io.WriteString(conn, line)
	return err
}

// writeIfReady drops a line rather than blocking a login: the host's standard
// error may be a pipe that nobody reads. At most PIPE_BUF bytes are written
// at once, which poll promises to fit.
func writeIfReady(f *os.File, line string) {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLOUT}} //nolint:gosec // a descriptor
	if n, err := unix.Poll(fds, 100); err == nil && n == 1 && fds[0].Revents&unix.POLLOUT != 0 {
		_, _ = io.WriteString(f, line[:min(len(line), 4096)])
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package pamtest

import (
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A collector reads the view's /dev/log.
type collector struct {
	path string

	mu      sync.Mutex
	changed *sync.Cond
	lines   []string
	marks   int // written
	seen    int // and read again
}

// syslog is nil where there is no view.
var syslog *collector

// mark begins what Log writes; lines of syslog begin with "<".
const mark = "mark "

func collect(path string) error {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // as any /dev/log
		return err
	}
	syslog = &collector{path: path}
	syslog.changed = sync.NewCond(&syslog.mu)
	go syslog.read(conn)
	return nil
}

func (c *collector) read(conn *net.UnixConn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		c.mu.Lock()
		if number, ok := strings.CutPrefix(string(buf[:n]), mark); ok {
			n, _ := strconv.Atoi(number)
			c.seen = max(c.seen, n) // two may have been written the other way round
		} else {
			c.lines = append(c.lines, string(buf[:n]))
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// flush writes a mark and waits for it: a socket keeps the order.
func (c *collector) flush() error {
	conn, err := net.Dial("unixgram", c.path)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // a datagram is sent or not
	c.mu.Lock()
	c.marks++
	number := c.marks
	c.mu.Unlock()
	if _, err := conn.Write([]byte(mark + strconv.Itoa(number))); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.seen < number {
		c.changed.Wait()
	}
	return nil
}

// Log returns what was written to the view's syslog in the name of a PAM
// service, as "<priority>service[pid]: text", all that was written before the
// call included.
func Log(t testing.TB, service string) []string {
	t.Helper()
	Root(t)
	if err := syslog.flush(); err != nil {
		t.Fatal(err)
	}
	syslog.mu.Lock()
	defer syslog.mu.Unlock()
	return syslog.of(service)
}

// WaitLog is Log once there are n lines or more: for what is written by a
// process that nobody waits for.
func WaitLog(t testing.TB, service string, n int) []string {
	t.Helper()
	Root(t)
	expired := time.AfterFunc(time.Minute, func() { syslog.changed.Broadcast() })
	defer expired.Stop()
	deadline := time.Now().Add(time.Minute)
	syslog.mu.Lock()
	defer syslog.mu.Unlock()
	for len(syslog.of(service)) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d lines of %s in the log after a minute, want %d", len(syslog.of(service)), service, n)
		}
		syslog.changed.Wait()
	}
	return syslog.of(service)
}

func (c *collector) of(service string) []string {
	var lines []string
	for _, line := range c.lines {
		_, rest, _ := strings.Cut(line, ">")
		if strings.HasPrefix(rest, service+"[") {
			lines = append(lines, line)
		}
	}
	return lines
}

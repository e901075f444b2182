// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
)

// A syslogd that hangs keeps its socket, and the queue is full.
func TestASyslogThatHangsRefusesNobody(t *testing.T) {
	m := newMachine(t)
	good := m.newPlace(t, "logs_much_then_succeeds", "", "timeout=10s")
	bad := m.newPlace(t, "never_handshakes", "", "timeout=1s")
	hang(t)
	if o := good.run(t, &person{}, authn.CallAuthenticate, nil, func() {}); o.result != authn.Success || o.took > 4*time.Second {
		t.Errorf("%s after %s", o.result.Error(), o.took)
	} else {
		t.Logf("a login with 65 lines for the log took %s", o.took)
	}
	if o := bad.run(t, &person{}, authn.CallAuthenticate, nil, func() {}); o.result != authn.ErrSystem || o.took > 5*time.Second {
		t.Errorf("%s after %s", o.result.Error(), o.took)
	}
}

// hang puts a log nobody reads into the place of the one that is read.
func hang(t *testing.T) {
	t.Helper()
	const log, away = "/dev/log", "/dev/log.away"
	if err := os.Rename(log, away); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: log, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		_ = l.Close()
		if err := os.Rename(away, log); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(restore)
	c, err := net.Dial("unixgram", log)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // what is in the queue stays
	if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = c.Write([]byte("full"))
	}
}

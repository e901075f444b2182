// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

// From a fresh installation to a login, all of it with the camera, on terminals
// of 80x24.
func TestFirstLogin(t *testing.T) {
	m := newMachine(t, "sshd", "sudo", "su")
	server := m.sshd()
	m.shipped("sudo", "sudo")
	m.shipped("su", "su")

	root := m.screen("root")
	root.enter("clear; authn-qrcode-enroll alice " + subject + " blue phone")
	m.state("enrol", root.scan("It is good for 100 seconds and for one phone; let nobody else see it."))
	m.state("enrol-digits", m.phone.Enrol())
	root.wait("Code shown on the phone:")
	root.enter(m.digits())
	root.wait("$")
	if line := m.ReadFile(folder + "alice"); !strings.HasPrefix(line, "passkey "+subject+" localhost ") || !strings.HasSuffix(line, " blue phone\n") {
		t.Errorf("the approvers are %q", line)
	}

	t.Run("ssh", func(t *testing.T) {
		root.config(server.Port, "User alice")
		root.enter("clear; ssh db7")
		root.login(map[string]string{"host": "db7", "account": "alice", "service": "sshd", "rhost": "127.0.0.1"})
		m.phone.Wait("in")
		root.wait("$")
		root.enter("clear; id -un; echo $AUTHN_SUBJECT; exit")
		root.wait("$", "alice", subject, "Connection to 127.0.0.1 closed.")
		m.WaitLog(`authpriv\.\w+ .*pam_authn\(sshd:auth\): provider=qrcode user=alice subject=mittens@example\.com rhost=127\.0\.0\.1 tty=ssh result=success`)
		m.WaitLog(`pam_authn\(sshd:account\): provider=qrcode user=alice .*result=success`)
	})
	root.close()

	alice := m.screen("alice")
	t.Run("sudo", func(t *testing.T) {
		alice.enter("clear; sudo id -un")
		alice.login(map[string]string{"host": "db7", "account": "alice", "service": "sudo", "rhost": ""})
		m.phone.Wait("in")
		alice.wait("$", "root")
		m.WaitLog(`pam_authn\(sudo:auth\): provider=qrcode user=alice subject=mittens@example\.com tty=/dev/pts/\d+ ruser=alice result=success`)
	})
	alice.close()

	bob := m.screen("bob")
	t.Run("su", func(t *testing.T) {
		bob.enter("clear; su alice -c 'id -un; echo $AUTHN_SUBJECT'")
		bob.login(map[string]string{"host": "db7", "account": "alice", "service": "su", "rhost": ""})
		m.phone.Wait("in")
		bob.wait("$", "alice", subject)
		m.WaitLog(`pam_authn\(su:auth\): provider=qrcode user=alice subject=mittens@example\.com tty=/dev/pts/\d+ ruser=bob result=success`)
	})
	bob.close()
	m.idle(server)
}

// Other pictures than the usual one.
func TestScreens(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	server := m.sshd()
	s := m.screen("root")
	s.config(server.Port, "User alice")
	ssh := func() { s.enter("clear; ssh db7 'echo in as $AUTHN_SUBJECT'") }
	in := func() { s.wait("$", "in as "+subject) }

	t.Run("the_predecessors_format_just_fits", func(t *testing.T) {
		m.configure(m.relay.url, "payload: qrauth")
		ssh()
		s.login(nil)
		in()
		m.WaitLog("result=success")
	})
	t.Run("invert_is_for_dark_text_on_a_light_ground", func(t *testing.T) {
		m.configure(m.relay.url, "invert: true")
		s.light = true
		ssh()
		s.login(nil)
		in()
	})
	t.Run("without_a_picture_there_is_a_link", func(t *testing.T) {
		m.configure(m.relay.url, "qr: off")
		ssh()
		text := s.wait(strings.TrimSpace(prompt))
		link := regexp.MustCompile(`open (http://localhost:\d+/1#)([A-Z2-7]+)\n?([A-Z2-7]*)\n`).FindStringSubmatch(text)
		if link == nil || strings.ContainsRune(text, '\u2588') {
			t.Fatalf("the screen shows\n%s", text)
		}
		m.state("details", m.phone.Open(link[1]+link[2]+link[3])) // a terminal's end of line is no part of it
		m.state("digits", m.phone.Approve())
		s.enter(m.digits())
		in()
	})
	s.close()
	m.idle(server)
}

func TestKeys(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	key := m.Key("alice")

	t.Run("a_key_alone_logs_in_and_the_relay_is_not_asked", func(t *testing.T) {
		s := m.sshd()
		before := strings.Count(m.relay.log.String(), "\n")
		c := s.Login(hosttest.Login{User: "alice", Key: key, Command: "env; echo in"})
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, prompt)
		m.lacks(c, "AUTHN_")
		m.WaitLog(`pam_authn\(sshd:account\): provider=qrcode user=alice rhost=127\.0\.0\.1 tty=ssh result=ignore`)
		if after := strings.Count(m.relay.log.String(), "\n"); after != before {
			t.Errorf("the relay logged\n%s", m.relay.log)
		}
		m.idle(s)
	})
	t.Run("key_or_code_is_what_a_space_means", func(t *testing.T) {
		s := m.sshd("AuthenticationMethods publickey keyboard-interactive:pam")
		c := s.Login(hosttest.Login{User: "alice", Key: key, Command: "echo in"})
		c.Expect("in\n")
		c.WantExit(0)
		m.lacks(c, prompt)
		c = s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		m.login(c)
		c.Expect("in\n")
		c.WantExit(0)
		m.idle(s)
	})
	t.Run("key_and_code_are_the_strongest_setup", func(t *testing.T) {
		s := m.sshd(m.readme("(?:AuthenticationMethods publickey,keyboard-interactive:pam|LoginGraceTime .*)", 2)...)
		c := s.Login(hosttest.Login{User: "alice", Key: key, Command: "echo in"})
		m.login(c)
		c.Expect("in\n")
		c.WantExit(0)
		// A stranger never gets a code.
		c = s.Login(hosttest.Login{User: "alice", Command: "echo in"})
		c.WantExit(255)
		m.lacks(c, "Scan this")
		m.idle(s)
	})
}

// For people who log in fifty times a day, as README.md has it.
func TestControlPersist(t *testing.T) {
	m := enrolledMachine(t, "sshd")
	s := m.sshd()
	m.Mkdir("/root/.ssh", 0o700)
	options := m.readme("Control[A-Z].*", 3)
	login := func() *hosttest.Terminal {
		return s.Login(hosttest.Login{User: "alice", Command: "echo in as $AUTHN_SUBJECT", Options: options})
	}
	c := login()
	m.login(c)
	c.Expect("in as " + subject + "\n")
	c.WantExit(0)
	const asked = "pam_authn(sshd:auth): provider=qrcode user="
	before := strings.Count(m.LogText(), asked)
	for range 3 {
		c = login()
		c.Expect("in as " + subject + "\n")
		c.WantExit(0)
		m.lacks(c, prompt)
	}
	if after := strings.Count(m.LogText(), asked); after != before || before != 1 {
		t.Errorf("asked %d times, and then %d times more", before, after-before)
	}
	for _, control := range m.Glob("/root/.ssh/*") {
		if out, code := m.Run("root", "ssh", "-F", "none", "-o", "ControlPath="+control, "-O", "exit", "alice@127.0.0.1"); code != 0 {
			t.Errorf("ssh -O exit: %s", out)
		}
	}
	m.idle(s)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstUID is where a machine's own users begin. Machines differ in it, because
// limits and signals (kill -1) reach all processes of a uid in the system.
func firstUID(ns string) int {
	digits := strings.TrimFunc(ns, func(r rune) bool { return r < '0' || r > '9' })
	n, _ := strconv.Atoi(digits)
	return 20001 + n%400*100
}

// A User says how an account differs from the plainest one.
type User struct {
	Password        string   // no password can be right if empty
	Groups          []string // supplementary groups; missing ones are made
	Shell           string   // defaults to /bin/sh
	Home            string   // defaults to /home/NAME, and is made
	UID             int      // defaults to one that no other machine uses; the primary group has the same number
	PasswordExpired bool     // must choose a new password at login
	AccountExpired  bool     // may not log in any more
}

// An Account is a user of the machine.
type Account struct {
	Name   string
	UID    int
	GID    int
	Groups []int // supplementary
	Home   string
	Shell  string
}

// AddUser makes an account. For a name that exists (root, daemon), it changes
// password, expiry and groups, and keeps the rest.
func (m *Machine) AddUser(name string, u User) Account {
	m.tb.Helper()
	hash := m.hash(u.Password)
	m.inside(func() error { return addUser(name, u, hash, firstUID(m.ns)) })
	return m.Account(name)
}

// Account returns the account called name.
func (m *Machine) Account(name string) Account {
	m.tb.Helper()
	var a Account
	m.inside(func() (err error) { a, err = lookAccount(name); return err })
	return a
}

func (m *Machine) hash(password string) string {
	m.tb.Helper()
	if password == "" {
		return "*"
	}
	cmd := m.Command("root", "openssl", "passwd", "-6", "-stdin")
	cmd.Stdin = strings.NewReader(password)
	out, err := cmd.Output()
	if err != nil {
		m.tb.Fatalf("openssl passwd: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// A table is passwd, shadow or group: lines of fields, the first of them a name.
type table struct {
	path string
	mode os.FileMode
	rows [][]string
}

func readTable(path string, mode os.FileMode) (*table, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t := &table{path: path, mode: mode}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) > 1 {
			t.rows = append(t.rows, fields)
		}
	}
	return t, nil
}

func (t *table) find(name string) []string {
	for _, row := range t.rows {
		if row[0] == name {
			return row
		}
	}
	return nil
}

// set replaces the row of that name or adds one.
func (t *table) set(row ...string) {
	for i := range t.rows {
		if t.rows[i][0] == row[0] {
			t.rows[i] = row
			return
		}
	}
	t.rows = append(t.rows, row)
}

func (t *table) write() error {
	var b strings.Builder
	for _, row := range t.rows {
		b.WriteString(strings.Join(row, ":") + "\n")
	}
	return replaceFile(t.path, t.mode, []byte(b.String()))
}

type accounts struct {
	passwd, shadow, group *table
	firstID               int // of those that freeID gives out
}

func readAccounts() (a accounts, err error) {
	if a.passwd, err = readTable("/etc/passwd", 0o644); err != nil {
		return a, err
	}
	if a.shadow, err = readTable("/etc/shadow", 0o640); err != nil {
		return a, err
	}
	a.group, err = readTable("/etc/group", 0o644)
	return a, err
}

func (a accounts) write() error {
	for _, t := range []*table{a.passwd, a.shadow, a.group} {
		if err := t.write(); err != nil {
			return err
		}
	}
	return os.Chown(a.shadow.path, 0, a.gid("shadow")) // for unix_chkpwd
}

// resetAccounts drops the system's people and everybody's password.
func resetAccounts() error {
	a, err := readAccounts()
	if err != nil {
		return err
	}
	person := func(id string) bool { n, _ := strconv.Atoi(id); return n >= 1000 && n < 65534 }
	a.passwd.rows = slices.DeleteFunc(a.passwd.rows, func(r []string) bool { return len(r) < 7 || person(r[2]) })
	a.group.rows = slices.DeleteFunc(a.group.rows, func(r []string) bool { return len(r) < 4 || person(r[2]) })
	for _, row := range a.group.rows {
		row[3] = ""
	}
	a.shadow.rows = nil
	for _, row := range a.passwd.rows {
		row[1] = "x"
		a.shadow.set(shadowRow(row[0], "*", User{})...)
	}
	if err := a.write(); err != nil {
		return err
	}
	// For these groups' sake some programs are setgid.
	for path, group := range map[string]string{
		"/var/spool/cron/crontabs": "crontab", "/run/utmp": "utmp", "/var/log/wtmp": "utmp",
		"/var/log/btmp": "utmp", "/var/log/lastlog": "utmp",
	} {
		if err := os.Chown(path, 0, a.gid(group)); err != nil {
			return err
		}
	}
	return replaceFile("/etc/gshadow", 0o640, nil)
}

// gid returns 0 for a group that is missing: what it is for is not installed.
func (a accounts) gid(group string) int {
	row := a.group.find(group)
	if row == nil {
		return 0
	}
	gid, _ := strconv.Atoi(row[2])
	return gid
}

func shadowRow(name, hash string, u User) []string {
	changed, expires := "19000", ""
	if u.PasswordExpired {
		changed = "0"
	}
	if u.AccountExpired {
		expires = "1"
	}
	return []string{name, hash, changed, "0", "99999", "7", "", expires, ""}
}

func addUser(name string, u User, hash string, firstID int) error {
	a, err := readAccounts()
	if err != nil {
		return err
	}
	a.firstID = firstID
	made := a.passwd.find(name) == nil
	if made {
		a.addPasswd(name, u)
	}
	a.shadow.set(shadowRow(name, hash, u)...)
	for _, group := range u.Groups {
		a.join(group, name)
	}
	if err := a.write(); err != nil || !made {
		return err
	}
	return makeHome(name)
}

func (a accounts) addPasswd(name string, u User) {
	if u.UID == 0 {
		u.UID = a.freeID()
	}
	if u.Home == "" {
		u.Home = "/home/" + name
	}
	if u.Shell == "" {
		u.Shell = "/bin/sh"
	}
	id := strconv.Itoa(u.UID)
	a.passwd.set(name, "x", id, id, "", u.Home, u.Shell)
	a.group.set(name, "x", id, "")
}

// freeID returns a number that is free both as a uid and as a gid.
func (a accounts) freeID() int {
	for id := a.firstID; ; id++ {
		taken := func(row []string) bool { return row[2] == strconv.Itoa(id) }
		if !slices.ContainsFunc(a.passwd.rows, taken) && !slices.ContainsFunc(a.group.rows, taken) {
			return id
		}
	}
}

func (a accounts) join(group, name string) {
	row := a.group.find(group)
	if row == nil {
		row = []string{group, "x", strconv.Itoa(a.freeID()), ""}
		a.group.set(row...)
	}
	members := strings.FieldsFunc(row[3], func(r rune) bool { return r == ',' })
	if !slices.Contains(members, name) {
		row[3] = strings.Join(append(members, name), ",")
	}
}

func makeHome(name string) error {
	a, err := lookAccount(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(a.Home), 0o755); err != nil {
		return err
	}
	switch err := os.Mkdir(a.Home, 0o755); {
	case os.IsExist(err), errors.Is(err, unix.EROFS):
		return nil // not for making, such as / and /nonexistent
	case err != nil:
		return err
	}
	return os.Chown(a.Home, a.UID, a.GID)
}

// lookAccount reads the tables itself: os/user asks the system's NSS, which may
// remember the answers of another namespace.
func lookAccount(name string) (Account, error) {
	all, err := readAccounts()
	if err != nil {
		return Account{}, err
	}
	row := all.passwd.find(name)
	if row == nil {
		return Account{}, fmt.Errorf("no user %q on the machine", name)
	}
	a := Account{Name: name, Home: row[5], Shell: row[6]}
	a.UID, _ = strconv.Atoi(row[2])
	a.GID, _ = strconv.Atoi(row[3])
	for _, g := range all.group.rows {
		if slices.Contains(strings.Split(g[3], ","), name) {
			gid, _ := strconv.Atoi(g[2])
			a.Groups = append(a.Groups, gid)
		}
	}
	return a, nil
}

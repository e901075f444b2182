// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
)

// maxAccounts bounds how many files of a folder are looked at.
const maxAccounts = 100_000

// A Store is the folder with a file of approvers for each account.
type Store struct {
	pattern string
}

// OpenStore returns the store of a path with %u in its last part.
func OpenStore(pattern string) *Store { return &Store{pattern} }

// Folder is where the files are.
func (s *Store) Folder() string { return filepath.Dir(s.pattern) }

func (s *Store) name(account string) string {
	return strings.ReplaceAll(filepath.Base(s.pattern), "%u", account)
}

// Path is the account's file.
func (s *Store) Path(account string) string { return filepath.Join(s.Folder(), s.name(account)) }

// Prepare makes the folder, and those above it, where they are missing, and
// tries whether the account's file can be written, which it leaves alone. It
// refuses whatever the worker would refuse to read: links, and what others
// could change.
func (s *Store) Prepare(account string) error {
	if err := makeFolder(s.Folder()); err != nil {
		return err
	}
	dir, err := s.open()
	if err != nil {
		return err
	}
	defer dir.close()
	if _, err := s.read(account); err != nil {
		return err
	}
	temp, f, err := dir.temp(account)
	if err != nil {
		return err
	}
	_ = f.Close()
	return dir.unlink(temp)
}

// makeFolder makes a folder and those above it: 0755, ours.
func makeFolder(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // judged when it is opened
	}
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := safefile.CheckFolder(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil { //nolint:gosec // everybody may know who approves
		return err
	}
	return os.Chmod(path, 0o755) //nolint:gosec // whatever the umask
}

// A folder is the store's, opened: all that is done in it is done in this very
// one.
type folder struct {
	fd   int
	path string
}

// open checks the folder and those above it, and waits for others that write.
func (s *Store) open() (*folder, error) {
	path := s.Folder()
	if err := safefile.CheckFolder(path); err != nil {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return &folder{fd, path}, nil
}

func (d *folder) close() { _ = unix.Close(d.fd) }

// temp makes a new file beside the account's. No account has such a name.
func (d *folder) temp(account string) (string, *os.File, error) {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	name := "." + account + "." + hex.EncodeToString(random)
	fd, err := unix.Openat(d.fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", nil, &fs.PathError{Op: "write in", Path: d.path, Err: err}
	}
	return name, os.NewFile(uintptr(fd), name), nil
}

func (d *folder) unlink(name string) error { return unix.Unlinkat(d.fd, name, 0) }

// replace gives the account's file a new content, all at once: whoever reads
// it sees the old or the new one.
func (d *folder) replace(account, name string, content []byte) error {
	if len(content) > approvers.MaxFile {
		return fmt.Errorf("%s would have more than %d bytes: remove old approvers first", filepath.Join(d.path, name), approvers.MaxFile)
	}
	temp, f, err := d.temp(account)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync())
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(d.fd, temp, d.fd, name)
	}
	if err != nil {
		_ = d.unlink(temp)
		return fmt.Errorf("writing %s: %w", filepath.Join(d.path, name), err)
	}
	return unix.Fsync(d.fd)
}

// read returns the account's file, nil if there is none.
func (s *Store) read(account string) ([]byte, error) {
	data, err := safefile.ReadStrict(s.Path(account), approvers.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// An Account is one file of the store.
type Account struct {
	Name      string
	Approvers []approvers.Approver
	Problems  []error // of lines that are no approvers, or of the file
}

// List returns all accounts that have a file, by name.
func (s *Store) List() ([]Account, error) {
	entries, err := os.ReadDir(s.Folder())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := safefile.CheckFolder(s.Folder()); err != nil {
		return nil, err
	}
	if len(entries) > maxAccounts {
		return nil, fmt.Errorf("%s has more than %d files", s.Folder(), maxAccounts)
	}
	var all []Account
	for _, e := range entries {
		if name, ok := s.account(e.Name()); ok {
			all = append(all, s.Account(name))
		}
	}
	return all, nil
}

// account returns the account whose file has this name.
func (s *Store) account(file string) (string, bool) {
	before, behind, _ := strings.Cut(filepath.Base(s.pattern), "%u")
	name, ok1 := strings.CutPrefix(file, before)
	name, ok2 := strings.CutSuffix(name, behind)
	return name, ok1 && ok2 && CheckAccount(name) == nil
}

// Account returns one account, which may have no approvers.
func (s *Store) Account(name string) Account {
	a := Account{Name: name}
	data, err := s.read(name)
	if err != nil {
		a.Problems = []error{err}
		return a
	}
	a.Approvers, a.Problems = approvers.Parse(data)
	for i, err := range a.Problems {
		a.Problems[i] = fmt.Errorf("%s: %w", s.Path(name), err)
	}
	return a
}

// Handle returns the user handle that the subject has in any account, the given
// one first, or nil. One person has one handle: a phone then keeps one passkey
// of them.
func (s *Store) Handle(account, subject string) ([]byte, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	all = append([]Account{s.Account(account)}, all...)
	for _, a := range all {
		for _, p := range a.Approvers {
			if p.Subject == subject && p.Passkey != nil && len(p.Passkey.UserHandle) <= maxHandle {
				return p.Passkey.UserHandle, nil
			}
		}
	}
	return nil, nil
}

// Taken reports whether the credential of a is in use: a passkey for any
// account, since a new one is new; who signs in by OpenID Connect for this
// account, since one person may do so for several.
func (s *Store) Taken(account string, a approvers.Approver) (bool, error) {
	all := []Account{s.Account(account)}
	if a.Passkey != nil {
		var err error
		if all, err = s.List(); err != nil {
			return false, err
		}
	}
	for i := range all {
		if slices.ContainsFunc(all[i].Approvers, func(b approvers.Approver) bool { return same(a, b) }) {
			return true, nil
		}
	}
	return false, nil
}

// Add writes a behind the account's approvers, of whom none may have the same
// credential.
func (s *Store) Add(account string, a approvers.Approver) error {
	dir, err := s.open()
	if err != nil {
		return err
	}
	defer dir.close()
	data, err := s.read(account)
	if err != nil {
		return err
	}
	list, _ := approvers.Parse(data)
	if slices.ContainsFunc(list, func(b approvers.Approver) bool { return same(a, b) }) {
		return KeyExists
	}
	data = slices.Clone(data)
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	return dir.replace(account, s.name(account), append(data, a.Line()+"\n"...))
}

// Remove takes the approvers that match out of the account's file, and returns
// them. All other lines stay as they are.
func (s *Store) Remove(account string, match func(approvers.Approver) bool) ([]approvers.Approver, error) {
	dir, err := s.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.close()
	data, err := s.read(account)
	if err != nil {
		return nil, err
	}
	var kept []byte
	var removed []approvers.Approver
	for line := range bytes.Lines(data) {
		list, _ := approvers.Parse(line)
		if len(list) == 1 && match(list[0]) {
			removed = append(removed, list[0])
			continue
		}
		kept = append(kept, line...)
	}
	if len(removed) == 0 {
		return nil, nil
	}
	return removed, dir.replace(account, s.name(account), kept)
}

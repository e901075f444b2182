// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tokenHash is what is kept of a host's token. The zero value stands for none.
type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash { return sha256.Sum256([]byte(token)) }

// A Token is what a token file says of one.
type Token struct {
	Name   string // the administrator's
	Issued string // day, as 2006-01-02
	hash   tokenHash
}

// Tokens are the host tokens of a file, which holds one line for each: name,
// SHA-256, day. The zero value has none.
type Tokens struct {
	path string

	mu     sync.Mutex
	exists bool // the file does: once issued, tokens are wanted for good
	stamp  stamp
	reads  int // how often the tokens changed
	byHash map[tokenHash]Token
}

// stamp tells whether a file has changed.
type stamp struct {
	mtime time.Time
	size  int64
	inode uint64
}

const (
	maxTokenFile = 1 << 20
	tokenPrefix  = "qrh_" // lets scanners of leaked secrets know them
)

// OpenTokens reads a token file. One that does not exist has no tokens; it is
// made when the first is issued.
func OpenTokens(path string) (*Tokens, error) {
	t := &Tokens{path: path}
	_, err := t.Reload()
	return t, err
}

// Reload reads the file again if it has changed, and says whether it had. On an
// error, the tokens stay what they were. Where the file has gone, so have the
// tokens.
func (t *Tokens) Reload() (changed bool, err error) {
	if t.path == "" {
		return false, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f, err := openPrivate(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		if changed = len(t.byHash) > 0; changed {
			t.reads++
		}
		t.byHash, t.stamp = nil, stamp{}
		return changed, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	now, err := stampOf(f)
	if err != nil || now == t.stamp {
		return false, err
	}
	list, err := readTokens(f)
	if err != nil {
		return false, err
	}
	t.reads++
	t.exists, t.stamp, t.byHash = true, now, make(map[tokenHash]Token, len(list))
	for _, token := range list {
		t.byHash[token.hash] = token
	}
	return true, nil
}

func stampOf(f *os.File) (stamp, error) {
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, fmt.Errorf("%s: no inode", f.Name())
	}
	return stamp{info.ModTime(), info.Size(), st.Ino}, nil
}

// openPrivate opens a file that only its owner may read: us or root.
func openPrivate(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0) //nolint:gosec // the administrator's
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(f); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return fmt.Errorf("%s: not a regular file", f.Name())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s: others may read or write it (chmod 600)", f.Name())
	case int(st.Uid) != os.Geteuid() && st.Uid != 0 && os.Geteuid() != 0:
		return fmt.Errorf("%s: belongs to another user", f.Name())
	case info.Size() > maxTokenFile:
		return fmt.Errorf("%s: too large", f.Name())
	}
	return nil
}

func readTokens(f *os.File) ([]Token, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return nil, err
	}
	var list []Token
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		token, err := parseToken(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.Name(), i+1, err)
		}
		list = append(list, token)
	}
	return list, nil
}

func parseToken(line string) (Token, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 || !validTokenName(fields[0]) {
		return Token{}, errors.New("not a name, a SHA-256 and a day")
	}
	sum, err := hex.DecodeString(fields[1])
	if err != nil || len(sum) != sha256.Size {
		return Token{}, errors.New("not a SHA-256 in hex")
	}
	return Token{fields[0], fields[2], tokenHash(sum)}, nil
}

// validTokenName is for names of machines or of groups of them.
func validTokenName(name string) bool {
	return name != "" && len(name) <= 64 && name[0] != '-' && strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// known reports whether a token with this hash was issued, and not revoked.
func (t *Tokens) known(hash tokenHash) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.byHash[hash]
	return ok
}

// issued reports whether a token ever was. Where all are revoked, hosts are
// refused, not let in without.
func (t *Tokens) issued() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.exists
}

// version changes when the tokens do.
func (t *Tokens) version() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reads
}

func (t *Tokens) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byHash)
}

// List returns the tokens in the order of their names.
func (t *Tokens) List() []Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]Token, 0, len(t.byHash))
	for _, token := range t.byHash {
		list = append(list, token)
	}
	slices.SortFunc(list, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Issue adds a token of this name to the file and returns it. It is not kept,
// so this is the only time that anybody sees it.
func (t *Tokens) Issue(name string) (string, error) {
	if !validTokenName(name) {
		return "", fmt.Errorf("%q is no name: letters, digits, dot, dash and underscore, at most 64", name)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	token := tokenPrefix + base64.RawURLEncoding.EncodeToString(secret)
	err := t.change(func(list []Token) ([]Token, error) {
		if slices.ContainsFunc(list, func(o Token) bool { return o.Name == name }) {
			return nil, fmt.Errorf("there is a token %q already", name)
		}
		return append(list, Token{name, time.Now().UTC().Format(time.DateOnly), hashToken(token)}), nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Revoke takes a token out of the file. Relays that read the file close its
// sockets within seconds.
func (t *Tokens) Revoke(name string) error {
	return t.change(func(list []Token) ([]Token, error) {
		rest := slices.DeleteFunc(slices.Clone(list), func(o Token) bool { return o.Name == name })
		if len(rest) == len(list) {
			return nil, fmt.Errorf("there is no token %q", name)
		}
		return rest, nil
	})
}

// change reads the file, has it edited and replaces it, alone.
func (t *Tokens) change(edit func([]Token) ([]Token, error)) error {
	dir := filepath.Dir(t.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir, os.O_RDONLY, 0) //nolint:gosec // the administrator's
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir, err)
	}
	if _, err := t.Reload(); err != nil {
		return err
	}
	list, err := edit(t.List())
	if err != nil {
		return err
	}
	if err := replace(lock, t.path, list); err != nil {
		return err
	}
	_, err = t.Reload()
	return err
}

// replace writes the file anew, for the owner of its folder: a service reads
// what root writes.
func replace(dir *os.File, path string, list []Token) (err error) {
	var b bytes.Buffer
	for _, token := range list {
		_, _ = fmt.Fprintf(&b, "%s %s %s\n", token.Name, hex.EncodeToString(token.hash[:]), token.Issued)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tokens-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(b.Bytes()); err != nil {
		return err
	}
	if err := giveTo(dir, f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return dir.Sync()
}

func giveTo(dir, f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return f.Chown(int(st.Uid), int(st.Gid))
	}
	return nil
}

// ReadSecret returns the content of a file that only its owner may read, less
// white space around it.
func ReadSecret(path string) (string, error) {
	f, err := openPrivate(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(data))
	if secret == "" {
		return "", fmt.Errorf("%s: empty", path)
	}
	return secret, nil
}

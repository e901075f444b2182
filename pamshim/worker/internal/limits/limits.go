// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package limits counts uses of keys across calls, in one file that root
// owns.
package limits

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The file is a header (magic, salt) and a row of records, one for each use
// that was allowed. Keys are stored as a keyed hash: names of people are
// nobody's business.
const (
	magic      = "authn-limits-1\n\x00"
	saltSize   = 16
	headerSize = len(magic) + saltSize
	hashSize   = 16
	recordSize = hashSize + 8 + 8 // hash, time of use, end of window

	// MaxRecords bounds the file to half of the worker's RLIMIT_FSIZE.
	MaxRecords = 16 << 10
)

// A Store is a file in a folder of root's.
type Store struct {
	Dir string           // root's, 0700
	Now func() time.Time // the clock; nil: time.Now
}

type record struct {
	hash     [hashSize]byte
	at, ends int64 // Unix nanoseconds
}

// ErrFull means that MaxRecords uses are within their windows.
var ErrFull = errors.New("the limit store is full")

// Allow counts one use of key if fewer than n were counted in the last window,
// and reports whether it did.
func (s *Store) Allow(key string, n int, window time.Duration) (bool, error) {
	f, err := s.lock()
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // releases the lock; the data is in another file
	salt, records, err := s.load()
	if err != nil {
		return false, err
	}
	now := s.now().UnixNano()
	records, moved := alive(records, now)
	hash := hashOf(salt, key)
	allowed, full := false, error(nil)
	switch {
	case count(records, hash, now-int64(window)) >= n:
	case len(records) >= MaxRecords:
		full = ErrFull
	default:
		allowed = true
		records = append(records, record{hash, now, now + int64(window)})
	}
	if allowed || moved {
		if err := s.save(salt, records); err != nil {
			return false, err
		}
	}
	return allowed, full
}

// Check says whether the store can be read.
func (s *Store) Check() error {
	_, _, err := s.load()
	return err
}

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// lock takes the store's lock, which lies in a file of its own: the records'
// file is replaced as a whole.
func (s *Store) lock() (*os.File, error) {
	fd, err := unix.Open(filepath.Join(s.Dir, "limits.lock"),
		unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the limit store's lock: %w", err)
	}
	f := os.NewFile(uintptr(fd), "limits.lock")
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("the limit store's lock: %w", err)
		}
		time.Sleep(5 * time.Millisecond) // another call holds it for well under that
	}
}

func (s *Store) file() string { return filepath.Join(s.Dir, "limits") }

// load reads the records. A file that is not ours is an error, not an empty
// store: forgetting would allow what was refused.
func (s *Store) load() (salt []byte, records []record, err error) {
	data, err := os.ReadFile(s.file())
	if errors.Is(err, os.ErrNotExist) {
		salt = make([]byte, saltSize)
		_, err = rand.Read(salt)
		return salt, nil, err
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the limit store: %w", err)
	}
	if len(data) < headerSize || string(data[:len(magic)]) != magic || (len(data)-headerSize)%recordSize != 0 {
		return nil, nil, fmt.Errorf("%s is damaged: remove it to start counting anew", s.file())
	}
	salt, data = data[len(magic):headerSize], data[headerSize:]
	for len(data) > 0 {
		var r record
		copy(r.hash[:], data)
		r.at = int64(binary.BigEndian.Uint64(data[hashSize:]))     //nolint:gosec // as written
		r.ends = int64(binary.BigEndian.Uint64(data[hashSize+8:])) //nolint:gosec // as written
		records = append(records, r)
		data = data[recordSize:]
	}
	return salt, records, nil
}

// save replaces the file. It is on the disk before it is in its place: after a
// power cut there is the old one or the new one, and none that is damaged.
func (s *Store) save(salt []byte, records []record) error {
	data := append([]byte(magic), salt...)
	for _, r := range records {
		data = append(data, r.hash[:]...)
		data = binary.BigEndian.AppendUint64(data, uint64(r.at))   //nolint:gosec // as it is read
		data = binary.BigEndian.AppendUint64(data, uint64(r.ends)) //nolint:gosec // as it is read
	}
	temporary := s.file() + ".new"
	if err := writeSynced(temporary, data); err != nil {
		return fmt.Errorf("the limit store: %w", err)
	}
	if err := os.Rename(temporary, s.file()); err != nil {
		return fmt.Errorf("the limit store: %w", err)
	}
	return nil
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600) //nolint:gosec // in root's folder
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// alive drops what no window reaches any more. What a clock that was set back
// left in the future is moved to now, and must be saved: it would count for
// years, and dropping it would allow what was refused.
func alive(records []record, now int64) (kept []record, moved bool) {
	for _, r := range records {
		if r.at > now {
			r.at, r.ends, moved = now, now+(r.ends-r.at), true
		}
		if r.ends > now {
			kept = append(kept, r)
		}
	}
	return kept, moved
}

func count(records []record, hash [hashSize]byte, since int64) int {
	n := 0
	for _, r := range records {
		if r.hash == hash && r.at > since {
			n++
		}
	}
	return n
}

func hashOf(salt []byte, key string) (h [hashSize]byte) {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(key))
	copy(h[:], mac.Sum(nil))
	return h
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// How long a call may spend on removing its own folder, and on those that
// others left. What a provider filled with more is removed call by call.
const (
	closeTime = 500 * time.Millisecond
	sweepTime = 200 * time.Millisecond
)

// remove removes the folder at path, which a provider could fill as it liked
// and may still be filling. It follows no link, needs few descriptors however
// deep the folders are (os.RemoveAll needs one a level), and stops at the
// deadline.
func remove(path string, deadline time.Time) {
	r := remover{top: -1, deadline: deadline}
	for r.inTime() {
		err := unix.Rmdir(path)
		if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
			return
		}
		top, err := openDir(unix.AT_FDCWD, path)
		if err != nil {
			return
		}
		r.top = int(top.Fd())
		err = r.each(top, r.entry)
		_ = top.Close()
		if err != nil {
			return
		}
	}
}

// A remover empties the folder top. A folder with others in it is emptied by
// moving those up to top: each round takes away one level.
type remover struct {
	top      int
	moved    int
	deadline time.Time
}

func (r *remover) inTime() bool { return time.Now().Before(r.deadline) }

// each calls take for every entry of dir, as long as there is time.
func (r *remover) each(dir *os.File, take func(dir int, name string) error) error {
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			if !r.inTime() {
				return os.ErrDeadlineExceeded
			}
			if err := take(int(dir.Fd()), name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// entry removes an entry of top.
func (r *remover) entry(top int, name string) error {
	if full, err := unlink(top, name); !full {
		return err
	}
	dir, err := openDir(top, name)
	if err != nil {
		return err
	}
	defer dir.Close() //nolint:errcheck // only read
	if err := r.each(dir, r.inner); err != nil {
		return err
	}
	_, err = unlink(top, name)
	return err
}

// inner removes an entry of a folder of top, or moves it up.
func (r *remover) inner(dir int, name string) error {
	full, err := unlink(dir, name)
	for full && r.inTime() {
		r.moved++
		access(dir, name)
		err = unix.Renameat(dir, name, r.top, ".moved-"+strconv.Itoa(r.moved))
		// The name may be taken by what an earlier call left.
		full = errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR)
	}
	return gone(err)
}

// unlink removes a file, or a folder if it is empty, and reports one that is
// not.
func unlink(dir int, name string) (full bool, err error) {
	err = unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) {
		err = unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return true, nil
	}
	return false, gone(err)
}

// gone forgives that something is gone already: calls sweep at the same time.
func gone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// access lets us into a folder, where we are not root. What a link of that name
// leads to belongs to the provider's user, which is us.
func access(dir int, name string) {
	if os.Geteuid() != 0 {
		_ = unix.Fchmodat(dir, name, 0o700, 0)
	}
}

// openDir opens a folder, and no link to one.
func openDir(dir int, name string) (*os.File, error) {
	access(dir, name)
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

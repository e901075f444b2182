// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// A folder is the private one of a call: the provider has its socket and its
// temporary files there. It is named after this process, and locked while that
// lives, so that a later call can tell whether it is still in use. The rest of
// the name is random: in two pid namespaces, processes with the same number may
// start at the same time, and in /tmp somebody could be there first.
type folder struct {
	path string
	lock *os.File // nil: none
}

func privateDir(who user) (folder, error) {
	base, prefix, err := baseDir()
	if err != nil {
		return folder{}, err
	}
	sweep(base, prefix)
	self := os.Getpid()
	start := startTime(self)
	if start == "" {
		start = "0" // there is no /proc
	}
	f, err := makeFolder(base, fmt.Sprintf("%s%d-%s-*", prefix, self, start))
	if err != nil {
		return f, fmt.Errorf("making the provider's folder: %w", err)
	}
	if who.change {
		err = os.Lchown(f.path, int(who.uid), int(who.gid))
	}
	if err != nil {
		return f, fmt.Errorf("giving the provider its folder: %w", err)
	}
	return f, nil
}

// makeFolder tries more than once: a sweep in another pid namespace may find
// the folder before it is locked.
func makeFolder(base, pattern string) (folder, error) {
	for tries := 0; ; tries++ {
		path, err := os.MkdirTemp(base, pattern)
		if err != nil {
			return folder{}, err
		}
		lock, taken := lockFolder(path)
		if !taken {
			return folder{path, lock}, nil
		}
		if tries == 3 {
			return folder{}, errors.New("another call sweeps it away")
		}
	}
}

// lockFolder locks a folder until the file is closed, be it by the end of this
// process. It reports a folder that is somebody else's, or gone. Where the file
// system has no locks, there is none.
func lockFolder(path string) (lock *os.File, taken bool) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Is(err, unix.ENOENT)
	}
	var st unix.Stat_t
	err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || unix.Fstat(fd, &st) == nil && st.Nlink == 0 {
		_ = unix.Close(fd)
		return nil, true
	}
	return os.NewFile(uintptr(fd), path), false
}

// remove removes the folder. The next call's sweep takes what is left.
func (f folder) remove(deadline time.Time) {
	if f.path != "" {
		remove(f.path, deadline)
	}
	_ = f.lock.Close()
}

// maxTempDir is how long the path of a temporary folder may be, so that the
// socket's fits into the 107 bytes that a path of a socket can have.
const maxTempDir = 107 - len("/authn-4294967295-4194304-99999999999-4294967295/plugin4294967295")

// baseDir is where private folders lie: a folder of root's, or where the host
// runs as a user, that user's temporary folder.
func baseDir() (dir, prefix string, err error) {
	if os.Geteuid() != 0 {
		dir := os.TempDir()
		if len(dir) > maxTempDir {
			dir = "/tmp"
		}
		return dir, fmt.Sprintf("authn-%d-", os.Geteuid()), nil
	}
	return paths.Run, "", EnsureDir(paths.Run, 0o711)
}

// EnsureDir makes dir where it is missing, and refuses one that others own or
// can write.
func EnsureDir(dir string, mode fs.FileMode) error {
	err := os.Mkdir(dir, mode)
	if err == nil {
		return os.Chmod(dir, mode) // whatever the umask is
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", dir, err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || stat.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder of root's alone: remove it", dir)
	}
	if info.Mode().Perm() != mode {
		return os.Chmod(dir, mode) // a call that was killed right after Mkdir
	}
	return nil
}

// sweep removes the folders of processes that are gone. A call cleans up
// behind itself; this is for those that were killed.
func sweep(base, prefix string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	deadline := time.Now().Add(sweepTime)
	noProc := startTime(os.Getpid()) == ""
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.IsDir() || !ours(e) {
			continue
		}
		pid, start, ok := strings.Cut(rest, "-")
		start, _, _ = strings.Cut(start, "-")
		n, err := strconv.Atoi(pid)
		if !ok || err != nil || start == "" || !noProc && !ended(n, start) {
			continue
		}
		// In another pid namespace, and without /proc, all processes look
		// dead: but those that live hold a lock.
		path := filepath.Join(base, e.Name())
		if lock, taken := lockFolder(path); !taken {
			folder{path, lock}.remove(deadline) // or the next call does
		}
	}
}

// ours reports whether a folder may have been made by a call of ours: in /tmp,
// anybody can make one with such a name. Under root, it is the provider's.
func ours(e fs.DirEntry) bool {
	info, err := e.Info()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (os.Geteuid() == 0 || int(stat.Uid) == os.Geteuid())
}

// ended reports whether the process pid that started at start is gone for
// certain, or a zombie, which some container's init never reaps. With no
// descriptor left to look, it is not.
func ended(pid int, start string) bool {
	stat, err := os.ReadFile(statFile(pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	state := field(string(stat), 3)
	return startField(string(stat)) != start || state == "Z" || state == "X"
}

// startTime is when process pid started, in clock ticks since boot, or "" if
// there is none. Together with the pid it names a process for good.
func startTime(pid int) string {
	stat, err := os.ReadFile(statFile(pid))
	if err != nil {
		return ""
	}
	return startField(string(stat))
}

func statFile(pid int) string { return fmt.Sprintf("/proc/%d/stat", pid) }

// startField takes the start time from a stat file.
func startField(stat string) string { return field(stat, 22) }

// field returns the nth field of a stat file, from the third on: the second,
// the name, may hold anything up to the last parenthesis.
func field(stat string, n int) string {
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) <= n-3 {
		return ""
	}
	return fields[n-3]
}

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

	"github.com/pam-authn/pam-authn/pamshim/worker/internal/paths"
)

// privateDir makes the folder in which the provider has its socket and its
// temporary files, named after this process so that a later call can tell
// whether it is still in use.
func privateDir(who user) (string, error) {
	base, prefix, err := baseDir()
	if err != nil {
		return "", err
	}
	sweep(base, prefix)
	self := os.Getpid()
	dir := filepath.Join(base, fmt.Sprintf("%s%d-%s", prefix, self, startTime(self)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the provider's folder: %w", err)
	}
	if who.change {
		err = os.Lchown(dir, int(who.uid), int(who.gid))
	}
	if err != nil {
		return dir, fmt.Errorf("giving the provider its folder: %w", err)
	}
	return dir, nil
}

// baseDir is where private folders lie: a folder of root's, or where the host
// runs as a user, that user's temporary folder.
func baseDir() (dir, prefix string, err error) {
	if os.Geteuid() != 0 {
		return os.TempDir(), fmt.Sprintf("authn-%d-", os.Geteuid()), nil
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
	if err != nil || startTime(os.Getpid()) == "" { // without /proc all would look dead
		return
	}
	deadline := time.Now().Add(sweepTime)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		if !ok || !e.IsDir() {
			continue
		}
		pid, start, ok := strings.Cut(rest, "-")
		if n, err := strconv.Atoi(pid); ok && err == nil && start != "" && ended(n, start) {
			remove(filepath.Join(base, e.Name()), deadline) // or the next call does
		}
	}
}

// ended reports whether the process pid that started at start is gone for
// certain. With no descriptor left to look, it is not.
func ended(pid int, start string) bool {
	stat, err := os.ReadFile(statFile(pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	return startField(string(stat)) != start
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

// startField takes the start time from a stat file. The second field, the
// name, may hold anything up to the last parenthesis.
func startField(stat string) string {
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ") ")
	fields := strings.Fields(rest)
	const start = 22 - 3
	if !ok || len(fields) <= start {
		return ""
	}
	return fields[start]
}

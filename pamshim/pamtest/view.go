// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package pamtest

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The users of a view. Their ids are below what hosttest's machines use, since
// limits and signals reach all processes of a uid.
const (
	ProviderUID = 19990 // authn, whom providers run as
	AliceUID    = 19991 // alice, an account; her group is the same number
)

const passwd = `root:x:0:0:root:/root:/bin/sh
authn:x:19990:19990::/nonexistent:/usr/sbin/nologin
alice:x:19991:19991::/home/alice:/bin/sh
nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin
`

const group = "root:x:0:\nauthn:x:19990:\nalice:x:19991:\nnogroup:x:65534:\n"

// stage holds what is mounted elsewhere.
const stage = "/run/stage"

// enterView changes what this process, alone in its mount namespace, sees:
// /etc can be written, /run, /var/lib and the temporary folder are empty, and
// /dev has a log that Log reads. All of it is memory and goes with the process. Package hosttest
// does more, for programs that expect a whole machine.
func enterView() error {
	unix.Umask(0o022)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for _, path := range []string{"/run", "/var/lib"} {
		if err := unix.Mount("pamtest", path, "tmpfs", 0, "mode=0755"); err != nil {
			return fmt.Errorf("mount a tmpfs on %s: %w", path, err)
		}
	}
	for _, mount := range []func() error{makeTemp, mountEtc, mountDev} {
		if err := mount(); err != nil {
			return err
		}
	}
	return collect("/dev/log")
}

// makeTemp has t.TempDir lie in the view, too: a test that panics removes
// nothing.
func makeTemp() error {
	dir := filepath.Join(stage, "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the module reads there
		return err
	}
	if err := unix.Chmod(dir, 0o1777); err != nil {
		return err
	}
	return os.Setenv("TMPDIR", dir)
}

func mountEtc() error {
	upper, work := filepath.Join(stage, "upper"), filepath.Join(stage, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // becomes /etc
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=/etc,upperdir=%s,workdir=%s", upper, work)
	if err := unix.Mount("pamtest", "/etc", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on /etc: %w", err)
	}
	if err := os.RemoveAll("/etc/authn"); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"/etc/passwd": passwd, "/etc/group": group, "/etc/nsswitch.conf": "passwd: files\ngroup: files\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // accounts are public
			return err
		}
	}
	return nil
}

// mountDev makes a /dev of the same devices in which a log can be made,
// whatever the system has there.
func mountDev() error {
	dev := filepath.Join(stage, "dev")
	if err := os.MkdirAll(dev, 0o755); err != nil { //nolint:gosec // becomes /dev
		return err
	}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "log" {
			continue
		}
		if err := mirror(e, filepath.Join("/dev", e.Name()), filepath.Join(dev, e.Name())); err != nil {
			return err
		}
	}
	if err := unix.Mount(dev, "/dev", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	return nil
}

func mirror(e os.DirEntry, from, to string) error {
	if e.Type()&os.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	place := func() error { return os.WriteFile(to, nil, 0o600) }
	if e.IsDir() {
		place = func() error { return os.Mkdir(to, 0o755) } //nolint:gosec // covered
	}
	if err := place(); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", from, err)
	}
	return nil
}

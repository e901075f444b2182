// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// mountSource names every mount of ours in mountinfo.
const mountSource = "hosttest"

const defaultHostname = "testhost"

// buildView gives the calling thread namespaces of its own and turns what it
// sees into a private machine, as the package comment describes it. New files
// live in a tmpfs, which goes with the last process inside.
func buildView(hostname string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWUTS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	unix.Umask(0o022) // the thread's own: CLONE_NEWNS unshares it too
	steps := []func() error{
		detach,
		func() error { return unix.Sethostname([]byte(hostname)) },
		mountViews,
		fillRun,
		fillVar,
		func() error { return fillEtc(hostname) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// detach keeps our mounts from reaching the system, and us from changing it.
func detach() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	readOnly := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", unix.AT_RECURSIVE, readOnly); err != nil {
		return fmt.Errorf("make mounts read-only: %w", err)
	}
	// PAM modules and sshd write to their own /proc/self.
	writable := &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/proc", 0, writable); err != nil {
		return fmt.Errorf("make /proc writable: %w", err)
	}
	return unix.Chdir("/")
}

func mountViews() error {
	// What is built below stage stays in use, and hidden, once the private
	// /tmp is mounted over it.
	const stage = "/tmp"
	resolv, _ := os.ReadFile("/etc/resolv.conf") // through links that end here
	hosts, _ := os.ReadFile("/etc/hosts")        // in containers a mount of its own
	if err := tmpfs(stage, "0700"); err != nil {
		return err
	}
	for _, dir := range []string{"etc", "opt", "usr", "var"} {
		if err := overlay(filepath.Join(stage, dir), "/"+dir); err != nil {
			return err
		}
	}
	if err := replaceFile("/etc/resolv.conf", 0o644, resolv); err != nil {
		return err
	}
	if err := replaceFile("/etc/hosts", 0o644, hosts); err != nil {
		return err
	}
	if err := mountDev(filepath.Join(stage, "dev")); err != nil {
		return err
	}
	return mountFresh()
}

func mountFresh() error {
	for _, dir := range []struct{ path, mode string }{
		{"/home", "0755"}, {"/root", "0700"}, {"/run", "0755"},
		{"/var/log", "0755"}, {"/var/spool", "0755"}, {"/var/tmp", "1777"},
		{"/tmp", "1777"},
	} {
		if err := tmpfs(dir.path, dir.mode); err != nil {
			return err
		}
	}
	return nil
}

func tmpfs(path, mode string) error {
	if err := unix.Mount(mountSource, path, "tmpfs", unix.MS_NODEV, "mode="+mode); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", path, err)
	}
	return nil
}

// overlay makes path writable; what is written goes below stage.
func overlay(stage, path string) error {
	upper, work := filepath.Join(stage, "upper"), filepath.Join(stage, "work")
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", path, upper, work)
	if err := unix.Mount(mountSource, path, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay on %s: %w", path, err)
	}
	return nil
}

// mountDev builds a small /dev below stage. It has terminals of its own, so
// that no machine can write to another's or to the developer's.
func mountDev(stage string) error {
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bindFile("/dev/"+name, filepath.Join(stage, name)); err != nil {
			return err
		}
	}
	links := map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
		"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx",
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(stage, name)); err != nil {
			return err
		}
	}
	pts, shm := filepath.Join(stage, "pts"), filepath.Join(stage, "shm")
	if err := mkdirs(folder{pts, 0o755}, folder{shm, 0o1777}); err != nil {
		return err
	}
	const options = "newinstance,ptmxmode=0666,mode=0620,gid=5" // 5 is tty, on every Debian
	if err := unix.Mount(mountSource, pts, "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mount devpts: %w", err)
	}
	if err := unix.Mount(stage, "/dev", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	return nil
}

func bindFile(from, to string) error {
	if err := replaceFile(to, 0o666, nil); err != nil {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", from, err)
	}
	return nil
}

// fillRun makes what Debian's boot would have made. What is not there is as
// important: no D-Bus, no logind, no nscd of the system can be reached.
func fillRun() error {
	err := mkdirs(folder{"/run/sshd", 0o755}, folder{"/run/sudo", 0o711}, folder{"/run/lock", 0o1777},
		folder{"/run/user", 0o755})
	if err != nil {
		return err
	}
	return replaceFile("/run/utmp", 0o664, nil)
}

// fillVar starts with empty logs and spools: a system's own at jobs and
// crontabs must not run twice.
func fillVar() error {
	for _, name := range []string{"wtmp", "btmp", "lastlog", "faillog"} {
		if err := replaceFile("/var/log/"+name, 0o660, nil); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/var/mail", "/var/lib/sudo", "/var/lib/authn"} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.Symlink("/var/mail", "/var/spool/mail"); err != nil {
		return err
	}
	return mkdirs(folder{"/var/mail", 0o1777}, folder{"/var/lib/sudo", 0o700},
		folder{"/var/spool/cron", 0o755}, folder{"/var/spool/cron/crontabs", 0o1730})
}

// fillEtc replaces what an administrator could have changed, so that a test
// reads the same on every system.
func fillEtc(hostname string) error {
	for _, path := range []string{"/etc/pam.d", "/etc/sudoers.d", "/etc/authn", "/etc/nologin", "/etc/at.allow"} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	err := mkdirs(folder{"/etc/pam.d", 0o755}, folder{"/etc/sudoers.d", 0o750}, folder{"/etc/ssh", 0o755})
	if err != nil {
		return err
	}
	for path, text := range etcFiles {
		if err := replaceFile(path, modeOf(path), []byte(text)); err != nil {
			return err
		}
	}
	if err := appendFile("/etc/hosts", "\n127.0.1.1 "+hostname+"\n"); err != nil {
		return err
	}
	if err := replaceFile("/etc/hostname", 0o644, []byte(hostname+"\n")); err != nil {
		return err
	}
	return resetAccounts()
}

func modeOf(path string) fs.FileMode {
	if strings.HasPrefix(path, "/etc/sudoers") {
		return 0o440
	}
	return 0o644
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var etcFiles = map[string]string{
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\ngshadow: files\nhosts: files dns\n",
	"/etc/profile":       "PATH=" + searchPath + "\nexport PATH\n",
	"/etc/environment":   "",
	"/etc/motd":          "",
	"/etc/at.deny":       "",
	// sudo must neither lecture nor start a mailer.
	"/etc/sudoers": "Defaults env_reset, use_pty, lecture=never, !mailerpath\n" +
		"Defaults secure_path=\"" + searchPath + "\"\n" +
		"root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n",

	"/etc/pam.d/other":                         fourTimes("required pam_deny.so"),
	"/etc/pam.d/common-auth":                   "auth required pam_unix.so nodelay\n",
	"/etc/pam.d/common-account":                "account required pam_unix.so\n",
	"/etc/pam.d/common-password":               "password required pam_unix.so sha512\n",
	"/etc/pam.d/common-session":                "session required pam_unix.so\n",
	"/etc/pam.d/common-session-noninteractive": "session required pam_unix.so\n",
}

func fourTimes(rule string) string {
	var b strings.Builder
	for _, kind := range []string{"auth", "account", "password", "session"} {
		b.WriteString(kind + " " + rule + "\n")
	}
	return b.String()
}

// A folder is a folder to make, with its mode whatever the umask.
type folder struct {
	path string
	mode fs.FileMode
}

func mkdirs(folders ...folder) error {
	for _, f := range folders {
		if err := os.MkdirAll(f.path, 0o755); err != nil {
			return err
		}
		if err := chmod(f.path, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a new file, never through a link that has its name.
func replaceFile(path string, mode fs.FileMode, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return chmod(path, mode)
}

// chmod takes setuid, setgid and sticky bits in Go's notation and in octal.
func chmod(path string, mode fs.FileMode) error {
	bits := uint32(mode & 0o7777)
	for flag, bit := range map[fs.FileMode]uint32{
		fs.ModeSetuid: unix.S_ISUID, fs.ModeSetgid: unix.S_ISGID, fs.ModeSticky: unix.S_ISVTX,
	} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	if err := unix.Chmod(path, bits); err != nil {
		return fmt.Errorf("chmod %s: %w", path, err)
	}
	return nil
}

func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

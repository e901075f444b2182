// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sandbox is a Landlock ruleset: what of the file system a provider may use.
// It is applied to the one thread that starts the provider, which package
// go-landlock cannot do.
type sandbox struct {
	ruleset int // a descriptor; -1: none could be had
}

// What a rule may grant.
const (
	readFile = unix.LANDLOCK_ACCESS_FS_READ_FILE
	readDir  = unix.LANDLOCK_ACCESS_FS_READ_DIR
	execute  = unix.LANDLOCK_ACCESS_FS_EXECUTE
	writable = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// everywhere lists what any provider needs: programs and libraries, the
// certificates and the resolver's files. What is missing is left out.
var everywhere = []struct {
	path   string
	access uint64
}{
	{"/usr", readFile | readDir | execute},
	{"/lib", readFile | readDir | execute},
	{"/lib64", readFile | readDir | execute},
	{"/etc/ld.so.cache", readFile},
	{"/etc/ssl", readFile | readDir},
	{"/etc/pki", readFile | readDir},
	{"/etc/ca-certificates", readFile | readDir},
	{"/etc/resolv.conf", readFile},
	{"/etc/hosts", readFile},
	{"/etc/host.conf", readFile},
	{"/etc/gai.conf", readFile},
	{"/etc/nsswitch.conf", readFile},
	{"/etc/services", readFile},
	{"/etc/localtime", readFile},
	{"/dev/urandom", readFile},
	{"/dev/null", readFile | writable},
}

// newSandbox prepares the rules. The error says what is missing of them, for
// the log: without Landlock in the kernel, the sandbox only sets no_new_privs;
// without some rule, a provider can use less than it should.
func newSandbox(program, dir string) (*sandbox, error) {
	s := &sandbox{ruleset: -1}
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return s, fmt.Errorf("this kernel has no Landlock (%w): the provider can read whatever its user can", errno)
	}
	handled := handledAccess(int(abi))
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET,
		uintptr(unsafe.Pointer(&attr)), rulesetSize(int(abi)), 0) //nolint:gosec // the system call's argument
	if errno != 0 {
		return s, fmt.Errorf("making a Landlock ruleset: %w", errno)
	}
	s.ruleset = int(fd)
	unix.CloseOnExec(s.ruleset)
	return s, s.rules(program, dir, handled)
}

// rulesetSize is how much of the attributes this kernel knows.
func rulesetSize(abi int) uintptr {
	var a unix.LandlockRulesetAttr
	switch {
	case abi >= 6:
		return unsafe.Offsetof(a.Quiet_access_fs)
	case abi >= 4:
		return unsafe.Offsetof(a.Scoped)
	default:
		return unsafe.Offsetof(a.Handled_access_net)
	}
}

// handledAccess is everything that this kernel can deny.
func handledAccess(abi int) uint64 {
	access := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1) // version 1
	if abi >= 2 {
		access |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		access |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		access |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return access
}

// rules grants one thing after another, whatever becomes of the one before.
func (s *sandbox) rules(program, dir string, handled uint64) error {
	var problems []error
	for _, rule := range everywhere {
		problems = append(problems, ifThere(s.allow(rule.path, rule.access&handled)))
	}
	for _, path := range resolver() {
		problems = append(problems, ifThere(s.allow(path, readFile)))
	}
	// A script reads the modules that lie beside it.
	if isScript(program) {
		problems = append(problems, s.allow(filepath.Dir(program), readFile|readDir))
	}
	own := handled &^ (execute | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK)
	problems = append(problems, s.allow(program, readFile|execute), s.allow(dir, own))
	return errors.Join(problems...)
}

// ifThere forgives that there is no such file.
func ifThere(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// resolver is the target of /etc/resolv.conf where that is a symbolic link.
func resolver() []string {
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return []string{target}
}

func isScript(program string) bool {
	f, err := os.Open(program) //nolint:gosec // checked by safefile before
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read
	var magic [2]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && bytes.Equal(magic[:], []byte("#!"))
}

// allow grants access below path. Rights that only folders have are dropped
// for a file, where the kernel refuses them.
func (s *sandbox) allow(path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd) //nolint:errcheck // O_PATH
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= readFile | execute | writable | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)} //nolint:gosec // a descriptor
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(s.ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the system call's argument
	if errno != 0 {
		return fmt.Errorf("allowing %s in the sandbox: %w", path, errno)
	}
	return nil
}

// enter confines the calling thread for good, and whatever it starts.
func (s *sandbox) enter() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	if err := leaveKeyring(); err != nil {
		return err
	}
	if s.ruleset < 0 {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(s.ruleset), 0, 0); errno != 0 {
		return fmt.Errorf("entering the sandbox: %w", errno)
	}
	return nil
}

// leaveKeyring gives the thread an empty session keyring. The application's,
// which a change of the user does not take away, may hold Kerberos tickets and
// the keys of file systems.
func leaveKeyring() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0) // without a name
	if err == nil || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || os.Geteuid() != 0 {
		return nil // where keyctl is not to be had, neither can the provider use it
	}
	return fmt.Errorf("leaving the application's keyring: %w", err)
}

func (s *sandbox) close() {
	if s != nil && s.ruleset >= 0 {
		_ = unix.Close(s.ruleset)
	}
}

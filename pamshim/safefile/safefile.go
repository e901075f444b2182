// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package safefile opens files that decide who may log in: only those that
// nobody but root, or the effective user, can change. The check exists once,
// in C, for the PAM module and for the worker.
package safefile

/*
#cgo CFLAGS: -std=c11 -D_GNU_SOURCE -O2 -Wall -Wextra
#include <stdlib.h>
#include "safefile.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// An Error says which file or folder is not as it must be, and how to mend it.
type Error struct {
	why   string
	errno syscall.Errno
}

func (e *Error) Error() string { return e.why }

// Unwrap makes errors.Is(err, fs.ErrNotExist) work.
func (e *Error) Unwrap() error { return e.errno }

// Open opens the regular file path for reading, if it is safe as the package
// says and not a symbolic link. It never blocks.
func Open(path string) (*os.File, error) {
	fd, err := open(path, C.SAFEFILE_READ)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// OpenStrict is Open, but refuses every symbolic link on the way, too: for
// paths that have a user's name in them.
func OpenStrict(path string) (*os.File, error) {
	fd, err := open(path, C.SAFEFILE_STRICT)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// CheckFolder checks that the folder path is as OpenStrict wants the folders
// above a file.
func CheckFolder(path string) error {
	_, err := open(path+"/.", C.SAFEFILE_STRICT)
	if errors.Is(err, syscall.EISDIR) { // all of the way was walked
		return nil
	}
	return err
}

// CheckProgram checks that path is safe and that we may execute it.
func CheckProgram(path string) error {
	fd, err := open(path, C.SAFEFILE_RUN)
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

func open(path string, use C.enum_safefile_use) (int, error) {
	if strings.ContainsRune(path, 0) {
		return -1, &Error{fmt.Sprintf("%q has a NUL in it", path), syscall.EINVAL}
	}
	s := C.CString(path)
	defer C.free(unsafe.Pointer(s))
	var why [C.SAFEFILE_WHY]C.char
	fd, err := C.safefile_open(s, use, &why[0])
	if fd >= 0 {
		return int(fd), nil
	}
	errno := syscall.EIO
	_ = errors.As(err, &errno)
	return -1, &Error{C.GoString(&why[0]), errno}
}

// Read reads the safe file path, which must not be larger than limit, and
// returns its mode too.
func Read(path string, limit int64) ([]byte, os.FileMode, error) {
	f, err := Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	return readAll(f, limit)
}

// ReadStrict is Read after OpenStrict.
func ReadStrict(path string, limit int64) ([]byte, error) {
	f, err := OpenStrict(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, _, err := readAll(f, limit)
	return data, err
}

func readAll(f *os.File, limit int64) ([]byte, os.FileMode, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("%s has more than %d bytes", f.Name(), limit)
	}
	return data, info.Mode(), nil
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	osuser "os/user"
	"strconv"
)

// DefaultUser is whom a provider runs as under root.
const DefaultUser = "authn"

// nobody's ids, which belong to too many things already.
const nobody = 65534

// user is whom the provider runs as.
type user struct {
	uid, gid uint32
	change   bool // we are root and become it
}

// identity finds the provider's user: under root the configured one, else the
// one who runs us already. It reads /etc/passwd itself and asks no directory
// service, which could be what is down.
func identity(name string) (user, error) {
	if os.Geteuid() != 0 {
		return user{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, nil //nolint:gosec // ids
	}
	if name == "" {
		name = DefaultUser
	}
	u, err := osuser.Lookup(name)
	if err != nil {
		var unknown osuser.UnknownUserError
		if errors.As(err, &unknown) {
			return user{}, fmt.Errorf("there is no user %s for the provider to run as: %w %s", name, errUser, name)
		}
		return user{}, fmt.Errorf("looking for user %s: %w", name, err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return user{}, fmt.Errorf("user %s: %w", name, err)
	}
	if uid == 0 || gid == 0 || uid == nobody {
		return user{}, fmt.Errorf("user %s (uid %d, gid %d) is nobody for a provider to run as: %w NAME, and authn.run_as",
			name, uid, gid, errUser)
	}
	return user{uint32(uid), uint32(gid), true}, nil
}

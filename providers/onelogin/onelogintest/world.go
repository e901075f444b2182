// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// The default credential.
const (
	ClientID     = "emulated-client-id"
	ClientSecret = "emulated-client-secret"
)

// Zero as a Status or State means OneLogin's 0 (unactivated, unapproved), since
// 0 in a [User] stands for the default, 1.
const Zero = -1

// The statuses that OneLogin knows (reference, User Status).
const (
	Unactivated      = Zero
	Active           = 1
	Suspended        = 2
	Locked           = 3
	PasswordExpired  = 4
	AwaitingReset    = 5
	PasswordPending  = 7
	SecurityRequired = 8
)

// The states that OneLogin knows (reference, Set User State).
const (
	Unapproved = Zero
	Approved   = 1
	Rejected   = 2
	Unlicensed = 3
)

// Names of factors, as auth_factor_name has them. A device may have any other
// name; such a device takes no code and sends nothing.
const (
	Protect       = "OneLogin" // push, and a TOTP code
	Authenticator = "Google Authenticator"
	SMS           = "SMS"
	Email         = "OneLogin Email"
	Voice         = "OneLogin Voice"
)

// A User is a person of the emulated tenant.
type User struct {
	ID       int64  `json:"id,omitempty"` // given by the server if 0
	Email    string `json:"email,omitempty"`
	Username string `json:"username,omitempty"` // "" is null on the wire
	Password string `json:"password,omitempty"`

	Status int `json:"status,omitempty"` // default [Active]
	State  int `json:"state,omitempty"`  // default [Approved]

	Roles   []int64  `json:"roles,omitempty"`
	Devices []Device `json:"devices,omitempty"`

	LockedUntil          time.Time `json:"locked_until,omitzero"`
	InvalidLoginAttempts int       `json:"invalid_login_attempts,omitempty"`

	// LoginMFA makes login/auth ask for a factor after the password.
	LoginMFA bool `json:"login_mfa,omitempty"`
}

// A Device is a factor that a user has enrolled.
type Device struct {
	ID       int64  `json:"id,omitempty"`   // given by the server if 0
	Factor   string `json:"factor"`         // auth_factor_name
	Name     string `json:"name,omitempty"` // user_display_name; default Factor
	Default  bool   `json:"default,omitempty"`
	Inactive bool   `json:"inactive,omitempty"` // listed by the v1 API only

	// Secret is the TOTP key in base32; made up if empty.
	Secret string `json:"secret,omitempty"`
}

// A World is what a server begins with.
type World struct {
	ClientID     string `json:"client_id,omitempty"`     // default [ClientID]
	ClientSecret string `json:"client_secret,omitempty"` // default [ClientSecret]
	Scope        Scope  `json:"scope,omitempty"`         // default [ManageAll]
	LockAfter    int    `json:"lock_after,omitempty"`    // invalid attempts; 0 never locks
	Users        []User `json:"users"`
}

// maxWorld bounds a world file.
const maxWorld = 8 << 20

// ReadWorld reads a world from JSON text. Unknown keys are errors.
func ReadWorld(r io.Reader) (World, error) {
	var w World
	d := json.NewDecoder(io.LimitReader(r, maxWorld))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return World{}, fmt.Errorf("the world is not the JSON it should be: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return World{}, fmt.Errorf("the world: something follows after its end")
	}
	return w, w.check()
}

// check finds what no tenant could have.
func (w World) check() error {
	if w.Scope != "" && !w.Scope.known() {
		return fmt.Errorf("scope: %q is none of %s", w.Scope, strings.Join(scopeNames(), ", "))
	}
	users, devices := map[int64]bool{}, map[int64]bool{}
	for i, u := range w.Users {
		if u.ID != 0 && users[u.ID] {
			return fmt.Errorf("users[%d]: id %d is another user's, too", i, u.ID)
		}
		users[u.ID] = true
		for j, d := range u.Devices {
			if d.ID != 0 && devices[d.ID] {
				return fmt.Errorf("users[%d].devices[%d]: id %d is another device's, too", i, j, d.ID)
			}
			devices[d.ID] = true
			if _, err := decodeSecret(d.Secret); err != nil {
				return fmt.Errorf("users[%d].devices[%d].secret: %w", i, j, err)
			}
		}
	}
	return nil
}

// The roles of [Demo].
const (
	DemoAdmins int64 = 77777
	DemoUsers  int64 = 111111
)

// demoKey opens nothing but an emulator.
const demoKey = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"

// Demo is a small tenant to try things with: mittens may be admin and has an
// authenticator app and Protect, tom is an ordinary user who gets codes by SMS,
// felix is locked, and smokey has no factor.
func Demo() World {
	return World{Users: []User{
		{
			Email: "mittens@example.com", Username: "mittens", Password: "yarn-ball-9",
			Roles: []int64{DemoAdmins, DemoUsers},
			Devices: []Device{
				{Factor: Authenticator, Default: true, Secret: demoKey},
				{Factor: Protect, Name: "Mittens's phone"},
			},
		},
		{
			Email: "tom@example.com", Username: "tom", Password: "mouse-hole-4",
			Roles:   []int64{DemoUsers},
			Devices: []Device{{Factor: SMS, Default: true}},
		},
		{
			Email: "felix@example.com", Username: "felix", Password: "magic-bag-1",
			Status: Locked, Roles: []int64{DemoAdmins},
			Devices: []Device{{Factor: Authenticator, Default: true}},
		},
		{Email: "smokey@example.com", Username: "smokey", Roles: []int64{DemoAdmins}},
	}}
}

// clone copies a user with all that it holds.
func (u User) clone() User {
	u.Roles = append([]int64(nil), u.Roles...)
	u.Devices = append([]Device(nil), u.Devices...)
	return u
}

// settle fills in what a new user left open. s.mu is held.
func (s *Server) settle(u *User, fresh bool) {
	if u.ID == 0 {
		u.ID = s.nextID()
	}
	u.Status = settleNumber(u.Status, fresh)
	u.State = settleNumber(u.State, fresh)
	for i := range u.Devices {
		d := &u.Devices[i]
		if d.ID == 0 {
			d.ID = s.nextID()
		}
		if d.Name == "" {
			d.Name = d.Factor
		}
		if d.Secret == "" {
			d.Secret = encodeSecret(randomBytes(20))
		}
	}
}

func settleNumber(n int, fresh bool) int {
	switch {
	case n == Zero:
		return 0
	case n == 0 && fresh:
		return 1
	}
	return n
}

// nextID is an id in the range of OneLogin's own, never given twice.
func (s *Server) nextID() int64 {
	for {
		s.lastID++
		if !s.taken(s.lastID) {
			return s.lastID
		}
	}
}

func (s *Server) taken(id int64) bool {
	for _, u := range s.users {
		if u.ID == id {
			return true
		}
		for _, d := range u.Devices {
			if d.ID == id {
				return true
			}
		}
	}
	return false
}

// find finds a user by username, email or "id:N", in this order.
func (s *Server) find(name string) *User {
	for _, same := range []func(*User) bool{
		func(u *User) bool { return u.Username == name },
		func(u *User) bool { return u.Email == name },
		func(u *User) bool { return fmt.Sprintf("id:%d", u.ID) == name },
	} {
		for _, u := range s.users {
			if name != "" && same(u) {
				return u
			}
		}
	}
	return nil
}

func (s *Server) byID(id int64) *User {
	for _, u := range s.users {
		if u.ID == id {
			return u
		}
	}
	return nil
}

// called is what the emulator's own methods call a user.
func (u *User) called() string {
	switch {
	case u.Username != "":
		return u.Username
	case u.Email != "":
		return u.Email
	}
	return fmt.Sprintf("id:%d", u.ID)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func randomHex(n int) string { return hex.EncodeToString(randomBytes(n)) }

func uuid() string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

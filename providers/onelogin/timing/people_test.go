// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"strings"

	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// A person is somebody at the prompt.
type person struct{ what, account, name string }

// people are those who must not be told from each other. Everybody is compared
// with the first.
var people = []person{
	{"known", mapped, "mittens"},
	{"unknown", mapped, "nemo"},
	{"locked", mapped, "felix"},
	{"suspended", mapped, "tabby"},
	{"unapproved", mapped, "kit"},
	{"no_factor", mapped, "smokey"},
	{"no_usable_factor", mapped, "socks"},
	{"wildcard", mapped, "mitt*"},
	{"exclamation_mark", mapped, "!mittens"},
	{"nothing_typed", mapped, ""},
	{"too_long", mapped, strings.Repeat("m", 300)},
	{"control_character", mapped, "mittens\x07"},
	{"two_people", mapped, "duo@example.com"},
	{"wrong_role", mapped, "tom"},
	{"unmapped_account", unmapped, "mittens"},
}

// populate has the tenant know them.
func populate(s *onelogintest.Server) {
	app := []onelogintest.Device{{Factor: onelogintest.Authenticator, Default: true}, {Factor: onelogintest.Protect}}
	for _, u := range []onelogintest.User{
		{Username: "mittens", Devices: app},
		{Username: "felix", Devices: app, Status: onelogintest.Locked},
		{Username: "tabby", Devices: app, Status: onelogintest.Suspended},
		{Username: "kit", Devices: app, State: onelogintest.Unapproved},
		{Username: "smokey"},
		{Username: "socks", Devices: []onelogintest.Device{{Factor: "Duo"}, {Factor: onelogintest.SMS}}},
		{Username: "duo@example.com", Devices: app},
		{Username: "duo", Devices: app},
		{Username: "tom", Devices: app, Roles: []int64{111111}},
	} {
		u.Email = u.Username + "@example.com"
		if u.Roles == nil {
			u.Roles = []int64{admins}
		}
		s.AddUser(u)
	}
}

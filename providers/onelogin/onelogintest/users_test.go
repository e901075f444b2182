// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// names are the usernames of a list of users.
func names(t *testing.T, list any) string {
	t.Helper()
	var names []string
	for i := range at[[]any](t, list) {
		name, _ := at[map[string]any](t, list, i)["username"].(string)
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func threeUsers(t *testing.T, opts ...Option) *client {
	s := New(t, opts...)
	s.AddUser(User{ID: 1, Email: "a@example.com", Username: "ann", Roles: []int64{5, 6}})
	s.AddUser(User{ID: 2, Email: "b@example.com", Username: "bob"})
	s.AddUser(User{ID: 3, Email: "c@example.org"})
	return newClient(t, s)
}

func TestUsersAreFiltered(t *testing.T) {
	for _, v := range []Variants{{}, {FoldCase: true}} {
		c := threeUsers(t, With(v))
		folded := ""
		if v.FoldCase {
			folded = "ann"
		}
		for query, want := range map[string]string{
			"email=a@example.com":              "ann",
			"username=bob":                     "bob",
			"email=a@example.com&username=bob": "",
			"email=a@example":                  "",
			"email=A@Example.com":              folded,
			"username=ANN":                     folded,
			"email=*@example.com":              "ann bob",
			"email=a*.com":                     "ann",
			"username=b*b":                     "bob",
			"username=bo*ob":                   "",
			"username=*":                       "ann bob ",
			"username=!bob":                    "ann ",
			"email=!*@example.com":             "",
			"username=nobody":                  "",
			"username=":                        "ann bob ",
			"":                                 "ann bob ",
		} {
			for version, path := range map[string][]any{"/api/2/users?": nil, "/api/1/users?": {"data"}} {
				list := at[any](t, c.get(version+query).want(t, 200).value, path...)
				if got := names(t, list); got != want {
					t.Errorf("%s%s (fold %v): %q, want %q", version, query, v.FoldCase, got, want)
				}
			}
		}
	}
}

func TestAUserHasTheFieldsOfTheSample(t *testing.T) {
	c := threeUsers(t)
	c.s.Update("ann", func(u *User) { u.LockedUntil = c.s.Now() })
	u := at[map[string]any](t, c.get("/api/2/users/1").want(t, 200).value)
	if fmt.Sprintf("%v %v %v %v %v %v %v", u["id"], u["email"], u["username"], u["status"], u["state"], u["role_ids"], u["member_of"]) !=
		"1 a@example.com ann 1 1 [5 6] <nil>" || !strings.HasSuffix(fmt.Sprint(u["locked_until"]), "Z") {
		t.Errorf("%v", u)
	}
	if u := at[map[string]any](t, c.get("/api/2/users/3").value); u["username"] != nil || fmt.Sprint(u["role_ids"]) != "[]" {
		t.Errorf("%v", u)
	}
	for _, path := range []string{"/api/2/users/4", "/api/2/users/x", "/api/2/users/-1"} {
		c.get(path).says(t, 404, `"name":"NotFoundError"`)
	}
}

func TestTheListOfUsersIsShort(t *testing.T) {
	const one = "/api/2/users?username=ann"
	const fields = "&fields=id,role_ids"
	for _, test := range []struct {
		v            Variants
		query        string
		roles, email bool
	}{
		{Variants{}, one, false, true},
		{Variants{}, one + fields, true, false},
		{Variants{IgnoreFields: true}, one + fields, false, true},
		{Variants{FullList: true}, one, true, true},
		{Variants{FullList: true}, one + fields, true, false},
		{Variants{FullList: true, IgnoreFields: true}, one + fields, true, true},
	} {
		c := threeUsers(t, With(test.v))
		u := at[map[string]any](t, c.get(test.query).value, 0)
		_, roles := u["role_ids"]
		_, email := u["email"]
		if roles != test.roles || email != test.email || u["id"] == nil {
			t.Errorf("%+v %s: %v", test.v, test.query, u)
		}
	}
}

func TestListsHavePages(t *testing.T) {
	s := New(t)
	for i := range 120 {
		s.AddUser(User{Username: fmt.Sprintf("user%03d", i)})
	}
	c := newClient(t, s)
	for query, want := range map[string]int{"": 50, "?limit=7": 7, "?limit=1000": 100, "?limit=-1": 50, "?page=3": 20, "?page=9": 0, "?limit=100&page=2": 20} {
		if got := len(at[[]any](t, c.get("/api/2/users"+query).value)); got != want {
			t.Errorf("%s: %d users, want %d", query, got, want)
		}
	}
	var all []string
	cursor, pages := "", 0
	for more := true; more; pages++ {
		r := c.get("/api/2/users?limit=50&cursor=" + cursor)
		all = append(all, names(t, r.value))
		if r.header.Get("Total-Pages") != "3" || r.header.Get("Total-Count") != "120" || r.header.Get("Page-Items") != "50" ||
			r.header.Get("Current-Page") != fmt.Sprint(pages+1) || (r.header.Get("Before-Cursor") == "") != (pages == 0) {
			t.Fatalf("%v", r.header)
		}
		cursor = r.header.Get("After-Cursor")
		more = cursor != ""
	}
	if got := strings.Fields(strings.Join(all, " ")); len(got) != 120 || pages != 3 || !slices.IsSorted(got) {
		t.Errorf("%d users on %d pages", len(got), pages)
	}
	r := c.get("/api/1/users")
	after := at[string](t, r.value, "pagination", "after_cursor")
	r = c.get("/api/1/users?after_cursor=" + url.QueryEscape(after))
	if got := at[string](t, r.value, "data", 0, "username"); got != "user050" {
		t.Errorf("the second page begins with %s", got)
	}
}

func TestRolesOfTheFirstVersionAreAListInAList(t *testing.T) {
	c := threeUsers(t)
	c.get("/api/1/users/1/roles").says(t, 200, `"data":[[5,6]]`)
	c.get("/api/1/users/2/roles").says(t, 200, `"data":[[]]`)
	c.get("/api/1/users/4/roles").says(t, 404, "User for id 4 was not found")
	c.get("/api/1/users/4").says(t, 404, "User for id 4 was not found")
	c.get("/api/1/users/1").says(t, 200, `"role_id":[5,6]`)
	c.s.SetVariants(Variants{FlatRoles: true, ReverseLists: true, StringIDs: true})
	c.get("/api/1/users/1/roles").says(t, 200, `"data":["6","5"]`)
	c.get("/api/1/users?email=a@example.com").says(t, 200, `"role_id":["6","5"]`)
}

func TestListsMayBeTheOtherWayRound(t *testing.T) {
	c := threeUsers(t, With(Variants{ReverseLists: true}))
	if got := names(t, c.get("/api/2/users").value); got != " bob ann" {
		t.Errorf("%q", got)
	}
	mittens(c.s)
	if got := at[string](t, c.get(devices2).value, 0, "device_id"); got != "6" {
		t.Errorf("the first device is %s", got)
	}
}

func TestIDsMayBeStringsAndFieldsUnheardOf(t *testing.T) {
	c := threeUsers(t, With(Variants{StringIDs: true, ExtraFields: true}))
	u := at[map[string]any](t, c.get("/api/2/users?email=a@example.com").value, 0)
	if u["id"] != "1" || u["x_unheard_of"] == nil || u["manager_user_id"] != "100000000" {
		t.Errorf("%v", u)
	}
	c.s.SetVariants(Variants{})
	u = at[map[string]any](t, c.get("/api/2/users?email=a@example.com").value, 0)
	if u["id"] != json.Number("1") || u["x_unheard_of"] != nil {
		t.Errorf("%v", u)
	}
}

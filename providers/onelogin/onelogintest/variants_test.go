// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestATolerantClientGetsThroughEveryVariant logs in with a code and with a
// push, as a client does that takes either form of everything.
func TestATolerantClientGetsThroughEveryVariant(t *testing.T) {
	for _, v := range AllVariants() {
		t.Run(v.Name, func(t *testing.T) {
			s := New(t, With(v))
			mittens(s)
			c := newClient(t, s)
			u := one(at[any](t, c.get("/api/2/users?email=Mittens@example.com").want(t, 200).value))
			id := fmt.Sprint(u["id"])
			full := one(c.get("/api/2/users/"+id).want(t, 200).value)
			if !strings.Contains(fmt.Sprint(full["role_ids"]), "77777") {
				t.Errorf("roles %v", full["role_ids"])
			}
			base := "/api/2/mfa/users/" + id
			if n := len(at[[]any](t, c.get(base+"/devices").want(t, 200).value)); n != 6 {
				t.Errorf("%d devices", n)
			}
			c.post(base+"/verifications", body(1, s.TOTP("mittens"))).want(t, 200)
			if r := c.post(base+"/verifications", body(1, "000000")); r.status != 401 && r.status != 403 {
				t.Errorf("a wrong code: %d %s", r.status, r.raw)
			}
			pushed := one(c.post(base+"/verifications", body(2, "")).want(t, 201).value)
			poll := base + "/verifications/" + fmt.Sprint(pushed["id"])
			if got := one(c.get(poll).want(t, 200).value)["status"]; got != "pending" {
				t.Errorf("status %v", got)
			}
			s.Accept("mittens")
			if got := one(c.get(poll).want(t, 200).value)["status"]; got != "accepted" {
				t.Errorf("status %v", got)
			}
			c.post(base+"/verifications", body(3, "")).want(t, 201)
			c.post(base+"/verifications", body(3, s.Code("mittens", SMS))).want(t, 200)
		})
	}
}

// one is an object, or the only one of a list.
func one(v any) map[string]any {
	if l, ok := v.([]any); ok && len(l) == 1 {
		v = l[0]
	}
	m, _ := v.(map[string]any)
	return m
}

func TestVariantsAreNamedAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	all := AllVariants()
	for i, v := range all {
		if v.Name == "" || strings.ContainsAny(v.Name, " /") || seen[v.Name] {
			t.Errorf("name %q", v.Name)
		}
		seen[v.Name] = true
		v.Name = ""
		if reflect.ValueOf(v).IsZero() != (i == 0) {
			t.Errorf("variant %d: the documented one is the first, and only that", i)
		}
	}
	// Every point differs alone in one set, and in the last one.
	last := reflect.ValueOf(all[len(all)-1])
	for i := 1; i < last.NumField(); i++ {
		alone := slices.ContainsFunc(all[1:len(all)-1], func(v Variants) bool { return !reflect.ValueOf(v).Field(i).IsZero() })
		if !alone || last.Field(i).IsZero() {
			t.Errorf("%s is missing", last.Type().Field(i).Name)
		}
	}
	all[0].Name = "changed"
	if AllVariants()[0].Name == "changed" {
		t.Error("the list can be changed from outside")
	}
}

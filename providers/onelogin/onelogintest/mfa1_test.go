// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheFirstVersionListsInactiveDevicesToo(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	list := at[[]any](t, c.get(devices1).want(t, 200).value, "data", "otp_devices")
	if len(list) != 7 {
		t.Fatalf("%d devices", len(list))
	}
	for i, needs := range []bool{false, true, true, true, true, false, false} {
		d := at[map[string]any](t, list, i)
		if d["id"] != json.Number(itoa(int64(i+1))) || d["needs_trigger"] != needs || d["active"] != (i < 6) || d["default"] != (i == 0) {
			t.Errorf("%v", d)
		}
	}
	c.get("/api/1/users/1/otp_devices").want(t, 404)
	s.SetVariants(Variants{ProtectTwice: true, ReverseLists: true})
	list = at[[]any](t, c.get(devices1).value, "data", "otp_devices")
	if len(list) != 8 || at[bool](t, list, 5, "needs_trigger") || !at[bool](t, list, 6, "needs_trigger") {
		t.Errorf("%v", list)
	}
}

func TestTheFirstVersionVerifiesCodes(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	verify := func(device int64, otp, state string) reply {
		b := map[string]any{}
		if otp != "" {
			b["otp_token"] = otp
		}
		if state != "" {
			b["state_token"] = state
		}
		return c.post(devices1+"/"+itoa(device)+"/verify", b)
	}
	code := s.TOTP("mittens")
	verify(1, code, "").says(t, 200, `"type":"success"`)
	verify(1, code, "").says(t, 401, "Failed authentication with this factor")
	verify(7, code, "").want(t, 404)
	c.post("/api/1/users/1/otp_devices/1/verify", nil).says(t, 400, "User does not exist")

	r := c.post(devices1+"/3/trigger", map[string]any{}).says(t, 200, "SMS token sent to your mobile device. Authentication pending.")
	state := at[string](t, r.value, "data", 0, "state_token")
	verify(3, "", state).want(t, 401)
	verify(3, "B00000", state).want(t, 401)
	verify(4, s.Code("mittens", SMS), state).want(t, 400)
	verify(3, s.Code("mittens", SMS), state).want(t, 200)
	s.Advance(121 * time.Second)
	verify(3, "B00000", state).says(t, 400, "expired")
	c.post(devices1+"/9/trigger", nil).want(t, 404)
}

func TestTheFirstVersionPollsPushes(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	state := at[string](t, c.post(devices1+"/2/trigger", map[string]any{}).want(t, 200).value, "data", 0, "state_token")
	poll := func() reply { return c.post(devices1+"/2/verify", map[string]any{"state_token": state}) }
	poll().says(t, 401, "Authentication pending")
	poll().says(t, 401, "Authentication pending")
	s.Accept("mittens")
	poll().want(t, 200)
	c.post(devices1+"/2/verify", map[string]any{}).says(t, 401, "Authentication pending") // sends one
	c.post(devices1+"/2/verify", map[string]any{"otp_token": s.Code("mittens", Protect)}).want(t, 200)
	if got := s.Sent("mittens"); !slices.Equal(got, []string{"push", "push"}) {
		t.Errorf("sent: %v", got)
	}
	state = at[string](t, c.post(devices1+"/2/trigger", map[string]any{}).value, "data", 0, "state_token")
	s.Reject("mittens")
	poll().says(t, 401, "Failed authentication")
}

func login(c *client, name, password string) reply {
	return c.post("/api/1/login/auth", map[string]any{"username_or_email": name, "password": password, "subdomain": "mice"})
}

func TestAPasswordLogsIn(t *testing.T) {
	s := New(t)
	mittens(s)
	s.AddUser(User{Username: "no password"})
	c := newClient(t, s)
	for _, name := range []string{"mittens", "Mittens@example.com"} {
		r := login(c, name, "yarn-ball-9").says(t, 200, `"status":"Authenticated"`)
		if at[string](t, r.value, "data", 0, "session_token") == "" || at[json.Number](t, r.value, "data", 0, "user", "id") != "987654321" {
			t.Error(r.raw)
		}
	}
	login(c, "mittens", "wrong").says(t, 401, "Invalid user credentials")
	login(c, "nobody", "wrong").says(t, 401, "Invalid user credentials")
	login(c, "no password", "x").want(t, 401)
	login(c, "mittens", "").want(t, 400)
	for status, why := range map[int]string{
		Locked: "User is locked. Access is unauthorized", Suspended: "suspended", PasswordExpired: "expired", Zero: "not active",
	} {
		s.Update("mittens", func(u *User) { u.Status = status })
		login(c, "mittens", "yarn-ball-9").says(t, 401, why)
	}
	s.Update("mittens", func(u *User) { u.Status, u.LockedUntil = Active, s2future })
	login(c, "mittens", "yarn-ball-9").says(t, 401, "locked")
}

var s2future = time.Now().Add(100 * time.Hour)

// loginState is a login that wants a factor.
func loginState(t *testing.T, c *client) (verify func(device int, more map[string]any) reply) {
	t.Helper()
	r := login(c, "mittens", "yarn-ball-9").says(t, 200, "MFA is required for this user")
	if at[json.Number](t, r.value, "data", 0, "devices", 0, "device_id") != "1" || len(at[[]any](t, r.value, "data", 0, "devices")) != 6 ||
		!strings.HasPrefix(at[string](t, r.value, "data", 0, "callback_url"), c.s.URL) {
		t.Error(r.raw)
	}
	state := at[string](t, r.value, "data", 0, "state_token")
	return func(device int, more map[string]any) reply {
		b := map[string]any{"device_id": itoa(int64(device)), "state_token": state}
		for k, v := range more {
			b[k] = v
		}
		return c.post("/api/1/login/verify_factor", b)
	}
}

func TestALoginMayNeedAFactor(t *testing.T) {
	s := New(t)
	mittens(s)
	s.Update("mittens", func(u *User) { u.LoginMFA = true })
	c := newClient(t, s)

	verify := loginState(t, c)
	verify(1, map[string]any{"otp_token": "000000"}).says(t, 401, "Failed authentication with this factor")
	verify(7, map[string]any{"otp_token": s.TOTP("mittens")}).want(t, 401)
	verify(1, map[string]any{"otp_token": s.TOTP("mittens")}).says(t, 200, "session_token")
	verify(1, map[string]any{"otp_token": s.TOTP("mittens")}).says(t, 401, "state token") // used up

	verify = loginState(t, c)
	verify(3, nil).says(t, 200, "SMS token sent")
	verify(3, map[string]any{"otp_token": s.Code("mittens", SMS)}).says(t, 200, "session_token")

	verify = loginState(t, c)
	verify(2, map[string]any{"do_not_notify": true}).says(t, 200, `"type":"pending"`)
	verify(2, nil).says(t, 200, "Authentication pending on OL Protect")
	verify(2, map[string]any{"do_not_notify": true}).says(t, 200, "pending")
	s.Accept("mittens")
	verify(2, map[string]any{"do_not_notify": true}).says(t, 200, "session_token")

	verify = loginState(t, c)
	verify(2, nil).want(t, 200)
	s.Reject("mittens")
	verify(2, nil).want(t, 401)
	s.Update("mittens", func(u *User) { u.Status = Locked })
	verify(1, map[string]any{"otp_token": s.TOTP("mittens")}).want(t, 401)
	s.RemoveUser("mittens")
	verify(1, nil).want(t, 401)
	if got := s.Sent("mittens"); got != nil {
		t.Errorf("sent: %v to nobody", got)
	}
}

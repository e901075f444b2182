// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTOTPIsThatOfTheRFC has the vectors of RFC 6238, appendix B, cut to six
// digits.
func TestTOTPIsThatOfTheRFC(t *testing.T) {
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		s := New(t, Clock(func() time.Time { return time.Unix(at, 0) }))
		s.AddUser(User{Username: "a", Devices: []Device{{Factor: Authenticator, Secret: "gezd gnbv gy3t qojq gezd gnbv gy3t qojq"}}})
		if got := s.TOTP("a"); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestDevicesAreTheActiveOnes(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	r := c.get(devices2).want(t, 200)
	if n := len(at[[]any](t, r.value)); n != 6 || strings.Contains(r.raw, `"7"`) {
		t.Errorf("%d devices: %s", n, r.raw)
	}
	d := at[map[string]any](t, r.value, 1)
	if d["device_id"] != "2" || d["auth_factor_name"] != "OneLogin" || d["type_display_name"] != "OneLogin Protect" ||
		d["default"] != false || d["active"] != nil || d["needs_trigger"] != nil {
		t.Errorf("%v", d)
	}
	c.get("/api/2/mfa/users/1/devices").says(t, 404, "NotFoundError")
	s.SetVariants(Variants{NumericDeviceIDs: true})
	if got := at[json.Number](t, c.get(devices2).value, 1, "device_id"); got != "2" {
		t.Error(got)
	}
}

func TestACodeIsValidOnce(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	for factor, device := range map[string]int{Authenticator: 1, Protect: 2} {
		code := s.Code("mittens", factor)
		if again := s.Code("mittens", factor); again != code {
			t.Error("another code, though this one was not used")
		}
		r := c.post(verifications, body(device, code)).says(t, 200, `"message":"Success"`)
		if r.raw != `{"status":{"code":200,"error":false,"message":"Success","type":"success"}}` {
			t.Error(r.raw)
		}
		c.post(verifications, body(device, code)).says(t, 401, "InvalidCredentials")
		for range 5 { // as after waiting for the next ones
			code = s.Code("Mittens@example.com", factor)
			c.post(verifications+"/", body(device, code)).want(t, 200)
		}
	}
}

func TestTOTPIsBoundToTimeAndDevice(t *testing.T) {
	now := time.Unix(1700000010, 0)
	s := New(t, Clock(func() time.Time { return now }))
	mittens(s)
	c := newClient(t, s)
	early := s.TOTP("mittens")
	c.post(verifications, body(2, early)).want(t, 401)
	s.Advance(30 * time.Second)
	c.post(verifications, body(1, early)).want(t, 200) // the step before is accepted
	s.Advance(60 * time.Second)
	fast := s.TOTP("mittens") // of a clock that is two steps ahead
	s.Advance(-60 * time.Second)
	c.post(verifications, body(1, fast)).want(t, 401)
	s.Advance(30 * time.Second)
	c.post(verifications, body(1, fast)).want(t, 200) // the step after is accepted
	s.Advance(60 * time.Second)
	late := s.TOTP("mittens")
	s.Advance(60 * time.Second)
	c.post(verifications, body(1, late)).want(t, 401)
	c.post(verifications, body(1, "")).want(t, 201) // no otp: it triggers, and nothing is sent
	c.post(verifications, map[string]any{"device_id": 1, "otp": ""}).want(t, 401)
	if got := s.Sent("mittens"); len(got) != 0 {
		t.Errorf("sent: %v", got)
	}
}

func TestCodesAreSentWhenTriggered(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	for factor, device := range map[string]int{SMS: 3, Email: 4, Voice: 5} {
		if code := s.Code("mittens", factor); code != "" {
			t.Errorf("%s: a code %s before it was triggered", factor, code)
		}
		c.post(verifications, body(device, "B41832")).want(t, 401)
		r := c.post(verifications, body(device, "")).want(t, 201)
		v := at[map[string]any](t, r.value, 0)
		if v["device_id"] != itoa(int64(device)) || v["user_id"] != json.Number("987654321") || v["expires_at"] == nil || v["status"] != nil {
			t.Errorf("%v", v)
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(at[string](t, v, "id")) {
			t.Errorf("%v is no UUID", v["id"])
		}
		code := s.Code("mittens", factor)
		if !regexp.MustCompile(`^[A-Z]\d{5}$`).MatchString(code) {
			t.Errorf("%s: code %q", factor, code)
		}
		c.post(verifications, body(1, code)).want(t, 401) // another device's
		c.post(verifications, body(device, code)).want(t, 200)
		c.post(verifications, body(device, code)).want(t, 401)
		if left := s.Code("mittens", factor); left != "" {
			t.Errorf("%s: %s is used up", factor, left)
		}
	}
	got := s.Sent("mittens")
	slices.Sort(got)
	if !slices.Equal(got, []string{"email", "sms", "voice"}) {
		t.Errorf("sent: %v", got)
	}
	s.SetVariants(Variants{NumericCodes: true})
	c.post(verifications, body(3, "")).want(t, 201)
	if code := s.Code("mittens", SMS); !regexp.MustCompile(`^\d{6}$`).MatchString(code) {
		t.Errorf("code %q", code)
	}
	if s.Reset(); s.Sent("mittens") != nil || s.Sent("nobody") != nil {
		t.Error("something was sent")
	}
}

func TestASentCodeExpires(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	b := body(3, "")
	for _, seconds := range []int{119, 901, -1} {
		b["expires_in"] = seconds
		c.post(verifications, b).says(t, 400, "expires_in")
	}
	b["expires_in"] = 900
	c.post(verifications, b).want(t, 201)
	code := s.Code("mittens", SMS)
	s.Advance(899 * time.Second)
	if s.Code("mittens", SMS) != code {
		t.Error("the code is gone")
	}
	s.Advance(2 * time.Second)
	c.post(verifications, body(3, code)).want(t, 401)
	if s.Code("mittens", SMS) != "" {
		t.Error("the code lives on")
	}
}

func TestVerifyingByIDNeedsThatVerification(t *testing.T) {
	s := New(t)
	mittens(s)
	other := s.AddUser(User{Username: "tom"})
	c := newClient(t, s)
	trigger := func(device int) string {
		return verifications + "/" + at[string](t, c.post(verifications, body(device, "")).want(t, 201).value, 0, "id")
	}
	first := trigger(3)
	code := s.Code("mittens", SMS)
	second := trigger(3)
	c.put(second, body(3, code)).says(t, 401, "InvalidCredentials")
	c.put(first, body(4, code)).want(t, 404)
	c.put(strings.Replace(first, "987654321", itoa(other.ID), 1), body(3, code)).want(t, 404)
	c.put(first, map[string]any{"otp": code}).want(t, 200)
	c.put(first, body(3, code)).want(t, 401)

	app := trigger(1)
	c.put(app, map[string]any{"otp": s.TOTP("mittens")}).says(t, 400, "device_id")
	c.put(app, body(1, s.TOTP("mittens"))).want(t, 200)

	protect := trigger(2)
	c.put(protect, body(2, s.Code("mittens", Protect))).says(t, 403, "ForbiddenAction")
	s.SetVariants(Variants{ProtectByPUT: true})
	c.put(protect, body(2, s.Code("mittens", Protect))).want(t, 200)
	s.Advance(121 * time.Second)
	c.put(app, body(1, s.TOTP("mittens"))).want(t, 404)
	c.put("/api/2/mfa/users/1/verifications/x", nil).want(t, 404)
}

func TestNothingIsTriggeredForOthersDevices(t *testing.T) {
	s := New(t)
	mittens(s)
	tom := s.AddUser(User{Username: "tom", Devices: []Device{{Factor: SMS}}})
	c := newClient(t, s)
	c.post("/api/2/mfa/users/"+itoa(tom.ID)+"/verifications", body(3, "")).want(t, 404)
	c.post("/api/2/mfa/users/1/verifications", body(3, "")).want(t, 404)
	c.post(verifications, body(7, "")).want(t, 404) // inactive
	c.post(verifications, body(6, "")).want(t, 201) // a YubiKey: there is nothing to send
	c.post(verifications, body(6, "cccccc")).want(t, 401)
	if s.Sent("mittens") != nil || s.Sent("tom") != nil {
		t.Errorf("sent: %v %v", s.Sent("mittens"), s.Sent("tom"))
	}
}

// push triggers a push and returns how to poll it.
func push(t *testing.T, c *client) func() string {
	t.Helper()
	id := at[string](t, c.post(verifications, body(2, "")).want(t, 201).value, 0, "id")
	return func() string {
		t.Helper()
		v := at[map[string]any](t, c.get(verifications+"/"+id).want(t, 200).value, 0)
		if v["id"] != id || v["device_id"] != "2" {
			t.Errorf("%v", v)
		}
		return at[string](t, v, "status")
	}
}

func TestAPushIsDecidedByHand(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	poll := push(t, c)
	if got := poll(); got != "pending" || s.Waiting("mittens") != 1 {
		t.Errorf("a push that nobody saw is %s", got)
	}
	if s.Accept("nobody") != 0 || s.Accept("mittens") != 1 || s.Accept("mittens") != 0 || s.Waiting("mittens") != 0 {
		t.Error("one push was to be accepted")
	}
	for range 2 { // it stays accepted
		if got := poll(); got != "accepted" {
			t.Error(got)
		}
	}
	poll = push(t, c)
	if s.Reject("mittens") != 1 || poll() != "rejected" {
		t.Error("not rejected")
	}
	if got := s.Sent("mittens"); !slices.Equal(got, []string{"push", "push"}) {
		t.Errorf("sent: %v", got)
	}
}

func TestAPushIsDecidedByTheTest(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	var decision PushDecision
	s.OnPush(func(user, id string) PushDecision {
		if user != "mittens" || len(id) != 36 || s.Waiting(user) != 1 {
			t.Errorf("push %q %q", user, id)
		}
		return decision
	})
	for _, test := range []struct {
		PushDecision
		want string
	}{
		{PushDecision{Outcome: Accepted}, "accepted"},
		{PushDecision{Outcome: Refused}, "rejected"},
		{PushDecision{Outcome: Accepted, Polls: 2}, "pending pending accepted"},
		{PushDecision{Outcome: Refused, Polls: 1}, "pending rejected"},
	} {
		decision = test.PushDecision
		poll := push(t, c)
		for _, want := range strings.Fields(test.want) {
			if got := poll(); got != want {
				t.Errorf("%+v: %s, want %s", test.PushDecision, got, want)
			}
		}
	}
	decision = PushDecision{Outcome: Accepted, Delay: time.Minute}
	poll := push(t, c)
	if got := poll(); got != "pending" {
		t.Error(got)
	}
	if s.Advance(time.Minute); poll() != "accepted" {
		t.Error("not accepted after a minute")
	}
}

func TestAnIgnoredPushIsLost(t *testing.T) {
	for want, v := range map[string]Variants{
		`404 {"message":"Verification not found","name":"NotFoundError","statusCode":404}`: {},
		`404 {"status":{`:          {PollEnvelope: true},
		`200 [{"device_id":"2"`:    {LostPush: LostPending},
		`200 {"device_id":2,"id":`: {LostPush: LostExpired, SingleObjects: true, NumericDeviceIDs: true},
	} {
		s := New(t)
		mittens(s)
		c := newClient(t, s)
		id := at[string](t, c.post(verifications, body(2, "")).value, 0, "id")
		s.SetVariants(v)
		s.Advance(121 * time.Second)
		r := c.get(verifications + "/" + id)
		if got := itoa(int64(r.status)) + " " + r.raw; !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		if s.Accept("mittens") != 0 || s.Waiting("mittens") != 0 {
			t.Error("a lost push was accepted")
		}
		c.get(verifications+"/unknown").want(t, 404)
		s.Advance(2 * time.Hour)
		c.post(verifications, body(2, ""))
		c.get(verifications+"/"+id).want(t, 404)
	}
}

func TestAPushOfOneIsNotAnothers(t *testing.T) {
	s := New(t)
	mittens(s)
	tom := s.AddUser(User{Username: "tom", Devices: []Device{{Factor: Protect}}})
	c := newClient(t, s)
	id := at[string](t, c.post(verifications, body(2, "")).value, 0, "id")
	s.Accept("mittens")
	c.get("/api/2/mfa/users/"+itoa(tom.ID)+"/verifications/"+id).want(t, 404)
	c.get("/api/2/mfa/users/1/verifications/"+id).want(t, 404)
}

func TestAWrongCodeIsAnsweredEitherWay(t *testing.T) {
	for _, test := range []struct {
		v      Variants
		status int
		text   string
	}{
		{Variants{}, 401, `"name":"InvalidCredentials","statusCode":401`},
		{Variants{WrongCode: WrongEnvelope401}, 401, `{"status":{"code":401,"error":true,"message":"Failed authentication with this factor"`},
		{Variants{WrongCode: WrongFlat403}, 403, `"name":"ForbiddenAction","statusCode":403`},
	} {
		s := New(t, With(test.v))
		mittens(s)
		newClient(t, s).post(verifications, body(1, "000000")).says(t, test.status, test.text)
	}
}

func TestStatusIsIgnoredOrRespected(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	s.Update("mittens", func(u *User) { u.Status = Locked })
	c.get(devices2).want(t, 200)
	id := at[string](t, c.post(verifications, body(3, "")).want(t, 201).value, 0, "id")
	c.post(verifications, body(1, s.TOTP("mittens"))).want(t, 200)
	s.SetVariants(Variants{MFARespectsStatus: true})
	for _, change := range []func(*User){
		func(u *User) { u.Status = Suspended },
		func(u *User) { u.Status, u.State = Active, Unlicensed },
	} {
		s.Update("mittens", change)
		c.get(devices2).says(t, 403, "ForbiddenAction")
		c.post(verifications, body(3, "")).want(t, 403)
		c.post(verifications, body(1, s.TOTP("mittens"))).want(t, 403)
		c.put(verifications+"/"+id, body(3, s.Code("mittens", SMS))).want(t, 403)
		c.post(devices1+"/1/verify", map[string]any{"otp_token": s.TOTP("mittens")}).want(t, 401)
	}
}

func TestWrongCodesLock(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	attempts := func() int {
		u, _ := s.User("mittens")
		return u.InvalidLoginAttempts
	}
	for range 10 {
		c.post(verifications, body(1, "000000"))
	}
	if u, _ := s.User("mittens"); u.Status != Active || attempts() != 10 {
		t.Errorf("%+v", u)
	}
	c.post(verifications, body(1, s.TOTP("mittens"))).want(t, 200)
	if attempts() != 0 {
		t.Error("success does not empty the count")
	}
	s.LockAfter(2)
	c.post(verifications, body(1, "000000"))
	c.post("/api/1/login/auth", map[string]any{"username_or_email": "mittens", "password": "x", "subdomain": "x"}).want(t, 401)
	if u, _ := s.User("mittens"); u.Status != Locked || !u.LockedUntil.After(s.Now()) {
		t.Errorf("%+v", u)
	}
	c.get("/api/2/users/987654321").says(t, 200, `"status":3`)
}

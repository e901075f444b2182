// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestAPersonPlaysThePhones(t *testing.T) {
	s, err := Start(Demo(), WithControl())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := newClient(t, s)
	c.get("/control/").says(t, 200, "POST /control/push/accept?user=U")
	var users []User
	if err := json.Unmarshal([]byte(c.get("/control/users").want(t, 200).raw), &users); err != nil || len(users) != 4 {
		t.Fatalf("%d users, %v", len(users), err)
	}
	phone, base := users[0].Devices[1], "/api/2/mfa/users/"+itoa(users[0].ID)+"/verifications"
	code := strings.TrimSpace(c.get("/control/code?user=mittens").want(t, 200).raw)
	c.post(base, map[string]any{"device_id": users[0].Devices[0].ID, "otp": code}).want(t, 200)

	c.post("/control/push/accept?user=mittens", nil).says(t, 400, "no push is waiting")
	c.post("/control/push/accept?user=nobody", nil).says(t, 404, "no such user")
	c.post(base, map[string]any{"device_id": phone.ID}).want(t, 201)
	c.post("/control/push/accept?user=mittens", nil).says(t, 200, "pushes: 1")
	c.post(base, map[string]any{"device_id": phone.ID}).want(t, 201)
	c.post("/control/push/reject?user=mittens", nil).says(t, 200, "pushes: 1")
	c.get("/control/sent?user=mittens").says(t, 200, "push\npush\n")
	c.get("/control/sent?user=nobody").want(t, 404)
	c.get("/control/code?user=tom&factor=SMS").says(t, 400, "nothing was sent")
	c.get("/control/code?user=nobody").want(t, 404)

	c.post("/control/user?user=felix&status=1&roles=5,6", nil).says(t, 200, `"status": 1`)
	c.post("/control/user?user=felix&state=0", nil).want(t, 200)
	if u, _ := s.User("felix"); u.Status != Active || u.State != 0 || !slices.Equal(u.Roles, []int64{5, 6}) {
		t.Errorf("%+v", u)
	}
	for _, query := range []string{"user=felix&status=x", "user=felix&roles=x"} {
		c.post("/control/user?"+query, nil).want(t, 400)
	}
	c.post("/control/user?user=nobody", nil).want(t, 404)
	c.post("/control/users", map[string]any{"username": "sylvester", "devices": []any{map[string]any{"factor": "SMS"}}}).says(t, 200, `"secret"`)
	c.post("/control/users", map[string]any{"usernmae": "x"}).want(t, 400)
	c.post("/control/users", map[string]any{"devices": []any{map[string]any{"secret": "1"}}}).says(t, 400, "base32")
	if _, ok := s.User("sylvester"); !ok {
		t.Error("nobody was added")
	}
}

func TestAPersonBreaksThings(t *testing.T) {
	s := New(t, WithControl())
	c := newClient(t, s)
	c.post("/control/fail?fault=status:500&pattern=GET+/api/2/**&times=1", nil).want(t, 200)
	c.get("/api/2/users").want(t, 500)
	c.get("/api/2/users").want(t, 200)
	c.post("/control/fail?fault=status:500", nil).want(t, 200)
	c.get("/api/1/users").want(t, 500)
	c.post("/control/heal", nil).want(t, 200)
	c.get("/api/1/users").want(t, 200)
	for _, query := range []string{"", "fault=fire", "fault=hang&times=0"} {
		c.post("/control/fail?"+query, nil).want(t, 400)
	}
	c.post("/control/latency?d=1ms", nil).want(t, 200)
	c.post("/control/latency?d=soon", nil).want(t, 400)
	log := c.get("/control/requests").says(t, 200, `"call": "GET /api/1/users"`)
	if strings.Contains(log.raw, "/control/") || strings.Contains(log.raw, c.token) {
		t.Error(log.raw)
	}
	c.post("/control/reset", nil).want(t, 200)
	c.get("/control/requests").says(t, 200, "[]")
	c.post("/control/tokens/expire", nil).want(t, 200)
	c.get("/api/2/users").want(t, 401)
	c.mint(ClientID, ClientSecret)
	c.post("/control/tokens/revoke", nil).want(t, 200)
	c.get("/control/tokens/revoke").want(t, 405)
}

func TestTheControlAPIIsForThisMachine(t *testing.T) {
	s := New(t, WithControl())
	c := newClient(t, s)
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:5": 200, "evil.example": 403, "127.0.0.1.evil.example:80": 403, "192.0.2.1": 403} {
		req := c.request("GET", "/control/", nil)
		req.Host = host
		c.do(req).want(t, want)
	}
	plain := newClient(t, New(t))
	plain.get("/control/").want(t, 404)
}

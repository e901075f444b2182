// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func TestEveryFormOfCredentialIsTaken(t *testing.T) {
	s := New(t)
	c := bareClient(t, s)
	form := func(v url.Values) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/auth/oauth2/v2/token", strings.NewReader(v.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return req
	}
	grant := map[string]any{"grant_type": "client_credentials"}
	old := c.request("POST", "/auth/oauth2/v2/token", grant)
	old.Header.Set("Authorization", "client_id:"+ClientID+", client_secret:"+ClientSecret)
	pressed := c.request("POST", "/auth/oauth2/v2/token", grant)
	pressed.Header.Set("Authorization", "client_id:"+ClientID+",client_secret:"+ClientSecret)
	basic := form(url.Values{"grant_type": {"client_credentials"}})
	basic.SetBasicAuth(ClientID, ClientSecret)
	first := ""
	for name, req := range map[string]*http.Request{
		"old header": old, "old header, pressed": pressed, "basic": basic,
		"form": form(url.Values{"grant_type": {"client_credentials"}, "client_id": {ClientID}, "client_secret": {ClientSecret}}),
		"json": c.request("POST", "/auth/oauth2/v2/token", map[string]any{
			"grant_type": "client_credentials", "client_id": ClientID, "client_secret": ClientSecret,
		}),
	} {
		r := c.do(req).want(t, 200)
		token := at[string](t, r.value, "access_token")
		if first == "" {
			first = token
		}
		if token != first {
			t.Errorf("%s: another token, though the first lives", name)
		}
		if at[json.Number](t, r.value, "expires_in") != "36000" || at[string](t, r.value, "token_type") != "bearer" {
			t.Errorf("%s: %s", name, r.raw)
		}
	}
	if s.Tokens() != 1 {
		t.Errorf("%d tokens", s.Tokens())
	}
}

func TestAWrongCredentialGetsNoToken(t *testing.T) {
	s := New(t)
	c := bareClient(t, s)
	const failure = `{"status":{"code":401,"error":true,"message":"Authentication Failure","type":"Unauthorized"}}`
	c.mint(ClientID, "wrong").says(t, 401, failure)
	c.mint("wrong", ClientSecret).want(t, 401)
	c.mint("", "").want(t, 401)
	req := c.request("POST", "/auth/oauth2/v2/token", map[string]any{"grant_type": "password"})
	req.SetBasicAuth(ClientID, ClientSecret)
	c.do(req).want(t, 400)
	s.SetCredential("a", "b")
	c.mint(ClientID, ClientSecret).want(t, 401)
	c.mint("a", "b").want(t, 200)
}

func TestTheOlderTokenCallHasAnEnvelope(t *testing.T) {
	s := New(t)
	c := bareClient(t, s)
	req := c.request("POST", "/auth/oauth2/token", map[string]any{"grant_type": "client_credentials"})
	req.SetBasicAuth(ClientID, ClientSecret)
	c.token = at[string](t, c.do(req).want(t, 200).value, "data", 0, "access_token")
	c.get("/api/2/users").want(t, 200)
}

func TestATokenIsShownInEitherForm(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	for header, want := range map[string]int{
		"bearer " + c.token: 200, "Bearer " + c.token: 200, "bearer:" + c.token: 200,
		"": 401, "bearer": 401, "bearer ": 401, "bearer x": 401, c.token: 401, "basic " + c.token: 401,
	} {
		req := c.request("GET", "/api/2/users", nil)
		req.Header.Set("Authorization", header)
		c.do(req).want(t, want)
	}
}

func TestTokensEnd(t *testing.T) {
	for name, end := range map[string]func(*client){
		"expired":  func(c *client) { c.s.ExpireTokens() },
		"revoked":  func(c *client) { c.s.RevokeTokens() },
		"too_old":  func(c *client) { c.s.Advance(36000 * time.Second) },
		"given_up": func(c *client) { revoke(c).want(c.t, 200) },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t)
			c := newClient(t, s)
			c.get("/api/2/users").want(t, 200)
			end(c)
			c.get("/api/2/users").says(t, 401, `{"message":"Unauthorized","name":"UnauthorizedError","statusCode":401}`)
			c.get("/api/1/users").says(t, 401, `"type":"Unauthorized"`)
			old := c.token
			c.token = at[string](t, c.mint(ClientID, ClientSecret).value, "access_token")
			c.get("/api/2/users").want(t, 200)
			if c.token == old || s.Tokens() != 2 {
				t.Error("the old token again")
			}
			log := s.Requests()
			if log[1].Token != "token-1" || log[len(log)-1].Token != "token-2" {
				t.Errorf("tokens in the log: %+v", log)
			}
		})
	}
}

func revoke(c *client) reply {
	req := c.request("POST", "/auth/oauth2/revoke", map[string]any{"access_token": c.token})
	req.SetBasicAuth(ClientID, ClientSecret)
	return c.do(req)
}

func TestRevokingNeedsTheCredential(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	c.post("/auth/oauth2/revoke", map[string]any{"access_token": c.token}).want(t, 401)
	c.get("/api/2/users").want(t, 200)
	c.token = "unknown"
	revoke(c).want(t, 400)
}

func TestATokenLivesAsLongAsItSays(t *testing.T) {
	s := New(t)
	s.TokenLife(100 * time.Second)
	c := newClient(t, s)
	created := at[string](t, c.mint(ClientID, ClientSecret).value, "created_at")
	s.Advance(90 * time.Second)
	again := c.mint(ClientID, ClientSecret)
	if at[json.Number](t, again.value, "expires_in") != "100" || at[string](t, again.value, "created_at") != created {
		t.Errorf("the same token told as a new one: %s", again.raw)
	}
	s.SetVariants(Variants{RemainingLife: true})
	left, _ := at[json.Number](t, c.mint(ClientID, ClientSecret).value, "expires_in").Int64()
	if left > 10 || left < 5 {
		t.Errorf("%d seconds left", left)
	}
}

func TestScopesAreAskedFor(t *testing.T) {
	s := New(t)
	mittens(s)
	c := newClient(t, s)
	calls := map[string]map[Scope]bool{
		"GET /api/2/users":                 {ReadUsers: true, ManageUsers: true, ReadAll: true},
		"GET /api/2/users/987654321":       {ReadUsers: true, ManageUsers: true, ReadAll: true},
		"GET /api/1/users":                 {ReadUsers: true, ManageUsers: true, ReadAll: true},
		"GET /api/1/users/987654321/roles": {ReadAll: true},
		"GET " + devices2:                  {},
		"POST " + verifications:            {},
		"GET " + verifications + "/1":      {},
		"POST " + devices1 + "/3/trigger":  {ManageUsers: true},
		"POST " + devices1 + "/3/verify":   {ManageUsers: true},
		"POST /api/1/login/auth":           {AuthenticationOnly: true, ManageUsers: true},
		"GET /auth/rate_limit":             {AuthenticationOnly: true, ReadUsers: true, ManageUsers: true, ReadAll: true},
	}
	for call, allowed := range calls {
		method, path, _ := strings.Cut(call, " ")
		for _, scope := range []Scope{AuthenticationOnly, ReadUsers, ManageUsers, ReadAll, ManageAll} {
			s.Scope(scope)
			r := c.do(c.request(method, path, map[string]any{}))
			refused := r.status == 401 && (strings.Contains(r.raw, "Insufficient Permission") || strings.Contains(r.raw, "UnauthorizedError"))
			if want := !allowed[scope] && scope != ManageAll; refused != want {
				t.Errorf("%s with %q: %d %s", call, scope, r.status, r.raw)
			}
		}
	}
}

func TestABadTokenIsAnsweredEitherWay(t *testing.T) {
	const flat, wrong, envelope = `"name":"UnauthorizedError"`, `"name":"InvalidCredentials"`, `{"status":{"code":401`
	for _, test := range []struct {
		v                    Variants
		devices, poll, users string
	}{
		{Variants{}, flat, flat, flat},
		{Variants{TokenLikeCode: true}, wrong, wrong, flat},
		{Variants{PollEnvelope: true}, flat, envelope, flat},
		{Variants{TellScope: true}, flat, flat, flat},
	} {
		s := New(t, With(test.v))
		c := bareClient(t, s)
		c.get(devices2).says(t, 401, test.devices)
		c.get(verifications+"/x").says(t, 401, test.poll)
		c.get("/api/2/users").says(t, 401, test.users)
		if c = newClient(t, s); test.v.TellScope {
			s.Scope(ReadAll)
			c.get(devices2).says(t, 401, "Insufficient Permission")
		}
	}
}

func TestAnUnknownCallIsNotFound(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	c.get("/api/2/mice").says(t, 404, "NotFoundError")
	c.get("/").want(t, 404)
	c.put("/api/2/users", nil).want(t, 405)
}

func TestTheRateLimitIsTold(t *testing.T) {
	s := New(t)
	c := newClient(t, s)
	r := c.get("/api/2/users")
	if r.header.Get("X-RateLimit-Limit") != "5000" || r.header.Get("X-RateLimit-Remaining") != "4998" || r.header.Get("X-RateLimit-Reset") == "" {
		t.Errorf("%v", r.header)
	}
	c.get("/auth/rate_limit").says(t, 200, `"X-RateLimit-Remaining":"4997"`)
	s.SetVariants(Variants{NoRateHeaders: true})
	if r := c.get("/api/2/users"); r.header.Get("X-RateLimit-Limit") != "" {
		t.Errorf("%v", r.header)
	}
}

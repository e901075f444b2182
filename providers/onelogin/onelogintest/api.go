// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type object = map[string]any

// maxBody bounds what a request may send.
const maxBody = 1 << 20

// call is one request on its way.
type call struct {
	s      *Server
	r      *http.Request
	entry  *Request
	args   []string       // what the stars of the route stand for
	fields map[string]any // of the body
	after  []func()       // done without the lock, before the answer is sent
}

// text is a field of the body; numbers are the digits they were sent as.
func (c *call) text(key string) string {
	switch v := c.fields[key].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func (c *call) has(key string) bool { return c.text(key) != "" }

// id is the n-th star of the route as a number; no user has -1.
func (c *call) id(n int) int64 { return parseID(c.args[n]) }

func parseID(text string) int64 {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return id
}

// parse reads a body as JSON or as a form.
func parse(contentType string, body []byte) map[string]any {
	fields := map[string]any{}
	if strings.HasPrefix(contentType, "application/x-www-form-urlencoded") {
		form, _ := url.ParseQuery(string(body)) // what cannot be read is absent
		for k := range form {
			fields[k] = form.Get(k)
		}
		return fields
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&fields) != nil {
		return map[string]any{}
	}
	return fields
}

// answer is what a request gets.
type answer struct {
	status int
	header http.Header
	body   []byte
	send   func(w http.ResponseWriter, r *http.Request, a answer) // nil: as it is
}

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	if a.send != nil {
		a.send(w, r, a)
		return
	}
	a.writeHeader(w)
	_, _ = w.Write(a.body)
}

func (a answer) writeHeader(w http.ResponseWriter) {
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
}

// with returns the answer with one header more.
func (a answer) with(key, value string) answer {
	a.header = a.header.Clone()
	a.header.Set(key, value)
	return a
}

func jsonAnswer(status int, v any) answer {
	b, err := json.Marshal(v)
	if err != nil { // cannot be: the values are the emulator's own
		status, b = 500, []byte(`{"statusCode":500,"name":"InternalServerError"}`)
	}
	return answer{status, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, b, nil}
}

// envelope is a success of the v1 API; data nil leaves it out.
func envelope(data []any) answer {
	return statusEnvelope(200, "success", "Success", data)
}

func statusEnvelope(code int, kind, message string, data []any) answer {
	body := object{"status": object{"error": code >= 400, "code": code, "type": kind, "message": message}}
	if data != nil {
		body["data"] = data
	}
	return jsonAnswer(code, body)
}

// envelopeError is an error of the v1 API and of /auth.
func envelopeError(code int, kind, message string) answer {
	return statusEnvelope(code, kind, message, nil)
}

// flatError is an error of the v2 API.
func flatError(code int, name, message string) answer {
	return jsonAnswer(code, object{"statusCode": code, "name": name, "message": message})
}

func notFound() answer { return flatError(404, "NotFoundError", "Not Found") }

// route is one documented call.
type route struct {
	method, path string
	scopes       []Scope // nil: needs no token
	handle       func(*Server, *call) answer
}

// routes are all calls that the server knows; a star is one segment.
var routes = []route{
	{"POST", "/auth/oauth2/v2/token", nil, (*Server).generateToken},
	{"POST", "/auth/oauth2/token", nil, (*Server).generateToken},
	{"POST", "/auth/oauth2/revoke", nil, (*Server).revokeToken},
	{"GET", "/auth/rate_limit", forAnyone, (*Server).rateLimit},
	{"GET", "/api/2/users", forUsers, (*Server).listUsers2},
	{"GET", "/api/2/users/*", forUsers, (*Server).getUser2},
	{"GET", "/api/2/mfa/users/*/devices", forMFA2, (*Server).listDevices2},
	{"POST", "/api/2/mfa/users/*/verifications", forMFA2, (*Server).postVerification},
	{"PUT", "/api/2/mfa/users/*/verifications/*", forMFA2, (*Server).putVerification},
	{"GET", "/api/2/mfa/users/*/verifications/*", forMFA2, (*Server).getVerification},
	{"GET", "/api/1/users", forUsers, (*Server).listUsers1},
	{"GET", "/api/1/users/*", forUsers, (*Server).getUser1},
	{"GET", "/api/1/users/*/roles", forRoles, (*Server).getRoles1},
	{"GET", "/api/1/users/*/otp_devices", forUsers, (*Server).listDevices1},
	{"POST", "/api/1/users/*/otp_devices/*/trigger", forMFA1, (*Server).trigger1},
	{"POST", "/api/1/users/*/otp_devices/*/verify", forMFA1, (*Server).verify1},
	{"POST", "/api/1/login/auth", forLogin, (*Server).login},
	{"POST", "/api/1/login/verify_factor", forLogin, (*Server).loginFactor},
}

// segments splits a path; a slash at its end changes nothing.
func segments(path string) []string {
	return strings.Split(strings.Trim(path, "/"), "/")
}

// matchPath compares a path with a pattern in which "*" is any one segment and
// a last "**" is any rest, and returns what the stars stand for.
func matchPath(pattern, path string) ([]string, bool) {
	want, have := segments(pattern), segments(path)
	var args []string
	for i, seg := range want {
		if seg == "**" && i == len(want)-1 {
			return args, true
		}
		if i >= len(have) || seg != "*" && seg != have[i] {
			return nil, false
		}
		if seg == "*" {
			args = append(args, have[i])
		}
	}
	return args, len(have) == len(want)
}

// matchCall is matchPath with a method, of which "" and "*" are any.
func matchCall(method, pattern string, r *http.Request) bool {
	if method != "" && method != "*" && method != r.Method {
		return false
	}
	_, ok := matchPath(pattern, r.URL.Path)
	return ok
}

// do carries out a request and returns its answer.
func (s *Server) do(c *call) answer {
	s.mu.Lock()
	a := s.dispatch(c)
	s.wake()
	s.mu.Unlock()
	for _, f := range c.after {
		f()
	}
	return a
}

// dispatch finds the call and checks token and scope. s.mu is held.
func (s *Server) dispatch(c *call) answer {
	wrongMethod := false
	for _, rt := range routes {
		args, ok := matchPath(rt.path, c.r.URL.Path)
		if !ok {
			continue
		}
		if rt.method != c.r.Method {
			wrongMethod = true
			continue
		}
		c.args = args
		if rt.scopes != nil {
			if a, ok := s.authorise(c, rt.scopes); !ok {
				return a
			}
		}
		return s.countedDown(rt.handle(s, c))
	}
	if wrongMethod {
		return flatError(405, "MethodNotAllowedError", "Method Not Allowed")
	}
	return notFound()
}

// authorise answers 401 for a bad token and, as OneLogin does, also for a scope
// that is too small.
func (s *Server) authorise(c *call, scopes []Scope) (answer, bool) {
	t := s.tokenByAccess(bearer(c.r.Header.Get("Authorization")))
	if t != nil {
		c.entry.Token = t.name
	}
	if t == nil || !t.valid(s.now()) {
		return s.unauthorised(c, "Authentication Failure"), false
	}
	for _, scope := range scopes {
		if scope == s.scope {
			return answer{}, true
		}
	}
	return s.unauthorised(c, "Insufficient Permission"), false
}

// unauthorised is the 401 of the API version that was called.
func (s *Server) unauthorised(c *call, message string) answer {
	v := s.variants
	if strings.HasPrefix(c.r.URL.Path, "/api/2/mfa/") {
		if v.TokenLikeCode {
			return s.wrongCode()
		}
		if v.PollEnvelope && matchCall("GET", "/api/2/mfa/users/*/verifications/*", c.r) {
			return envelopeError(401, "Unauthorized", message)
		}
	}
	if strings.HasPrefix(c.r.URL.Path, "/api/2/") {
		if !v.TellScope || message != "Insufficient Permission" {
			message = "Unauthorized"
		}
		return flatError(401, "UnauthorizedError", message)
	}
	return envelopeError(401, "Unauthorized", message)
}

// hourly is the documented limit of calls.
const hourly = 5000

// countedDown adds the headers that tell what is left of the limit.
func (s *Server) countedDown(a answer) answer {
	if s.variants.NoRateHeaders {
		return a
	}
	limit, left, reset := s.rates()
	return a.with("X-RateLimit-Limit", limit).with("X-RateLimit-Remaining", left).with("X-RateLimit-Reset", reset)
}

// rates are the limit, what is left of it, and the seconds to the full hour.
func (s *Server) rates() (limit, left, reset string) {
	now := s.now()
	rest := now.Truncate(time.Hour).Add(time.Hour).Sub(now)
	return strconv.Itoa(hourly), strconv.Itoa(max(0, hourly-len(s.log))), strconv.Itoa(int(rest / time.Second))
}

// rateLimit answers GET /auth/rate_limit (reference, Get Rate Limit).
func (s *Server) rateLimit(*call) answer {
	limit, left, reset := s.rates()
	return jsonAnswer(200, object{
		"status": object{"error": false, "code": 200, "type": "success", "message": "Success"},
		"data":   object{"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": left, "X-RateLimit-Reset": reset},
	})
}

// number is an id on the wire.
func (s *Server) number(id int64) any {
	if s.variants.StringIDs {
		return strconv.FormatInt(id, 10)
	}
	return id
}

func (s *Server) numbers(ids []int64) []any {
	list := make([]any, 0, len(ids))
	for _, id := range ids {
		list = append(list, s.number(id))
	}
	return list
}

// decorate adds what no page of the reference mentions, in the variant that
// does so.
func (s *Server) decorate(o object) object {
	if s.variants.ExtraFields {
		o["x_unheard_of"] = object{"nested": []any{1, "two", nil}}
		o["_links"] = []any{}
	}
	return o
}

// stamp is a time as the samples have it.
func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

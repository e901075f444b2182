// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// controlHelp is what GET /control/ says.
const controlHelp = `GET  /control/users                      everybody, with devices and keys
POST /control/users                      add one: JSON as in a world file
POST /control/user?user=U&status=3       change one: status=, state=, roles=1,2
GET  /control/code?user=U                a TOTP code valid now; factor=SMS: the code sent last
GET  /control/sent?user=U                what was sent: push, sms ...
POST /control/push/accept?user=U         accept the waiting pushes
POST /control/push/reject?user=U         reject them
GET  /control/requests                   the log, without secrets
POST /control/reset                      empty the log
POST /control/tokens/expire              all tokens; or /control/tokens/revoke
POST /control/fail?fault=status:500      what goes wrong; pattern="GET /api/2/**", times=2
POST /control/heal                       nothing goes wrong any more
POST /control/latency?d=50ms             added to every request
`

// Control is the control API, below /control/, with which a person or a script
// plays the users' phones: GET /control/ lists the calls. It asks for no
// credential, so serve it on loopback only; requests whose Host is not loopback
// are refused, since a web page could send those.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range map[string]func(url.Values) (any, error){
		"GET /control/users":          func(url.Values) (any, error) { return s.allUsers(), nil },
		"POST /control/user":          s.controlUser,
		"GET /control/code":           s.controlCode,
		"GET /control/sent":           s.controlSent,
		"POST /control/push/accept":   func(q url.Values) (any, error) { return s.controlPush(q, s.Accept) },
		"POST /control/push/reject":   func(q url.Values) (any, error) { return s.controlPush(q, s.Reject) },
		"GET /control/requests":       func(url.Values) (any, error) { return s.controlRequests(), nil },
		"POST /control/reset":         done(s.Reset),
		"POST /control/tokens/expire": done(s.ExpireTokens),
		"POST /control/tokens/revoke": done(s.RevokeTokens),
		"POST /control/fail":          s.controlFail,
		"POST /control/heal":          done(s.Heal),
		"POST /control/latency":       s.controlLatency,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r.URL.Query())
			writeReply(w, v, err)
		})
	}
	mux.HandleFunc("POST /control/users", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.controlAdd(http.MaxBytesReader(w, r.Body, maxBody))
		writeReply(w, v, err)
	})
	mux.HandleFunc("GET /control/{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, controlHelp)
	})
	return onlyLoopback(mux)
}

func onlyLoopback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "the control API is for this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// errNobody is for users that do not exist.
var errNobody = errors.New("no such user")

// writeReply sends a value as JSON, a text as a line, or an error.
func writeReply(w http.ResponseWriter, v any, err error) {
	switch {
	case errors.Is(err, errNobody):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	default:
		if text, ok := v.(string); ok {
			_, _ = io.WriteString(w, text+"\n")
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(v) // the client is gone
	}
}

func done(f func()) func(url.Values) (any, error) {
	return func(url.Values) (any, error) {
		f()
		return "done", nil
	}
}

func (s *Server) allUsers() []User {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []User{}
	for _, u := range s.users {
		list = append(list, u.clone())
	}
	return list
}

func (s *Server) controlAdd(body io.Reader) (any, error) {
	var u User
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&u); err != nil {
		return nil, fmt.Errorf("the user is not the JSON it should be: %w", err)
	}
	if err := (World{Users: []User{u}}).check(); err != nil {
		return nil, err
	}
	return s.AddUser(u), nil
}

// controlUser changes status, state and roles.
func (s *Server) controlUser(q url.Values) (any, error) {
	var changes []func(*User)
	for key, set := range map[string]func(*User, int){
		"status": func(u *User, n int) { u.Status = n },
		"state":  func(u *User, n int) { u.State = n },
	} {
		if !q.Has(key) {
			continue
		}
		n, err := strconv.Atoi(q.Get(key))
		if err != nil {
			return nil, fmt.Errorf("%s: want a number", key)
		}
		changes = append(changes, func(u *User) { set(u, n) })
	}
	if q.Has("roles") {
		roles, err := parseIDs(q.Get("roles"))
		if err != nil {
			return nil, err
		}
		changes = append(changes, func(u *User) { u.Roles = roles })
	}
	if !s.Update(q.Get("user"), func(u *User) {
		for _, f := range changes {
			f(u)
		}
	}) {
		return nil, errNobody
	}
	u, _ := s.User(q.Get("user"))
	return u, nil
}

func parseIDs(text string) ([]int64, error) {
	var ids []int64
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		id, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("roles: want numbers, as in 77777,111111")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (s *Server) controlCode(q url.Values) (any, error) {
	if _, ok := s.User(q.Get("user")); !ok {
		return nil, errNobody
	}
	code := s.TOTP(q.Get("user"))
	if q.Has("factor") {
		code = s.Code(q.Get("user"), q.Get("factor"))
	}
	if code == "" {
		return nil, errors.New("no code: no such factor, or nothing was sent")
	}
	return code, nil
}

func (s *Server) controlSent(q url.Values) (any, error) {
	if _, ok := s.User(q.Get("user")); !ok {
		return nil, errNobody
	}
	return strings.Join(s.Sent(q.Get("user")), "\n"), nil
}

func (s *Server) controlPush(q url.Values, decide func(string) int) (any, error) {
	if _, ok := s.User(q.Get("user")); !ok {
		return nil, errNobody
	}
	n := decide(q.Get("user"))
	if n == 0 {
		return nil, errors.New("no push is waiting")
	}
	return fmt.Sprintf("pushes: %d", n), nil
}

// logLine is a request as the control API shows it.
type logLine struct {
	Time   time.Time `json:"time"`
	Call   string    `json:"call"`
	Query  string    `json:"query,omitempty"`
	Status int       `json:"status"`
	Conn   int       `json:"conn"`
	Token  string    `json:"token,omitempty"`
}

func (s *Server) controlRequests() []logLine {
	list := []logLine{}
	for _, r := range s.Requests() {
		list = append(list, logLine{r.Time, r.Method + " " + r.Path, r.Query.Encode(), r.Status, r.Conn, r.Token})
	}
	return list
}

func (s *Server) controlFail(q url.Values) (any, error) {
	f, err := ParseFault(q.Get("fault"))
	if err != nil {
		return nil, err
	}
	times := 0
	if q.Has("times") {
		if times, err = strconv.Atoi(q.Get("times")); err != nil || times < 1 {
			return nil, errors.New("times: want a number from 1 on")
		}
	}
	s.Fail(q.Get("pattern"), f, Times(times))
	return "done", nil
}

func (s *Server) controlLatency(q url.Values) (any, error) {
	d, err := time.ParseDuration(q.Get("d"))
	if err != nil || d < 0 {
		return nil, errors.New("d: want a time, as in 50ms")
	}
	s.Latency(d)
	return "done", nil
}

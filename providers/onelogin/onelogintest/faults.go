// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Fault is something that goes wrong with an answer, or says how often it
// does ([Times], [After]).
type Fault struct {
	apply func(c *call, next func() answer) answer // nil: a limit
	times int                                      // 0: for ever
	after int
}

// rule is faults with what they apply to.
type rule struct {
	match  func(*http.Request) bool
	faults []Fault
	after  int
	left   int // -1: for ever
}

// Fail lets requests go wrong whose method and path fit the pattern: "POST
// /api/2/mfa/users/*/verifications", "GET /api/2/**", "/auth/**" (any method),
// "" (everything). Several faults apply together, the first outermost. Rules
// are tried in the order of their making, and the first that fits counts. The
// returned function removes the rule.
func (s *Server) Fail(pattern string, faults ...Fault) (remove func()) {
	method, path, ok := strings.Cut(pattern, " ")
	if !ok {
		method, path = "*", pattern
	}
	if path == "" {
		path = "**"
	}
	return s.FailIf(func(r *http.Request) bool { return matchCall(method, path, r) }, faults...)
}

// FailIf is [Server.Fail] for the requests that match says, which is called
// under the server's lock: it must not call the server, nor read the body.
func (s *Server) FailIf(match func(*http.Request) bool, faults ...Fault) (remove func()) {
	ru := &rule{match: match, left: -1}
	for _, f := range faults {
		if f.apply != nil {
			ru.faults = append(ru.faults, f)
		}
		if f.times > 0 {
			ru.left = f.times
		}
		ru.after += f.after
	}
	s.change(func() { s.rules = append(s.rules, ru) })
	return func() {
		s.change(func() {
			s.rules = slices.DeleteFunc(s.rules, func(r *rule) bool { return r == ru })
		})
	}
}

// Heal removes all faults. What hangs goes on hanging.
func (s *Server) Heal() { s.change(func() { s.rules = nil }) }

// faults are those that apply to a request. s.mu is held.
func (s *Server) faults(r *http.Request) []Fault {
	for _, ru := range s.rules {
		if ru.left == 0 || !ru.match(r) {
			continue
		}
		if ru.after > 0 {
			ru.after--
			continue
		}
		if ru.left > 0 {
			ru.left--
		}
		return ru.faults
	}
	return nil
}

// Times limits a rule to its first n requests.
func Times(n int) Fault { return Fault{times: n} }

// After spares the first n requests.
func After(n int) Fault { return Fault{after: n} }

// instead is a fault that answers without doing the work.
func instead(f func(c *call) answer) Fault {
	return Fault{apply: func(c *call, _ func() answer) answer { return f(c) }}
}

// spoiled is a fault that does the work and spoils the answer.
func spoiled(f func(a answer) answer) Fault {
	return Fault{apply: func(_ *call, next func() answer) answer { return f(next()) }}
}

// Status answers with this status and an error body of the API that was called.
// Nothing is done.
func Status(code int) Fault {
	return instead(func(c *call) answer { return errorFor(c, code) })
}

func errorFor(c *call, code int) answer {
	text := http.StatusText(code)
	if strings.HasPrefix(c.r.URL.Path, "/api/2/") {
		return flatError(code, strings.TrimSuffix(strings.ReplaceAll(text, " ", ""), "Error")+"Error", text)
	}
	return envelopeError(code, text, text)
}

// RateLimit answers 429 and tells to wait, in the ways that [Variants.Wait] and
// [Variants.WaitBody] say. Nothing is done. The public pages call it an error
// only; 429 is from third parties.
func RateLimit(wait time.Duration) Fault {
	return instead(func(c *call) answer {
		c.s.mu.Lock()
		how, body := c.s.variants.Wait, c.s.variants.WaitBody
		c.s.mu.Unlock()
		a := errorFor(c, http.StatusTooManyRequests)
		switch body {
		case WaitText:
			a = answer{a.status, http.Header{"Content-Type": {"text/plain"}}, []byte("Rate limit exceeded\n"), nil}
		case WaitEmpty:
			a = answer{a.status, http.Header{}, nil, nil}
		}
		seconds := strconv.Itoa(int((wait + time.Second - 1) / time.Second))
		if how == WaitRetryAfter || how == WaitBoth {
			a = a.with("Retry-After", seconds)
		}
		if how == WaitReset || how == WaitBoth {
			a = a.with("X-RateLimit-Limit", strconv.Itoa(hourly)).
				with("X-RateLimit-Remaining", "0").with("X-RateLimit-Reset", seconds)
		}
		return a
	})
}

// Delay waits before the work is done.
func Delay(d time.Duration) Fault {
	return Fault{apply: func(c *call, next func() answer) answer {
		if !pause(c.r.Context(), d) {
			return dropped()
		}
		return next()
	}}
}

// DelayAnswer waits after the work is done.
func DelayAnswer(d time.Duration) Fault {
	return Fault{apply: func(c *call, next func() answer) answer {
		a := next()
		if !pause(c.r.Context(), d) {
			return dropped()
		}
		return a
	}}
}

// Hang never answers: until the client goes or the server closes. Nothing is
// done.
func Hang() Fault {
	return instead(func(c *call) answer {
		<-c.r.Context().Done()
		return dropped()
	})
}

// Drop closes the connection without an answer. Nothing is done. Mind that Go's
// http.Transport sends a GET again if that was not the connection's first
// request.
func Drop() Fault { return instead(func(*call) answer { return dropped() }) }

// DropAfterEffect does the work and closes the connection without an answer: a
// lost answer.
func DropAfterEffect() Fault { return spoiled(func(answer) answer { return dropped() }) }

func dropped() answer {
	return answer{send: func(http.ResponseWriter, *http.Request, answer) { panic(http.ErrAbortHandler) }}
}

// Truncate does the work, sends half of the answer with the length of the
// whole, and closes the connection.
func Truncate() Fault {
	return spoiled(func(a answer) answer {
		a.send = func(w http.ResponseWriter, _ *http.Request, a answer) {
			a.writeHeader(w)
			_, _ = w.Write(a.body[:len(a.body)/2])
			flush(w)
			panic(http.ErrAbortHandler)
		}
		return a
	})
}

// Trickle does the work and sends the answer a byte at a time, with gap before
// each.
func Trickle(gap time.Duration) Fault {
	return spoiled(func(a answer) answer {
		a.send = func(w http.ResponseWriter, r *http.Request, a answer) {
			a.writeHeader(w)
			flush(w)
			for i := range a.body {
				if !pause(r.Context(), gap) {
					panic(http.ErrAbortHandler)
				}
				if _, err := w.Write(a.body[i : i+1]); err != nil {
					return
				}
				flush(w)
			}
		}
		return a
	})
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// HTML answers 200 with a web page, as gateways and captive portals do. Nothing
// is done.
func HTML() Fault {
	const page = "<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><h1>We will be right back</h1></body></html>\n"
	return instead(func(*call) answer {
		return answer{200, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, []byte(page), nil}
	})
}

// EnvelopeError answers 200 with an envelope that says error. Nothing is done.
func EnvelopeError() Fault {
	return instead(func(*call) answer {
		return jsonAnswer(200, object{"status": object{
			"error": true, "code": 400, "type": "bad request", "message": "Something went wrong",
		}})
	})
}

// Huge does the work and answers with JSON of n bytes in its place.
func Huge(n int) Fault {
	return spoiled(func(a answer) answer {
		a.send = func(w http.ResponseWriter, _ *http.Request, a answer) {
			w.Header().Set("Content-Type", "application/json; charset=utf-8")
			w.Header().Set("Content-Length", strconv.Itoa(max(n, 4)))
			w.WriteHeader(a.status)
			_, _ = w.Write([]byte(`["`))
			chunk := []byte(strings.Repeat("a", 32<<10))
			for rest := max(n, 4) - 4; rest > 0; rest -= len(chunk) {
				if _, err := w.Write(chunk[:min(rest, len(chunk))]); err != nil {
					return
				}
			}
			_, _ = w.Write([]byte(`"]`))
		}
		return a
	})
}

// WrongType does the work and answers a JSON string in place of what belongs
// there.
func WrongType() Fault { return Body("application/json; charset=utf-8", `"unexpected"`) }

// Body does the work and answers this in place of what belongs there.
func Body(contentType, text string) Fault {
	return spoiled(func(a answer) answer {
		a.body = []byte(text)
		a.send = nil
		return a.with("Content-Type", contentType)
	})
}

// Redirect answers 302 to location: a client that follows it takes its
// credential there. Nothing is done.
func Redirect(location string) Fault {
	return instead(func(c *call) answer { return errorFor(c, http.StatusFound).with("Location", location) })
}

// faultNames are the words of [ParseFault] and what makes their fault.
var faultNames = map[string]func(argument string) (Fault, error){
	"status":       numbered(Status),
	"huge":         numbered(Huge),
	"ratelimit":    timed(RateLimit),
	"delay":        timed(Delay),
	"delay-answer": timed(DelayAnswer),
	"trickle":      timed(Trickle),
	"hang":         plain(Hang),
	"drop":         plain(Drop),
	"drop-after":   plain(DropAfterEffect),
	"truncate":     plain(Truncate),
	"html":         plain(HTML),
	"envelope":     plain(EnvelopeError),
	"wrong-type":   plain(WrongType),
	"redirect":     func(to string) (Fault, error) { return Redirect(to), nil },
}

// ParseFault reads a fault as the control API and the command have it:
// "status:500", "huge:BYTES", "ratelimit:30s", "delay:2s", "delay-answer:2s",
// "trickle:10ms", "redirect:URL", "hang", "drop", "drop-after", "truncate",
// "html", "envelope" or "wrong-type".
func ParseFault(text string) (Fault, error) {
	word, argument, _ := strings.Cut(text, ":")
	parse, ok := faultNames[word]
	if !ok {
		return Fault{}, fmt.Errorf("fault %q: no such fault", word)
	}
	f, err := parse(argument)
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w", text, err)
	}
	return f, nil
}

func numbered(f func(int) Fault) func(string) (Fault, error) {
	return func(argument string) (Fault, error) {
		n, err := strconv.Atoi(argument)
		if err != nil || n < 100 || n > 1<<30 {
			return Fault{}, fmt.Errorf("want a number from 100 on, as in status:500")
		}
		return f(n), nil
	}
}

func timed(f func(time.Duration) Fault) func(string) (Fault, error) {
	return func(argument string) (Fault, error) {
		d, err := time.ParseDuration(argument)
		if err != nil || d < 0 {
			return Fault{}, fmt.Errorf("want a time, as in delay:2s")
		}
		return f(d), nil
	}
}

func plain(f func() Fault) func(string) (Fault, error) {
	return func(argument string) (Fault, error) {
		if argument != "" {
			return Fault{}, fmt.Errorf("takes no argument")
		}
		return f(), nil
	}
}

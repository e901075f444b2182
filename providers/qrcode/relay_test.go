// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// at returns the provider for a relay at url.
func (w *world) at(url string, edit func(*Config)) *Provider {
	w.Helper()
	c := w.yaml("")
	c.Relay, c.RelayToken = url, authn.NewSecret("swordfish")
	if edit != nil {
		edit(&c)
	}
	p, err := newQuick(c, slog.New(slog.DiscardHandler))
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// listen starts a server that answers as h does.
func listen(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// A relayScript is a relay that lies: it handles one message of the host's and
// reports whether to go on.
type relayScript func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool

// liar starts a relay that does what script says.
func liar(t *testing.T, script relayScript) string {
	t.Helper()
	return listen(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow() //nolint:errcheck // it may be closed already
		for {
			_, text, err := c.Read(r.Context())
			if err != nil {
				return
			}
			e, err := wire.ParseEnvelope(text)
			if err != nil || !script(r.Context(), c, e) {
				return
			}
		}
	})
}

// say sends an envelope as a relay.
func say(ctx context.Context, c *websocket.Conn, e wire.Envelope) bool {
	text, err := json.Marshal(e)
	return err == nil && c.Write(ctx, websocket.MessageText, text) == nil
}

// expecting returns a relay that expects whatever the host wants, and then does
// what next says.
func expecting(t *testing.T, next relayScript) string {
	return liar(t, func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
		if e.Action != wire.ActionExpectAuth {
			return next(ctx, c, e)
		}
		return say(ctx, c, wire.Envelope{Action: e.Action, Result: wire.ResultOK}) && next(ctx, c, e)
	})
}

func results(words ...string) relayScript {
	n := 0
	return func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
		if e.Action != wire.ActionExpectAuth {
			return false
		}
		n++
		return say(ctx, c, wire.Envelope{Action: e.Action, Result: words[min(n, len(words))-1]})
	}
}

func raw(typ websocket.MessageType, text string) relayScript {
	return func(ctx context.Context, c *websocket.Conn, _ *wire.Envelope) bool {
		return c.Write(ctx, typ, []byte(text)) == nil
	}
}

// TestARelayThatDoesNotServeIsAFault: none of it is an outage, which would
// choose the administrator's fallback, and none of it shows a prompt.
func TestARelayThatDoesNotServeIsAFault(t *testing.T) {
	status := func(code int) func(t *testing.T) string {
		return func(t *testing.T) string {
			return listen(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(code)
			})
		}
	}
	script := func(s relayScript) func(t *testing.T) string { return func(t *testing.T) string { return liar(t, s) } }
	for _, c := range []struct {
		name string
		at   func(t *testing.T) string
		want reason.Reason
	}{
		{"401", status(401), reason.RelayToken},
		{"403", status(403), reason.RelayForbidden},
		{"429", status(429), reason.RelayBusy},
		{"404", status(404), reason.RelayAnswer},
		{"500", status(500), reason.RelayAnswer},
		{"a page", status(200), reason.RelayAnswer},
		{"a redirection", status(302), reason.RelayAnswer},
		{"hangs up", func(t *testing.T) string {
			return listen(t, func(w http.ResponseWriter, _ *http.Request) {
				if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
					_ = c.Close()
				}
			})
		}, reason.RelayLost},
		{"hangs up after the upgrade", script(func(context.Context, *websocket.Conn, *wire.Envelope) bool { return false }), reason.RelayLost},
		{"everything is taken", script(results(wire.ResultTaken)), reason.RelayTaken},
		{"too many", script(results(wire.ResultLimit)), reason.RelayLimit},
		{"unheard-of answer", script(results("maybe")), reason.RelayGarbage},
		{"no answer in it", script(results("")), reason.RelayGarbage},
		{"no JSON", script(raw(websocket.MessageText, "OK")), reason.RelayGarbage},
		{"binary", script(raw(websocket.MessageBinary, `{"action":"expectauth","result":"ok"}`)), reason.RelayGarbage},
		{"too much", script(raw(websocket.MessageText, strings.Repeat(" ", 64<<10))), reason.RelayLost},
		{"shuts down", script(func(ctx context.Context, c *websocket.Conn, _ *wire.Envelope) bool {
			return say(ctx, c, wire.Envelope{Action: wire.ActionDrain})
		}), reason.RelayDrains},
		{"self-signed", func(t *testing.T) string {
			s := httptest.NewUnstartedServer(http.NotFoundHandler())
			s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.URL
		}, reason.RelayTLS},
		{"no TLS there", func(t *testing.T) string {
			return strings.Replace(listen(t, http.NotFound), "http:", "https:", 1)
		}, reason.RelayTLS},
		{"silent", func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return "http://" + l.Addr().String()
		}, reason.RelaySlow},
		{"silent after the upgrade", script(func(context.Context, *websocket.Conn, *wire.Envelope) bool { return true }), reason.RelaySlow},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, err := w.login(w.at(c.at(t), nil))
			if !errors.Is(err, c.want) || authn.ResultOf(err) != authn.ErrSystem {
				t.Errorf("got %v (%v), want %q", err, authn.ResultOf(err), c.want)
			}
			if strings.Contains(err.Error(), "swordfish") {
				t.Errorf("the token is in %v", err)
			}
		})
	}
}

func TestAConnectionIDOfTheWrongSizeIsAFault(t *testing.T) {
	w := newWorld(t)
	p := w.at(liar(t, func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
		return say(ctx, c, wire.Envelope{Action: e.Action, CID: "AAAA"})
	}), func(c *Config) { c.Payload = "qrauth" })
	w.refused(p, reason.RelayGarbage)
}

func TestOnlyARelayThatNobodyReachesIsAnOutage(t *testing.T) {
	w := newWorld(t)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	if _, err := w.login(w.at(gone.URL, nil)); authn.ResultOf(err) != authn.ErrAuthInfoUnavail {
		t.Errorf("nobody listens: got %v", err)
	}
	if _, err := w.login(w.at("https://relay.example.com", func(c *Config) { c.Proxy = gone.URL })); authn.ResultOf(err) != authn.ErrAuthInfoUnavail {
		t.Errorf("nobody listens at the proxy: got %v", err)
	}
	proxy := listen(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if _, err := w.login(w.at("https://relay.example.com", func(c *Config) { c.Proxy = proxy })); authn.ResultOf(err) != authn.ErrSystem {
		t.Errorf("the proxy finds nobody: got %v", err)
	}
}

func TestATakenCodeIsReplaced(t *testing.T) {
	w := newWorld(t)
	ids := make(chan string, 8)
	words := results(wire.ResultTaken, wire.ResultTaken, wire.ResultOK)
	url := liar(t, func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
		ids <- e.ID
		return words(ctx, c, e)
	})
	_, err := w.login(w.at(url, nil), authntest.Prompt(question, ""), authntest.Leave())
	one, two, three := <-ids, <-ids, <-ids
	if authn.ResultOf(err) != authn.ErrConv || one == two || two == three {
		t.Errorf("got %v and ids %s, %s, %s", err, one, two, three)
	}
}

// TestARelayLostMeanwhileIsAFaultAtTheNextEnter: whatever was approved.
func TestARelayLostMeanwhileIsAFaultAtTheNextEnter(t *testing.T) {
	for name, c := range map[string]struct {
		then relayScript
		want reason.Reason
	}{
		"connection broken": {func(context.Context, *websocket.Conn, *wire.Envelope) bool { return false }, reason.RelayLost},
		"drained": {func(ctx context.Context, c *websocket.Conn, _ *wire.Envelope) bool {
			return say(ctx, c, wire.Envelope{Action: wire.ActionDrain})
		}, reason.RelayDrains},
		"garbage": {raw(websocket.MessageText, "{}"), reason.RelayGarbage},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			req := w.request
			a, err := w.at(expecting(t, c.then), nil).attempt(&req)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.open(t.Context()); err != nil {
				// It noticed before it could show the code.
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				return
			}
			defer a.close()
			_, err = a.ask(authntest.Expect(t, answer(question, func(string) string {
				select {
				case <-a.session.Done():
				case <-time.After(10 * time.Second):
					t.Error("the host does not notice")
				}
				return "123456"
			})))
			if !errors.Is(err, c.want) || authn.ResultOf(err) != authn.ErrSystem {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestARelayThatGoesAwayAfterTheApprovalIsAFault(t *testing.T) {
	w := newWorld(t)
	w.refused(w.direct(""), reason.RelayDrains, answer(question, func(shown string) string {
		code := w.digits(shown)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := w.site.Server.Drain(ctx); err != nil {
			t.Error(err)
		}
		return code
	}))
}

// TestWhatTheRelaySaysAtTheEndChangesNothing: the digits were right.
func TestWhatTheRelaySaysAtTheEndChangesNothing(t *testing.T) {
	for name, end := range map[string]relayScript{
		"silence":  func(context.Context, *websocket.Conn, *wire.Envelope) bool { return true },
		"hangs up": func(context.Context, *websocket.Conn, *wire.Envelope) bool { return false },
		"another challenge": func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
			return say(ctx, c, wire.Envelope{Action: e.Action, Result: "authverified", Challenge: wire.B64(make([]byte, 32))})
		},
		"no":      raw(websocket.MessageText, `{"action":"verifyauth","result":"no"}`),
		"garbage": raw(websocket.MessageText, `?`),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			began := time.Now()
			req := w.request
			a, err := w.at(expecting(t, func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
				return e.Action == wire.ActionExpectAuth || end(ctx, c, e)
			}), nil).attempt(&req)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.open(t.Context()); err != nil {
				t.Fatal(err)
			}
			a.parse()
			code, _ := a.accept(&a.approvers[0])
			by, err := a.ask(authntest.Expect(t, authntest.Prompt(question, code)))
			if err != nil || by.Subject != subject {
				t.Errorf("got %v, %v", by, err)
			}
			a.close()
			if d := time.Since(began); d > 3*time.Second {
				t.Errorf("it took %s", d)
			}
		})
	}
}

// TestARelayCannotApprove: it sees all that is sent, and makes nothing of it.
func TestARelayCannotApprove(t *testing.T) {
	w := newWorld(t)
	answers := make(chan *wire.Envelope, 64)
	var sent []string
	post := func(ctx context.Context, c *websocket.Conn, body string) {
		sent = append(sent, body)
		say(ctx, c, wire.Envelope{Action: wire.ActionPost, Ref: uint64(len(sent)), Body: json.RawMessage(body)})
	}
	url := liar(t, func(ctx context.Context, c *websocket.Conn, e *wire.Envelope) bool {
		switch e.Action {
		case wire.ActionExpectAuth:
			post(ctx, c, `{}`) // before the host is ready
			say(ctx, c, wire.Envelope{Action: e.Action, Result: wire.ResultOK})
			own, err := wire.NewKey()
			if err != nil {
				return false
			}
			pp := wire.B64(own.PublicKey().Bytes())
			box := wire.B64(make([]byte, 540))
			hello := func(pp string) string {
				return fmt.Sprintf(`{"seq":0,"type":"hello","v":%q,"id":%q,"pp":%q}`, wire.Version, e.ID, pp)
			}
			post(ctx, c, hello(wire.B64(make([]byte, 32)))) // no secret comes of it
			post(ctx, c, hello(pp))                         // a phone of the relay's, which has not got hp
			for _, typ := range []string{"passkey", "oidc", "refuse", "wait", "enroll"} {
				post(ctx, c, fmt.Sprintf(`{"seq":1,"type":%q,"pp":%q,"box":%q}`, typ, pp, box))
			}
			post(ctx, c, fmt.Sprintf(`{"type":"lookup","loc":%q,"proof":%q}`, e.Loc, wire.B64(make([]byte, 32))))
			post(ctx, c, `"text"`)
		case wire.ActionPost:
			answers <- e
		case wire.ActionVerifyAuth:
			t.Error("a login that was refused is retired as one that got in")
		}
		return true
	})
	enter := authntest.Prompt(notAccepted, "")
	w.refused(w.at(url, nil), reason.NotApproved, authntest.Prompt(question, ""), enter, enter, enter, enter, enter)
	close(answers)
	n := 0
	for e := range answers {
		n++
		if hello := e.Ref == 3; (e.Status == 200) != hello {
			t.Errorf("%s\nis answered %d %s", sent[e.Ref-1], e.Status, e.Body)
		}
	}
	if n != len(sent) {
		t.Errorf("%d answers to %d posts", n, len(sent))
	}
}

func TestACertificateOfOurOwnIsTakenAndNoOther(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(w.site.Server.ServeHTTP))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if id, err := w.login(w.at(s.URL, func(c *Config) { c.CA = ca }), answer(question, w.digits)); err != nil || id.Subject != subject {
		t.Errorf("got %+v, %v", id, err)
	}
	w.refused(w.at(strings.Replace(s.URL, "127.0.0.1", "localhost", 1), func(c *Config) { c.CA = ca }), reason.RelayTLS)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"context"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/reason"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
	"github.com/pam-authn/pam-authn/providers/qrcode/relay"
)

// status has the relay answer so in place of the socket.
func status(code int) func(w *world) {
	return func(w *world) {
		w.relay.upgrade = func(rw http.ResponseWriter) bool {
			rw.Header().Set("Location", w.site.URL+wire.SocketPath) // where a login would succeed
			rw.WriteHeader(code)
			return true
		}
	}
}

// result has it give this answer to expectauth.
func result(word string) func(w *world) {
	return func(w *world) { w.relay.answer = func(_, say *wire.Envelope) { say.Result = word } }
}

// raw has it say this in place of its first answer.
func raw(typ websocket.MessageType, text string) func(w *world) {
	return func(w *world) {
		w.relay.instead = func(ctx context.Context, c *websocket.Conn) bool {
			_ = c.Write(ctx, typ, []byte(text))
			return true
		}
	}
}

// TestRelays: none that fails or lies is an outage, which would choose the
// administrator's fallback, and with none of them a prompt is shown.
func TestRelays(t *testing.T) {
	attacks := []attack{
		{name: "401", want: reason.RelayToken, before: status(401)},
		{name: "403", want: reason.RelayForbidden, before: status(403)},
		{name: "429", want: reason.RelayBusy, before: status(429)},
		{name: "404", want: reason.RelayAnswer, before: status(404)},
		{name: "500", want: reason.RelayAnswer, before: status(500)},
		{name: "503", want: reason.RelayAnswer, before: status(503)},
		{name: "a_page", want: reason.RelayAnswer, before: status(200)},
		{name: "a_redirection", want: reason.RelayAnswer, before: status(302)},
		{name: "everything_is_taken", want: reason.RelayTaken, before: result(wire.ResultTaken)},
		{name: "too_many", want: reason.RelayLimit, before: result(wire.ResultLimit)},
		{name: "an_unheard_of_result", want: reason.RelayGarbage, before: result("maybe")},
		{name: "no_result", want: reason.RelayGarbage, before: result("")},
		{name: "no_JSON", want: reason.RelayGarbage, before: raw(websocket.MessageText, "OK")},
		{name: "no_action", want: reason.RelayGarbage, before: raw(websocket.MessageText, `{"result":"ok"}`)},
		{name: "binary", want: reason.RelayGarbage, before: raw(websocket.MessageBinary, `{"action":"expectauth","result":"ok"}`)},
		{name: "too_much", want: reason.RelayLost, before: raw(websocket.MessageText, strings.Repeat(" ", 64<<10)+`{"action":"expectauth","result":"ok"}`)},
		{name: "drains", want: reason.RelayDrains, before: raw(websocket.MessageText, `{"action":"drain"}`)},
		{name: "hangs_up", want: reason.RelayLost, before: func(w *world) {
			w.relay.upgrade = func(rw http.ResponseWriter) bool {
				if c, _, err := http.NewResponseController(rw).Hijack(); err == nil {
					_ = c.Close()
				}
				return true
			}
		}},
		{name: "hangs_up_after_the_upgrade", want: reason.RelayLost, before: func(w *world) {
			w.relay.instead = func(_ context.Context, c *websocket.Conn) bool { return c.CloseNow() == nil }
		}},
		{name: "answers_something_else", want: reason.RelaySlow, before: func(w *world) {
			w.relay.answer = func(_, say *wire.Envelope) { say.Action = wire.ActionVerifyAuth }
		}},
		{name: "says_nothing", want: reason.RelaySlow, before: func(w *world) {
			w.relay.instead = func(context.Context, *websocket.Conn) bool { return true }
		}},
		{name: "takes_no_calls", want: reason.RelaySlow, before: func(w *world) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				w.Fatal(err)
			}
			w.Cleanup(func() { _ = l.Close() })
			w.config.Relay = "http://" + l.Addr().String()
		}},
	}
	for i := range attacks {
		attacks[i].setUp, attacks[i].tell = withMeddler, genuine
	}
	runAll(t, append(attacks, attack{
		name: "a_connection_id_of_the_wrong_size", want: reason.RelayGarbage, tell: genuine,
		setUp: func(w *world) { withMeddler(w); w.config.Payload = "qrauth" },
		before: func(w *world) {
			w.relay.answer = func(_, say *wire.Envelope) { say.CID = "AAAA" }
		},
	}))
}

// TestCertificates: only a chain to the configured root, for this very name.
func TestCertificates(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world){
		"self_signed":     func(w *world) { w.config.CA = "" },
		"of_another_name": func(w *world) { w.config.Relay = strings.Replace(w.config.Relay, "127.0.0.1", "localhost", 1) },
		"no_TLS_there":    func(w *world) { w.config.Relay = strings.Replace(newMeddler(w.T, false).URL, "http:", "https:", 1) },
	} {
		attack{name: name, want: reason.RelayTLS, tell: genuine, before: change, setUp: func(w *world) {
			w.relay = newMeddler(w.T, true)
			w.config.Relay, w.phone.Relay, w.phone.Client = w.relay.URL, w.relay.URL, w.relay.http.Client()
			w.config.RelayToken = authn.NewSecret("swordfish")
			w.config.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.relay.http.Certificate().Raw}))
		}}.sub(t)
	}
}

// TestOnlyAnOutageIsOne: authinfo_unavail is for a relay that nobody could reach
// before the first prompt.
func TestOnlyAnOutageIsOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	withMeddler(w)
	w.succeeds(genuine)
	r := w.loginWith(true, func(r *run, shown string) string {
		code := genuine(r, shown)
		_ = r.relay.http.Listener.Close() // nobody could come back, either
		r.relay.cut()
		return code
	}, leave)
	r.refused(attack{want: reason.RelayLost, digits: true})
	r = w.login(true, genuine)
	if got := authn.ResultOf(r.err); got != authn.ErrAuthInfoUnavail || len(r.prompts) > 0 {
		t.Errorf("nobody listens: got %v after %d prompts: %v", got, len(r.prompts), r.err)
	}
}

// cut breaks the connection as a crash does, and waits until the host noticed.
func (m *meddler) cut() {
	m.t.Helper()
	if c, ok := m.socket().raw.(interface{ CloseWrite() error }); !ok || c.CloseWrite() != nil {
		m.t.Error("the connection cannot be cut")
	}
	m.await()
}

// meanwhile is the story of a relay that does something once the digits are
// shown. The host has noticed before they are typed.
func meanwhile(do func(r *run, h *hostSocket)) story {
	return func(r *run, shown string) string {
		code := genuine(r, shown)
		if r.evil {
			do(r, r.relay.socket())
			r.relay.await()
		}
		return code
	}
}

// TestRelaysThatGoMeanwhile: whatever was approved, the next Enter is refused.
func TestRelaysThatGoMeanwhile(t *testing.T) {
	attacks := []attack{
		{name: "broken", want: reason.RelayLost, tell: meanwhile(func(r *run, _ *hostSocket) { r.relay.cut() })},
		{name: "closed", want: reason.RelayLost, tell: meanwhile(func(_ *run, h *hostSocket) { _ = h.conn.Close(websocket.StatusGoingAway, "") })},
		{name: "draining", want: reason.RelayDrains, tell: meanwhile(func(r *run, h *hostSocket) {
			h.say(r.Context(), &wire.Envelope{Action: wire.ActionDrain})
		})},
		{name: "garbage", want: reason.RelayGarbage, tell: meanwhile(func(r *run, h *hostSocket) {
			_ = h.conn.Write(r.Context(), websocket.MessageText, []byte("{}"))
		})},
		{name: "a_message_that_is_too_large", want: reason.RelayLost, tell: meanwhile(func(r *run, h *hostSocket) {
			_ = h.conn.Write(r.Context(), websocket.MessageText, []byte(`{"action":"`+strings.Repeat("x", wire.MaxEnvelope)+`"}`))
		})},
	}
	for i := range attacks {
		attacks[i].setUp, attacks[i].digits = withMeddler, true
	}
	runAll(t, attacks)
}

// TestARestartInTheMiddle is the real relay's.
func TestARestartInTheMiddle(t *testing.T) {
	t.Parallel()
	attack{name: "drain", want: reason.RelayDrains, digits: true, tell: func(r *run, shown string) string {
		code := genuine(r, shown)
		if r.evil {
			ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
			defer cancel()
			if err := r.site.Server.Drain(ctx); err != nil {
				r.Error(err)
			}
		}
		return code
	}}.sub(t)
}

// TestALoginExpires: the phone is told so, and then the digits are worth nothing.
func TestALoginExpires(t *testing.T) {
	runAll(t, []attack{{name: "approved_in_time", want: reason.Expired, digits: true,
		setUp: func(w *world) { w.config.TTL = 10 * time.Second },
		tell: func(r *run, shown string) string {
			v := r.open(shown)
			code := r.approve(v, r.sign(v, r.passkey))
			if r.evil {
				if got, err := v.Wait(r.Context()); err != nil || got != wire.EndExpired {
					r.Errorf("the phone heard %q, %v", got, err)
				}
			}
			return code
		}}})
}

// TestAThousandPendingLogins of one host's token: the rest is refused as a fault,
// and no other host notices. It runs alone: it is a thousand hosts.
func TestAThousandPendingLogins(t *testing.T) {
	w := newWorld(t)
	tokens, err := relay.OpenTokens(filepath.Join(t.TempDir(), "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	var secrets [2]authn.Secret
	for i, name := range []string{"greedy", "modest"} {
		token, err := tokens.Issue(name)
		if err != nil {
			t.Fatal(err)
		}
		secrets[i] = authn.NewSecret(token)
	}
	if _, err := tokens.Reload(); err != nil {
		t.Fatal(err)
	}
	server := &relay.Server{Tokens: tokens, PageOrigin: w.site.Origin, PhonesPerMinute: 1e6, PostsPerMinute: 1e6, Log: slog.New(slog.DiscardHandler)}
	front := httptest.NewServer(server)
	t.Cleanup(func() { _ = server.Close(); front.Close() })
	w.config.Relay, w.phone.Relay = front.URL, front.URL

	w.config.RelayToken = secrets[0]
	w.succeeds(genuine)
	greedy := *w
	release := make(chan struct{})
	counts, waiting := make(map[string]int), 0
	var mu sync.Mutex
	var all, opened sync.WaitGroup
	slots := make(chan struct{}, 8) // this machine opens so many at once
	for range 1000 {
		slots <- struct{}{}
		opened.Add(1)
		open := sync.OnceFunc(func() { <-slots; opened.Done() })
		all.Go(func() {
			defer open()
			r := greedy.loginWith(true, func(*run, string) string {
				open()
				<-release
				return ""
			}, leave)
			mu.Lock()
			defer mu.Unlock()
			if len(r.prompts) > 0 {
				waiting++
				return
			}
			counts[text(r.err)]++
			if authn.ResultOf(r.err) != authn.ErrSystem {
				t.Errorf("PAM hears %v: %v", authn.ResultOf(r.err), r.err)
			}
		})
	}
	opened.Wait()
	greedy.login(true, genuine).refused(attack{want: reason.RelayLimit})
	w.config.RelayToken = secrets[1]
	w.succeeds(genuine)
	close(release)
	all.Wait()
	if n := counts[string(reason.RelayLimit)] + counts[string(reason.RelayBusy)]; waiting != 300 || n != 700 {
		t.Errorf("%d were waiting, the others refused for %v", waiting, counts)
	}
}

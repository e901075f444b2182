// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

func TestAPostReachesTheHostAndItsAnswerThePhone(t *testing.T) {
	n := start(t, &Server{})
	h := wait(t, n.url, id(1), loc(1))
	answer := postLater(t, n.url, id(1), hello)
	e := h.next()
	if e.Action != wire.ActionPost || string(e.Body) != hello {
		t.Fatalf("the host got %s %s", e.Action, e.Body)
	}
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 200, Body: json.RawMessage(`{"box":"AAAA"}`)})
	if got := receive(t, answer).String(); got != `200 {"box":"AAAA"}` {
		t.Error(got)
	}
	answer = postLater(t, n.url, loc(1), lookup)
	e = h.next()
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 200, Body: json.RawMessage(`{"hp":"AAAA"}`)})
	if got := receive(t, answer).String(); got != `200 {"hp":"AAAA"}` {
		t.Error(got)
	}
	answer = postLater(t, n.url, id(1), hello)
	e = h.next()
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 409, Body: json.RawMessage(`{"why":"four"}`)})
	if got := receive(t, answer).String(); got != `409 {"error":"busy"}` {
		t.Error(got)
	}
}

// TestGoneIsOneAnswer compares all that a phone could tell logins apart by.
func TestGoneIsOneAnswer(t *testing.T) {
	n := start(t, many(&Server{}))
	replies := map[string]reply{"unknown": post(t, n.url, id(1), waitup), "no id at all": post(t, n.url, "x/y", waitup)}

	h := wait(t, n.url, id(2), "")
	h.send(wire.Envelope{Action: wire.ActionVerifyAuth, ID: id(2), Challenge: wire.B64(make([]byte, 32))})
	h.next()
	replies["used"] = post(t, n.url, id(2), waitup)

	h = connect(t, n.url)
	if got := h.expect(id(3), loc(3), 1); got != wire.ResultOK {
		t.Fatal(got)
	}
	eventually(t, "expired", func() bool { return n.logins.find(id(3)) == nil })
	replies["expired"] = post(t, n.url, id(3), waitup)
	replies["expired, by typed code"] = post(t, n.url, loc(3), lookup)

	h = wait(t, n.url, id(4), "")
	_ = h.conn.CloseNow()
	eventually(t, "lost", func() bool { return n.logins.find(id(4)) == nil })
	replies["dead"] = post(t, n.url, id(4), waitup)

	h = wait(t, n.url, id(5), "")
	for i, status := range []int{404, 0, 201, 302, 500} {
		answer := postLater(t, n.url, id(5), waitup)
		e := h.next()
		h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: status, Body: json.RawMessage(`{"it":"is so"}`)})
		replies[fmt.Sprint("the host said ", i)] = receive(t, answer)
	}
	for _, body := range []string{"null", `"text"`, "[]"} {
		answer := postLater(t, n.url, id(5), waitup)
		h.sendRaw(fmt.Sprintf(`{"action":"post","ref":%d,"status":200,"body":%s}`, h.next().Ref, body))
		replies["the host's body is "+body] = receive(t, answer)
	}
	want := replies["unknown"]
	want.header.Del("Date")
	for name, r := range replies {
		r.header.Del("Date")
		if r.status != 404 || r.body != `{"error":"gone"}` || fmt.Sprint(r.header) != fmt.Sprint(want.header) {
			t.Errorf("%s: %v %v", name, r, r.header)
		}
	}
}

func TestTheFirstHolderKeepsIDAndLoc(t *testing.T) {
	n := start(t, &Server{})
	first := wait(t, n.url, id(1), loc(1))
	second := connect(t, n.url)
	for _, c := range []struct{ id, loc string }{{id(1), loc(2)}, {id(2), loc(1)}, {id(1), ""}} {
		if got := second.expect(c.id, c.loc, 60); got != wire.ResultTaken {
			t.Errorf("%v: %s", c, got)
		}
	}
	// What was refused took nothing with it, and another try is welcome.
	if got := second.expect(id(2), loc(2), 60); got != wire.ResultOK {
		t.Errorf("after all: %s", got)
	}
	first.serveEcho()
	if got := post(t, n.url, id(1), hello); got.status != 200 {
		t.Errorf("the first holder: %s", got)
	}
	_ = first.conn.CloseNow()
	eventually(t, "free again", func() bool { return n.logins.find(id(1)) == nil })
	wait(t, n.url, id(3), loc(1))
}

func TestALostSocketAnswersItsPhonesAtOnce(t *testing.T) {
	n := start(t, &Server{})
	h := wait(t, n.url, id(1), "")
	answers := []<-chan reply{postLater(t, n.url, id(1), waitup), postLater(t, n.url, id(1), waitup)}
	h.next()
	h.next()
	begun := time.Now()
	_ = h.conn.CloseNow()
	for _, answer := range answers {
		if got := receive(t, answer).String(); got != gone {
			t.Error(got)
		}
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestARetiredLoginStillAnswersWhoWaits: the phone is to read that it is in.
func TestARetiredLoginStillAnswersWhoWaits(t *testing.T) {
	n := start(t, &Server{})
	h := wait(t, n.url, id(1), "")
	answer := postLater(t, n.url, id(1), waitup)
	e := h.next()
	challenge := wire.B64(bytes.Repeat([]byte{7}, 32))
	h.send(wire.Envelope{Action: wire.ActionVerifyAuth, ID: id(1), Challenge: challenge})
	if got := h.next(); got.Result != wire.ResultVerified || got.Challenge != challenge {
		t.Errorf("%+v", got)
	}
	if got := post(t, n.url, id(1), waitup).String(); got != gone {
		t.Error(got)
	}
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 200, Body: json.RawMessage(`{"box":"in"}`)})
	if got := receive(t, answer).String(); got != `200 {"box":"in"}` {
		t.Error(got)
	}
}

func TestPostsArriveOnceAndInOrder(t *testing.T) {
	n := start(t, many(&Server{PostsInFlight: 64}))
	checkDelivery(t, []string{n.url}, wait(t, n.url, id(1), ""), id(1))
}

// checkDelivery has 60 phones post 10 times each, one after the other, to any of
// the nodes, and holds what the host got against it.
func checkDelivery(t *testing.T, urls []string, h *host, name string) {
	t.Helper()
	const phones, posts = 60, 10
	var mu sync.Mutex
	seen := make(map[int][]int)
	go func() {
		for {
			e, err := h.receive()
			if err != nil {
				return
			}
			var m struct{ Phone, Seq int }
			if json.Unmarshal(e.Body, &m) != nil {
				return
			}
			mu.Lock()
			seen[m.Phone] = append(seen[m.Phone], m.Seq)
			mu.Unlock()
			reply := fmt.Sprintf(`{"action":"post","ref":%d,"status":200,"body":{"echo":"%d.%d"}}`, e.Ref, m.Phone, m.Seq)
			if h.conn.Write(context.Background(), websocket.MessageText, []byte(reply)) != nil {
				return
			}
		}
	}()
	var all sync.WaitGroup
	for phone := range phones {
		all.Go(func() {
			for seq := range posts {
				r, err := tryPost(urls[phone%len(urls)], name, fmt.Sprintf(`{"type":"wait","phone":%d,"seq":%d}`, phone, seq))
				if want := fmt.Sprintf(`200 {"echo":"%d.%d"}`, phone, seq); err != nil || r.String() != want {
					t.Errorf("phone %d, post %d: %v %v", phone, seq, r, err)
				}
			}
		})
	}
	all.Wait()
	mu.Lock()
	defer mu.Unlock()
	for phone := range phones {
		if got := seen[phone]; len(got) != posts || !slices.IsSorted(got) || got[posts-1] != posts-1 {
			t.Errorf("of phone %d the host got %v", phone, got)
		}
	}
}

func TestWaitingLoginsPerTokenAreLimited(t *testing.T) {
	tokens, issued := tokenFile(t, "web", "db")
	n := start(t, many(&Server{Tokens: tokens}))
	results := map[string]int{}
	for i := range 1000 {
		h, response, err := dial(t, n.url, issued["web"])
		if err != nil {
			if response.status != http.StatusTooManyRequests {
				t.Fatal(err)
			}
			results["refused"]++
			continue
		}
		results[h.expect(id(i), "", 60)]++
	}
	if results[wire.ResultOK] != 300 || results[wire.ResultLimit] != 300 || results["refused"] != 400 {
		t.Error(results)
	}
	h, _, err := dial(t, n.url, issued["db"])
	if err != nil {
		t.Fatal(err)
	}
	if got := h.expect(id(2000), "", 60); got != wire.ResultOK {
		t.Errorf("another token: %s", got)
	}
}

func TestAnEndedLoginMakesRoom(t *testing.T) {
	n := start(t, &Server{Pending: 1})
	for i, end := range []func(h *host){
		func(h *host) { _ = h.conn.CloseNow() },
		func(h *host) {
			h.send(wire.Envelope{Action: wire.ActionVerifyAuth, ID: id(1), Challenge: wire.B64(make([]byte, 32))})
			h.next()
		},
		func(h *host) { _ = h.conn.CloseNow() },
	} {
		h := connect(t, n.url)
		if got := h.expect(id(i), "", 60); got != wire.ResultOK {
			t.Fatalf("login %d: %s", i, got)
		}
		more := connect(t, n.url)
		if got := more.expect(id(10), "", 60); got != wire.ResultLimit {
			t.Errorf("one more than may be: %s", got)
		}
		_ = more.conn.CloseNow()
		end(h)
		eventually(t, "there is room", func() bool { _, pending := n.logins.size(); return pending == 0 })
		_ = h.conn.CloseNow()
		eventually(t, "all are gone", func() bool { sockets, _ := n.logins.size(); return sockets == 0 })
	}
}

// TestNothingIsPostedBeforeOrAfterItsTime, to the moment.
func TestNothingIsPostedBeforeOrAfterItsTime(t *testing.T) {
	s := &Server{PostsInFlight: 1}
	for what, k := range map[string]*socket{
		"other nodes were not asked yet": {s: s, until: time.Now().Add(time.Hour)},
		"expired":                        {s: s, ready: true, until: time.Now().Add(-time.Nanosecond)},
	} {
		if _, refused := k.post([]byte("{}"), nil); refused == nil || refused.status != 404 {
			t.Errorf("%s: %v", what, refused)
		}
	}
}

func TestPhonesPerAddressAreLimited(t *testing.T) {
	proxied := &Server{PageOrigin: "https://login.example.com"}
	_ = proxies(proxied, "127.0.0.1")
	tokens, _ := tokenFile(t, "web")
	proxied.Tokens = tokens
	n := start(t, proxied)
	from := func(address, body, name string) int {
		return post(t, n.url, name, body, "X-Forwarded-For", address).status
	}
	for i := range 10 {
		if got := from("192.0.2.1", hello, id(i)); got != 404 {
			t.Fatalf("phone %d: %d", i, got)
		}
	}
	for _, c := range []struct {
		what, address, body, name string
		want                      int
	}{
		{"the eleventh phone", "192.0.2.1", hello, id(1), 429},
		{"what a phone goes on to say", "192.0.2.1", waitup, id(1), 404},
		{"a typed code", "192.0.2.1", lookup, loc(1), 404},
		{"another address", "192.0.2.2", hello, id(1), 404},
		{"an address that the phone made up", "192.0.2.9, 192.0.2.1", hello, id(1), 429},
		{"with a port", "192.0.2.1:4711", hello, id(1), 429},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", hello, id(1), 429},
	} {
		if got := from(c.address, c.body, c.name); got != c.want {
			t.Errorf("%s: %d", c.what, got)
		}
	}
	for i := range 10 {
		from(fmt.Sprintf("2001:db8::%d", i+1), lookup, loc(i))
	}
	if got := from("2001:db8::ffff:1", lookup, loc(1)); got != 429 {
		t.Errorf("the same /64: %d", got)
	}
	if got := from("2001:db8:0:1::1", lookup, loc(1)); got != 404 {
		t.Errorf("another /64: %d", got)
	}
}

func TestAStrangersForwardedAddressIsNotBelieved(t *testing.T) {
	n := start(t, &Server{PhonesPerMinute: 1})
	if got := post(t, n.url, id(1), hello, "X-Forwarded-For", "192.0.2.1"); got.status != 404 {
		t.Error(got)
	}
	if got := post(t, n.url, id(1), hello, "X-Forwarded-For", "192.0.2.2"); got.status != 429 {
		t.Error(got)
	}
}

func TestAllPostsPerAddressAreLimited(t *testing.T) {
	n := start(t, &Server{PostsPerMinute: 3})
	var got []int
	for range 4 {
		got = append(got, post(t, n.url, id(1), "{").status)
	}
	if !slices.Equal(got, []int{400, 400, 400, 429}) {
		t.Error(got)
	}
}

func TestALimiterForgets(t *testing.T) {
	l := &limiter{perMinute: 10}
	now := time.Unix(1e9, 0)
	a := peer(&http.Request{RemoteAddr: "192.0.2.1:1"})
	allowed := func() (n int) {
		for l.allow(a, now) {
			n++
		}
		return n
	}
	if got := allowed(); got != 10 {
		t.Errorf("at once: %d", got)
	}
	now = now.Add(12 * time.Second)
	if got := allowed(); got != 2 {
		t.Errorf("after 12 s: %d", got)
	}
	now = now.Add(time.Hour)
	l.prune(now)
	if len(l.debt) != 0 {
		t.Error("an hour later it still knows")
	}
	for i := range maxAddresses + 10 {
		l.allow(peer(&http.Request{RemoteAddr: fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)}), now)
	}
	if len(l.debt) > maxAddresses {
		t.Errorf("it knows %d addresses", len(l.debt))
	}
}

func TestPostsInFlightPerLoginAreLimited(t *testing.T) {
	n := start(t, &Server{PostsInFlight: 2})
	h := wait(t, n.url, id(1), "")
	first := postLater(t, n.url, id(1), waitup)
	ref := h.next().Ref
	second := postLater(t, n.url, id(1), waitup)
	h.next()
	if got := post(t, n.url, id(1), waitup); got.status != 429 {
		t.Error(got)
	}
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: ref, Status: 200, Body: json.RawMessage(`{}`)})
	if got := receive(t, first); got.status != 200 {
		t.Error(got)
	}
	third := postLater(t, n.url, id(1), waitup)
	h.next()
	_ = h.conn.CloseNow()
	receive(t, second)
	receive(t, third)
}

func TestAHostThatAnswersNothingIsGone(t *testing.T) {
	n := start(t, &Server{AnswerTimeout: 20 * time.Millisecond})
	h := wait(t, n.url, id(1), "")
	if got := post(t, n.url, id(1), waitup).String(); got != gone {
		t.Error(got)
	}
	// Its answer, when it comes, is nobody's.
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: h.next().Ref, Status: 200, Body: json.RawMessage(`{}`)})
	h.send(wire.Envelope{Action: wire.ActionGetConID})
	if got := h.next(); got.CID == "" {
		t.Errorf("%+v", got)
	}
}

func TestBadPostsAreRefused(t *testing.T) {
	n := start(t, many(&Server{}))
	wait(t, n.url, id(1), loc(1)).serveEcho()
	big := `{"type":"wait","box":"` + strings.Repeat("A", 16<<10) + `"}`
	for _, c := range []struct {
		what, name, body string
		want             int
	}{
		{"nothing", id(1), "", 400},
		{"white space", id(1), " \n", 400},
		{"garbage", id(1), "\xff\xfe", 400},
		{"half", id(1), `{"type":"wait"`, 400},
		{"two", id(1), hello + hello, 400},
		{"a list", id(1), `[` + hello + `]`, 400},
		{"null", id(1), `null`, 400},
		{"no type", id(1), `{}`, 400},
		{"a type that is no string", id(1), `{"type":1}`, 400},
		{"deep", id(1), strings.Repeat("[", 15000), 400},
		{"a lookup by id", id(1), lookup, 400},
		{"a hello by loc", loc(1), hello, 400},
		{"too large", id(1), big, 413},
		{"upper case id", strings.ToUpper(id(0xabc)), hello, 404},
		{"a path in the path", id(1) + "/..%2f", hello, 404},
		{"fine", id(1), " " + hello + "\n", 200},
		{"a type of the future", id(1), `{"type":"weather"}`, 200},
	} {
		if got := post(t, n.url, c.name, c.body); got.status != c.want {
			t.Errorf("%s: %s", c.what, got)
		}
	}
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";"} {
		if got := post(t, n.url, id(1), hello, "Content-Type", kind); got.status != 400 {
			t.Errorf("%q: %s", kind, got)
		}
	}
	if got := get(t, n.url+wire.PhonePath+id(1)); got.status != 405 {
		t.Error(got)
	}
}

func TestASlowPostEnds(t *testing.T) {
	n := start(t, &Server{ReadTimeout: 50 * time.Millisecond})
	wait(t, n.url, id(1), "").serveEcho()
	for _, head := range []string{
		"POST /api/1/" + id(1) + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("still open: %.20s", head)
		}
	}
}

// TestALongWaitOutlivesTheReadTimeout: the time to read ends with the reading.
func TestALongWaitOutlivesTheReadTimeout(t *testing.T) {
	n := start(t, &Server{ReadTimeout: 200 * time.Millisecond})
	h := wait(t, n.url, id(1), "")
	answer := postLater(t, n.url, id(1), waitup)
	e := h.next()
	select {
	case got := <-answer:
		t.Fatalf("too early: %s", got)
	case <-time.After(400 * time.Millisecond):
	}
	h.send(wire.Envelope{Action: wire.ActionPost, Ref: e.Ref, Status: 200, Body: json.RawMessage(`{}`)})
	if got := receive(t, answer); got.status != 200 {
		t.Error(got)
	}
}

func TestAHostThatBreaksTheProtocolIsClosed(t *testing.T) {
	n := start(t, &Server{})
	for what, message := range map[string]string{
		"garbage":                "{",
		"a list":                 "[]",
		"no action":              "{}",
		"an unknown action":      `{"action":"weather"}`,
		"a relay's action":       `{"action":"drain"}`,
		"no id":                  `{"action":"expectauth","ttl":9}`,
		"a bad id":               `{"action":"expectauth","id":"../x","ttl":9}`,
		"a bad loc":              `{"action":"expectauth","id":"` + id(1) + `","loc":"abcde","ttl":9}`,
		"no ttl":                 `{"action":"expectauth","id":"` + id(1) + `"}`,
		"a negative ttl":         `{"action":"expectauth","id":"` + id(1) + `","ttl":-1}`,
		"somebody else's id":     `{"action":"verifyauth","id":"` + id(2) + `","challenge":"` + wire.B64(make([]byte, 32)) + `"}`,
		"an answer without ref":  `{"action":"post","status":200,"body":{}}`,
		"too much":               `{"action":"getconid","x":"` + strings.Repeat("A", wire.MaxEnvelope) + `"}`,
		"text that is no UTF-8?": "\xff",
	} {
		h := connect(t, n.url)
		h.sendRaw(message)
		if got := h.closed(); got != websocket.StatusPolicyViolation && got != websocket.StatusMessageTooBig {
			t.Errorf("%s: %v", what, got)
		}
	}
	h := wait(t, n.url, id(9), "")
	h.sendRaw(`{"action":"expectauth","id":"` + id(10) + `","ttl":9}`)
	if got := h.closed(); got != websocket.StatusPolicyViolation {
		t.Errorf("a second login: %v", got)
	}
	h = wait(t, n.url, id(11), "")
	h.sendRaw(`{"action":"verifyauth","id":"` + id(11) + `","challenge":"AAAA"}`)
	if got := h.closed(); got != websocket.StatusPolicyViolation {
		t.Errorf("a short challenge: %v", got)
	}
	h = connect(t, n.url)
	if err := h.conn.Write(context.Background(), websocket.MessageBinary, []byte(`{"action":"getconid"}`)); err != nil {
		t.Fatal(err)
	}
	if got := h.closed(); got != websocket.StatusPolicyViolation {
		t.Errorf("a binary message: %v", got)
	}
	eventually(t, "all gone", func() bool { sockets, _ := n.logins.size(); return sockets == 0 })
}

// TestGoldenMessages: what package wire says that hosts say, and what a later
// version may add to it.
func TestGoldenMessages(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "internal", "wire", "testdata", "golden", "socket.json"))
	if err != nil {
		t.Fatal(err)
	}
	var messages []struct {
		Name, From string
		JSON       json.RawMessage
	}
	if err := json.Unmarshal(data, &messages); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"this", "next"} {
		t.Run(version+"_version", func(t *testing.T) {
			h := connect(t, start(t, &Server{}).url)
			for _, m := range messages {
				if m.From != "host" {
					continue
				}
				var e wire.Envelope
				if err := json.Unmarshal(m.JSON, &e); err != nil {
					t.Fatal(err)
				}
				text := string(m.JSON)
				if version == "next" {
					text = strings.TrimSuffix(strings.TrimSpace(text), "}") + `,"colour":{"r":[1]},"flavour":"sour"}`
				}
				h.sendRaw(text)
				if e.Action == wire.ActionPost {
					continue // nobody asked: ignored
				}
				got := h.next()
				if got.Action != e.Action {
					t.Errorf("%s: answered %+v", m.Name, got)
				}
				if e.Action == wire.ActionVerifyAuth && (got.Result != wire.ResultVerified || got.Challenge != e.Challenge) {
					t.Errorf("%s: %+v", m.Name, got)
				}
				if e.Action == wire.ActionExpectAuth && got.Result != wire.ResultOK {
					t.Errorf("%s: %+v", m.Name, got)
				}
			}
		})
	}
}

// TestGoldenPhoneMessages: each arrives as it was sent.
func TestGoldenPhoneMessages(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "internal", "wire", "testdata", "golden", "phone.json"))
	if err != nil {
		t.Fatal(err)
	}
	var messages []struct {
		Name, From string
		JSON       json.RawMessage
	}
	if err := json.Unmarshal(data, &messages); err != nil {
		t.Fatal(err)
	}
	n := start(t, many(&Server{}))
	wait(t, n.url, id(1), loc(1)).serveEcho()
	for _, m := range messages {
		if m.From != "phone" {
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, m.JSON); err != nil {
			t.Fatal(err)
		}
		name := id(1)
		if strings.Contains(compact.String(), `"lookup"`) {
			name = loc(1)
		}
		if got := post(t, n.url, name, string(m.JSON)).String(); got != `200 {"echo":`+compact.String()+`}` {
			t.Errorf("%s: %s", m.Name, got)
		}
	}
}

func TestConnectionIDsAreRandom(t *testing.T) {
	h := connect(t, start(t, &Server{}).url)
	seen := map[string]bool{}
	for range 2 {
		h.send(wire.Envelope{Action: wire.ActionGetConID})
		cid := h.next().CID
		if raw, err := wire.UnB64(cid); err != nil || len(raw) != wire.CIDSize || seen[cid] {
			t.Errorf("%q", cid)
		}
		seen[cid] = true
	}
}

func TestTheTTLHasACeiling(t *testing.T) {
	h := connect(t, start(t, &Server{MaxTTL: 2 * time.Second}).url)
	h.send(wire.Envelope{Action: wire.ActionExpectAuth, ID: id(1), TTL: 3600})
	if got := h.next(); got.Result != wire.ResultOK || got.TTL != 2 {
		t.Errorf("%+v", got)
	}
}

func TestAHostThatExpectsNothingIsClosed(t *testing.T) {
	h := connect(t, start(t, &Server{ExpectTimeout: time.Millisecond}).url)
	if got := h.closed(); got != websocket.StatusGoingAway {
		t.Error(got)
	}
}

func TestAHostThatAnswersNoPingIsClosed(t *testing.T) {
	n := start(t, &Server{PingInterval: time.Second})
	wait(t, n.url, id(1), "") // and reads nothing more
	alive := wait(t, n.url, id(2), "")
	alive.serveEcho()
	eventually(t, "closed", func() bool { return n.metrics.unresponsive.Load() == 1 })
	if got := post(t, n.url, id(1), waitup).String(); got != gone {
		t.Error(got)
	}
	if got := post(t, n.url, id(2), waitup); got.status != 200 {
		t.Errorf("the host that answers pings: %s", got)
	}
}

// TestAMuteHostIsCut: one that reads nothing answers no close frame, and what is
// posted to it then finds the connection closing.
func TestAMuteHostIsCut(t *testing.T) {
	for what, end := range map[string]func(*socket){
		"shut":      func(k *socket) { k.shut("time is up") },
		"violation": func(k *socket) { k.leave(websocket.StatusPolicyViolation, "protocol violation") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			n := start(t, &Server{PingInterval: time.Hour})
			wait(t, n.url, id(1), "")
			k := n.logins.find(id(1))
			began := time.Now()
			end(k)
			if got := post(t, n.url, id(1), waitup).String(); got != gone {
				t.Error(got)
			}
			receive(t, k.gone)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestASlowHostHoldsUpNobodyElse: one that reads nothing is closed once it has
// enough to read.
func TestASlowHostHoldsUpNobodyElse(t *testing.T) {
	n := start(t, many(&Server{PostsInFlight: 4}))
	wait(t, n.url, id(1), "")
	other := wait(t, n.url, id(2), "")
	other.serveEcho()
	large := `{"type":"wait","box":"` + strings.Repeat("A", 16000) + `"}`
	hasty := &http.Client{Timeout: 20 * time.Millisecond}
	eventually(t, "the slow one is closed", func() bool {
		if r, err := hasty.Post(n.url+wire.PhonePath+id(1), "application/json", strings.NewReader(large)); err == nil {
			r.Body.Close()
		}
		return n.logins.find(id(1)) == nil
	})
	if got := post(t, n.url, id(2), waitup); got.status != 200 {
		t.Error(got)
	}
}

func TestDrainTellsHostsAndTakesNoMore(t *testing.T) {
	n := start(t, &Server{})
	h := wait(t, n.url, id(1), "")
	if got := get(t, n.url+"/healthz"); got.String() != "200 ok\n" {
		t.Error(got)
	}
	drained := make(chan error, 1)
	go func() { drained <- n.Drain(context.Background()) }()
	if got := h.next(); got.Action != wire.ActionDrain {
		t.Errorf("%+v", got)
	}
	if got := get(t, n.url+"/healthz"); got.String() != "503 draining\n" {
		t.Error(got)
	}
	if _, response, err := dial(t, n.url, ""); err == nil || response.status != 503 {
		t.Errorf("a new host: %v", err)
	}
	h.serveEcho()
	if got := post(t, n.url, id(1), waitup); got.status != 200 {
		t.Errorf("a phone meanwhile: %s", got)
	}
	_ = h.conn.CloseNow()
	if err := receive(t, drained); err != nil {
		t.Error(err)
	}
}

func TestDrainEndsInTime(t *testing.T) {
	n := start(t, &Server{})
	h := wait(t, n.url, id(1), "")
	answer := postLater(t, n.url, id(1), waitup)
	h.next()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := n.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if got := receive(t, answer).String(); got != gone {
		t.Error(got)
	}
	if sockets, pending := n.logins.size(); sockets != 0 || pending != 0 {
		t.Errorf("%d sockets and %d logins are left", sockets, pending)
	}
}

// TestCloseLeavesNothing: no goroutine, whatever went on.
func TestCloseLeavesNothing(t *testing.T) {
	client.CloseIdleConnections()
	before := runtime.NumGoroutine()
	s := many(&Server{Open: true, Log: slog.New(slog.DiscardHandler)})
	server := httptest.NewServer(s)
	var answers []<-chan reply
	var hosts []*host
	for i := range 20 {
		h := wait(t, server.URL, id(i), loc(i))
		hosts = append(hosts, h)
		answers = append(answers, postLater(t, server.URL, id(i), waitup))
		h.next()
	}
	for _, h := range hosts {
		h.serveEcho() // reads, and so answers the close frame
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, answer := range answers {
		if got := receive(t, answer).String(); got != gone {
			t.Error(got)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("again: %v", err)
	}
	server.Close()
	eventually(t, "no goroutine is left", func() bool {
		client.CloseIdleConnections()
		return runtime.NumGoroutine() <= before
	})
}

func TestOnlyThePageMayPost(t *testing.T) {
	elsewhere := start(t, many(&Server{PageOrigin: "https://login.example.com"}))
	here := start(t, many(&Server{}))
	own := here.url
	for _, c := range []struct {
		what, url, origin string
		want              int
		allowed           string
	}{
		{"the page", elsewhere.url, "https://login.example.com", 404, "https://login.example.com"},
		{"another page", elsewhere.url, "https://evil.example", 403, ""},
		{"the relay's own, which has no page", elsewhere.url, elsewhere.url, 403, ""},
		{"null", elsewhere.url, "null", 403, ""},
		{"the page that is served here", here.url, own, 404, ""},
		{"another page", here.url, "https://evil.example", 403, ""},
		{"null", here.url, "null", 403, ""},
	} {
		for _, method := range []string{http.MethodPost, http.MethodOptions} {
			r, err := http.NewRequest(method, c.url+wire.PhonePath+id(1), strings.NewReader(waitup))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", c.origin)
			r.Header.Set("Content-Type", "application/json")
			response, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			want := c.want
			if method == http.MethodOptions && want == 404 {
				want = 204
			}
			if got := response.StatusCode; got != want {
				t.Errorf("%s, %s: %d", method, c.what, got)
			}
			if got := response.Header.Get("Access-Control-Allow-Origin"); got != c.allowed {
				t.Errorf("%s, %s: allows %q", method, c.what, got)
			}
			if response.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("credentials are allowed")
			}
		}
	}
}

func TestTheSmallBuffersKeepWhatCameEarly(t *testing.T) {
	n := start(t, &Server{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// A frame that follows the request in the same packet, masked with zeros.
	text := `{"action":"getconid","x":"` + strings.Repeat("A", 900) + `"}`
	frame := append([]byte{0x81, 0x80 | 126, byte(len(text) >> 8), byte(len(text)), 0, 0, 0, 0}, text...)
	request := "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	if _, err := conn.Write(append([]byte(request), frame...)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != 101 {
		t.Fatal(response, err)
	}
	response.Body.Close()
	answer := make([]byte, 30)
	if _, err := io.ReadFull(reader, answer); err != nil || !strings.Contains(string(answer), `{"action":"getconid"`) {
		t.Errorf("%q %v", answer, err)
	}
}

func TestThePageIsServed(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "page "+r.URL.Path) })
	n := start(t, &Server{Page: page})
	for _, path := range []string{"/", "/1", "/config.json"} {
		if got := get(t, n.url+path).body; got != "page "+path {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := get(t, start(t, &Server{}).url); got.status != 404 {
		t.Errorf("without a page: %s", got)
	}
}

func TestMetricsCount(t *testing.T) {
	n := start(t, many(&Server{}))
	h := wait(t, n.url, id(1), "")
	h.serveEcho()
	post(t, n.url, id(1), waitup)
	post(t, n.url, id(2), waitup)
	text := get(t, n.url+"/metrics").body
	for _, line := range []string{
		"qrcode_relay_sockets 1", "qrcode_relay_waiting_logins 1", "qrcode_relay_ready 1",
		`qrcode_relay_logins_total{result="ok"} 1`, `qrcode_relay_posts_total{result="ok"} 1`,
		`qrcode_relay_posts_total{result="gone"} 1`, `qrcode_relay_post_seconds_bucket{le="+Inf"} 2`,
		"qrcode_relay_post_seconds_count 2", "# TYPE qrcode_relay_post_seconds histogram",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) < 2 || line[0] == '#' && f[1] != "HELP" && f[1] != "TYPE" {
			t.Errorf("odd line %q", line)
		}
	}
}

func TestMetricsAreNotForStrangers(t *testing.T) {
	s := &Server{}
	s.start.Do(s.init)
	t.Cleanup(func() { _ = s.Close() })
	status := func(from string, header ...string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		r.RemoteAddr = from
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		s.ServeHTTP(w, r)
		return w.Code
	}
	if got := status("192.0.2.1:1"); got != 404 {
		t.Errorf("a stranger: %d", got)
	}
	if got := status("[::1]:1"); got != 200 {
		t.Errorf("this machine: %d", got)
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"} {
		if got := status("127.0.0.1:1", name, "192.0.2.1"); got != 404 {
			t.Errorf("a proxy that nobody trusts and that says %s: %d", name, got)
		}
	}
	s.MetricsFrom = prefixes("192.0.2.0/24")
	if got := status("192.0.2.1:1"); got != 200 {
		t.Errorf("who may: %d", got)
	}
}

// TestLogsAndMetricsNameNobody after a bit of everything.
func TestLogsAndMetricsNameNobody(t *testing.T) {
	tokens, issued := tokenFile(t, "webserver")
	n := start(t, many(&Server{Tokens: tokens}))
	h, _, err := dial(t, n.url, issued["webserver"])
	if err != nil {
		t.Fatal(err)
	}
	h.expect(id(0xabcdef), "QQQQQ", 60)
	h.serveEcho()
	post(t, n.url, id(0xabcdef), hello)
	post(t, n.url, "QQQQQ", lookup)
	_, _, _ = dial(t, n.url, "wrong-token")
	h2, _, err := dial(t, n.url, issued["webserver"])
	if err != nil {
		t.Fatal(err)
	}
	h2.sendRaw(`{"action":"` + id(0xabcdef) + `"}`)
	h2.closed()
	if err := tokens.Revoke("webserver"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "closed", func() bool { sockets, _ := n.logins.size(); return sockets == 0 })
	text := n.log.String() + get(t, n.url+"/metrics").body
	for _, secret := range []string{id(0xabcdef), "QQQQQ", "127.0.0.1", issued["webserver"], "wrong-token", "webserver"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in\n%s", secret, text)
		}
	}
	if !strings.Contains(text, "login over") {
		t.Error("nothing was logged")
	}
}

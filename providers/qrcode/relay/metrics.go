// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// metrics count. They know no names: only kinds of things, which are listed
// here, so that a page of them is as long on the first day as on the last.
type metrics struct {
	logins   counters // expectauth, by result
	ends     counters // logins over, by reason
	refusals counters // hosts turned away, by reason
	posts    counters // by result
	buckets  [len(bounds) + 1]atomic.Int64
	nanos    atomic.Int64 // of all posts

	inFlight     atomic.Int64
	violations   atomic.Int64
	unresponsive atomic.Int64
	tokenErrors  atomic.Int64
}

type counters map[string]*atomic.Int64

func newCounters(names ...string) counters {
	c := make(counters, len(names))
	for _, name := range names {
		c[name] = new(atomic.Int64)
	}
	return c
}

// bounds are the histogram's, of how long posts took, in seconds. A wait takes
// up to 25.
var bounds = [...]float64{.001, .0025, .005, .01, .025, .1, .5, 2.5, 10, 30}

var resultOf = map[int]string{
	http.StatusOK:                    "ok",
	http.StatusBadRequest:            "malformed",
	http.StatusNotFound:              "gone",
	http.StatusConflict:              "busy",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusTooManyRequests:       "slow_down",
}

func (m *metrics) init() {
	m.logins = newCounters(wire.ResultOK, wire.ResultTaken, wire.ResultLimit)
	m.ends = newCounters("verified", "expired", "socket_lost")
	m.refusals = newCounters("token", "browser", "proxy", "not_the_proxy", "unready", "sockets", "no_websocket")
	m.posts = newCounters(append(slices.Collect(maps.Values(resultOf)), "origin")...)
}

func (m *metrics) refused(why string) { m.refusals[why].Add(1) }

func (m *metrics) post(result string, took time.Duration) {
	m.posts[result].Add(1)
	m.nanos.Add(int64(took))
	i, _ := slices.BinarySearch(bounds[:], took.Seconds())
	m.buckets[i].Add(1)
}

// mayRead reports whether /metrics are for whoever sent r. Behind a proxy that
// nobody told us to trust, everybody would be this machine.
func (s *Server) mayRead(r *http.Request) bool {
	from := s.client(r)
	if from.IsLoopback() && (len(s.TrustedProxies) > 0 || !forwarded(r)) {
		return true
	}
	return contains(s.MetricsFrom, from)
}

// serveMetrics writes what Prometheus reads, to whom it may.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	if !s.mayRead(r) {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	var b bytes.Buffer
	s.writeMetrics(&b)
	_, _ = w.Write(b.Bytes())
}

func (s *Server) writeMetrics(b *bytes.Buffer) {
	m := &s.metrics
	sockets, pending := s.logins.size()
	value(b, "sockets", "gauge", "Hosts connected to this node.", int64(sockets))
	value(b, "waiting_logins", "gauge", "Logins that wait for a phone on this node.", int64(pending))
	value(b, "posts_in_flight", "gauge", "Phones that wait for an answer.", m.inFlight.Load())
	value(b, "ready", "gauge", "1 if hosts may come, as /healthz says.", boolean(s.unready() == ""))
	if s.NATS != nil {
		value(b, "nats_connected", "gauge", "1 if the other nodes can be reached.", boolean(s.NATS.connected()))
		value(b, "nats_reconnects_total", "counter", "Connections to NATS that followed a lost one.", s.NATS.reconnects())
	}
	m.logins.write(b, "logins_total", "result", "Logins that hosts announced, by what they were told.")
	m.ends.write(b, "logins_over_total", "reason", "Logins that no longer wait, by reason.")
	m.refusals.write(b, "hosts_refused_total", "reason", "Hosts turned away before the upgrade, by reason.")
	m.posts.write(b, "posts_total", "result", "Posts of phones, by answer.")
	value(b, "protocol_violations_total", "counter", "Hosts closed because of what they sent.", m.violations.Load())
	value(b, "unresponsive_total", "counter", "Hosts closed because they answered no ping.", m.unresponsive.Load())
	value(b, "token_file_errors_total", "counter", "Times that the token file could not be read again.", m.tokenErrors.Load())
	m.writeHistogram(b)
	value(b, "goroutines", "gauge", "Goroutines of the process.", int64(runtime.NumGoroutine()))
}

func (m *metrics) writeHistogram(b *bytes.Buffer) {
	const name = "post_seconds"
	head(b, name, "histogram", "How long phones waited for their answer.")
	var sum int64
	for i, bound := range bounds {
		sum += m.buckets[i].Load()
		_, _ = fmt.Fprintf(b, "%s%s_bucket{le=\"%g\"} %d\n", prefix, name, bound, sum)
	}
	sum += m.buckets[len(bounds)].Load()
	_, _ = fmt.Fprintf(b, "%s%s_bucket{le=\"+Inf\"} %d\n", prefix, name, sum)
	_, _ = fmt.Fprintf(b, "%s%s_sum %g\n", prefix, name, time.Duration(m.nanos.Load()).Seconds())
	_, _ = fmt.Fprintf(b, "%s%s_count %d\n", prefix, name, sum)
}

const prefix = "qrcode_relay_"

func head(b *bytes.Buffer, name, kind, help string) {
	_, _ = fmt.Fprintf(b, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, kind)
}

func value(b *bytes.Buffer, name, kind, help string, v int64) {
	head(b, name, kind, help)
	_, _ = fmt.Fprintf(b, "%s%s %d\n", prefix, name, v)
}

func (c counters) write(b *bytes.Buffer, name, label, help string) {
	head(b, name, "counter", help)
	for _, key := range slices.Sorted(maps.Keys(c)) {
		_, _ = fmt.Fprintf(b, "%s%s{%s=%q} %d\n", prefix, name, label, key, c[key].Load())
	}
}

func boolean(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

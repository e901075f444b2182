// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package qrcode

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// BenchmarkApproval measures the time from the posting of an approval to the
// verdict at the phone: host and phone at one relay over TLS, real boxes, an
// ES256 assertion, a login of its own each time. It also measures the time until
// the code could be shown. "-benchtime 300x" for the figure in the issue.
func BenchmarkApproval(b *testing.B) {
	w := newWorld(b)
	server := httptest.NewTLSServer(http.HandlerFunc(w.site.Server.ServeHTTP))
	b.Cleanup(server.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	p := w.at(server.URL, func(c *Config) { c.CA = ca })
	w.phone.Relay, w.phone.Client = server.URL, server.Client()
	var verdicts, shown []time.Duration
	for b.Loop() {
		req := w.request
		began := time.Now()
		a, err := p.attempt(&req)
		if err != nil {
			b.Fatal(err)
		}
		if err := a.open(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := a.firstPrompt(); err != nil {
			b.Fatal(err)
		}
		shown = append(shown, time.Since(began))
		v, err := w.phone.Open(b.Context(), a.link())
		if err != nil {
			b.Fatal(err)
		}
		assertion := w.passkey.Sign(w.passkey.Request(v.Transcript, w.site.Origin))
		began = time.Now()
		if verdict, err := v.ApproveWith(b.Context(), assertion); err != nil || !verdict.OK {
			b.Fatalf("got %+v, %v", verdict, err)
		}
		verdicts = append(verdicts, time.Since(began))
		a.close()
	}
	report := func(name string, list []time.Duration) {
		slices.Sort(list)
		for _, q := range []struct {
			name string
			at   float64
		}{{"p50", 0.50}, {"p99", 0.99}} {
			i := int(q.at * float64(len(list)-1))
			b.ReportMetric(float64(list[i].Microseconds())/1000, name+"-"+q.name+"-ms")
		}
	}
	report("verdict", verdicts)
	report("shown", shown)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// peer returns the address that r's connection comes from. Where it has none,
// as on a unix socket, the result is not valid, and no loopback.
func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// client returns whom r is from: the last address of X-Forwarded-For that is no
// trusted proxy's, as far as trusted proxies tell. What they did not write
// themselves, anybody could have.
func (s *Server) client(r *http.Request) netip.Addr {
	addr := peer(r)
	var hops []string
	for _, line := range r.Header.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(line, ",")...)
	}
	for _, hop := range slices.Backward(hops) {
		if !contains(s.TrustedProxies, addr) {
			break
		}
		next, err := parseHop(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = next
	}
	return addr
}

// forwarded reports whether a proxy says that it passed r on. Some say nothing.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "Via", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return true
		}
	}
	return false
}

// local reports whether r was sent to a name that only this machine has. What
// came through a proxy, or from a page whose name was made to point here, was
// not.
func local(r *http.Request) bool {
	name := (&url.URL{Host: r.Host}).Hostname()
	a, err := netip.ParseAddr(name)
	return strings.EqualFold(name, "localhost") || err == nil && a.Unmap().IsLoopback()
}

// parseHop reads an address, which some proxies write with a port.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, err
	}
	return a.Unmap().WithZone(""), nil
}

// group returns what is limited together: an IPv4 address, or a /64 of IPv6,
// of which everybody has all.
func group(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// maxAddresses bounds a limiter's memory. When so many addresses come within a
// minute, what was counted is forgotten: that is no time to turn people away.
const maxAddresses = 1 << 16

// A limiter allows so many of something per address: perMinute at once, and
// then one whenever a perMinute-th of a minute has passed.
type limiter struct {
	perMinute int

	mu   sync.Mutex
	debt map[netip.Addr]time.Time // when all that was allowed will be forgotten
}

func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	debt := l.debt[a]
	if debt.Before(now) {
		debt = now
	}
	debt = debt.Add(time.Minute / time.Duration(l.perMinute))
	if debt.Sub(now) > time.Minute {
		return false
	}
	if l.debt == nil || len(l.debt) >= maxAddresses {
		l.debt = make(map[netip.Addr]time.Time)
	}
	l.debt[a] = debt
	return true
}

// prune forgets who owes nothing.
func (l *limiter) prune(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, debt := range l.debt {
		if debt.Before(now) {
			delete(l.debt, a)
		}
	}
}

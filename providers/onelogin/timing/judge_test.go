// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// The criterion, and why a pair may be looked at again: see the package
// comment.
const (
	enough       = 200 // logins of each suspect
	alpha        = 0.01
	looks        = 3
	beyondChance = 1e-7
)

// A finding is a p that is too small.
type finding struct {
	what     string // the suspect
	measured string // "stretch 3", or what is shown
	p        float64
	larger   float64 // chance that the suspect's is larger than the first one's
	figures  string
}

func (f finding) String() string {
	return fmt.Sprintf("%s, %s: p = %.2g, larger in %.0f %% of pairs; %s", f.what, f.measured, f.p, 100*f.larger, f.figures)
}

// leaks compares all suspects with the first one and returns in what they
// differ: nothing if nobody can tell them apart.
func leaks(t testing.TB, suspects []suspect, together int) []finding {
	t.Helper()
	var found, open []finding
	for look := range looks {
		var still []finding
		for _, f := range compare(t, suspects, together) {
			again := look == 0 || slices.ContainsFunc(open, func(o finding) bool {
				return o.what == f.what && o.measured == f.measured && (o.larger > 0.5) == (f.larger > 0.5)
			})
			switch {
			case f.p < beyondChance:
				found = append(found, f)
			case again:
				still = append(still, f)
			}
		}
		open = slices.DeleteFunc(still, func(f finding) bool { return about(found, f.what) })
		if len(open) == 0 {
			return found
		}
		t.Logf("look %d: %v", look+1, open)
		suspects = slices.DeleteFunc(slices.Clone(suspects), func(s suspect) bool {
			return s.what != suspects[0].what && !about(open, s.what)
		})
	}
	return append(found, open...)
}

func about(fs []finding, what string) bool {
	return slices.ContainsFunc(fs, func(f finding) bool { return f.what == what })
}

// compare is one look at all of them.
func compare(t testing.TB, suspects []suspect, together int) []finding {
	t.Helper()
	var found []finding
	all := sample(t, suspects, enough, together)
	for i, s := range suspects[1:] {
		for _, c := range compared(all[0], all[i+1]) {
			p, larger := mannWhitney(c.other, c.first)
			f := finding{s.what, c.what, p, larger, c.figures(c.other) + " against " + c.figures(c.first)}
			if testing.Verbose() {
				t.Log(f)
			}
			if p <= alpha {
				found = append(found, f)
			}
		}
	}
	return found
}

// A comparison is one measure of two suspects.
type comparison struct {
	what         string
	first, other []float64
	figures      func([]float64) string
}

// compared is all that a person at the prompt can measure: each stretch to the
// last microsecond, although the next prompt takes longer than that to be
// drawn, and what is shown.
func compared(first, other []login) []comparison {
	var all []comparison
	for k := range max(len(first[0].stretches), len(other[0].stretches)) {
		all = append(all, comparison{fmt.Sprintf("stretch %d", k+1), stretch(first, k), stretch(other, k), quantiles})
	}
	kinds := map[string]bool{}
	for _, l := range slices.Concat(first, other) {
		kinds[l.shown] = true
	}
	for kind := range kinds {
		has := func(ls []login) []float64 { return values(ls, func(l login) float64 { return truth(l.shown == kind) }) }
		what := "shown " + strings.Join(strings.Fields(kind), " ")
		all = append(all, comparison{what, has(first), has(other), share})
	}
	return all
}

// stretch is milliseconds, -1 where there is no such stretch.
func stretch(ls []login, k int) []float64 {
	return values(ls, func(l login) float64 {
		if k >= len(l.stretches) {
			return -1
		}
		return float64(l.stretches[k].Microseconds()) / 1000
	})
}

func values(ls []login, of func(login) float64) []float64 {
	all := make([]float64, len(ls))
	for i, l := range ls {
		all[i] = of(l)
	}
	return all
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// quantiles are a tenth, half and nine tenths of values.
func quantiles(xs []float64) string {
	sorted := slices.Sorted(slices.Values(xs))
	at := func(p int) float64 { return sorted[(len(sorted)-1)*p/100] }
	return fmt.Sprintf("%.1f/%.1f/%.1f ms", at(10), at(50), at(90))
}

// share is how many values are 1.
func share(xs []float64) string {
	n := 0.0
	for _, x := range xs {
		n += x
	}
	return fmt.Sprintf("%.0f of %d", n, len(xs))
}

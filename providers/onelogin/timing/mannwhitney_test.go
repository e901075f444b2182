// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package timing

import (
	"math"
	"slices"
	"testing"
)

// mannWhitney tests whether xs and ys come from the same distribution. It
// returns the two-sided p of the Mann-Whitney U test (normal approximation with
// corrections for ties and continuity, good from 20 values each), and which way
// it leans: the chance that a random x is larger than a random y, ties counting
// half. 0.5 leans nowhere.
func mannWhitney(xs, ys []float64) (p, larger float64) {
	n, m := float64(len(xs)), float64(len(ys))
	ranks, ties := rankSum(xs, ys)
	u := ranks - n*(n+1)/2
	mean, variance := n*m/2, uVariance(n, m, ties)
	if variance <= 0 {
		return 1, 0.5 // all values are the same
	}
	z := max(math.Abs(u-mean)-0.5, 0) / math.Sqrt(variance)
	return math.Erfc(z / math.Sqrt2), u / (n * m)
}

// uVariance is the variance of U, ties being the sum of t^3-t over all groups
// of t equal values.
func uVariance(n, m, ties float64) float64 {
	return n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1)))
}

// rankSum is the sum of the ranks of xs among all values, equal ones sharing
// theirs, and the ties among all.
func rankSum(xs, ys []float64) (sum, ties float64) {
	all := slices.Sorted(slices.Values(append(slices.Clone(xs), ys...)))
	rank := map[float64]float64{}
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		t := float64(j - i)
		rank[all[i]] = float64(i) + (t+1)/2
		ties += t*t*t - t
		i = j
	}
	for _, x := range xs {
		sum += rank[x]
	}
	return sum, ties
}

// Values from the documentation of scipy.stats.mannwhitneyu, and from Hollander
// and Wolfe, Nonparametric Statistical Methods, table 4.1.
func TestMannWhitneyKnownValues(t *testing.T) {
	for name, c := range map[string]struct {
		xs, ys     []float64
		u, p, give float64
	}{
		"diagnosis_of_diabetes": {[]float64{19, 22, 16, 29, 24}, []float64{20, 11, 17, 12}, 17, 0.11134688653314041, 1e-12},
		"permeability_of_membranes": {
			[]float64{0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46},
			[]float64{1.15, 0.88, 0.90, 0.74, 1.21}, 35, 0.2544, 0.01, // exactly; ours is approximate
		},
		"all_the_same":   {[]float64{1, 1, 1}, []float64{1, 1}, 3, 1, 0},
		"nothing_leans":  {[]float64{1, 4}, []float64{2, 3}, 2, 1, 0},
		"no_overlap_big": {count(0, 200), count(200, 200), 0, 0, 1e-60},
	} {
		t.Run(name, func(t *testing.T) {
			p, larger := mannWhitney(c.xs, c.ys)
			if want := c.u / float64(len(c.xs)*len(c.ys)); math.Abs(larger-want) > 1e-12 {
				t.Errorf("a random x is larger with %v, want %v", larger, want)
			}
			if math.Abs(p-c.p) > c.give {
				t.Errorf("p = %v, want %v", p, c.p)
			}
			if back, _ := mannWhitney(c.ys, c.xs); math.Abs(back-p) > 1e-12 {
				t.Errorf("p = %v the other way round, want %v", back, p)
			}
		})
	}
}

func count(from, n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = float64(from + i)
	}
	return all
}

// The correction for ties is exact: it is the variance of U over all ways to
// deal the values out.
func TestMannWhitneyTieCorrection(t *testing.T) {
	values := []float64{1, 1, 1, 2, 3, 3, 5, 5, 5, 5}
	const n = 4
	var us []float64
	for pick := range 1 << len(values) {
		var xs, ys []float64
		for i, v := range values {
			if pick>>i&1 == 1 {
				xs = append(xs, v)
			} else {
				ys = append(ys, v)
			}
		}
		if len(xs) == n {
			sum, _ := rankSum(xs, ys)
			us = append(us, sum-n*(n+1)/2)
		}
	}
	_, ties := rankSum(values, nil)
	m := float64(len(values) - n)
	var variance float64
	for _, u := range us {
		variance += (u - n*m/2) * (u - n*m/2) / float64(len(us))
	}
	if got := uVariance(n, m, ties); math.Abs(got-variance) > 1e-9 {
		t.Errorf("variance %v, want %v of %d ways", got, variance, len(us))
	}
}

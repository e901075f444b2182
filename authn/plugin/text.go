// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// What authn.proto keeps of a Result's reason and of a Log's text. The log
// keeps less of a reason: this is for "authnctl check", which shows all that a
// configuration has wrong.
const (
	maxReason  = 16 << 10
	maxLogText = 1 << 10
)

// wireText makes s fit a proto string of at most limit bytes: valid UTF-8, cut
// between characters.
func wireText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}

// millis and toMillis convert durations as the wire has them, unsigned and in
// milliseconds, without wrapping around.
func millis(ms uint64) time.Duration {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

func toMillis(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	ms := uint64(d / time.Millisecond)
	if d%time.Millisecond != 0 {
		ms++
	}
	return ms
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/skip2/go-qrcode"
)

// read returns the modules of a drawn code, as a camera in front of a dark
// terminal sees them: what is not lit is dark.
func read(drawn string) [][]bool {
	var dark [][]bool
	for _, line := range strings.Split(strings.TrimSuffix(drawn, "\n"), "\n") {
		var top, bottom []bool
		for _, r := range line {
			top = append(top, r != '\u2588' && r != '\u2580')
			bottom = append(bottom, r != '\u2588' && r != '\u2584')
		}
		dark = append(dark, top, bottom)
	}
	return dark
}

// link is the longest that a page with an n characters long host makes.
func link(n int) string {
	return "HTTPS://" + strings.Repeat("A", n-4) + ".COM/1#" + strings.Repeat("ABCDEFG2", 6) + "ABCD"
}

func TestADrawnCodeIsTheCode(t *testing.T) {
	for _, n := range []int{9, 17, 22, 23, 46} {
		drawn, err := Draw(link(n), MaxRows, false)
		if err != nil {
			t.Fatalf("host of %d: %v", n, err)
		}
		level := qrcode.Medium
		if n > 22 {
			level = qrcode.Low
		}
		code, err := qrcode.New(link(n), level)
		if err != nil {
			t.Fatal(err)
		}
		code.DisableBorder = true
		want := code.Bitmap()
		got := read(drawn)
		for y := range want {
			if !slices.Equal(got[y+quiet][quiet:quiet+len(want)], want[y]) {
				t.Fatalf("host of %d: row %d differs", n, y)
			}
		}
	}
}

func TestACodeFitsAScreen(t *testing.T) {
	for n := 5; n <= 60; n++ {
		drawn, err := Draw(link(n), MaxRows, false)
		if (err == nil) != (n <= 46) {
			t.Errorf("host of %d characters: %v", n, err)
		}
		if err != nil {
			continue
		}
		rows := strings.Split(strings.TrimSuffix(drawn, "\n"), "\n")
		if len(rows) > 19 {
			t.Errorf("host of %d: %d rows", n, len(rows))
		}
		for _, r := range rows {
			if utf8.RuneCountInString(r) > 37 || strings.Trim(r, " \u2580\u2584\u2588") != "" {
				t.Fatalf("host of %d: row %q", n, r)
			}
		}
	}
}

func TestTheQuietZoneIsTwoModules(t *testing.T) {
	for _, invert := range []bool{false, true} {
		drawn, err := Draw(link(20), MaxRows, invert)
		if err != nil {
			t.Fatal(err)
		}
		m := read(drawn) // true: not lit
		size := len(m[0])
		for y := range size {
			for x := range size {
				border := x < quiet || y < quiet || x >= size-quiet || y >= size-quiet
				if border && m[y][x] != invert {
					t.Fatalf("invert %v: border at %d,%d is %v", invert, x, y, m[y][x])
				}
			}
		}
		for x := range size {
			if !m[size][x] {
				t.Fatalf("invert %v: the half row below the code is lit", invert)
			}
		}
	}
}

func TestAnInvertedCodeIsTheNegative(t *testing.T) {
	dark, err := Draw(link(20), MaxRows, false)
	if err != nil {
		t.Fatal(err)
	}
	light, err := Draw(link(20), MaxRows, true)
	if err != nil {
		t.Fatal(err)
	}
	a, b := read(dark), read(light)
	for y := range len(a) - 1 {
		for x := range a[y] {
			if a[y][x] == b[y][x] {
				t.Fatalf("%d,%d is alike in both", x, y)
			}
		}
	}
}

func TestThePredecessorsPayloadTakes21Rows(t *testing.T) {
	text := "qrauth:" + strings.Repeat("aB3/", 10) + "aB3=:" + strings.Repeat("a1", 20)
	if len(text) != 92 {
		t.Fatal(fmt.Errorf("%d characters, want 92", len(text)))
	}
	drawn, err := Draw(text, MaxRowsQRAuth, false)
	if err != nil || strings.Count(drawn, "\n") != 21 {
		t.Errorf("got %d rows, %v", strings.Count(drawn, "\n"), err)
	}
	if _, err := Draw(text, MaxRows, false); err == nil {
		t.Error("it fits 19")
	}
}

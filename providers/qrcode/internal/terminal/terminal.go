// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package terminal draws a QR code in plain characters, so that it survives
// every terminal and every SSH client that shows a prompt.
package terminal

import (
	"errors"
	"strings"

	"github.com/skip2/go-qrcode"
)

// quiet is the empty border, in modules. Decoders want some of it, and find two
// as good as four; each two modules cost a row.
const quiet = 2

// Rows that a code may take: 24 less three for the text around it, or none less
// for the predecessor's longer payload.
const (
	MaxRows       = 19
	MaxRowsQRAuth = 21
)

// Draw returns text as a QR code of at most rows rows, each with a line's end:
// of recovery level M if that fits, else L. It is for light text on a dark
// ground, and for dark text on a light ground if invert.
func Draw(text string, rows int, invert bool) (string, error) {
	for _, level := range []qrcode.RecoveryLevel{qrcode.Medium, qrcode.Low} {
		code, err := qrcode.New(text, level)
		if err != nil {
			return "", err
		}
		code.DisableBorder = true
		dark := code.Bitmap()
		if (len(dark)+2*quiet+1)/2 <= rows {
			return blocks(dark, invert), nil
		}
	}
	return "", errors.New("too long for a QR code that fits on a screen")
}

// blocks draws two modules in each character. What is lit on the screen is a
// light module, or a dark one if invert.
func blocks(dark [][]bool, invert bool) string {
	size := len(dark)
	lit := func(x, y int) bool {
		if x < 0 || x >= size || y < 0 || y >= size {
			return !invert && y < size+quiet // below the border is no more code
		}
		return dark[y][x] == invert
	}
	var b strings.Builder
	for y := -quiet; y < size+quiet; y += 2 {
		for x := -quiet; x < size+quiet; x++ {
			b.WriteString(block(lit(x, y), lit(x, y+1)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func block(top, bottom bool) string {
	switch {
	case top && bottom:
		return "\u2588"
	case top:
		return "\u2580"
	case bottom:
		return "\u2584"
	}
	return " "
}

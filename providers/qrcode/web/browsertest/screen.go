// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
)

// A Screen is how a terminal looks to a camera. The zero value is light text on
// a dark ground in DejaVu Sans Mono, seen straight.
type Screen struct {
	Font       string // defaults to DejaVu Sans Mono
	LineHeight string // of CSS: a factor, or normal; defaults to 1
	Light      bool   // dark text on a light ground
	Tilted     bool   // seen from the side, out of focus and pale
	Size       int    // of the font, in pixels; defaults to 16
}

// Photograph returns a picture of text on a screen, 1280x720, for [Phone.Scan].
// The phone's browser draws it, out of the page's sight.
func (p *Phone) Photograph(text string, s Screen) image.Image {
	p.tb.Helper()
	img, err := png.Decode(bytes.NewReader(p.photograph(text, s)))
	if err != nil {
		p.tb.Fatalf("phone: photograph: %v", err)
	}
	return img
}

func (p *Phone) photograph(text string, s Screen) []byte {
	p.tb.Helper()
	if s.Font == "" {
		s.Font = "DejaVu Sans Mono"
	}
	if s.LineHeight == "" {
		s.LineHeight = "1"
	}
	if s.Size == 0 {
		s.Size = 16
	}
	var data string
	p.do("photograph", map[string]any{
		"text": text, "font": s.Font, "lineHeight": s.LineHeight, "light": s.Light, "tilted": s.Tilted, "size": s.Size,
	}, &data)
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		p.tb.Fatalf("phone: photograph: %v", err)
	}
	return raw
}

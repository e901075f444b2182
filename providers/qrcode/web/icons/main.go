// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Icons draws the approver page's icons, as SVG and as PNG, from one list of
// shapes. Run it in providers/qrcode/web; a test says when it must be run again.
package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"log"
	"math"
	"os"
	"path/filepath"
)

// The drawing is 100 units wide and high.
const size = 100

var (
	green = color.NRGBA{0x14, 0x61, 0x4c, 0xff}
	white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
	mint  = color.NRGBA{0x8f, 0xe3, 0xc2, 0xff}
)

// A shape knows which points it covers, and how to say so in SVG.
type shape interface {
	covers(x, y float64) bool
	svg() string
	color() color.NRGBA
}

// A rect has round corners of radius r.
type rect struct {
	x, y, w, h, r float64
	fill          color.NRGBA
}

func (s rect) covers(x, y float64) bool {
	dx := math.Max(math.Abs(x-s.x-s.w/2)-s.w/2+s.r, 0)
	dy := math.Max(math.Abs(y-s.y-s.h/2)-s.h/2+s.r, 0)
	return math.Hypot(dx, dy) <= s.r
}

func (s rect) svg() string {
	return fmt.Sprintf(`<rect x="%g" y="%g" width="%g" height="%g" rx="%g" fill="%s"/>`, s.x, s.y, s.w, s.h, s.r, hex(s.fill))
}

func (s rect) color() color.NRGBA { return s.fill }

// A stroke joins points by a line with round ends.
type stroke struct {
	points [][2]float64
	width  float64
	ink    color.NRGBA
}

func (s stroke) covers(x, y float64) bool {
	for i := 1; i < len(s.points); i++ {
		a, b := s.points[i-1], s.points[i]
		dx, dy := b[0]-a[0], b[1]-a[1]
		t := ((x-a[0])*dx + (y-a[1])*dy) / (dx*dx + dy*dy)
		t = math.Min(1, math.Max(0, t))
		if math.Hypot(x-a[0]-t*dx, y-a[1]-t*dy) <= s.width/2 {
			return true
		}
	}
	return false
}

func (s stroke) svg() string {
	var d bytes.Buffer
	for i, p := range s.points {
		fmt.Fprintf(&d, "%c%g %g", "ML"[min(i, 1)], p[0], p[1])
	}
	return fmt.Sprintf(`<path d="%s" fill="none" stroke="%s" stroke-width="%g" stroke-linecap="round" stroke-linejoin="round"/>`, &d, hex(s.ink), s.width)
}

func (s stroke) color() color.NRGBA { return s.ink }

func hex(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// finder is one of a QR code's three corner marks.
func finder(x, y float64) []shape {
	return []shape{
		rect{x, y, 25, 25, 6, white},
		rect{x + 5, y + 5, 15, 15, 3, green},
		rect{x + 9, y + 9, 7, 7, 2, white},
	}
}

// icon returns the shapes: three corner marks and, instead of data, a tick.
// Corners of radius 0 are for systems that cut icons into a shape of their own.
func icon(corner float64) []shape {
	shapes := []shape{rect{0, 0, size, size, corner, green}}
	shapes = append(shapes, finder(22, 22)...)
	shapes = append(shapes, finder(53, 22)...)
	shapes = append(shapes, finder(22, 53)...)
	return append(shapes, stroke{[][2]float64{{55, 67}, {63, 75}, {78, 57}}, 7, mint})
}

func svg(shapes []shape) []byte {
	var b bytes.Buffer
	b.WriteString("<!-- SPDX-FileCopyrightText: The pam-authn authors -->\n<!-- SPDX-License-Identifier: Apache-2.0 -->\n")
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d">`, size, size)
	for _, s := range shapes {
		b.WriteString("\n  " + s.svg())
	}
	b.WriteString("\n</svg>\n")
	return b.Bytes()
}

// samples per pixel and direction.
const samples = 4

func pixels(shapes []shape, edge int) image.Image {
	img := image.NewNRGBA(image.Rect(0, 0, edge, edge))
	for py := range edge {
		for px := range edge {
			img.SetNRGBA(px, py, pixel(shapes, edge, px, py))
		}
	}
	return img
}

func pixel(shapes []shape, edge, px, py int) color.NRGBA {
	var r, g, b, n int
	for i := range samples * samples {
		x := (float64(px) + (float64(i%samples)+.5)/samples) * size / float64(edge)
		y := (float64(py) + (float64(i/samples)+.5)/samples) * size / float64(edge)
		for j := len(shapes) - 1; j >= 0; j-- {
			if !shapes[j].covers(x, y) {
				continue
			}
			c := shapes[j].color()
			r, g, b, n = r+int(c.R), g+int(c.G), b+int(c.B), n+1
			break
		}
	}
	if n == 0 {
		return color.NRGBA{}
	}
	return color.NRGBA{uint8(r / n), uint8(g / n), uint8(b / n), uint8(255 * n / (samples * samples))} //nolint:gosec // means of bytes
}

// draw returns every icon by its name.
func draw() (map[string][]byte, error) {
	round, full := icon(22), icon(0)
	files := map[string][]byte{"icon.svg": svg(round)}
	for name, p := range map[string]struct {
		shapes []shape
		edge   int
	}{
		"icon-180.png":          {full, 180},
		"icon-192.png":          {round, 192},
		"icon-512.png":          {round, 512},
		"icon-maskable-512.png": {full, 512},
	} {
		var b bytes.Buffer
		enc := png.Encoder{CompressionLevel: png.BestCompression}
		if err := enc.Encode(&b, pixels(p.shapes, p.edge)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		files[name] = b.Bytes()
	}
	return files, nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("icons: error: ")
	files, err := draw()
	if err != nil {
		log.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join("static", "icons", name), data, 0o644); err != nil { //nolint:gosec // to be served to everybody
			log.Fatal(err)
		}
	}
}

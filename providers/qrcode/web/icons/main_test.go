// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

func TestIconsAreAsDrawn(t *testing.T) {
	files, err := draw()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", "static", "icons", name))
		if err != nil {
			t.Fatal(err)
		}
		if !same(t, name, got, want) {
			t.Errorf("%s is stale: run \"go run ./icons\" in providers/qrcode/web", name)
		}
	}
}

// same compares pictures by their pixels: another Go version may compress
// differently.
func same(t *testing.T, name string, a, b []byte) bool {
	t.Helper()
	if filepath.Ext(name) != ".png" {
		return bytes.Equal(a, b)
	}
	return bytes.Equal(rgba(t, a), rgba(t, b))
}

func rgba(t *testing.T, data []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := image.NewNRGBA(img.Bounds())
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			out.Set(x, y, img.At(x, y))
		}
	}
	return out.Pix
}

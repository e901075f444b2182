// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"encoding/base64"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/terminal"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// decode runs the page's own decoders on one picture, one after the other, and
// says what each read.
const decode = `(async () => {
	const scan = await import('/scan.js');
	globalThis.decoders ??= await scan.decoders();
	const bytes = Uint8Array.from(atob(%q), (c) => c.charCodeAt(0));
	const picture = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
	const read = [];
	for (const d of globalThis.decoders) read.push(await d(scan.grab(picture, picture.width, picture.height)) ?? '');
	return read;
})()`

// A look is one way a terminal is seen.
func looks() (all []Screen) {
	for _, font := range []string{"DejaVu Sans Mono", "Noto Sans Mono"} {
		for _, height := range []string{"1", "normal", "1.3"} {
			for _, light := range []bool{false, true} {
				for _, tilted := range []bool{false, true} {
					all = append(all, Screen{Font: font, LineHeight: height, Light: light, Tilted: tilted})
				}
			}
		}
	}
	return all
}

// pagesOfCodes are page addresses of growing length: codes of versions 3 to 5.
var pagesOfCodes = []string{
	"http://localhost:8080", "https://a.example", "https://login.example.com", "https://approve.corp.example.com",
}

// Two codes for each look, and twelve with BENCH=1.
func TestDecodersReadTerminals(t *testing.T) {
	codes := 2
	if os.Getenv("BENCH") == "1" {
		codes = 12
	}
	p := start(t, Options{})
	expect(t, p.Open(newHost(t, wire.Login).URL+"/"), "home")
	total, good, alone := 0, 0, map[int]int{}
	for _, look := range looks() {
		for i := range codes {
			key, err := wire.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			link := wire.PageLink(pagesOfCodes[(total+i)%len(pagesOfCodes)], key.PublicKey().Bytes())
			text, err := terminal.Draw(link, terminal.MaxRows, false)
			if err != nil {
				t.Fatalf("%s: %v", link, err)
			}
			data := p.photograph(text, look)
			var read []string
			p.Eval(fmt.Sprintf(decode, base64.StdEncoding.EncodeToString(data)), &read)
			total++
			hit := false
			for j, got := range read {
				if got == link {
					alone[j]++
					hit = true
				}
			}
			if hit {
				good++
			} else {
				t.Logf("unread: %+v, %s", look, link)
				keep(t, data, fmt.Sprintf("unread-%d.png", total))
			}
		}
	}
	t.Logf("decoders: %d of %d read; jsQR alone %d, qr alone %d", good, total, alone[0], alone[1])
	if want := total * 285 / 288; good < want {
		t.Errorf("%d of %d read, want %d", good, total, want)
	}
}

// keep leaves a picture for people to look at.
func keep(t *testing.T, data []byte, name string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(screenshots()), "decode", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The terminal's own code, held into the camera.
func TestTerminalIsScanned(t *testing.T) {
	p := start(t, Options{})
	for _, look := range []Screen{{}, {Light: true}, {Tilted: true, LineHeight: "normal"}, {Font: "Noto Sans Mono", Light: true, Tilted: true}} {
		h := newHost(t, wire.Login)
		text, err := terminal.Draw(h.printed(), terminal.MaxRows, false)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, p.Open(h.URL+"/"), "home")
		expect(t, p.Scan(p.Photograph("Password-free login\n\n"+text+"\nCode shown on your phone: ", look)), "details")
		p.Forget()
	}
}

func TestPicturesFillTheCamera(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.y4m")
	small := image.NewGray(image.Rect(0, 0, 2, 2))
	large := image.NewGray(image.Rect(5, 5, 4005, 3005))
	if err := writeVideo(path, small, large); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header, rest, _ := strings.Cut(string(data), "\n")
	const frame = len("FRAME\n") + videoWidth*videoHeight*3/2
	if !strings.HasPrefix(header, "YUV4MPEG2 W1280 H720 ") || len(rest) != 2*videoFrames*frame {
		t.Errorf("%s, %d bytes", header, len(rest))
	}
}

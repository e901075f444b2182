// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// updateEnv, if set, makes this package's tests write testdata/golden and the
// seeds in testdata/fuzz: AUTHN_UPDATE=1 go test ./pamshim/frame
const updateEnv = "AUTHN_UPDATE"

func TestGoldenFrames(t *testing.T) {
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			got, err := s.value.Encode()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "golden", s.name+".hex")
			if os.Getenv(updateEnv) != "" {
				write(t, path, dump(got))
			}
			if want := load(t, path); !bytes.Equal(got, want) {
				t.Errorf("encoded:\n%s\nwant:\n%s", dump(got), dump(want))
			}
			kind, body, err := frame.Read(bytes.NewReader(got))
			if err != nil || kind != kindOf(s.value) {
				t.Fatalf("Read: type %d, %v", kind, err)
			}
			if back, err := parse(kind, body); err != nil || !reflect.DeepEqual(back, s.value) {
				t.Errorf("came back as %#v, %v", back, err)
			}
		})
	}
}

func TestNoGoldenFrameIsLeftOver(t *testing.T) {
	known := map[string]bool{}
	for _, s := range samples {
		known[s.name+".hex"] = true
	}
	files, err := os.ReadDir(filepath.Join("testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !known[f.Name()] {
			t.Errorf("testdata/golden/%s belongs to no sample", f.Name())
		}
	}
}

// The seeds of the fuzz targets are the samples and what must be refused, so
// that a plain "go test" runs them, and so does the driver under ASan.
func TestSeedsAreFresh(t *testing.T) {
	for path, want := range seeds(t) {
		if os.Getenv(updateEnv) != "" {
			write(t, path, want)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not as %s=1 would write it: %v", path, updateEnv, err)
		}
	}
}

// seeds are the files below testdata/fuzz that this package makes.
func seeds(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	seed := func(target, name, value string) {
		all[filepath.Join("testdata", "fuzz", target, name)] = "go test fuzz v1\n" + value + "\n"
	}
	targets := map[byte]string{typeStart: "FuzzStart", typeConv: "FuzzConv", typeReply: "FuzzReply", typeResult: "FuzzResult"}
	for _, s := range samples {
		out, err := s.value.Encode()
		if err != nil {
			t.Fatal(err)
		}
		seed(targets[kindOf(s.value)], s.name, fmt.Sprintf("[]byte(%q)", out[5:]))
		seed("FuzzRead", s.name, fmt.Sprintf("[]byte(%q)", out))
	}
	for _, m := range malformed {
		seed(targets[m.kind], m.name, fmt.Sprintf("[]byte(%q)", m.body))
	}
	for i, d := range durations {
		seed("FuzzDuration", fmt.Sprintf("text_%02d", i), fmt.Sprintf("string(%q)", d.text))
	}
	return all
}

// dump writes a frame as hexadecimal digits, one field a line.
func dump(f []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%x %x # length and type\n", f[:4], f[4:5])
	fields, ok := reference(f[5:])
	if !ok {
		fmt.Fprintf(&b, "%x # not in fields\n", f[5:])
		return b.String()
	}
	for _, v := range fields {
		fmt.Fprintf(&b, "%08x %x 00 # %.60q\n", len(v), v, v)
	}
	return b.String()
}

func load(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

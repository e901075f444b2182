// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// FuzzParse: whatever is in a file, parsing it neither panics nor takes long;
// what comes out is JSON whose values are where Lines says; and no problem
// repeats a value.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFile {
			return
		}
		slow := time.AfterFunc(time.Minute, func() { panic(fmt.Sprintf("this takes long: %q", data)) })
		defer slow.Stop()
		c := &Config{Path: "/CONFIG", origin: map[string]origin{}}
		err := c.parse(data)
		if err != nil {
			problems(t, data, err)
		}
		if c.Provider == nil {
			if err == nil {
				t.Fatal("neither a configuration nor a problem")
			}
			return
		}
		root := decode(t, c.Provider.GetJson())
		if _, ok := root[frameworkKey]; ok {
			t.Error("the framework's keys reach the provider")
		}
		if err != nil {
			return
		}
		if len(c.Provider.GetJson()) > maxConfig {
			t.Errorf("%d bytes of JSON", len(c.Provider.GetJson()))
		}
		for pointer := range c.Provider.GetLines() {
			if !exists(root, pointer) {
				t.Errorf("there is a line for %q, which is not there", pointer)
			}
		}
	})
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil || root == nil {
		t.Fatalf("not a JSON object: %v\n%s", err, text)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Fatalf("more than one JSON value: %s", text)
	}
	return root
}

// exists follows a JSON pointer.
func exists(v any, pointer string) bool {
	if pointer == "" {
		return true
	}
	for _, part := range strings.Split(pointer, "/")[1:] {
		part = strings.NewReplacer("~1", "/", "~0", "~").Replace(part)
		switch inner := v.(type) {
		case map[string]any:
			next, ok := inner[part]
			if !ok {
				return false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(inner) {
				return false
			}
			v = inner[i]
		default:
			return false
		}
	}
	return true
}

// problems judges messages: each says where, and none repeats a value.
func problems(t *testing.T, data []byte, err error) {
	t.Helper()
	if !strings.HasPrefix(err.Error(), "/CONFIG:") {
		t.Errorf("a problem does not begin with its place: %v", err)
	}
	var doc yaml.Node
	if yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc) != nil {
		return
	}
	keys, values := map[string]bool{}, map[string]bool{}
	collect(&doc, keys, values)
	allKeys := ""
	for key := range keys {
		allKeys += key + "\n"
	}
	for value := range values {
		// Short ones and plain words could be part of our own, and paths are what
		// a problem with a file is about.
		if len(value) < 10 || !strings.ContainsAny(value, "0123456789*!&#") || strings.HasPrefix(value, "/") ||
			strings.Contains(allKeys, value) || strings.Contains(ourWords, value) {
			continue
		}
		if strings.Contains(err.Error(), value) {
			t.Errorf("the value %q is repeated: %v", value, err)
		}
	}
}

// ourWords are those of problems that a fuzzer's value could hold by accident.
const ourWords = "wants 64 hexadecimal digits, as sha256sum prints\n" +
	`wants a duration of at most a minute with its unit, such as "1.5s"` + "\n" +
	"the configuration has more than 98304 bytes, counting\n" +
	"given twice, first in line \n"

func collect(n *yaml.Node, keys, values map[string]bool) {
	if n.Kind == yaml.ScalarNode {
		values[n.Value] = true
		return
	}
	for i, inner := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && inner.Kind == yaml.ScalarNode {
			keys[inner.Value] = true
			continue
		}
		collect(inner, keys, values)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package config reads a provider's configuration file: YAML, of which JSON
// is a part. The framework's own keys, below authn:, are taken out; the rest
// is the provider's, which checks it itself.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn/plugin/wire"
	"github.com/pam-authn/pam-authn/pamshim/safefile"
)

// Bounds of what is read.
const (
	maxFile     = 64 << 10 // bytes of a file
	maxConfig   = 96 << 10 // bytes of the provider's part on the wire, which takes authn.MaxMessage in all
	maxDepth    = 32
	maxProblems = 50
)

// A Config is one configuration file.
type Config struct {
	Path      string
	Framework Framework
	Provider  *wire.Config

	mode    os.FileMode
	secrets []string          // JSON pointers of all values
	origin  map[string]origin // of values that came from a file of their own
}

// Framework holds the keys below authn:.
type Framework struct {
	RunAs  string
	SHA256 []byte // of the provider's program; nil: any
	Env    map[string]string
	Step   time.Duration     // authn.timing.step
	Files  map[string]string // name to path, in which %u is the user
}

// origin is the file that a key X_file named.
type origin struct {
	path string
	mode os.FileMode
}

// Load reads the configuration file path. Every problem is reported at once,
// each with file, line, key and mend.
func Load(path string) (*Config, error) {
	data, mode, err := safefile.Read(path, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: write the provider's configuration to %s, or name another file with config=", err, path)
	}
	if err != nil {
		return nil, err
	}
	c := &Config{Path: path, mode: mode, origin: map[string]origin{}}
	return c, c.parse(data)
}

func (c *Config) parse(data []byte) error {
	root, err := document(c.Path, data)
	if err != nil {
		return err
	}
	r := reader{config: c, file: c.Path, lines: map[string]uint32{}}
	r.framework(root)
	r.node(root, "", "", 0)
	if len(r.problems) == 0 && r.full() {
		r.problem(root, "", "the configuration has more than %d bytes, counting what its files and aliases stand for", maxConfig)
	}
	c.Provider = &wire.Config{File: c.Path, Json: r.json.String(), Lines: r.lines}
	return errors.Join(r.problems...)
}

// document parses data into one mapping; an empty file is an empty one.
func document(path string, data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}, nil
	}
	if err != nil {
		return nil, notYAML(path, err)
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, fmt.Errorf("%s: more than one document: remove what follows the line ---", path)
	case !errors.Is(err, io.EOF):
		return nil, notYAML(path, err)
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return &yaml.Node{Kind: yaml.MappingNode, Line: 1}, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: not keys and values: write lines like \"key: value\"", path, root.Line)
	}
	return root, nil
}

// notYAML puts "yaml: line 3: did not find ..." into our form. What is quoted
// there is left out: a secret that begins with * is an anchor to YAML.
func notYAML(path string, err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	where := path
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if line, what, ok := strings.Cut(rest, ": "); ok {
			where, text = path+":"+line, what
		}
	}
	hint := ""
	switch {
	case strings.HasPrefix(text, "unknown anchor "):
		text, hint = "* names an anchor that is not there", ": put the text in quotes"
	case strings.Contains(text, "cannot start any token"):
		hint = ": put the text in quotes, and spaces in place of tabs"
	}
	return fmt.Errorf("%s: not YAML: %s%s", where, text, hint)
}

// CheckSecrets refuses a file that others can read and that holds one of the
// keys, which are paths as in authn.proto.
func (c *Config) CheckSecrets(keys []string) error {
	const othersRead = 0o004
	var problems []error
	for _, pointer := range c.secrets {
		if !matchesAny(pointer, keys) {
			continue
		}
		path, mode := c.Path, c.mode
		where := fmt.Sprintf("%s:%d", c.Path, c.Provider.GetLines()[pointer])
		if o, ok := c.origin[pointer]; ok {
			path, mode = o.path, o.mode
		}
		if mode&othersRead != 0 {
			problems = append(problems, fmt.Errorf("%s: %s is a secret, and others can read it: chmod o-rwx '%s'",
				where, keyOf(pointer), path))
		}
	}
	return errors.Join(problems...)
}

// FirstSecret is the first of the keys that the configuration has, or "".
func (c *Config) FirstSecret(keys []string) string {
	for _, pointer := range c.secrets {
		if matchesAny(pointer, keys) {
			return keyOf(pointer)
		}
	}
	return ""
}

// CheckStep judges the time step that the provider asks for, or has by default,
// where authn.timing.step replaces it; 0 is none.
func (c *Config) CheckStep(step time.Duration, byDefault bool) error {
	switch {
	case step == 0, byDefault && c.Framework.Step > 0:
	case c.Framework.Step > 0:
		return fmt.Errorf("%s: authn.timing.step is given and so is the provider's own key for it: remove one", c.Path)
	case step > time.Minute:
		return fmt.Errorf("%s: a time step of more than a minute", c.Path)
	}
	return nil
}

// ReadFile reads one of authn.files, in whose path %u was replaced.
func ReadFile(path string) ([]byte, error) { return safefile.ReadStrict(path, maxFile) }

func keyOf(pointer string) string {
	key := strings.ReplaceAll(strings.TrimPrefix(pointer, "/"), "/", ".")
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
}

func matchesAny(pointer string, keys []string) bool {
	for _, key := range keys {
		if matches(strings.Split(strings.TrimPrefix(pointer, "/"), "/"), strings.Split(key, "/")) {
			return true
		}
	}
	return false
}

func matches(pointer, key []string) bool {
	if len(pointer) != len(key) {
		return false
	}
	for i := range key {
		if key[i] != "*" && key[i] != pointer[i] {
			return false
		}
	}
	return true
}

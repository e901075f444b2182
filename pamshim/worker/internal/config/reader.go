// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
)

// frameworkKey is the one top-level key that is not the provider's.
const frameworkKey = "authn"

// fileSuffix marks a key whose value is the path of a file with the value.
const fileSuffix = "_file"

// reader turns the provider's part into JSON and remembers the lines.
type reader struct {
	config   *Config
	file     string
	json     bytes.Buffer
	lines    map[string]uint32
	size     int // bytes of lines
	read     int // bytes of files that keys named
	deep     bool
	problems []error
}

// full reports whether no more fits into the provider's part.
func (r *reader) full() bool { return r.json.Len()+r.size > maxConfig }

// mark remembers the line of the value at pointer.
func (r *reader) mark(pointer string, n *yaml.Node) {
	const overhead = 12 // of an entry on the wire
	if _, ok := r.lines[pointer]; !ok {
		r.lines[pointer] = uint32(n.Line) //nolint:gosec // a line of a file of 64 KiB
		r.size += len(pointer) + overhead
	}
}

// problem adds a problem, which is never to repeat a value: it could be a
// secret in the wrong place.
func (r *reader) problem(n *yaml.Node, key, format string, args ...any) {
	if len(r.problems) >= maxProblems {
		if len(r.problems) == maxProblems {
			r.problems = append(r.problems, fmt.Errorf("%s: there are more problems: mend these first", r.file))
		}
		return
	}
	where := fmt.Sprintf("%s:%d: ", r.file, n.Line)
	if key != "" {
		where += key + ": "
	}
	r.problems = append(r.problems, fmt.Errorf("%s%s", where, fmt.Sprintf(format, args...)))
}

// node writes n as JSON. pointer and key say where it is, for machines and for
// people.
func (r *reader) node(n *yaml.Node, pointer, key string, depth int) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if depth > maxDepth && !r.deep {
		r.deep = true
		r.problem(n, key, "nested too deeply")
	}
	if depth > maxDepth || r.full() || len(r.problems) > maxProblems {
		r.json.WriteString("null")
		return
	}
	r.mark(pointer, n)
	if tag := n.ShortTag(); n.Kind != yaml.ScalarNode && tag != "!!map" && tag != "!!seq" {
		r.problem(n, key, "a tag (!) cannot be used here")
	}
	switch n.Kind {
	case yaml.MappingNode:
		r.mapping(n, pointer, key, depth)
	case yaml.SequenceNode:
		r.json.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				r.json.WriteByte(',')
			}
			r.node(item, pointer+"/"+strconv.Itoa(i), fmt.Sprintf("%s[%d]", key, i), depth+1)
		}
		r.json.WriteByte(']')
	default:
		r.scalar(n, pointer, key)
	}
}

// entry is one key of a mapping, with X_file already read.
type entry struct {
	name  string
	key   *yaml.Node
	value *yaml.Node
}

func (r *reader) mapping(n *yaml.Node, pointer, key string, depth int) {
	r.json.WriteByte('{')
	for i, e := range r.entries(n, pointer, key) {
		if i > 0 {
			r.json.WriteByte(',')
		}
		at := pointer + "/" + escape(e.name)
		r.mark(at, e.key)
		r.string(e.name)
		r.json.WriteByte(':')
		r.node(e.value, at, join(key, e.name), depth+1)
	}
	r.json.WriteByte('}')
}

// entries lists the keys of n, less the framework's, each once.
func (r *reader) entries(n *yaml.Node, pointer, key string) []entry {
	var all []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			r.problem(k, key, "only plain keys can be used here: write each key out")
			continue
		}
		name := k.Value
		full := join(key, name)
		if first, ok := seen[name]; ok {
			r.problem(k, full, "given twice, first in line %d: remove one", first)
			continue
		}
		seen[name] = k.Line
		if pointer == "" && name == frameworkKey {
			continue
		}
		e := entry{name, k, v}
		if base, ok := strings.CutSuffix(name, fileSuffix); ok && base != "" {
			if pointer == "" && base == frameworkKey {
				r.problem(k, full, "the framework's keys cannot be in another file: write them below %s", frameworkKey)
				continue
			}
			e = r.fromFile(e, base, pointer, full)
			if first, ok := seen[base]; ok {
				r.problem(k, full, "%s is given too, in line %d: remove one", base, first)
				continue
			}
			seen[base] = k.Line
		}
		all = append(all, e)
	}
	return all
}

// fromFile replaces X_file by X with the file's content.
func (r *reader) fromFile(e entry, base, pointer, full string) entry {
	from := e.value
	if from.Kind == yaml.AliasNode {
		from = from.Alias
	}
	out := entry{base, e.key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Line: e.value.Line}}
	path := from.Value
	if from.Kind != yaml.ScalarNode || from.ShortTag() != "!!str" || !strings.HasPrefix(path, "/") {
		r.problem(e.key, full, "wants the whole path of a file, from / on")
		return out
	}
	if r.read > maxConfig {
		return out // it is too large already
	}
	data, mode, err := safefile.Read(path, maxFile)
	if err != nil {
		r.problem(e.key, full, "%v", err)
		return out
	}
	r.read += len(data)
	text := strings.TrimSuffix(string(data), "\n")
	if !utf8.ValidString(text) {
		r.problem(e.key, full, "%s is not UTF-8 text", path)
		return out
	}
	out.value.Value = text
	r.config.origin[pointer+"/"+escape(base)] = origin{path, mode}
	return out
}

var jsonNumber = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
})

// scalar keeps the type that YAML saw. Numbers go over as they are written; in
// a notation that JSON does not have they would change their meaning.
func (r *reader) scalar(n *yaml.Node, pointer, key string) {
	r.config.secrets = append(r.config.secrets, pointer)
	switch n.ShortTag() {
	case "!!null":
		r.json.WriteString("null")
	case "!!bool":
		var b bool
		if n.Decode(&b) != nil { // a tag that somebody wrote
			r.problem(n, key, "wants true or false")
		}
		r.json.WriteString(strconv.FormatBool(b))
	case "!!int", "!!float":
		if !jsonNumber().MatchString(n.Value) {
			r.problem(n, key, "write the number in plain decimal, or in quotes if it is text")
			r.json.WriteString("0")
			return
		}
		r.json.WriteString(n.Value)
	case "!!str", "!!timestamp", "!!merge": // what only YAML takes for something else
		r.string(n.Value)
	default:
		r.problem(n, key, "a tag (!) cannot be used here: put the text in quotes")
		r.json.WriteString(`""`)
	}
}

func (r *reader) string(s string) {
	b, _ := json.Marshal(s) // a string always can be
	r.json.Write(b)
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func escape(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

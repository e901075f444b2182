// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// decodeConfig fills out from the wire's configuration. Every unknown key and
// every wrong type is reported, each with file, line and key; no message
// repeats a value, which might be a secret in the wrong place.
func decodeConfig(c *wire.Config, out any) error {
	d := decoder{file: c.GetFile(), lines: c.GetLines(), places: []place{{}}}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(orEmpty(c.GetJson())), &doc); err != nil {
		return fmt.Errorf("%s: the configuration on the wire is not JSON", d.file)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return fmt.Errorf("%s: the configuration is not a list of keys and values", d.file)
	}
	root := doc.Content[0]
	d.number(root, "", "", 0)
	d.check(root, reflect.TypeOf(out).Elem())
	var typeErr *yaml.TypeError
	if err := root.Decode(out); errors.As(err, &typeErr) {
		d.wrongTypes(typeErr)
	} else if err != nil {
		d.problems = append(d.problems, fmt.Errorf("%s: the configuration does not fit", d.file))
	}
	return errors.Join(d.problems...)
}

func orEmpty(json string) string {
	if json == "" {
		return "{}"
	}
	return json
}

// A place is where a node came from in the administrator's file.
type place struct {
	key   string       // "oidc[0].issuer"
	line  uint32       // 0: not known
	wants reflect.Type // nil: not known
}

type decoder struct {
	file     string
	lines    map[string]uint32
	places   []place
	problems []error
}

// number gives every node its place: the node's Line becomes an index into
// places, since YAML's own messages name nothing but a line.
func (d *decoder) number(n *yaml.Node, pointer, key string, line uint32) {
	if l, ok := d.lines[pointer]; ok {
		line = l
	}
	n.Line = len(d.places)
	d.places = append(d.places, place{key: key, line: line})
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			d.number(n.Content[i+1], pointer+"/"+escapePointer(name), joinKey(key, name), line)
			n.Content[i].Line = n.Content[i+1].Line
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			d.number(item, pointer+"/"+strconv.Itoa(i), fmt.Sprintf("%s[%d]", key, i), line)
		}
	}
}

func joinKey(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func (d *decoder) problem(n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, fmt.Errorf("%s: %s", d.at(n.Line), fmt.Sprintf(format, args...)))
}

// at says where node index i stands in the file.
func (d *decoder) at(i int) string {
	p := d.places[i]
	if p.line == 0 {
		return fmt.Sprintf("%s: %s", d.file, p.key)
	}
	return fmt.Sprintf("%s:%d: %s", d.file, p.line, p.key)
}

// check reports what of n does not fit t and would not be reported by YAML's
// own decoding: keys that t has no field for, numbers where text is wanted
// (0123 is not "0123"), a point in a whole number, and what types say that
// decode themselves.
func (d *decoder) check(n *yaml.Node, t reflect.Type) {
	t = deref(t)
	d.places[n.Line].wants = t
	switch {
	case n.Tag == "!!null":
	case n.Kind == yaml.ScalarNode && n.Tag != "!!str" && (t.Kind() == reflect.String || t == secretType):
		d.problem(n, "wants text, not %s: put it in quotes", given(n.Tag))
	case n.Kind != yaml.ScalarNode && decodesText(t), n.Tag == "!!float" && whole(t):
		d.problem(n, "wants %s, not %s", wanted(t), given(n.Tag))
		*n = nothing(n)
	case custom(t):
		d.custom(n, t)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		d.fields(n, t)
	case n.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 1; i < len(n.Content); i += 2 {
			d.check(n.Content[i], t.Elem())
		}
	case n.Kind == yaml.SequenceNode && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		for _, item := range n.Content {
			d.check(item, t.Elem())
		}
	}
}

// custom tries a type that decodes itself. Its error would end the decoding of
// all, so a value that does not fit is taken out.
func (d *decoder) custom(n *yaml.Node, t reflect.Type) {
	err := n.Decode(reflect.New(t).Interface())
	var typeErr *yaml.TypeError
	if err == nil || errors.As(err, &typeErr) {
		return // a TypeError comes again, with the others
	}
	if repeats(err.Error(), n) {
		d.problem(n, "this value does not fit")
	} else {
		d.problem(n, "%s", err)
	}
	*n = nothing(n)
}

// nothing is a node in n's place that sets nothing.
func nothing(n *yaml.Node) yaml.Node {
	return yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line}
}

// repeats reports whether message has a value of n in it.
func repeats(message string, n *yaml.Node) bool {
	quoted := strings.Trim(strconv.Quote(n.Value), `"`)
	if n.Kind == yaml.ScalarNode && (strings.Contains(message, n.Value) || strings.Contains(message, quoted)) {
		return true
	}
	for _, inner := range n.Content {
		if repeats(message, inner) {
			return true
		}
	}
	return false
}

func (d *decoder) fields(n *yaml.Node, t reflect.Type) {
	fields, rest := fieldsOf(t)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch field, ok := fields[key.Value]; {
		case ok:
			d.check(value, field)
		case rest != nil:
			d.check(value, rest)
		default:
			d.problem(value, "unknown key%s", suggest(fields))
		}
	}
}

// suggest names the known keys.
func suggest(fields map[string]reflect.Type) string {
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	sort.Strings(names)
	if len(names) == 0 {
		return "; none is known here, remove it"
	}
	return "; remove it or correct it to one of: " + strings.Join(names, ", ")
}

// fieldsOf lists the keys that struct type t takes, by YAML's rules, and the
// element type of an inlined map, which takes any key.
func fieldsOf(t reflect.Type) (fields map[string]reflect.Type, rest reflect.Type) {
	fields = map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		if (!f.IsExported() && !f.Anonymous) || tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case strings.Contains(options, "inline") && f.Type.Kind() == reflect.Map:
			rest = f.Type.Elem()
		case strings.Contains(options, "inline"):
			inner, innerRest := fieldsOf(deref(f.Type))
			for k, v := range inner {
				fields[k] = v
			}
			if innerRest != nil {
				rest = innerRest
			}
		case name != "":
			fields[name] = f.Type
		default:
			fields[strings.ToLower(f.Name)] = f.Type
		}
	}
	return fields, rest
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

var (
	textUnmarshaler = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
	yamlUnmarshaler = reflect.TypeFor[yaml.Unmarshaler]()
	secretType      = reflect.TypeFor[authn.Secret]()
	durationType    = reflect.TypeFor[time.Duration]()
)

// custom reports whether t decodes itself, so that its fields are not keys.
func custom(t reflect.Type) bool {
	return decodesText(t) || reflect.PointerTo(t).Implements(yamlUnmarshaler)
}

// decodesText reports whether t decodes itself, and from nothing but text.
func decodesText(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(textUnmarshaler) && !p.Implements(yamlUnmarshaler)
}

func whole(t reflect.Type) bool {
	return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 && t != durationType && !custom(t)
}

var yamlWrong = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^line (\d+): cannot unmarshal (!!\w+) `)
})

// wrongTypes takes from YAML's messages which node they are about and what was
// given, and nothing else: they repeat values.
func (d *decoder) wrongTypes(e *yaml.TypeError) {
	for _, message := range e.Errors {
		m := yamlWrong().FindStringSubmatch(message)
		if m == nil {
			d.problems = append(d.problems, fmt.Errorf("%s: a value does not fit", d.file))
			continue
		}
		i, err := strconv.Atoi(m[1])
		if err != nil || i >= len(d.places) {
			i = 0
		}
		d.problems = append(d.problems, fmt.Errorf("%s: %s", d.at(i), mismatch(d.places[i].wants, m[2])))
	}
}

func mismatch(want reflect.Type, tag string) string {
	switch {
	case want == nil || custom(want):
		return "this value does not fit"
	case whole(want) && tag == "!!int":
		return "wants a whole number that is neither so large nor negative"
	}
	return fmt.Sprintf("wants %s, not %s", wanted(want), given(tag))
}

// wanted and given put Go's and YAML's types into an administrator's words.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return `a duration with its unit, such as "1.5s"`
	case whole(t):
		return "a whole number"
	case decodesText(t):
		return "text"
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return "keys and values"
}

func given(tag string) string {
	switch tag {
	case "!!str":
		return "text"
	case "!!int":
		return "a number"
	case "!!float":
		return "a number with a point"
	case "!!bool":
		return "true or false"
	case "!!seq":
		return "a list"
	case "!!map":
		return "keys and values"
	case "!!null":
		return "nothing"
	}
	return "something else"
}

// secretKeys lists the paths of the keys of t whose type is authn.Secret, as
// DescribeReply.secret_keys wants them.
func secretKeys(t reflect.Type) []string {
	var keys []string
	walkSecrets(deref(t), nil, &keys)
	sort.Strings(keys)
	return keys
}

// maxConfigDepth ends the walk of a recursive configuration type.
const maxConfigDepth = 8

func walkSecrets(t reflect.Type, path []string, keys *[]string) {
	if t == secretType {
		*keys = append(*keys, strings.Join(path, "/"))
		return
	}
	if len(path) >= maxConfigDepth || custom(t) {
		return
	}
	step := func(next reflect.Type, name string) {
		walkSecrets(deref(next), append(path[:len(path):len(path)], name), keys)
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		step(t.Elem(), "*")
	case reflect.Struct:
		fields, rest := fieldsOf(t)
		for name, f := range fields {
			step(f, name)
		}
		if rest != nil {
			step(rest, "*")
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

// framework reads the keys below authn:.
func (r *reader) framework(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if k := root.Content[i]; k.Kind == yaml.ScalarNode && k.Value == frameworkKey {
			r.each(root.Content[i+1], frameworkKey, map[string]func(*yaml.Node, string){
				"run_as": r.runAs,
				"sha256": r.sha256,
				"env":    r.env,
				"timing": r.timing,
				"files":  r.files,
			})
		}
	}
}

// each calls the function for each key of the mapping n; nil functions take
// any key under "*".
func (r *reader) each(n *yaml.Node, key string, known map[string]func(*yaml.Node, string)) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n, key, "wants keys and values")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			r.problem(k, key, "only plain keys can be used here: write each key out")
			continue
		}
		if v.Kind == yaml.AliasNode {
			v = v.Alias
		}
		full := join(key, k.Value)
		take, ok := known[k.Value]
		if !ok {
			take, ok = known["*"]
		}
		first, twice := seen[k.Value]
		seen[k.Value] = k.Line
		switch {
		case twice:
			r.problem(k, full, "given twice, first in line %d: remove one", first)
		case !ok:
			r.problem(k, full, "unknown key; remove it or correct it to one of: %s", names(known))
		default:
			take(v, full)
		}
	}
}

func names(known map[string]func(*yaml.Node, string)) string {
	var all []string
	for _, name := range []string{"env", "files", "run_as", "sha256", "step", "timing"} {
		if _, ok := known[name]; ok {
			all = append(all, name)
		}
	}
	return strings.Join(all, ", ")
}

// text returns the text of n.
func (r *reader) text(n *yaml.Node, key string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.problem(n, key, "wants text; write it in quotes")
		return "", false
	}
	return n.Value, true
}

var userName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)
})

func (r *reader) runAs(n *yaml.Node, key string) {
	name, ok := r.text(n, key)
	if !ok {
		return
	}
	if !userName().MatchString(name) || name == "root" || name == "nobody" {
		r.problem(n, key, "wants the name of a system user of its own, not root or nobody: "+
			"adduser --system --group --no-create-home NAME")
	}
	r.config.Framework.RunAs = name
}

func (r *reader) sha256(n *yaml.Node, key string) {
	text, ok := r.text(n, key)
	if !ok {
		return
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != 32 {
		r.problem(n, key, "wants 64 hexadecimal digits, as sha256sum prints")
		return
	}
	r.config.Framework.SHA256 = sum
}

var envName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
})

// env names variables for the provider. Those that change how a program is
// loaded or what go-plugin does are not for it.
func (r *reader) env(n *yaml.Node, key string) {
	r.config.Framework.Env = map[string]string{}
	r.each(n, key, map[string]func(*yaml.Node, string){"*": func(v *yaml.Node, full string) {
		name := strings.TrimPrefix(full, key+".")
		value, ok := r.text(v, full)
		if !ok {
			return
		}
		if !envName().MatchString(name) || strings.HasPrefix(name, "LD_") || strings.HasPrefix(name, "PLUGIN_") ||
			strings.HasPrefix(name, "AUTHN_") || strings.ContainsRune(value, 0) {
			r.problem(v, full, "this variable cannot be set for a provider; remove it")
			return
		}
		r.config.Framework.Env[name] = value
	}})
}

func (r *reader) timing(n *yaml.Node, key string) {
	r.each(n, key, map[string]func(*yaml.Node, string){"step": func(v *yaml.Node, full string) {
		step, err := time.ParseDuration(v.Value)
		if v.Kind != yaml.ScalarNode || err != nil || step < 0 || step > time.Minute {
			r.problem(v, full, `wants a duration of at most a minute with its unit, such as "1.5s"`)
			return
		}
		r.config.Framework.Step = step
	}})
}

func (r *reader) files(n *yaml.Node, key string) {
	r.config.Framework.Files = map[string]string{}
	r.each(n, key, map[string]func(*yaml.Node, string){"*": func(v *yaml.Node, full string) {
		path, ok := r.text(v, full)
		if !ok {
			return
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) != path {
			r.problem(v, full, "wants a whole path, from / on; %%u in it stands for the user")
			return
		}
		r.config.Framework.Files[strings.TrimPrefix(full, key+".")] = path
	}})
}

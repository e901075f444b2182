// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
	"github.com/pam-authn/pam-authn/authn/plugin"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// configFile is the name of the configuration in messages.
const configFile = "authntest.yaml"

// Serve serves the provider that newProvider makes from config, a YAML or JSON
// text, through go-plugin and gRPC over a unix socket, as between worker and
// provider, but inside this process. The test's end ends it.
//
// config is the provider's part of the file: authn: is left out, and what
// KEY_file would name stands in KEY.
func Serve[C any, P authn.Authenticator](t testing.TB, newProvider func(C, *slog.Logger) (P, error), config string) *plugin.Remote {
	t.Helper()
	remote, stop, err := serve(inprocess.Of(newProvider), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return remote
}

func serve(p inprocess.Provider, config string) (*plugin.Remote, func(), error) {
	c, err := wireConfig(config)
	if err != nil {
		return nil, nil, err
	}
	a, stop, err := inprocess.Serve(context.Background(), p)
	if err != nil {
		return nil, nil, err
	}
	remote := a.(*plugin.Remote)
	remote.Config = c
	return remote, stop, nil
}

// wireConfig puts a configuration text on the wire.
func wireConfig(text string) (*wire.Config, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("authntest: the configuration is neither YAML nor JSON: %w", err)
	}
	c := &wire.Config{File: configFile, Json: "{}", Lines: map[string]uint32{}}
	if len(doc.Content) == 0 {
		return c, nil
	}
	var value any
	if err := doc.Decode(&value); err != nil {
		return nil, fmt.Errorf("authntest: the configuration: %w", err)
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("authntest: the configuration cannot be JSON: %w", err)
	}
	c.Json = string(b)
	lineNumbers(doc.Content[0], "", c.Lines)
	return c, nil
}

func lineNumbers(n *yaml.Node, pointer string, lines map[string]uint32) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(n.Content[i].Value)
			lines[key] = uint32(n.Content[i].Line) //nolint:gosec // a line of a test's own text
			lineNumbers(n.Content[i+1], key, lines)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			key := pointer + "/" + strconv.Itoa(i)
			lines[key] = uint32(item.Line) //nolint:gosec // as above
			lineNumbers(item, key, lines)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/authntest"
)

type config struct {
	Name    string         `yaml:"name"`
	Count   int            `yaml:"count"`
	Small   uint8          `yaml:"small"`
	Exact   int64          `yaml:"exact"`
	Share   float64        `yaml:"share"`
	On      bool           `yaml:"on"`
	Step    time.Duration  `yaml:"step"`
	Secret  authn.Secret   `yaml:"secret"`
	Spare   *authn.Secret  `yaml:"spare"`
	Address netip.Addr     `yaml:"address"`
	Limits  map[string]int `yaml:"limits"`
	OIDC    []oidc         `yaml:"oidc"`
	Shared  *struct {
		Realm string `yaml:"realm"`
	} `yaml:"shared"`
	Anything any `yaml:"anything"`
	inner    `yaml:",inline"`
	Ignored  string `yaml:"-"`
}

type oidc struct {
	Issuer       string       `yaml:"issuer"`
	ClientSecret authn.Secret `yaml:"client_secret"`
}

type inner struct{ Inlined string }

// own has a key of a type that decodes itself.
type own struct {
	Even even `yaml:"even"`
}

type even int

func (e *even) UnmarshalYAML(n *yaml.Node) error {
	i, err := strconv.Atoi(n.Value)
	switch {
	case err != nil:
		return err
	case i%2 != 0:
		return errors.New("wants an even number")
	}
	*e = even(i)
	return nil
}

type provider struct{}

func (*provider) Authenticate(context.Context, *authn.Request, authn.Conversation) (authn.Identity, error) {
	return authn.Identity{}, authn.ErrAuth
}

// newProvider refuses what says so, and joins its problems.
func newProvider(c config, _ *slog.Logger) (*provider, error) {
	var problems []error
	if c.Name == "refuse" {
		problems = append(problems, errors.New("name: is refused"))
	}
	for i, o := range c.OIDC {
		if o.Issuer == "refuse" {
			problems = append(problems, fmt.Errorf("oidc[%d].issuer: is refused: %w: %w", i, errors.New("twice"), errors.New("really")))
		}
	}
	if len(problems) == 2 {
		problems = append(problems, errors.New("both together: are refused"))
	}
	return &provider{}, errors.Join(problems...)
}

// The files of testdata/config are configurations. A bad one ends with what
// must be said about it.
func TestConfig(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, want := problems(t, name, string(b)), wanted(string(b))
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if strings.HasSuffix(name, ".bad") == (len(want) == 0) {
				t.Error("the file's name and its end do not agree")
			}
			for _, line := range got {
				if strings.Contains(strings.ReplaceAll(line, "swordfish_value", ""), "swordfish") {
					t.Errorf("%q repeats a value", line)
				}
			}
		})
	}
}

func wanted(text string) (lines []string) {
	for line := range strings.Lines(text) {
		if want, ok := strings.CutPrefix(line, "# want: "); ok {
			lines = append(lines, strings.TrimSuffix(want, "\n"))
		}
	}
	slices.Sort(lines)
	return lines
}

// problems are what the provider says of a configuration.
func problems(t *testing.T, name, text string) []string {
	t.Helper()
	var err error
	if strings.HasPrefix(name, "own_message") {
		err = authntest.Serve(t, func(own, *slog.Logger) (*provider, error) { return &provider{}, nil }, text).Check(t.Context())
	} else {
		err = authntest.Serve(t, newProvider, text).Check(t.Context())
	}
	if err == nil {
		return nil
	}
	if authn.ResultOf(err) != authn.ErrSystem {
		t.Errorf("%v, want system_err", err)
	}
	lines := strings.Split(strings.TrimSuffix(err.Error(), ": system_err"), "\n")
	slices.Sort(lines)
	return lines
}

func TestConfigIsFilledIn(t *testing.T) {
	b, err := os.ReadFile("testdata/config/full.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got config
	remote := authntest.Serve(t, func(c config, _ *slog.Logger) (*provider, error) {
		got = c
		return &provider{}, nil
	}, string(b))
	if err := remote.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	const fish = "swordfish"
	switch {
	case got.Name != fish, got.Count != 300, got.Small != 255, got.Exact != 7, got.Share != 0.5, !got.On,
		got.Step != 1500*time.Millisecond, got.Secret.Reveal() != fish, got.Spare.Reveal() != fish,
		got.Address != netip.MustParseAddr("192.0.2.7"), got.Limits["b"] != 2, len(got.OIDC) != 2,
		got.OIDC[0].ClientSecret.Reveal() != fish, got.Shared.Realm != fish, got.Inlined != fish,
		fmt.Sprint(got.Anything) != "[1 map[two:three]]":
		t.Errorf("got %+v", got)
	}
}

func TestSecretKeysAreDescribed(t *testing.T) {
	type deep struct {
		Plain  string
		List   []authn.Secret                     `yaml:"list"`
		Keyed  map[string]map[string]authn.Secret `yaml:"keyed"`
		Self   *oidc                              `yaml:"self"`
		Rest   map[string]oidc                    `yaml:",inline"`
		hidden authn.Secret
	}
	_ = deep{}.hidden
	remote := authntest.Serve(t, func(deep, *slog.Logger) (*provider, error) { return &provider{}, nil }, "")
	want := []string{"*/client_secret", "keyed/*/*", "list/*", "self/client_secret"}
	if got := remote.Description().SecretKeys; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

type chain struct {
	Key  authn.Secret `yaml:"key"`
	Next *chain       `yaml:"next"`
}

func TestSecretKeysOfARecursiveTypeAreFinite(t *testing.T) {
	remote := authntest.Serve(t, func(chain, *slog.Logger) (*provider, error) { return &provider{}, nil }, "{next: {next: {key: x}}}")
	if got := remote.Description().SecretKeys; !slices.Contains(got, "next/next/key") || len(got) > 10 {
		t.Errorf("got %q", got)
	}
	if err := remote.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

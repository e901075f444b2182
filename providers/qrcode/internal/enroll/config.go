// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package enroll

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/pam-authn/pam-authn/pamshim/safefile"
	"github.com/pam-authn/pam-authn/providers/qrcode"
)

const (
	maxFile      = 64 << 10 // bytes of a configuration, or of a file that it names
	checkTimeout = 30 * time.Second
	defaultUser  = "authn" // whom a provider runs as
)

// Settings are what the provider's configuration file says, to both halves.
type Settings struct {
	Config    *qrcode.Config
	RunAs     string // the child's user
	Approvers string // authn.files.approvers: a path with %u in its last part
	Provider  []byte // the provider's part as YAML, for the child
}

// framework is what is used of the keys below authn:.
type framework struct {
	RunAs string            `yaml:"run_as"`
	Files map[string]string `yaml:"files"`
}

// Load reads the configuration file path. Whether it may be believed is for the
// worker to say that serves logins, with the provider that serves them: it
// judges the file, who may write and who may read it, its keys and their
// values, and nothing of it is used that they refuse. So there is one set of
// rules. What remains here is to take values out of a file that is right.
func Load(ctx context.Context, path, worker, provider string) (*Settings, error) {
	if err := judge(ctx, path, worker, provider); err != nil {
		return nil, err
	}
	return read(path)
}

// judge runs "authn-worker check" on the file.
func judge(ctx context.Context, path, worker, provider string) error {
	if err := safefile.CheckProgram(worker); err != nil {
		return fmt.Errorf("the worker: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, checkTimeout)
	defer stop()
	cmd := exec.CommandContext(ctx, worker, "check", "-provider="+provider, "--", path) //nolint:gosec // root's own
	cmd.Env, cmd.Dir = environment, "/"
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit) && out.Len() > 0:
		return fmt.Errorf("the configuration cannot be used:\n%s", strings.TrimSpace(problems(out.String())))
	}
	return fmt.Errorf("%s check: %w", worker, err)
}

// problems leaves out what the worker only notes.
func problems(report string) string {
	var kept []string
	for line := range strings.Lines(report) {
		if !strings.Contains(line, ": notice: ") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// LoadStore reads no more of the configuration file path than where the files
// of approvers are. A provider that nobody could log in with is no reason not
// to remove a lost phone.
func LoadStore(path string) (*Store, error) {
	s, _, err := readFramework(path)
	if err != nil {
		return nil, err
	}
	return OpenStore(s.Approvers), nil
}

func read(path string) (*Settings, error) {
	s, root, err := readFramework(path)
	if err != nil {
		return nil, err
	}
	if s.Provider, err = providersPart(root); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.Config, err = DecodeConfig(s.Provider)
	return s, err
}

// readFramework returns the settings without the provider's part, and the whole
// file. It repeats nothing of a file that is not YAML: it could be a secret.
func readFramework(path string) (*Settings, *yaml.Node, error) {
	data, _, err := safefile.Read(path, maxFile)
	if err != nil {
		return nil, nil, err
	}
	var top struct {
		Authn framework `yaml:"authn"`
	}
	var doc yaml.Node
	if yaml.Unmarshal(data, &top) != nil || yaml.Unmarshal(data, &doc) != nil {
		return nil, nil, fmt.Errorf("%s: not YAML of keys and values", path)
	}
	s := &Settings{RunAs: cmp.Or(top.Authn.RunAs, defaultUser), Approvers: top.Authn.Files["approvers"]}
	if err := checkPattern(s.Approvers); err != nil {
		return nil, nil, fmt.Errorf("%s: authn.files.approvers: %w", path, err)
	}
	return s, doc.Content[0], nil
}

// checkPattern wants one file for each account, all in one folder.
func checkPattern(path string) error {
	const want = "write /etc/authn/qrcode/approvers/%u"
	folder, name := filepath.Split(path)
	switch {
	case path == "":
		return errors.New("is missing: " + want)
	case !filepath.IsAbs(path), strings.Contains(folder, "%"), strings.Count(name, "%u") != 1:
		return errors.New("wants an absolute path with %u in its last part alone: " + want)
	}
	return nil
}

// providersPart returns root without the framework's keys, with the content of
// the file in the place of each X_file.
func providersPart(root *yaml.Node) ([]byte, error) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "authn" {
			root.Content = slices.Delete(root.Content, i, i+2)
			break
		}
	}
	if err := fill(root); err != nil {
		return nil, err
	}
	return yaml.Marshal(root)
}

// fill replaces X_file and aliases by what they stand for. The worker has seen
// that it is not too much, and has an end.
func fill(n *yaml.Node) error {
	n.Anchor = ""
	for i, item := range n.Content {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
			n.Content[i] = item
		}
		if n.Kind == yaml.MappingNode && i%2 == 1 {
			if base, ok := strings.CutSuffix(n.Content[i-1].Value, "_file"); ok && base != "" {
				data, _, err := safefile.Read(item.Value, maxFile)
				if err != nil {
					return err
				}
				n.Content[i-1], n.Content[i] = text(base), text(strings.TrimSuffix(string(data), "\n"))
				continue
			}
		}
		if err := fill(item); err != nil {
			return err
		}
	}
	return nil
}

func text(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// DecodeConfig reads and sets up the provider's part. Its errors repeat no
// value, except of keys that are no secrets.
func DecodeConfig(text []byte) (*qrcode.Config, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	c := &qrcode.Config{}
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("the configuration does not fit the provider: check it with authnctl")
	}
	return c, c.SetUp()
}

// environment is what programs are started with.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

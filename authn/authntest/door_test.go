// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/pam-authn/pam-authn/authn"
)

const (
	doorKey  = "key-in-the-configuration"
	doorCode = "open sesame"
)

type doorConfig struct {
	Key  authn.Secret `yaml:"key"`
	Deep struct {
		Keys map[string][]authn.Secret `yaml:"keys"`
	} `yaml:"deep"`
}

// A door is a provider that does everything right: it asks for a name and a
// code. Its fields make it break single rules.
type door struct {
	config doorConfig
	log    *slog.Logger

	// lookup, if set, takes the place of judge.
	lookup func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error)

	// ask, if set, takes the place of both questions.
	ask func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (name, code string, err error)
}

func newDoor(change func(*door)) func(doorConfig, *slog.Logger) (*door, error) {
	return func(c doorConfig, log *slog.Logger) (*door, error) {
		if c.Key.Reveal() != doorKey {
			return nil, errors.New("key: not the key of this door")
		}
		d := &door{config: c, log: log, ask: ask, lookup: judge}
		if change != nil {
			change(d)
		}
		return d, nil
	}
}

func (d *door) Authenticate(ctx context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	name, code, err := d.ask(d, ctx, req, conv)
	if err != nil {
		return authn.Identity{}, err
	}
	return d.lookup(d, ctx, req, name, code)
}

func ask(_ *door, _ context.Context, _ *authn.Request, conv authn.Conversation) (string, string, error) {
	_ = conv.Info("Knock, knock.")
	name, err := conv.Prompt("Who is there? ")
	if err != nil {
		return "", "", err
	}
	code, err := conv.PromptSecret("Code: ")
	return name, code.Reveal(), err
}

func judge(d *door, _ context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
	if req.User != "mittens" || name != "mittens" || code != doorCode {
		d.log.Info("wrong name or code")
		return authn.Identity{}, fmt.Errorf("wrong name or code: %w", authn.ErrAuth)
	}
	return authn.Identity{Subject: name + "@example.com"}, nil
}

func doorSuite() Suite {
	return Suite{
		Config: "key: " + doorKey,
		Succeeds: []Case{{
			Name:    "name_and_code_open",
			Steps:   []Step{Info("Knock"), Prompt("Who", "mittens"), PromptSecret("Code", doorCode)},
			Subject: "mittens@example.com",
		}},
		Refuses: []Case{{
			Name:  "other_name_is_refused",
			Steps: []Step{Prompt("Who", "tom"), PromptSecret("Code", doorCode)},
		}},
		BadConfigs: []BadConfig{
			{Config: "key: swordfish", Key: "key"},
			{Config: "key: " + doorKey + "\ndeep: {keys: {a: [12]}}", Key: "deep.keys.a[0]"},
		},
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrDenied is what [Predecessor.Login] returns for everybody it turns away.
var ErrDenied = errors.New("denied")

// A Predecessor logs in as the Python module onepam.py of
// onelogin_linux_pam_ssh (2021) did, request by request, for measuring beside
// it. Its flaws are part of it: it looks at no status, asks about a push once,
// and opens a connection per request, as its library did.
type Predecessor struct {
	URL          string
	ClientID     string
	ClientSecret string
	Roles        map[string]int64 // user_roles: account to role

	// Pad is request_duration_secs: the least time of each of the four stages.
	// The module's default was 1.5 s; 0 does not pad.
	Pad time.Duration

	// CAs are trusted in place of the system's, if not nil.
	CAs *x509.CertPool

	// Ask is called for "OneLogin email or user: " and "OTP: ".
	Ask func(prompt string) string
}

// envelope1 is a reply of the v1 API.
type envelope1 struct {
	Status struct {
		Type string `json:"type"`
	} `json:"status"`
	Data json.RawMessage `json:"data"`
}

type user1 struct {
	ID       int64   `json:"id"`
	Email    string  `json:"email"`
	Username string  `json:"username"`
	RoleID   []int64 `json:"role_id"`
}

type device1 struct {
	ID      int64 `json:"id"`
	Active  bool  `json:"active"`
	Default bool  `json:"default"`
	Trigger bool  `json:"needs_trigger"`
}

// Login returns nil if the person whom Ask speaks for may use account, and an
// error wrapping [ErrDenied] if not.
func (p *Predecessor) Login(ctx context.Context, account string) error {
	token, err := p.token(ctx)
	if err != nil {
		return denied("token", err)
	}
	name := p.Ask("OneLogin email or user: ")
	if strings.Contains(name, "*") {
		return denied("name", errors.New("a wildcard"))
	}
	var u *user1
	err = p.stage(ctx, func() error { u, err = p.user(ctx, token, name); return err })
	if err != nil {
		return denied("user", err)
	}
	var d device1
	var state string
	err = p.stage(ctx, func() error { d, state, err = p.factor(ctx, token, u); return err })
	if err != nil {
		return denied("factor", err)
	}
	otp := p.Ask("OTP: ")
	if err := p.stage(ctx, func() error { return p.verify(ctx, token, u, d, otp, state) }); err != nil {
		return denied("verify", err)
	}
	return p.stage(ctx, func() error { return p.role(u, account) })
}

func denied(step string, err error) error { return fmt.Errorf("%s: %w: %w", step, ErrDenied, err) }

// stage does one stage and waits until Pad has passed: a floor, no more.
func (p *Predecessor) stage(ctx context.Context, f func() error) error {
	start := time.Now()
	err := f()
	pause(ctx, p.Pad-time.Since(start))
	return err
}

func (p *Predecessor) token(ctx context.Context) (string, error) {
	var reply struct {
		AccessToken string `json:"access_token"`
	}
	auth := fmt.Sprintf("client_id:%s,client_secret:%s", p.ClientID, p.ClientSecret)
	err := p.send(ctx, http.MethodPost, "/auth/oauth2/v2/token", auth, object{"grant_type": "client_credentials"}, &reply)
	if err == nil && reply.AccessToken == "" {
		err = errors.New("no token in the reply")
	}
	return reply.AccessToken, err
}

// user looks for the name as an email and as a username, always both.
func (p *Predecessor) user(ctx context.Context, token, name string) (*user1, error) {
	var found *user1
	for _, key := range []string{"email", "username"} {
		var list []user1
		path := "/api/1/users?" + url.Values{key: {name}}.Encode()
		if p.data(ctx, http.MethodGet, path, token, nil, &list) != nil {
			continue // as if nobody were there: a flaw of the module
		}
		for _, u := range list {
			if found == nil && (key == "email" && u.Email == name || key == "username" && u.Username == name) {
				found = &u
			}
		}
	}
	if found == nil {
		return nil, errors.New("nobody of this name")
	}
	return found, nil
}

// factor chooses the default device, else the first, and triggers it if the
// API says so.
func (p *Predecessor) factor(ctx context.Context, token string, u *user1) (device1, string, error) {
	var data struct {
		Devices []device1 `json:"otp_devices"`
	}
	base := fmt.Sprintf("/api/1/users/%d/otp_devices", u.ID)
	if err := p.data(ctx, http.MethodGet, base, token, nil, &data); err != nil {
		return device1{}, "", err
	}
	chosen, ok := choose(data.Devices)
	if !ok {
		return device1{}, "", errors.New("no factor")
	}
	if !chosen.Trigger {
		return chosen, "", nil
	}
	var triggered []struct {
		StateToken string `json:"state_token"`
	}
	if err := p.data(ctx, http.MethodPost, fmt.Sprintf("%s/%d/trigger", base, chosen.ID), token, object{}, &triggered); err != nil {
		return device1{}, "", err
	}
	if len(triggered) == 0 {
		return chosen, "", nil
	}
	return chosen, triggered[0].StateToken, nil
}

func choose(devices []device1) (device1, bool) {
	var first device1
	found := false
	for _, d := range devices {
		if d.Active && d.Default {
			return d, true
		}
		if d.Active && !found {
			first, found = d, true
		}
	}
	return first, found
}

// verify asks once: a push that is still pending is a refusal.
func (p *Predecessor) verify(ctx context.Context, token string, u *user1, d device1, otp, state string) error {
	body := object{}
	if otp != "" {
		body["otp_token"] = otp
	}
	if state != "" {
		body["state_token"] = state
	}
	path := fmt.Sprintf("/api/1/users/%d/otp_devices/%d/verify", u.ID, d.ID)
	return p.data(ctx, http.MethodPost, path, token, body, nil)
}

func (p *Predecessor) role(u *user1, account string) error {
	for _, id := range u.RoleID {
		if wanted, ok := p.Roles[account]; ok && wanted == id {
			return nil
		}
	}
	return denied("role", errors.New("not the account's"))
}

// data sends a request of the v1 API and takes the envelope off its reply.
func (p *Predecessor) data(ctx context.Context, method, path, token string, body, into any) error {
	var reply envelope1
	if err := p.send(ctx, method, path, "bearer:"+token, body, &reply); err != nil {
		return err
	}
	if reply.Status.Type != "success" {
		return errors.New("the reply is no success")
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(reply.Data, into)
}

// send sends one request over a connection of its own.
func (p *Predecessor) send(ctx context.Context, method, path, auth string, body, into any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if body == nil {
		b = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", auth)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: p.CAs},
	}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return json.NewDecoder(http.MaxBytesReader(nil, resp.Body, maxBody)).Decode(into)
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"image"
	"os"
	"path/filepath"
	"time"
)

// Views of the page that are not the way to one: the end of what a person can
// do with a code, or a question to the person. [Phone.Settle] waits for any.
var settled = []string{
	"home", "scan", "details", "new", "enrol", "digits", "enrol-digits", "in", "enrolled", "refused", "not-accepted", "no-passkey", "not-confirmed",
	"over", "expired", "gone", "used", "host-gone", "busy", "not-ours", "other-page", "sent-link", "bad-issuer", "unsupported",
	"insecure", "camera-denied", "no-scanner", "offline", "slow", "trouble",
}

// Open opens a link in a fresh page of the same tab, as a camera app does, and
// waits until something is shown.
func (p *Phone) Open(url string) string {
	p.tb.Helper()
	p.do("open", map[string]any{"url": url, "clear": true}, nil)
	return p.Settle()
}

// Load opens a link and does not wait for the page to say anything.
func (p *Phone) Load(url string) {
	p.tb.Helper()
	p.do("open", map[string]any{"url": url}, nil)
}

// Reload loads the page anew.
func (p *Phone) Reload() string {
	p.tb.Helper()
	p.do("reload", nil, nil)
	return p.Settle()
}

// State returns the name of the view that is shown: see data-view in
// index.html.
func (p *Phone) State() (s string) {
	p.tb.Helper()
	p.do("state", nil, &s)
	return s
}

// Wait waits until one of the views is shown and returns which. It waits for
// half a minute at most.
func (p *Phone) Wait(states ...string) string {
	p.tb.Helper()
	return p.WaitFor(patience, states...)
}

// WaitFor is [Phone.Wait] with a limit of its own.
func (p *Phone) WaitFor(limit time.Duration, states ...string) (s string) {
	p.tb.Helper()
	p.patience = limit + patience
	defer func() { p.patience = patience }()
	p.do("wait", map[string]any{"states": states, "timeout": limit.Milliseconds()}, &s)
	return s
}

// Settle waits until the page is not busy any more, and returns its view.
func (p *Phone) Settle() string {
	p.tb.Helper()
	return p.Wait(settled...)
}

// Click clicks the first visible element of a CSS selector.
func (p *Phone) Click(selector string) {
	p.tb.Helper()
	p.do("click", map[string]any{"selector": selector}, nil)
}

// Tap clicks a button by what it does: data-do in index.html.
func (p *Phone) Tap(action string) {
	p.tb.Helper()
	p.Click(`[data-do="` + action + `"]`)
}

// Press presses a key, such as "Tab" or "Enter".
func (p *Phone) Press(key string) {
	p.tb.Helper()
	p.do("press", map[string]any{"key": key}, nil)
}

// Focus tells what has the keyboard: a button's action, an id, or the element
// with its text.
func (p *Phone) Focus() (s string) {
	p.tb.Helper()
	p.do("focus", nil, &s)
	return s
}

// TypeCode types the code that stands under the picture and opens it. The page
// must be at its first view.
func (p *Phone) TypeCode(code string) string {
	p.tb.Helper()
	p.do("fill", map[string]any{"selector": "#code", "text": code}, nil)
	p.Click("#typed button[type=submit]")
	return p.Settle()
}

// Scan holds pictures into the camera, one after the other and again, and opens
// the page's own scanner. It returns the view that the code led to.
func (p *Phone) Scan(pictures ...image.Image) string {
	p.tb.Helper()
	p.StartScan(pictures...)
	rest := make([]string, 0, len(settled))
	for _, s := range settled {
		if s != "scan" && s != "home" {
			rest = append(rest, s)
		}
	}
	return p.Wait(rest...)
}

// StartScan is [Phone.Scan] without waiting for a code to be found.
func (p *Phone) StartScan(pictures ...image.Image) {
	p.tb.Helper()
	if err := writeVideo(p.video, pictures...); err != nil {
		p.tb.Fatalf("phone: camera: %v", err)
	}
	p.Tap("scan")
}

// Approve approves with a passkey, with a second tap where the page asks for
// it, and returns the view that follows: "digits" if the host agreed.
func (p *Phone) Approve() string {
	p.tb.Helper()
	p.Tap("passkey")
	return p.confirmed()
}

// confirmed taps once more where the page asks for it.
func (p *Phone) confirmed() string {
	p.tb.Helper()
	rest := []string{"new", "asking", "loading"}
	for _, s := range settled {
		if s != "details" && s != "new" {
			rest = append(rest, s)
		}
	}
	s := p.Wait(rest...)
	if s == "new" {
		p.Tap("confirm")
	}
	return p.Wait(rest[3:]...)
}

// SignIn goes to the issuer whose button has that name, with a second tap where
// the page asks for it. What the issuer's page wants is the caller's.
func (p *Phone) SignIn(name string) {
	p.tb.Helper()
	p.Click(`#issuers button:has-text("` + name + `"), #enrol-issuers button:has-text("` + name + `")`)
	if p.State() == "new" {
		p.Tap("confirm")
	}
}

// Enrol makes a passkey and returns the view that follows: "enrol-digits" if
// the host took it.
func (p *Phone) Enrol() string {
	p.tb.Helper()
	p.Tap("enrol")
	return p.Wait("enrol-digits", "not-accepted", "not-confirmed", "gone", "host-gone", "expired", "refused", "offline", "trouble", "not-ours")
}

// Refuse refuses the login or enrolment that is shown.
func (p *Phone) Refuse() string {
	p.tb.Helper()
	p.Tap("refuse")
	return p.Wait("refused", "gone", "expired", "host-gone", "over", "offline", "trouble")
}

// Digits waits for the six digits and returns them.
func (p *Phone) Digits() (code string) {
	p.tb.Helper()
	id := p.Wait("digits", "enrol-digits")
	p.do("attribute", map[string]any{"selector": "#" + id, "name": "data-code"}, &code)
	return code
}

// Fields returns what the page shows of the login, by the protocol's names.
func (p *Phone) Fields() (fields map[string]string) {
	p.tb.Helper()
	p.do("fields", nil, &fields)
	return fields
}

// Text returns what can be read in the first visible element of a selector.
func (p *Phone) Text(selector string) (s string) {
	p.tb.Helper()
	p.do("text", map[string]any{"selector": selector}, &s)
	return s
}

// Fill types text into a field.
func (p *Phone) Fill(selector, text string) {
	p.tb.Helper()
	p.do("fill", map[string]any{"selector": selector, "text": text}, nil)
}

// URL returns the page's address.
func (p *Phone) URL() (s string) {
	p.tb.Helper()
	p.do("url", nil, &s)
	return s
}

// Eval runs a JavaScript expression in the page and decodes its value into out,
// unless nil.
func (p *Phone) Eval(script string, out any) {
	p.tb.Helper()
	p.do("eval", map[string]any{"script": script}, out)
}

// Screenshot writes the screen as a PNG file, and makes its folder.
func (p *Phone) Screenshot(path string) {
	p.tb.Helper()
	p.do("screenshot", map[string]any{"path": p.picture(path)}, nil)
}

// Screenshots writes the screen four times: NAME-light.png, NAME-dark.png,
// NAME-desktop-light.png and NAME-desktop-dark.png.
func (p *Phone) Screenshots(folder, name string) {
	p.tb.Helper()
	p.do("screenshots", map[string]any{"base": p.picture(filepath.Join(folder, name))}, nil)
}

// picture makes the folder of a picture, and its path one that Node finds.
func (p *Phone) picture(path string) string {
	p.tb.Helper()
	path, err := filepath.Abs(path)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755) //nolint:gosec // pictures are for everybody
	}
	if err != nil {
		p.tb.Fatalf("phone: screenshot: %v", err)
	}
	return path
}

// Axe returns what axe-core finds wrong with the view that is shown, in light
// or dark colours.
func (p *Phone) Axe(dark bool) (found []Violation) {
	p.tb.Helper()
	return p.axe(dark, false)
}

// axe is [Phone.Axe], or only what it has to say of colours.
func (p *Phone) axe(dark, colours bool) (found []Violation) {
	p.tb.Helper()
	p.do("media", map[string]any{"dark": dark}, nil)
	p.do("axe", map[string]any{"colours": colours}, &found)
	p.do("media", map[string]any{"dark": p.options.Dark}, nil)
	return found
}

// Credentials returns the passkeys that the phone holds, private keys included.
func (p *Phone) Credentials() (list []Credential) {
	p.tb.Helper()
	p.do("credentials", nil, &list)
	return list
}

// PutCredential gives the phone a passkey, such as another phone's.
func (p *Phone) PutCredential(c Credential) {
	p.tb.Helper()
	p.do("putCredential", map[string]any{"credential": c}, nil)
}

// ClearCredentials takes all passkeys away.
func (p *Phone) ClearCredentials() {
	p.tb.Helper()
	p.do("clearCredentials", nil, nil)
}

// SetVerified says whether the person's finger, face or PIN is the right one.
func (p *Phone) SetVerified(on bool) {
	p.tb.Helper()
	p.do("verified", map[string]any{"on": on}, nil)
}

// SetPresent says whether the person answers the prompt for a passkey at all.
func (p *Phone) SetPresent(on bool) {
	p.tb.Helper()
	p.do("present", map[string]any{"on": on}, nil)
}

// Offline cuts the phone's network, or mends it.
func (p *Phone) Offline(on bool) {
	p.tb.Helper()
	p.do("offline", map[string]any{"on": on}, nil)
}

// Forget empties what the page keeps: what this phone approved, and the attempt.
func (p *Phone) Forget() {
	p.tb.Helper()
	p.do("forget", nil, nil)
}

// Problems returns what the page did wrong so far.
func (p *Phone) Problems() (list []string) {
	p.tb.Helper()
	p.do("problems", nil, &list)
	return list
}

// Requests returns how many requests went to each origin.
func (p *Phone) Requests() (by map[string]int) {
	p.tb.Helper()
	p.do("requests", nil, &by)
	return by
}

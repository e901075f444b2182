// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package web holds the approver page: what a phone opens from the code in the
// terminal. It is plain HTML, CSS and JavaScript, served as it stands in
// static/; only the scanner libraries come from elsewhere, at build time.
//
// The files may also be served by any other web server, with the headers that
// [Handler] sends and a config.json of its own; then who runs the relay cannot
// change what people sign.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

//go:embed static
var static embed.FS

// Config is what the page must know of where it is served.
type Config struct {
	// RPID is the WebAuthn relying party of all passkeys, a host name: the
	// page's own or one above it. The page refuses hosts that name another.
	RPID string
	// Issuers are the sign-in pages that hosts may send people to: OpenID
	// Connect's authorization endpoints, such as
	// "https://id.example.com/oauth2/authorize", with their query where they
	// have one. An origin alone, "https://id.example.com", stands for every
	// path of it, without a query: good where the origin has nothing else. None
	// by default.
	Issuers []string
	// ConnectOrigins are the relays, where they are not at the page's own
	// origin. The page asks one after the other.
	ConnectOrigins []string
}

// Validate reports every problem of c at once.
func (c Config) Validate() error {
	var errs []error
	if c.RPID == "" || strings.ContainsAny(c.RPID, ":/ ") {
		errs = append(errs, fmt.Errorf("rp_id: %q is no host name", c.RPID))
	}
	for _, i := range c.Issuers {
		if !validIssuer(i) {
			errs = append(errs, fmt.Errorf("%q is no https address of a sign-in page, such as https://id.example.com/oauth2/authorize, and no https origin", i))
		}
	}
	for _, o := range c.ConnectOrigins {
		if !validOrigin(o) {
			errs = append(errs, fmt.Errorf("%q is no https origin, such as https://relay.example.com", o))
		}
	}
	return errors.Join(errs...)
}

// validOrigin reports whether s is an https origin, or an http one of this
// machine, in the form that browsers compare.
func validOrigin(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme+"://"+u.Host != s || u.Hostname() == "" || s != strings.ToLower(s) {
		return false
	}
	// What a header separates by must not be in a host.
	if strings.Trim(u.Host, "abcdefghijklmnopqrstuvwxyz0123456789.-:[]") != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname())
}

// validIssuer reports whether s is an origin, or an address at one without a
// fragment, in the form that browsers compare. That a path is "/" alone says
// nothing more than the origin, and is refused for that.
func validIssuer(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Fragment != "" || u.Path == "/" && u.RawQuery == "" {
		return false
	}
	origin := u.Scheme + "://" + u.Host
	return validOrigin(origin) && strings.HasPrefix(s, origin) && !strings.HasSuffix(s, "#")
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func only(valid func(string) bool, list []string) []string {
	out := []string{}
	for _, s := range list {
		if valid(s) {
			out = append(out, s)
		}
	}
	return out
}

// types are the files that are served; any other is not there.
var types = map[string]string{
	".css":         "text/css; charset=utf-8",
	".html":        "text/html; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".png":         "image/png",
	".svg":         "image/svg+xml",
	".webmanifest": "application/manifest+json",
}

// A file is one answer, plain and compressed.
type file struct {
	kind, cache, etag string
	plain, gzipped    []byte
}

type handler struct {
	files  map[string]*file // by path
	policy string
}

// Handler serves the page at / and /1, what it loads, and /config.json. It
// answers GET and HEAD only. Issuers and origins that [Config.Validate] would
// complain of are left out.
func Handler(c Config) http.Handler {
	h := &handler{files: map[string]*file{}, policy: policy(only(validOrigin, c.ConnectOrigins))}
	err := fs.WalkDir(static, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || types[path.Ext(name)] == "" {
			return err
		}
		data, err := static.ReadFile(name)
		if err != nil {
			return err
		}
		// Revalidated every time: a stale script would speak an old protocol.
		h.files[strings.TrimPrefix(name, "static")] = newFile(types[path.Ext(name)], "no-cache", data)
		return nil
	})
	if err != nil {
		panic(err) // the files are in the program
	}
	h.files["/"] = h.files["/index.html"]
	h.files["/1"] = h.files["/index.html"]
	delete(h.files, "/index.html")
	h.files["/config.json"] = newFile("application/json", "no-store", c.json())
	return h
}

// json is what the page reads as its own settings.
func (c Config) json() []byte {
	data, err := json.Marshal(struct {
		RPID    string   `json:"rp_id"`
		Issuers []string `json:"issuers"`
		V       []string `json:"v"`
		Relays  []string `json:"relays,omitempty"`
	}{c.RPID, only(validIssuer, c.Issuers), []string{"pam-authn/qr/1"}, only(validOrigin, c.ConnectOrigins)})
	if err != nil {
		panic(err) // strings only
	}
	return data
}

func newFile(kind, cache string, data []byte) *file {
	sum := sha256.Sum256(data)
	f := &file{kind: kind, cache: cache, plain: data, etag: base64.RawURLEncoding.EncodeToString(sum[:12])}
	if kind == "image/png" {
		return f
	}
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is a good one
	_, err := w.Write(data)
	if err := errors.Join(err, w.Close()); err == nil && b.Len() < len(data) {
		f.gzipped = b.Bytes()
	}
	return f
}

// policy is the page's content security policy: nothing but its own files, and
// no place in anybody's frame.
func policy(connect []string) string {
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self'",
		"manifest-src 'self'",
		"connect-src " + strings.Join(append([]string{"'self'"}, connect...), " "),
		"frame-ancestors 'none'",
		"base-uri 'none'",
		"form-action 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types 'none'",
	}, "; ")
}

const permissions = "camera=(self), publickey-credentials-get=(self), publickey-credentials-create=(self), screen-wake-lock=(self), " +
	"accelerometer=(), bluetooth=(), browsing-topics=(), clipboard-read=(), display-capture=(), geolocation=(), gyroscope=(), " +
	"hid=(), magnetometer=(), microphone=(), midi=(), payment=(), serial=(), usb=()"

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Permissions-Policy", permissions)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	f := h.files[r.URL.Path]
	if f == nil {
		header.Set("Cache-Control", "no-store")
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	f.serve(w, r)
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.kind)
	header.Set("Cache-Control", f.cache)
	data, etag := f.plain, f.etag
	if f.gzipped != nil {
		header.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) {
			header.Set("Content-Encoding", "gzip")
			data, etag = f.gzipped, f.etag+"-gzip"
		}
	}
	if f.cache != "no-store" {
		header.Set("ETag", `"`+etag+`"`)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// acceptsGzip reads Accept-Encoding as browsers write it.
func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.TrimSpace(name) == "gzip" {
			return strings.ReplaceAll(weight, " ", "") != "q=0"
		}
	}
	return false
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Onelogin-emulator serves an emulated OneLogin tenant on loopback, to try a
// client of its API with.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pam-authn/pam-authn/providers/onelogin/onelogintest"
)

// Exit codes, as the usage has them.
const (
	fine    = 0
	failed  = 1
	misused = 2
)

const usage = `onelogin-emulator serves an emulated OneLogin tenant on this machine.

Usage:
    onelogin-emulator [OPTION...]

It prints what a client has to know, one "key: value" a line, and serves until
Ctrl-C. Nobody but this machine can reach it, and everybody on this machine can.

    -listen ADDR   a loopback address; default 127.0.0.1 and a free port
    -control ADDR  where the control API listens; default: below URL/control/
    -world FILE    users and credential, JSON; default: a demo of four users
    -tls           serve https with an authority made for the occasion
    -ca FILE       where to write the authority's certificate; default: a
                   temporary file, gone at the end
    -variant NAME  another reading of the public facts; "list" names them
    -latency TIME  added to every request, such as 50ms
    -fault F       what goes wrong, such as status:500 or "hang", with
                   PATTERN=F for some calls: "GET /api/2/**=delay:2s";
                   may be given several times
    -v             print every request

The control API plays the users' phones: curl URL/control/ lists its calls.

Exit codes: 0 fine; 1 could not run; 2 wrong usage.

Examples:
    onelogin-emulator -v
    curl -X POST "$URL/control/push/accept?user=mittens"
    curl "$URL/control/code?user=mittens"
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "onelogin-emulator: error: %v\n", err)
		if code == misused {
			fmt.Fprintln(os.Stderr, `onelogin-emulator: hint: run "onelogin-emulator -h"`)
		}
	}
	os.Exit(code)
}

// config is the command line.
type config struct {
	listen, control, world, ca, variant string
	tls, verbose                        bool
	latency                             time.Duration
	faults                              []string
}

func parse(args []string) (config, error) {
	var c config
	f := flag.NewFlagSet("onelogin-emulator", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&c.listen, "listen", "127.0.0.1:0", "")
	f.StringVar(&c.control, "control", "", "")
	f.StringVar(&c.world, "world", "", "")
	f.StringVar(&c.ca, "ca", "", "")
	f.StringVar(&c.variant, "variant", "", "")
	f.BoolVar(&c.tls, "tls", false, "")
	f.BoolVar(&c.verbose, "v", false, "")
	f.DurationVar(&c.latency, "latency", 0, "")
	f.Func("fault", "", func(text string) error {
		c.faults = append(c.faults, text)
		return nil
	})
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if f.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.ca != "" && !c.tls {
		return c, errors.New("-ca is of no use without -tls")
	}
	return c, nil
}

func run(ctx context.Context, args []string, out io.Writer) (int, error) {
	c, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(out, usage)
		return fine, err
	}
	if err != nil {
		return misused, err
	}
	if c.variant == "list" {
		for _, v := range onelogintest.AllVariants() {
			_, _ = fmt.Fprintln(out, v.Name)
		}
		return fine, nil
	}
	world, err := c.readWorld()
	if err != nil {
		return failed, err
	}
	opts, err := c.options()
	if err != nil {
		return misused, err
	}
	s, err := onelogintest.Start(world, opts...)
	if err != nil {
		return failed, err
	}
	defer s.Close()
	return c.serve(ctx, s, world, out)
}

// serve sets the server's faults, tells about it and waits for the end.
func (c config) serve(ctx context.Context, s *onelogintest.Server, world onelogintest.World, out io.Writer) (int, error) {
	s.Latency(c.latency)
	if err := c.fail(s); err != nil {
		return misused, err
	}
	control := s.URL + "/control/"
	if c.control != "" {
		url, stop, err := serveControl(s, c.control)
		if err != nil {
			return failed, err
		}
		defer stop()
		control = url
	}
	c.tell(out, s, world, control)
	if c.verbose {
		watch(ctx, s, out)
	}
	<-ctx.Done()
	return fine, nil
}

func (c config) readWorld() (onelogintest.World, error) {
	if c.world == "" {
		return onelogintest.Demo(), nil
	}
	f, err := os.Open(c.world)
	if err != nil {
		return onelogintest.World{}, err
	}
	defer func() { _ = f.Close() }()
	w, err := onelogintest.ReadWorld(f)
	if err != nil {
		return w, fmt.Errorf("%s: %w", c.world, err)
	}
	return w, nil
}

func (c config) options() ([]onelogintest.Option, error) {
	opts := []onelogintest.Option{onelogintest.Listen(c.listen)}
	if c.control == "" {
		opts = append(opts, onelogintest.WithControl())
	}
	if c.tls {
		opts = append(opts, onelogintest.TLS())
	}
	if c.ca != "" {
		opts = append(opts, onelogintest.CAFile(c.ca))
	}
	if c.variant == "" {
		return opts, nil
	}
	for _, v := range onelogintest.AllVariants() {
		if v.Name == c.variant {
			return append(opts, onelogintest.With(v)), nil
		}
	}
	return nil, fmt.Errorf("-variant %s: no such variant; \"-variant list\" names them", c.variant)
}

// fail sets the faults: "F" or "PATTERN=F".
func (c config) fail(s *onelogintest.Server) error {
	for _, text := range c.faults {
		pattern, fault, ok := strings.Cut(text, "=")
		if !ok {
			pattern, fault = "", text
		}
		f, err := onelogintest.ParseFault(fault)
		if err != nil {
			return fmt.Errorf("-fault: %w", err)
		}
		s.Fail(pattern, f)
	}
	return nil
}

// serveControl serves the control API on an address of its own.
func serveControl(s *onelogintest.Server, addr string) (string, func(), error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return "", nil, fmt.Errorf("-control: %w", err)
	}
	if !a.IP.IsLoopback() {
		return "", nil, fmt.Errorf("-control %s: not a loopback address", addr)
	}
	ln, err := net.ListenTCP("tcp", a)
	if err != nil {
		return "", nil, fmt.Errorf("-control: %w", err)
	}
	h := &http.Server{Handler: s.Control(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = h.Serve(ln) }()
	return "http://" + ln.Addr().String() + "/control/", func() { _ = h.Close() }, nil
}

// tell prints what a client has to know. The secret is printed only if
// everybody knows it.
func (c config) tell(out io.Writer, s *onelogintest.Server, w onelogintest.World, control string) {
	lines := [][2]string{{"url", s.URL}, {"control", control}}
	if s.CAFile != "" {
		lines = append(lines, [2]string{"ca_file", s.CAFile})
	}
	if w.ClientID == "" && w.ClientSecret == "" {
		lines = append(lines, [2]string{"client_id", onelogintest.ClientID}, [2]string{"client_secret", onelogintest.ClientSecret})
	}
	var names []string
	for _, u := range w.Users {
		name := u.Username
		if name == "" {
			name = u.Email
		}
		names = append(names, name)
	}
	lines = append(lines, [2]string{"users", strings.Join(names, " ")})
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s: %s\n", l[0], l[1])
	}
	_, _ = io.WriteString(out, b.String())
}

// watch prints requests as they end, in the order of their arrival, until ctx
// does.
func watch(ctx context.Context, s *onelogintest.Server, out io.Writer) {
	seen := 0
	var news []onelogintest.Request
	ended := func() bool {
		news = s.RequestsFrom(seen)
		return len(news) > 0 && news[0].Took > 0
	}
	for s.Await(ctx, ended) == nil {
		for _, r := range news {
			if r.Took == 0 {
				break
			}
			seen++
			_, _ = fmt.Fprintf(out, "%s %3d %4dms conn %d %s %s\n", r.Time.Format(time.TimeOnly), r.Status,
				r.Took.Milliseconds(), r.Conn, r.Method, r.Path)
		}
	}
}

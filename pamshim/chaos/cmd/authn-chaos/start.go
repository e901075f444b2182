// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// What goes wrong before there is a call.
func init() {
	add(map[string]func(){
		"never_handshakes":  forever,
		"exits_with_0":      func() { os.Exit(0) },
		"exits_with_1":      func() { os.Exit(1) },
		"exits_with_2":      func() { os.Exit(2) },
		"kills_itself":      func() { signalSelf(syscall.SIGKILL) },
		"stops_itself":      func() { signalSelf(syscall.SIGSTOP) },
		"waits_to_be_ended": func() { arrived("start"); forever() },

		"greets":                func() { fmt.Println("Hello! I am a provider."); forever() },
		"greets_with_bytes":     func() { flood(os.Stdout, garbage(200<<10)) },
		"half_a_line":           func() { fmt.Print("1|1|unix|/run"); forever() },
		"a_line_of_separators":  func() { fmt.Println("||||||||"); forever() },
		"endless_lines":         func() { flood(os.Stdout, []byte("loading ...\n")) },
		"endless_line":          func() { flood(os.Stdout, bytes.Repeat([]byte("x"), 64<<10)) },
		"endless_stderr":        func() { flood(os.Stderr, bytes.Repeat([]byte("error\n"), 10<<10)) },
		"closes_stdout":         func() { must(os.Stdout.Close()); forever() },
		"closes_all":            func() { closeAll(); forever() },
		"exits_after_handshake": func() { listen(); handshake("unix", socketPath()); os.Exit(0) },
		"stops_after_handshake": func() { listen(); handshake("unix", socketPath()); signalSelf(syscall.SIGSTOP) },

		"another_core":     func() { listen(); fmt.Printf("9|1|unix|%s|grpc|\n", socketPath()); forever() },
		"another_version":  func() { listen(); fmt.Printf("1|9|unix|%s|grpc|\n", socketPath()); forever() },
		"net_rpc":          func() { listen(); fmt.Printf("1|1|unix|%s|netrpc|\n", socketPath()); forever() },
		"no_protocol":      func() { listen(); fmt.Printf("1|1|unix|%s\n", socketPath()); forever() },
		"a_certificate":    func() { listen(); fmt.Printf("1|1|unix|%s|grpc|%s\n", socketPath(), certificate()); forever() },
		"no_certificate":   func() { listen(); fmt.Printf("1|1|unix|%s|grpc|%0100d\n", socketPath(), 0); forever() },
		"another_network":  func() { fmt.Println("1|1|vsock|2:1024|grpc|"); forever() },
		"tcp":              tcp,
		"elsewhere":        func() { handshake("unix", os.Getenv(argKey)); forever() },
		"linked_elsewhere": func() { must(os.Symlink(os.Getenv(argKey), socketPath())); handshake("unix", socketPath()); forever() },
		"no_socket":        func() { handshake("unix", socketPath()); forever() },
		"a_file":           func() { must(os.WriteFile(socketPath(), nil, 0o600)); handshake("unix", socketPath()); forever() },
		"a_fifo":           func() { must(syscall.Mkfifo(socketPath(), 0o600)); handshake("unix", socketPath()); forever() },
		"its_folder":       func() { must(os.Mkdir(socketPath(), 0o700)); handshake("unix", socketPath()); forever() },
		"datagrams":        datagrams,
		"a_child_listens":  func() { spawn("listens"); waitFor("listening"); handshake("unix", socketPath()); forever() },

		"never_accepts":        func() { listen(); handshake("unix", socketPath()); forever() },
		"never_answers":        func() { accept(func(net.Conn) {}) },
		"hangs_up":             func() { accept(func(c net.Conn) { must(c.Close()) }) },
		"talks_garbage":        func() { accept(func(c net.Conn) { write(c, garbage(64<<10)) }) },
		"talks_http1":          func() { accept(func(c net.Conn) { write(c, []byte("HTTP/1.1 200 OK\r\n\r\n")) }) },
		"talks_endlessly":      func() { accept(func(c net.Conn) { writeForever(c, garbage(64<<10)) }) },
		"says_goodbye":         func() { accept(func(c net.Conn) { write(c, settings(), frame(7, 0, 0, make([]byte, 8))) }) },
		"floods_settings":      func() { accept(func(c net.Conn) { writeForever(c, bytes.Repeat(settings(), 1000)) }) },
		"floods_pings":         func() { accept(func(c net.Conn) { write(c, settings()); writeForever(c, pings()) }) },
		"floods_headers":       func() { accept(floodHeaders) },
		"answers_before_asked": func() { accept(func(c net.Conn) { write(c, settings(), frame(1, 5, 1, []byte{0x88})) }) },

		"floods_the_broker":  func() { floodsService("/plugin.GRPCBroker/StartStream", connInfo()) },
		"floods_the_stdio":   func() { floodsService("/plugin.GRPCStdio/StreamStdio", stdioData()) },
		"describe_hangs":     describes(func() (*wire.DescribeReply, error) { forever(); return nil, nil }),
		"describe_fails":     describes(func() (*wire.DescribeReply, error) { return nil, fmt.Errorf("no\nresult=success") }),
		"describe_is_huge":   describes(func() (*wire.DescribeReply, error) { return &wire.DescribeReply{Version: text(300 << 10)}, nil }),
		"describe_dies":      describes(func() (*wire.DescribeReply, error) { os.Exit(0); return nil, nil }),
		"describe_stops":     describes(func() (*wire.DescribeReply, error) { signalSelf(syscall.SIGSTOP); return nil, nil }),
		"describe_waits":     describes(func() (*wire.DescribeReply, error) { arrived("describe"); forever(); return nil, nil }),
		"describe_lies":      describes(lies),
		"describe_many_keys": describes(manyKeys),
	})
}

func signalSelf(sig syscall.Signal) {
	must(syscall.Kill(os.Getpid(), sig))
	forever()
}

func closeAll() {
	for fd := range 256 {
		_ = syscall.Close(fd)
	}
}

// tcp serves success over TCP, as go-plugin's example in Python does.
func tcp() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	handshake("tcp", l.Addr().String())
	must((&service{call: succeeds}).server().Serve(l))
}

func datagrams() {
	_, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socketPath(), Net: "unixgram"})
	must(err)
	handshake("unix", socketPath())
	forever()
}

// certificate is what go-plugin's AutoMTLS would send.
func certificate() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(err)
	return base64.RawStdEncoding.EncodeToString(der)
}

// accept does something to every connection and then holds it.
func accept(then func(net.Conn)) {
	l := listen()
	handshake("unix", socketPath())
	for {
		c, err := l.Accept()
		if err != nil { // there are no descriptors left
			forever()
		}
		go then(c)
	}
}

func write(c net.Conn, parts ...[]byte) {
	for _, p := range parts {
		_, _ = c.Write(p)
	}
}

func writeForever(c net.Conn, data []byte) {
	go func() { _, _ = io.Copy(io.Discard, c) }()
	for {
		if _, err := c.Write(data); err != nil {
			return
		}
	}
}

func garbage(n int) []byte {
	b := make([]byte, n)
	_, err := rand.Read(b)
	must(err)
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\x00"))
}

func text(n int) string { return string(bytes.Repeat([]byte("x"), n)) }

// frame is a frame of HTTP/2.
func frame(kind, flags byte, stream byte, body []byte) []byte {
	n := len(body)
	return append([]byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}, body...)
}

func settings() []byte { return frame(4, 0, 0, nil) }

func pings() []byte { return bytes.Repeat(frame(6, 0, 0, make([]byte, 8)), 1000) }

// floodHeaders begins a header list that never ends.
func floodHeaders(c net.Conn) {
	time.Sleep(100 * time.Millisecond) // until the first stream is open
	field := append([]byte{0x00, 1, 'x', 100}, bytes.Repeat([]byte("y"), 100)...)
	body := bytes.Repeat(field, 150)
	write(c, settings(), frame(1, 0, 1, append([]byte{0x88}, body...)))
	writeForever(c, frame(9, 0, 1, body))
}

func describes(describe func() (*wire.DescribeReply, error)) func() {
	return func() { (&service{describe: describe, call: succeeds}).serve() }
}

// lies says what cannot be.
func lies() (*wire.DescribeReply, error) {
	return &wire.DescribeReply{
		Version:      "\x1b]0;root\x07 1.0\nresult=success" + text(1000),
		Capabilities: []wire.Capability{-1, 0, 77, 1 << 30},
		SecretKeys:   []string{"", "*", "/", "*/*/*", text(1000)},
	}, nil
}

func manyKeys() (*wire.DescribeReply, error) {
	r := &wire.DescribeReply{}
	for range 60_000 {
		r.SecretKeys = append(r.SecretKeys, "*/")
	}
	return r, nil
}

func succeeds(p *peer) error {
	p.send(started(), success())
	return nil
}

// floodsService has a service of go-plugin's send m for ever, and hangs in a
// call.
func floodsService(method string, m []byte) {
	s := &service{call: func(p *peer) error { p.send(started()); return p.hang() }}
	s.serve(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if name, _ := grpc.MethodFromServerStream(stream); name != method {
			return status.Error(codes.Unimplemented, "not this one")
		}
		for stream.SendMsg(raw{mem.SliceBuffer(m)}) == nil {
		}
		return nil
	}))
}

// connInfo asks for a connection to service 1 of /dev/log.
func connInfo() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), "unix")
	return protowire.AppendString(protowire.AppendTag(b, 3, protowire.BytesType), "/dev/log")
}

func stdioData() []byte {
	b := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 2)
	return protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), text(1000))
}

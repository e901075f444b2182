// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// handshake writes go-plugin's line.
func handshake(network, address string) {
	fmt.Printf("1|1|%s|%s|grpc|\n", network, address)
}

func socketPath() string { return folder() + "/socket" }

func listen() net.Listener {
	l, err := net.Listen("unix", socketPath())
	must(err)
	return l
}

// A service is a provider that checks nothing.
type service struct {
	wire.UnimplementedProviderServer
	describe func() (*wire.DescribeReply, error)
	call     func(*peer) error
}

func (s *service) Describe(context.Context, *wire.DescribeRequest) (*wire.DescribeReply, error) {
	if s.describe == nil {
		return &wire.DescribeReply{Version: "chaos", Capabilities: []wire.Capability{
			wire.Capability_CAPABILITY_ACCOUNT, wire.Capability_CAPABILITY_SETCRED,
			wire.Capability_CAPABILITY_SESSION, wire.Capability_CAPABILITY_PASSWORD,
		}}, nil
	}
	return s.describe()
}

func (s *service) Call(stream grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	return s.call(&peer{stream, first.GetStart()})
}

// server returns a gRPC server for s without any limit.
func (s *service) server(opts ...grpc.ServerOption) *grpc.Server {
	g := grpc.NewServer(append(opts, grpc.ForceServerCodecV2(codec{}))...)
	wire.RegisterProviderServer(g, s)
	return g
}

// serve listens, shakes hands and serves.
func (s *service) serve(opts ...grpc.ServerOption) {
	l := listen()
	handshake("unix", socketPath())
	must(s.server(opts...).Serve(l))
}

// calls is a mode that behaves well until it is called.
func calls(call func(*peer) error) func() {
	return func() { (&service{call: call}).serve() }
}

// raw is a message as it is to stand on the wire.
type raw mem.BufferSlice

// codec is protobuf's, and lets raw messages pass.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(raw); ok {
		return mem.BufferSlice(r), nil
	}
	b, err := proto.Marshal(v.(proto.Message))
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	return proto.Unmarshal(data.Materialize(), v.(proto.Message))
}

// A peer is the provider's end of one call.
type peer struct {
	grpc.BidiStreamingServer[wire.FromWorker, wire.FromProvider]
	start *wire.Start
}

// send sends without a look at the error: whoever breaks the rules is hung up
// on.
func (p *peer) send(messages ...*wire.FromProvider) *peer {
	for _, m := range messages {
		_ = p.Send(m)
	}
	return p
}

// sendBroken sends m with the bytes of good replaced by bad ones that no
// library would send.
func (p *peer) sendBroken(m *wire.FromProvider, good, bad string) {
	if len(good) != len(bad) {
		panic("a length would be wrong")
	}
	b, err := proto.Marshal(m)
	must(err)
	_ = p.SendMsg(raw{mem.SliceBuffer(bytes.ReplaceAll(b, []byte(good), []byte(bad)))})
}

// answer waits for the answer to a prompt.
func (p *peer) answer() *wire.Answer {
	m, err := p.Recv()
	if err != nil {
		return &wire.Answer{Failure: -1}
	}
	return m.GetAnswer()
}

// hang waits for the end of the call and longer.
func (p *peer) hang() error { forever(); return nil }

func started() *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Started{Started: &wire.Started{}}}
}

func prompt(id uint32, text string) *wire.FromProvider {
	return styled(id, wire.Style_STYLE_PROMPT_SECRET, text)
}

func info(id uint32, text string) *wire.FromProvider {
	return styled(id, wire.Style_STYLE_INFO, text)
}

func styled(id uint32, style wire.Style, text string) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Prompt{
		Prompt: &wire.Prompt{Id: id, Style: style, Text: text},
	}}
}

func waiting(ms uint64) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Waiting{Waiting: &wire.Waiting{LimitMs: ms}}}
}

func allow(id uint32, key string, n uint32, window time.Duration) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Allow{
		Allow: &wire.Allow{Id: id, Key: key, N: n, WindowMs: uint64(window.Milliseconds())},
	}}
}

func logLine(text string) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Log{Log: &wire.Log{Level: wire.Level_LEVEL_INFO, Text: text}}}
}

func ends(r *wire.Result) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Result{Result: r}}
}

func code(r authn.Result) *int32 {
	c := int32(r)
	return &c
}

// success is what every misbehaving provider would like to get away with.
func success() *wire.FromProvider { return successWith(func(*wire.Result) {}) }

func successWith(change func(*wire.Result)) *wire.FromProvider {
	r := &wire.Result{Code: code(authn.Success), Subject: "chaos"}
	change(r)
	return ends(r)
}

func refuses(reason string) *wire.FromProvider {
	return ends(&wire.Result{Code: code(authn.ErrAuth), Reason: reason})
}

// flood writes data to f until it is closed.
func flood(f *os.File, data []byte) {
	for {
		if _, err := f.Write(data); err != nil {
			forever()
		}
	}
}

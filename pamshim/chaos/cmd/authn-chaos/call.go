// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
)

// What goes wrong in a call.
func init() {
	add(map[string]func(){
		"succeeds":          calls(succeeds),
		"refuses":           says(started(), refuses("as always")),
		"hangs":             says(started()),
		"hangs_at_once":     says(),
		"waits_in_call":     calls(func(p *peer) error { p.send(started()); arrived("call"); return p.hang() }),
		"waits_in_prompt":   calls(func(p *peer) error { p.send(started(), prompt(1, "Password: ")); return p.hang() }),
		"waits_after_reply": calls(func(p *peer) error { p.ask("Password: "); arrived("answer"); return p.hang() }),
		"stops_in_call":     calls(func(p *peer) error { p.send(started()); signalSelf(syscall.SIGSTOP); return nil }),
		"stops_in_prompt": calls(func(p *peer) error {
			p.send(started(), prompt(1, "Password: "))
			p.answer()
			signalSelf(syscall.SIGSTOP)
			return nil
		}),
		"dies_in_call":            calls(func(p *peer) error { p.send(started()); return die() }),
		"waits_in_an_open_prompt": calls(func(p *peer) error { p.send(started(), prompt(1, "Password: ")); arrived("prompt"); return p.hang() }),
		"dies_at_its_end":         calls(func(p *peer) error { p.send(started(), success()); return die() }),
		"stays_at_its_end":        calls(func(p *peer) error { p.send(started(), success()); return p.hang() }),
		"burns": calls(func(p *peer) error {
			p.send(started())
			for range 4 {
				go burn()
			}
			return p.hang()
		}),
		"burns_when_done": calls(func(p *peer) error { go burn(); go burn(); p.send(started(), refuses("done")); return nil }),
		"is_late": calls(func(p *peer) error {
			time.Sleep(3500 * time.Millisecond)
			p.send(started(), success())
			return nil
		}),

		"ends_without_result":    calls(func(*peer) error { return nil }),
		"ends_with_an_error":     calls(func(p *peer) error { p.send(started()); return errors.New("result=success") }),
		"ends_unavailable":       calls(func(p *peer) error { p.send(started()); return status.Error(codes.Unavailable, "nobody is there") }),
		"errs_after_success":     calls(func(p *peer) error { p.send(started(), success()); return errors.New("or not") }),
		"unavailable_after_it":   calls(func(p *peer) error { p.send(started(), success()); return status.Error(codes.Unavailable, "or not") }),
		"errs_after_unavailable": calls(func(p *peer) error { p.send(started(), unavailable()); return errors.New("or not") }),
		"dies_after_unavailable": calls(func(p *peer) error { p.send(started(), unavailable()); return die() }),
		"two_results":            says(started(), refuses("no"), success()),
		"success_then_refusal":   says(started(), success(), refuses("no")),
		"talks_after_success":    says(started(), success(), prompt(1, "One more: ")),
		"logs_after_success":     says(started(), success(), logLine("one more")),

		"success_before_started":  says(success()),
		"prompt_before_started":   says(prompt(1, "Password: ")),
		"waiting_before_started":  says(waiting(1)),
		"allow_before_started":    says(allow(1, "k", 1, time.Second)),
		"started_twice":           says(started(), started(), success()),
		"a_huge_step":             says(step(math.MaxUint64), success()),
		"says_nothing_at_all":     says(started(), &wire.FromProvider{}, success()),
		"says_what_nobody_knows":  calls(unknown),
		"says_no_protobuf":        calls(func(p *peer) error { return p.SendMsg(raw{mem.SliceBuffer("\xff\xff\xff\xff garbage")}) }),
		"a_gigabyte":              calls(gigabyte),
		"a_message_too_large":     says(started(), prompt(1, text(300<<10)), success()),
		"a_compressed_bomb":       func() { (&service{call: bomb}).serve(grpc.RPCCompressor(grpc.NewGZIPCompressor())) }, //nolint:staticcheck // the one without negotiation
		"a_prompt_too_large":      says(started(), prompt(1, text(9<<10)), success()),
		"the_largest_prompt":      calls(func(p *peer) error { p.ask(text(8 << 10)); p.send(refuses("read")); return nil }),
		"nul_in_a_prompt":         says(started(), prompt(1, "Pass\x00word: "), success()),
		"broken_prompt":           brokenBy(started(), prompt(1, "Pass!!word: "), success()),
		"broken_subject":          brokenBy(started(), successWith(func(r *wire.Result) { r.Subject = "chaos!!" })),
		"broken_env":              brokenBy(started(), successWith(func(r *wire.Result) { r.Env = env("AUTHN_X", "!!") })),
		"broken_reason":           brokenBy(started(), refuses("because !!")),
		"broken_log":              brokenBy(started(), logLine("!!"), refuses("no")),
		"control_in_a_prompt":     calls(controls),
		"an_unknown_style":        says(started(), styled(1, 77, "Password: "), success()),
		"a_negative_style":        says(started(), styled(1, -1, "Password: "), success()),
		"two_prompts_at_once":     says(started(), prompt(1, "Password: "), prompt(2, "Code: "), success()),
		"many_prompts":            calls(ask(65, prompt)),
		"many_infos":              calls(ask(65, info)),
		"large_infos":             calls(largeInfos),
		"infos_without_waiting":   says(append([]*wire.FromProvider{started()}, many(65, info)...)...),
		"success_beside_a_prompt": says(started(), prompt(1, "Password: "), success()),
		"ignores_the_answer":      calls(func(p *peer) error { p.ask("Password: "); p.send(success()); return nil }),

		"waits_absurdly_then_refuses":  says(started(), waiting(math.MaxUint64), refuses("no")),
		"waits_absurdly_then_succeeds": says(started(), waiting(math.MaxUint64), success()),
		"waits_absurdly_then_asks":     says(started(), waiting(1<<40), prompt(1, "Password: "), success()),
		"floods_waiting":               floods(waiting(1)),
		"floods_waiting_with_a_text":   calls(floodTexts),
		"floods_log":                   floods(logLine(text(200))),
		"floods_log_with_much":         floods(logLine(text(200 << 10))),
		"logs_much_then_refuses":       says(append(append([]*wire.FromProvider{started()}, many(500, numbered)...), refuses("logged"))...),
		"logs_much_then_succeeds":      says(append(append([]*wire.FromProvider{started()}, many(500, numbered)...), success())...),
		"logs_controls":                says(started(), logLine("a\x1b[2Jb\nresult=success \"c\"\u202e"), refuses("a\x1b[2Jb\nresult=success \"c\"\u202e")),
		"a_long_reason":                says(started(), refuses(text(100<<10))),
		"floods_allow":                 calls(floodAllow),
		"nine_allows_at_once":          says(append(append([]*wire.FromProvider{started()}, many(200, anAllow)...), success())...),
		"an_allow_without_key":         says(started(), allow(1, "", 1, time.Second), success()),
		"an_allow_for_a_long_key":      says(started(), allow(1, text(257), 1, time.Second), success()),
		"an_allow_of_too_many":         says(started(), allow(1, "k", math.MaxUint32, time.Second), success()),
		"an_allow_for_ever":            says(started(), allow(1, "k", 1, 100000*time.Hour), success()),

		"no_code":              says(started(), ends(&wire.Result{Subject: "chaos"})),
		"no_subject":           says(started(), successWith(func(r *wire.Result) { r.Subject = "" })),
		"a_long_subject":       says(started(), successWith(func(r *wire.Result) { r.Subject = text(257) })),
		"a_subject_of_lines":   says(started(), successWith(func(r *wire.Result) { r.Subject = "a\nb" })),
		"nul_in_the_subject":   says(started(), successWith(func(r *wire.Result) { r.Subject = "root\x00" })),
		"a_large_ticket":       says(started(), successWith(func(r *wire.Result) { r.Ticket = make([]byte, 4097) })),
		"the_largest_ticket":   says(started(), successWith(func(r *wire.Result) { r.Ticket = make([]byte, 4096) })),
		"env_of_the_framework": says(started(), successWith(func(r *wire.Result) { r.Env = env("AUTHN_SUBJECT", "root") })),
		"env_of_the_loader":    says(started(), successWith(func(r *wire.Result) { r.Env = env("LD_PRELOAD", "/tmp/x.so") })),
		"env_with_an_equals":   says(started(), successWith(func(r *wire.Result) { r.Env = env("AUTHN_X=1\nPATH", "/tmp") })),
		"env_without_a_name":   says(started(), successWith(func(r *wire.Result) { r.Env = env("", "x") })),
		"a_long_env":           says(started(), successWith(func(r *wire.Result) { r.Env = env("AUTHN_X", text(257)) })),
		"nul_in_env":           says(started(), successWith(func(r *wire.Result) { r.Env = env("AUTHN_X", "a\x00b") })),
		"many_envs":            says(started(), successWith(manyEnv)),
		"the_code":             calls(theCode),
	})
}

// says is a mode that sends messages. It ends the stream as it should if the
// last one is a Result, and hangs otherwise.
func says(messages ...*wire.FromProvider) func() {
	return calls(func(p *peer) error {
		p.send(messages...)
		if len(messages) == 0 || messages[len(messages)-1].GetResult() == nil {
			return p.hang()
		}
		return nil
	})
}

// brokenBy sends messages in which two exclamation marks are no UTF-8.
func brokenBy(messages ...*wire.FromProvider) func() {
	return calls(func(p *peer) error {
		for _, m := range messages {
			p.sendBroken(m, "!!", "\xff\xfe")
		}
		return nil
	})
}

// floods sends m until it is hung up on, and then hangs.
func floods(m *wire.FromProvider) func() {
	return calls(func(p *peer) error {
		p.send(started())
		for p.Send(m) == nil {
		}
		return p.hang()
	})
}

// ask is one exchange.
func (p *peer) ask(text string) *wire.Answer {
	p.send(started(), prompt(1, text))
	return p.answer()
}

// ask asks n times and waits for every answer; then it claims success.
func ask(n uint32, message func(uint32, string) *wire.FromProvider) func(*peer) error {
	return func(p *peer) error {
		p.send(started())
		for id := range n {
			p.send(message(id, "again"))
			p.answer()
		}
		p.send(success())
		return nil
	}
}

// largeInfos is as much text as there may be, and then a question.
func largeInfos(p *peer) error {
	p.send(started())
	for id := range uint32(40) {
		p.send(info(id, text(8<<10)))
		p.answer()
	}
	p.send(prompt(41, "Password: "))
	if p.answer().GetFailure() != 0 {
		p.send(refuses("nobody answered"))
		return nil
	}
	p.send(refuses("read"))
	return nil
}

func many(n uint32, message func(uint32, string) *wire.FromProvider) (all []*wire.FromProvider) {
	for id := range n {
		all = append(all, message(id, fmt.Sprintf("number %d", id)))
	}
	return all
}

func numbered(_ uint32, text string) *wire.FromProvider { return logLine(text) }

func anAllow(id uint32, key string) *wire.FromProvider { return allow(id, key, 1, time.Second) }

func step(ms uint64) *wire.FromProvider {
	return &wire.FromProvider{Message: &wire.FromProvider_Started{Started: &wire.Started{StepMs: ms}}}
}

// unknown sends field 99 of FromProvider, and then success.
func unknown(p *peer) error {
	p.send(started())
	b := protowire.AppendTag(nil, 99, protowire.BytesType)
	_ = p.SendMsg(raw{mem.SliceBuffer(protowire.AppendBytes(b, []byte("from the future")))})
	p.send(success())
	return nil
}

// gigabyte sends a prompt of a gigabyte, of which only the beginning is kept in
// memory here.
func gigabyte(p *peer) error {
	p.send(started())
	const size, piece = 1 << 30, 1 << 20
	style := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), uint64(wire.Style_STYLE_PROMPT))
	inner := protowire.AppendVarint(protowire.AppendTag(style, 3, protowire.BytesType), size)
	head := protowire.AppendTag(nil, 2, protowire.BytesType)
	head = append(protowire.AppendVarint(head, uint64(len(inner)+size)), inner...)
	m := raw{mem.SliceBuffer(head)}
	x := bytes.Repeat([]byte("x"), piece)
	for range size / piece {
		m = append(m, mem.SliceBuffer(x))
	}
	_ = p.SendMsg(m)
	p.send(success())
	return nil
}

// bomb sends 64 MiB that are 64 KiB on the wire.
func bomb(p *peer) error {
	p.send(started(), prompt(1, text(64<<20)), success())
	return nil
}

func controls(p *peer) error {
	p.ask("\x1b[2J\x07Pass\rword\u202e: ")
	p.send(refuses("shown"))
	return nil
}

// floodTexts sends an info, which uniform time would hold back, and then
// nothing but Waiting.
func floodTexts(p *peer) error {
	p.send(started(), info(1, "look at your phone"))
	p.answer()
	for p.Send(waiting(1<<40)) == nil {
	}
	return p.hang()
}

// floodAllow asks one Allow after the other, with a new key each time, and says
// how many were counted.
func floodAllow(p *peer) error {
	p.send(started())
	for id := uint32(0); ; id++ {
		p.send(allow(id, fmt.Sprintf("key %d", id), 1000, 24*time.Hour))
		m, err := p.Recv()
		if err != nil {
			return nil
		}
		if e := m.GetAllowReply().GetError(); e != "" {
			p.send(refuses(fmt.Sprintf("%d were counted: %s", id, e)))
			return nil
		}
	}
}

func unavailable() *wire.FromProvider {
	return ends(&wire.Result{Code: code(authn.ErrAuthInfoUnavail), Reason: "nobody is there"})
}

func env(name, value string) map[string]string { return map[string]string{name: value} }

func manyEnv(r *wire.Result) {
	r.Env = map[string]string{}
	for i := range 33 {
		r.Env[fmt.Sprintf("AUTHN_X%d", i)] = "x"
	}
}

// theCode ends the call with the code in CHAOS_ARG.
func theCode(p *peer) error {
	var c int32
	_, err := fmt.Sscan(os.Getenv(argKey), &c)
	must(err)
	p.send(started(), ends(&wire.Result{Code: &c, Subject: "chaos", Reason: "because"}))
	return nil
}

func die() error {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	return nil
}

func burn() {
	for s := ""; ; s = strings.Repeat("x", 10) {
		_ = s
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/frame"
)

// A host is the module's end of the socket, with an application behind it.
type host struct {
	t       *testing.T
	conn    net.Conn
	began   time.Time
	thinks  time.Duration // before it answers
	answers []string      // to prompts, in their order
	reply   func(n int) []byte

	mu   sync.Mutex
	seen []string // "1.5s prompt Code: "
}

// talk connects a conversation with a host, which serves until the test ends.
func talk(t *testing.T, h *host, change func(*conversation)) *conversation {
	t.Helper()
	worker, module := net.Pipe()
	h.t, h.conn, h.began = t, module, time.Now()
	ctx, clock := newClock(t.Context(), 90*s)
	c := &conversation{ctx: ctx, clock: clock, pace: &pace{begin: h.began}, module: worker}
	if change != nil {
		change(c)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		h.serve()
	}()
	t.Cleanup(func() {
		_ = worker.Close()
		<-served
	})
	return c
}

func (h *host) serve() {
	for {
		kind, body, err := frame.Read(h.conn)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
			return
		}
		messages, parseErr := frame.ParseConv(body)
		if kind != 2 || err != nil || parseErr != nil {
			h.t.Errorf("the module hears %d, %v, %v", kind, err, parseErr)
			return
		}
		answers := h.show(messages)
		if h.thinks > 0 {
			time.Sleep(h.thinks)
		}
		out, err := frame.Reply{Answers: answers}.Encode()
		if h.reply != nil {
			out = h.reply(len(messages))
		}
		if err != nil {
			h.t.Error(err)
		}
		if _, err := h.conn.Write(out); err != nil {
			return
		}
	}
}

func (h *host) show(messages []frame.Message) (answers []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at, styles := time.Since(h.began), []string{"", "secret", "prompt", "error", "info"}
	var texts []string
	for _, m := range messages {
		texts = append(texts, styles[m.Style]+" "+m.Text)
		answer := ""
		if m.Style == frame.PromptEchoOff || m.Style == frame.PromptEchoOn {
			if len(h.answers) > 0 {
				answer, h.answers = h.answers[0], h.answers[1:]
			}
		}
		answers = append(answers, answer)
	}
	h.seen = append(h.seen, fmt.Sprintf("%v %s", at, strings.Join(texts, " | ")))
	return answers
}

// saw fails unless the user saw exactly that.
func (h *host) saw(want ...string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !reflect.DeepEqual(h.seen, want) && len(h.seen)+len(want) > 0 {
		h.t.Errorf("the user saw\n%q\nwant\n%q", h.seen, want)
	}
}

func stepping(step time.Duration) func(*conversation) {
	return func(c *conversation) { c.pace.setStep(step) }
}

func TestThereAreAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{answers: []string{"123456", "s\xe9same"}}
		c := talk(t, h, nil)
		code, err := c.Prompt("Code: ")
		if code != "123456" || err != nil {
			t.Errorf("Prompt = %q, %v", code, err)
		}
		phrase, err := c.PromptSecret("Passphrase: ")
		if phrase.Reveal() != "s\xe9same" || err != nil {
			t.Errorf("PromptSecret = %q, %v", phrase.Reveal(), err)
		}
		if err := errors.Join(c.Info("Look."), c.Error("Wrong."), c.over()); err != nil {
			t.Error(err)
		}
		h.saw("0s prompt Code: ", "0s secret Passphrase: ", "0s info Look.", "0s error Wrong.")
	})
}

// What is shown when: the script of a provider, and what its user sees.
func TestUniformTime(t *testing.T) {
	const step = 1500 * ms
	tests := []struct {
		name   string
		step   time.Duration
		thinks time.Duration // the user, at each conversation
		script func(t *testing.T, c *conversation)
		want   []string
	}{
		{"a_prompt_comes_with_the_next_step", step, 100 * s, func(t *testing.T, c *conversation) {
			time.Sleep(200 * ms)
			ask(t, c)
			time.Sleep(1600 * ms) // since the answer, which took 100 s
			ask(t, c)
		}, []string{"1.5s prompt ?", "1m44.5s prompt ?"}},
		{"texts_wait_for_the_prompt", step, 100 * s, func(t *testing.T, c *conversation) {
			tell(t, c, "one")
			time.Sleep(2 * s)
			tell(t, c, "two")
			ask(t, c)
		}, []string{"3s info one | info two | prompt ?"}},
		{"without_a_step_they_come_at_once", 0, 100 * s, func(t *testing.T, c *conversation) {
			time.Sleep(200 * ms)
			tell(t, c, "one")
			time.Sleep(200 * ms)
			ask(t, c)
		}, []string{"200ms info one", "1m40.4s prompt ?"}},
		{"texts_before_a_wait_come_with_the_next_step", step, 0, func(t *testing.T, c *conversation) {
			time.Sleep(200 * ms)
			tell(t, c, "look at your phone")
			time.Sleep(200 * ms)
			c.Waiting(45 * s)
			time.Sleep(30 * s)
		}, []string{"1.5s info look at your phone"}},
		{"so_do_texts_in_a_wait", step, 0, func(t *testing.T, c *conversation) {
			c.Waiting(45 * s)
			time.Sleep(3100 * ms)
			tell(t, c, "still there?")
			time.Sleep(30 * s)
		}, []string{"4.5s info still there?"}},
		{"in_a_wait_without_a_step_they_come_at_once", 0, 0, func(t *testing.T, c *conversation) {
			c.Waiting(45 * s)
			time.Sleep(3100 * ms)
			tell(t, c, "still there?")
		}, []string{"3.1s info still there?"}},
		{"a_prompt_ends_a_wait_at_its_limit", step, 100 * s, func(t *testing.T, c *conversation) {
			c.Waiting(45 * s)
			time.Sleep(10 * s)
			ask(t, c)
			time.Sleep(100 * ms)
			ask(t, c)
		}, []string{"45s prompt ?", "2m26.5s prompt ?"}},
		{"also_without_a_step", 0, 0, func(t *testing.T, c *conversation) {
			c.Waiting(45 * s)
			time.Sleep(10 * s)
			ask(t, c)
		}, []string{"45s prompt ?"}},
		{"a_wait_that_lasts_too_long_goes_on_in_steps", step, 0, func(t *testing.T, c *conversation) {
			c.Waiting(4 * s)
			time.Sleep(5 * s)
			ask(t, c)
		}, []string{"6s prompt ?"}},
		{"as_many_texts_as_fit_wait", step, 100 * s, func(t *testing.T, c *conversation) {
			for range frame.Messages - 1 {
				tell(t, c, ".")
			}
			time.Sleep(100 * ms)
			ask(t, c)
		}, []string{"1.5s " + strings.Repeat("info . | ", frame.Messages-1) + "prompt ?"}},
		{"more_texts_than_fit_come_with_the_step_before", step, 100 * s, func(t *testing.T, c *conversation) {
			time.Sleep(100 * ms)
			for range frame.Messages {
				tell(t, c, ".")
			}
			time.Sleep(100 * ms)
			ask(t, c)
		}, []string{
			// A conversation of texts only costs the user's 100 s, too.
			"1.5s " + strings.TrimSuffix(strings.Repeat("info . | ", frame.Messages-1), " | "),
			"1m42s info . | prompt ?",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &host{thinks: tt.thinks}
				c := talk(t, h, stepping(tt.step))
				tt.script(t, c)
				synctest.Wait()
				h.saw(tt.want...)
			})
		})
	}
}

func ask(t *testing.T, c *conversation) {
	t.Helper()
	if _, err := c.Prompt("?"); err != nil {
		t.Error(err)
	}
}

func tell(t *testing.T, c *conversation, text string) {
	t.Helper()
	if err := c.Info(text); err != nil {
		t.Error(err)
	}
}

func TestFirstPass(t *testing.T) {
	token := "the host's"
	type answer struct {
		text string
		want error
	}
	tests := []struct {
		name     string
		token    *string
		useFirst bool
		want     []answer // to PromptSecret
		saw      []string
	}{
		{"without_it_the_user_is_asked", nil, false, []answer{{"typed", nil}, {"more", nil}}, []string{"0s secret ?", "0s secret ?"}},
		{"try_answers_the_first_question", &token, false, []answer{{token, nil}, {"typed", nil}}, []string{"0s secret ?"}},
		{"use_answers_the_first_question_only", &token, true, []answer{{token, nil}, {"", authn.ErrAuth}, {"", authn.ErrAuth}}, nil},
		{"use_without_a_password_refuses", nil, true, []answer{{"", authn.ErrAuth}, {"", authn.ErrAuth}}, nil},
		{"an_empty_password_is_none_and_the_user_is_asked", new(string), false, []answer{{"typed", nil}, {"more", nil}}, []string{"0s secret ?", "0s secret ?"}},
		{"an_empty_password_is_none_and_use_refuses", new(string), true, []answer{{"", authn.ErrAuth}, {"", authn.ErrAuth}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &host{answers: []string{"typed", "more"}}
				c := talk(t, h, func(c *conversation) { c.token, c.useFirst = tt.token, tt.useFirst })
				for i, want := range tt.want {
					got, err := c.PromptSecret("?")
					if got.Reveal() != want.text || !errors.Is(err, want.want) {
						t.Errorf("question %d: %q, %v; want %q, %v", i, got.Reveal(), err, want.text, want.want)
					}
				}
				h.saw(tt.saw...)
			})
		})
	}
}

func TestAPromptThatIsShownDoesNotUseUpThePassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := "the host's"
		h := &host{answers: []string{"mittens"}}
		c := talk(t, h, func(c *conversation) { c.token = &token })
		if got, err := c.Prompt("Name: "); got != "mittens" || err != nil {
			t.Errorf("Prompt = %q, %v", got, err)
		}
		if got, err := c.PromptSecret("Password: "); got.Reveal() != token || err != nil {
			t.Errorf("PromptSecret = %q, %v", got.Reveal(), err)
		}
	})
}

func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{answers: []string{"x"}}
		c := talk(t, h, func(c *conversation) { c.silent = true })
		tell(t, c, "nobody sees this")
		if err := c.Error("nor this"); err != nil {
			t.Error(err)
		}
		ask(t, c)
		h.saw("0s prompt ?")
	})
}

func encoded(code int, answers ...string) []byte {
	out, err := frame.Reply{Code: code, Answers: answers}.Encode()
	if err != nil {
		panic(err)
	}
	return out
}

// A module that says anything else than it must.
func TestABrokenModule(t *testing.T) {
	wrong, err := frame.Conv([]frame.Message{{Style: frame.TextInfo, Text: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		reply []byte
		want  string
	}{
		{"too_few_answers", encoded(0), "the module: another number of answers than of questions: conv_err"},
		{"too_many_answers", encoded(0, "a", "b"), "the module: another number of answers than of questions: conv_err"},
		{"a_frame_of_another_type", wrong, "the module: malformed frame: type 2 instead of REPLY: conv_err"},
		{"garbage", []byte("\xff\xff\xff\xffgarbage"), "the module: malformed frame: a length out of bounds: conv_err"},
		{"an_answer_that_is_no_text", []byte("\x00\x00\x00\x1b\x03\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\x03a\x00b\x00"), "the module: malformed frame: REPLY: conv_err"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &host{reply: func(int) []byte { return tt.reply }}
				c := talk(t, h, nil)
				for range 3 {
					if got, err := c.Prompt("?"); got != "" || !errors.Is(err, authn.ErrConv) || err.Error() != tt.want {
						t.Errorf("Prompt = %q, %v", got, err)
					}
				}
				if got, err := c.PromptSecret("?"); !got.IsZero() || !errors.Is(err, authn.ErrConv) {
					t.Errorf("PromptSecret = %q, %v", got.Reveal(), err)
				}
				if c.Info("x") == nil || c.Error("x") == nil || c.over() == nil {
					t.Error("texts can still be shown")
				}
				h.saw("0s prompt ?")
			})
		})
	}
}

func TestAModuleThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{reply: func(int) []byte { return nil }}
		c := talk(t, h, nil)
		go func() {
			time.Sleep(s)
			_ = h.conn.Close()
		}()
		if got, err := c.Prompt("?"); got != "" || !errors.Is(err, authn.ErrConv) {
			t.Errorf("Prompt = %q, %v", got, err)
		}
		if _, err := c.Prompt("?"); !errors.Is(err, authn.ErrConv) {
			t.Errorf("another Prompt: %v", err)
		}
	})
}

// An application whose conversation fails is no fault: its user gave up.
func TestAUserWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{reply: func(int) []byte { return encoded(19) }}
		c := talk(t, h, nil)
		want := "the application's conversation failed (conv_err): conv_err"
		if _, err := c.Prompt("?"); !errors.Is(err, authn.ErrConv) || err.Error() != want {
			t.Errorf("Prompt: %v", err)
		}
		if _, err := c.Prompt("?"); !errors.Is(err, authn.ErrConv) {
			t.Errorf("another Prompt: %v", err)
		}
		h.saw("0s prompt ?")
		if got := after(c.ctx, h.began); got != s || !errors.Is(context.Cause(c.ctx), errGaveUp) {
			t.Errorf("the call ends after %v with %v", got, context.Cause(c.ctx))
		}
	})
}

// cron has no screen: what cannot be shown does not end a call.
func TestATextThatCannotBeShownIsNoMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{reply: func(int) []byte { return encoded(19) }}
		c := talk(t, h, nil)
		tell(t, c, "one")
		tell(t, c, "two")
		if c.over() != nil || c.ctx.Err() != nil {
			t.Errorf("it is over: %v, %v", c.over(), c.ctx.Err())
		}
	})
}

func TestWhenTheTimeIsOverNobodyIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &host{answers: []string{"typed"}}
		c := talk(t, h, stepping(4*s))
		tell(t, c, "hold on")
		time.Sleep(89 * s)
		began := time.Now()
		if _, err := c.Prompt("?"); !errors.Is(err, authn.ErrConv) || !errors.Is(err, errTimeout) || time.Since(began) != s {
			t.Errorf("Prompt: %v, after %v", err, time.Since(began))
		}
		if _, err := c.Prompt("?"); !errors.Is(err, authn.ErrConv) || !errors.Is(err, errTimeout) {
			t.Errorf("another Prompt: %v", err)
		}
		h.saw()
		// What there is to say is shown all the same.
		c.outlive()
		if err := c.Error("too late"); err != nil {
			t.Error(err)
		}
		c.flush()
		h.saw("1m30s info hold on | error too late")
	})
}

func TestLongTextsDoNotBreakAFrame(t *testing.T) {
	for _, step := range []time.Duration{0, s} {
		synctest.Test(t, func(t *testing.T) {
			h := &host{answers: []string{"fine"}}
			c := talk(t, h, stepping(step))
			long := strings.Repeat("x", authn.MaxPrompt)
			for range authn.MaxPrompts {
				tell(t, c, long)
			}
			if got, err := c.Prompt(long); got != "fine" || err != nil {
				t.Errorf("Prompt = %.20q, %v", got, err)
			}
			shown := strings.Count(strings.Join(h.seen, " "), "x"+" |") + strings.Count(strings.Join(h.seen, "$")+"$", "x$")
			if shown != authn.MaxPrompts+1 {
				t.Errorf("%d of the texts were shown", shown)
			}
		})
	}
}

// The provider may say anything at any time: while a prompt is open, nothing
// but another text waits for it.
func TestWaitingDoesNotWaitForAPrompt(t *testing.T) {
	release := make(chan struct{})
	h := &host{answers: []string{"typed"}}
	h.reply = func(n int) []byte { <-release; return encoded(0, make([]string, n)...) }
	c := talk(t, h, stepping(10*ms))
	answered := make(chan error)
	go func() {
		_, err := c.Prompt("?")
		answered <- err
	}()
	for open := false; !open; { // until the prompt is on the screen
		h.mu.Lock()
		open = len(h.seen) > 0
		h.mu.Unlock()
	}
	c.Waiting(time.Hour) // or this test ends with its timeout
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if got := c.pace.due(time.Now(), false); got < time.Hour-time.Minute {
		t.Errorf("a refusal is due in %v", got)
	}
}

// For the race detector.
func TestEverythingAtOnce(t *testing.T) {
	h := &host{}
	c := talk(t, h, stepping(ms))
	var all sync.WaitGroup
	for range 4 {
		for _, do := range []func(){
			func() { _, _ = c.Prompt("?") },
			func() { _, _ = c.PromptSecret("?") },
			func() { _ = c.Info("x") },
			func() { _ = c.Error("x") },
			func() { c.Waiting(5 * ms) },
			func() { _ = c.redact("x") },
			func() { c.flush() },
			func() { _ = c.over() },
		} {
			all.Go(do)
		}
	}
	all.Wait()
	if c.over() != nil {
		t.Error(c.over())
	}
}

func TestRedact(t *testing.T) {
	tests := []struct {
		name     string
		typed    []string
		in, want string
	}{
		{"what_was_typed_is_taken_out", []string{"hunter2"}, "bad password hunter2 for hunter2@x", "bad password <typed> for <typed>@x"},
		{"what_was_not_typed_stays", []string{"hunter2"}, "bad password hunter1", "bad password hunter1"},
		{"nothing_typed_takes_nothing_out", []string{""}, "a b", "a b"},
		{"short_answers_stay", []string{"yes", "1"}, "yes: error 1", "yes: error 1"},
		{"the_longer_one_goes_first", []string{"hunter2", "hunter2000"}, "hunter2000", "<typed>"},
		{"as_go_quotes_it", []string{`pa"ss\word`}, `got "pa\"ss\\word"`, `got "<typed>"`},
		{"as_go_quotes_other_bytes", []string{"pa\xffss\nword"}, `got "pa\xffss\nword"`, `got "<typed>"`},
		{"all_of_them", []string{"first one", "second one"}, "first one, second one", "<typed>, <typed>"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &conversation{}
			for _, typed := range tt.typed {
				c.remember(typed)
			}
			if got := c.redact(tt.in); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestAnswersAreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := "the host's password"
		h := &host{answers: []string{"the secret", "the prompt"}}
		c := talk(t, h, func(c *conversation) { c.token = &token })
		for range 2 {
			if _, err := c.PromptSecret("?"); err != nil {
				t.Error(err)
			}
		}
		ask(t, c)
		if got := c.redact("the host's password, the secret, the prompt"); got != "<typed>, <typed>, <typed>" {
			t.Errorf("the log would hold %q", got)
		}
	})
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authntest

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/internal/inprocess"
)

// reports runs the suite and returns the names of the checks that reported,
// and everything that they said.
func reports[P authn.Authenticator](t *testing.T, newProvider func(doorConfig, *slog.Logger) (P, error), s Suite) ([]string, string) {
	t.Helper()
	r := record(t)
	r.run("", func(testing.TB) { conform(r, inprocess.Of(newProvider), s) })
	names := map[string]bool{}
	said := ""
	for check, texts := range r.notes.failed {
		names[check[strings.Index(check, "/")+1:]] = true
		said += check + ":\n\t" + strings.Join(texts, "\n\t") + "\n"
	}
	return slices.Sorted(maps.Keys(names)), said
}

func TestConformanceOfADoorThatDoesEverythingRight(t *testing.T) {
	Conformance(t, newDoor(nil), doorSuite())
}

// A broken door must be found by exactly one check, or that check could not
// fail, or another one fails for a reason that is not its own.
func TestEveryCheckCanFail(t *testing.T) {
	forever := make(chan struct{}) // until the test's end
	t.Cleanup(func() { close(forever) })
	var files sync.Map // held, so that they stay open
	t.Cleanup(func() {
		files.Range(func(f, _ any) bool { _ = f.(*os.File).Close(); return true })
	})
	var lastUser atomic.Value // what a provider must not keep

	tests := []struct {
		name  string
		door  func(*door)
		suite func(*Suite)
		check string
		says  string
	}{
		{name: "success_without_a_subject", check: "right_answers_open", says: "without saying who", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				_, err := judge(d, ctx, req, name, code)
				return authn.Identity{}, err
			}
		}},
		{name: "another_subject", check: "right_answers_open", says: `want "tom@example.com"`, suite: func(s *Suite) {
			s.Succeeds[0].Subject = "tom@example.com"
		}},
		{name: "another_question_than_the_script's", check: "right_answers_open", says: `secret "Code"`, door: func(d *door) {
			d.ask = func(_ *door, _ context.Context, _ *authn.Request, conv authn.Conversation) (string, string, error) {
				name, _ := conv.Prompt("Who is there? ")
				code, err := conv.PromptSecret("Password: ")
				return name, code.Reveal(), err
			}
		}, suite: func(s *Suite) { s.Succeeds[0].Steps, s.Refuses = s.Succeeds[0].Steps[1:], nil }},
		{name: "a_panic", check: "right_answers_open", says: "panic", door: func(d *door) {
			d.lookup = func(*door, context.Context, *authn.Request, string, string) (authn.Identity, error) {
				panic("ouch")
			}
		}, suite: func(s *Suite) { s.Refuses = nil }},
		{name: "a_code_that_only_begins_right", check: "wrong_answers_do_not_open", says: "one character more opened", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				if strings.HasPrefix(code, doorCode) {
					code = doorCode
				}
				return judge(d, ctx, req, name, code)
			}
		}},
		{name: "anything_for_nobody", check: "wrong_answers_do_not_open", says: "nothing opened", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				if code == "" {
					code = doorCode
				}
				return judge(d, ctx, req, name, code)
			}
		}},
		{name: "another_result", check: "wrong_answers_do_not_open", says: "want maxtries", suite: func(s *Suite) {
			s.Refuses[0].Result = authn.ErrMaxTries
		}},
		{name: "staying_after_a_cancel", check: "a_cancelled_call_returns_at_once", says: "not back after", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				name, code, err := ask(d, ctx, req, conv)
				if ctx.Err() != nil {
					<-forever
				}
				return name, code, err
			}
		}, suite: func(s *Suite) { s.Patience = time.Second }},
		{name: "success_after_a_cancel", check: "a_cancelled_call_returns_at_once", says: "and still: success", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				name, code, err := ask(d, ctx, req, conv)
				if ctx.Err() != nil {
					return "mittens", doorCode, nil //nolint:nilerr // the mistake that is to be found
				}
				return name, code, err
			}
		}},
		{name: "success_after_the_user_left", check: "a_user_who_left_is_conv_err", says: "want conv_err", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				name, code, err := ask(d, ctx, req, conv)
				if err != nil && ctx.Err() == nil {
					return "mittens", doorCode, nil
				}
				return name, code, err
			}
		}},
		{name: "auth_err_after_the_user_left", check: "a_user_who_left_is_conv_err", says: "auth_err", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				name, code, err := ask(d, ctx, req, conv)
				if err != nil {
					err = authn.ErrAuth
				}
				return name, code, err
			}
		}},
		{name: "a_code_in_the_error", check: "secrets_stay_hidden", says: "the error of a call with wrong answers has a wrong answer typed hidden", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				id, err := judge(d, ctx, req, name, code)
				if err != nil {
					err = fmt.Errorf("code %s: %w", code, err)
				}
				return id, err
			}
		}},
		{name: "a_code_in_the_log", check: "secrets_stay_hidden", says: "the log has an answer typed hidden", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				d.log.Debug("typed", "code", code)
				return judge(d, ctx, req, name, code)
			}
		}},
		{name: "a_wrong_name_in_the_log", check: "secrets_stay_hidden", says: "the log has a wrong answer in it", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				d.log.Info("somebody came", "name", name)
				return judge(d, ctx, req, name, code)
			}
		}},
		{name: "a_configured_key_in_a_prompt", check: "secrets_stay_hidden", says: "name_and_code_open has a secret of the configuration", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				_ = conv.Info("psst: " + d.config.Key.Reveal())
				return ask(d, ctx, req, conv)
			}
		}, suite: func(s *Suite) { s.Succeeds[0].Steps = s.Succeeds[0].Steps[1:] }},
		{name: "a_code_in_the_environment", check: "secrets_stay_hidden", says: "the identity of name_and_code_open has an answer typed hidden", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				id, err := judge(d, ctx, req, name, code)
				if err == nil {
					id.Env = map[string]string{"AUTHN_CODE": code}
				}
				return id, err
			}
		}},
		{name: "a_line_on_stdout", check: "nothing_is_printed", says: "hello", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				fmt.Fprintln(printer(1), "hello")
				return ask(d, ctx, req, conv)
			}
		}},
		{name: "a_line_of_package_log", check: "nothing_is_printed", says: "hello", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				log.New(printer(2), "", log.LstdFlags).Print("hello")
				return ask(d, ctx, req, conv)
			}
		}},
		{name: "a_goroutine", check: "nothing_is_left_open", says: "TestEveryCheckCanFail", door: func(d *door) {
			go func() { <-forever }()
		}, suite: func(s *Suite) { s.Patience = time.Second }},
		{name: "a_file", check: "nothing_is_left_open", says: "/dev/null", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				f, _ := os.Open(os.DevNull)
				files.Store(f, true)
				return judge(d, ctx, req, name, code)
			}
		}, suite: func(s *Suite) { s.Patience = time.Second; s.Refuses = nil }},
		{name: "no_code_for_unknown_users", check: "unknown_users_are_asked_the_same", says: "strangers can tell", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				if req.User == "mittens" {
					return ask(d, ctx, req, conv)
				}
				_ = conv.Info("Knock, knock.")
				_, err := conv.Prompt("Who is there? ")
				return "", "", err
			}
		}},
		{name: "another_result_for_unknown_users", check: "unknown_users_are_asked_the_same", says: "user_unknown", door: func(d *door) {
			d.lookup = func(d *door, ctx context.Context, req *authn.Request, name, code string) (authn.Identity, error) {
				if req.User != "mittens" {
					return authn.Identity{}, authn.ErrUserUnknown
				}
				return judge(d, ctx, req, name, code)
			}
		}},
		{name: "memory_shared_by_calls", check: "simultaneous_calls_do_not_mix", says: "beside other calls", door: func(d *door) {
			d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
				lastUser.Store(req.User)
				return ask(d, ctx, req, conv)
			}
			d.lookup = func(d *door, ctx context.Context, _ *authn.Request, name, code string) (authn.Identity, error) {
				return judge(d, ctx, &authn.Request{User: lastUser.Load().(string)}, name, code)
			}
		}},
		{name: "a_config_that_should_be_bad", check: "config_errors_name_the_key", says: "a bad hinge is taken", suite: func(s *Suite) {
			s.BadConfigs = append(s.BadConfigs, BadConfig{s.Config, "hinge"})
		}},
		{name: "a_key_not_named", check: "config_errors_name_the_key", says: "does not name it", suite: func(s *Suite) {
			s.BadConfigs = append(s.BadConfigs, BadConfig{"key: swordfish", "hinge"})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := doorSuite()
			if tt.suite != nil {
				tt.suite(&s)
			}
			names, said := reports(t, newDoor(tt.door), s)
			if !slices.Equal(names, []string{tt.check}) || !strings.Contains(said, tt.says) {
				t.Errorf("reported by %q, want %q saying %q\n%s", names, tt.check, tt.says, said)
			}
		})
	}
}

// printer is descriptor fd where the suite listens, and nowhere else, so that
// this test's own output stays clean.
func printer(fd uintptr) *os.File {
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); f.Fd() == fd && strings.Contains(target, "authntest") {
			return f
		}
	}
	f, _ := os.Open(os.DevNull)
	defer f.Close() //nolint:errcheck // writing to it fails, as it should
	return f
}

func TestASecretInAConfigErrorIsReported(t *testing.T) {
	names, said := reports(t, func(c doorConfig, log *slog.Logger) (*door, error) {
		if key := c.Key.Reveal(); key != doorKey {
			return nil, errors.New("key: cannot use " + key)
		}
		return newDoor(nil)(c, log)
	}, doorSuite())
	if !slices.Equal(names, []string{"config_errors_name_the_key"}) || !strings.Contains(said, "has a secret of the configuration in it") {
		t.Errorf("reported by %q\n%s", names, said)
	}
}

// takesAnything decodes itself, and forgets to be strict.
type inlined struct {
	Key  authn.Secret   `yaml:"key"`
	Rest map[string]any `yaml:",inline"`
}

func TestAnUnknownKeyThatIsTakenIsReported(t *testing.T) {
	r := record(t)
	s := doorSuite()
	s.BadConfigs = nil
	newProvider := func(c inlined, log *slog.Logger) (*door, error) { return newDoor(nil)(doorConfig{Key: c.Key}, log) }
	r.run("", func(testing.TB) { conform(r, inprocess.Of(newProvider), s) })
	for _, way := range []string{"directly", "over_the_wire"} {
		if len(r.notes.failed[way+"/config_errors_name_the_key"]) != 1 {
			t.Errorf("%s: %q", way, r.notes.failed)
		}
	}
	if len(r.notes.failed) != 2 {
		t.Errorf("other checks reported: %q", r.notes.failed)
	}
}

// A keeper's As is known only once it has a door.
type keeper struct{ *door }

func (k *keeper) As(target any) bool {
	switch target.(type) {
	case *authn.AccountManager, *authn.SessionManager:
		return k != nil && k.door != nil
	case *authn.CredentialSetter:
		return k == nil
	}
	return false
}

func TestCapabilitiesThatAreNotThoseAnnouncedAreReported(t *testing.T) {
	names, said := reports(t, func(c doorConfig, log *slog.Logger) (*keeper, error) {
		d, err := newDoor(nil)(c, log)
		return &keeper{d}, err
	}, doorSuite())
	if !slices.Equal(names, []string{"capabilities_are_those_announced"}) {
		t.Errorf("reported by %q\n%s", names, said)
	}
	for _, want := range []string{"is an authn.AccountManager and does not", "is an authn.SessionManager and does not", "announces an authn.CredentialSetter"} {
		if !strings.Contains(said, want) {
			t.Errorf("nobody said %q:\n%s", want, said)
		}
	}
}

func TestASuiteThatNeverSucceedsIsRefused(t *testing.T) {
	names, said := reports(t, newDoor(nil), Suite{Config: "key: " + doorKey})
	if len(names) != 1 || !strings.Contains(said, "Succeeds is empty") {
		t.Errorf("reported by %q\n%s", names, said)
	}
}

func TestSetupRunsBeforeEachCall(t *testing.T) {
	var calls, setups atomic.Int32
	s := doorSuite()
	s.Setup = func(testing.TB) { setups.Add(1) }
	newProvider := newDoor(func(*door) { calls.Add(1) })
	if names, said := reports(t, newProvider, s); len(names) != 0 {
		t.Errorf("reported by %q\n%s", names, said)
	}
	if setups.Load() < calls.Load()/2 {
		t.Errorf("%d calls, %d set-ups", calls.Load(), setups.Load())
	}
}

func TestMaskTakesOutWhatDiffers(t *testing.T) {
	var n atomic.Int32
	numbered := newDoor(func(d *door) {
		d.ask = func(d *door, ctx context.Context, req *authn.Request, conv authn.Conversation) (string, string, error) {
			_ = conv.Info(fmt.Sprintf("Knock, number %d.", n.Add(1)))
			return ask(d, ctx, req, conv)
		}
	})
	s := doorSuite()
	if names, _ := reports(t, numbered, s); !slices.Equal(names, []string{"unknown_users_are_asked_the_same"}) {
		t.Errorf("unmasked: reported by %q", names)
	}
	s.Mask = func(transcript string) string {
		_, rest, _ := strings.Cut(transcript, "\n")
		return rest
	}
	if names, said := reports(t, numbered, s); len(names) != 0 {
		t.Errorf("masked: reported by %q\n%s", names, said)
	}
}

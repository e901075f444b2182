// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin/wire"
	"github.com/pam-authn/pam-authn/pamshim/frame"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/config"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/journal"
	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
)

// A logbook is what a call logs.
type logbook struct {
	t    *testing.T
	r, w *os.File
}

// lines ends the log and returns it, less the time that calls took.
func (l logbook) lines() []string {
	l.t.Helper()
	_ = l.w.Close()
	data, err := io.ReadAll(l.r)
	if err != nil {
		l.t.Fatal(err)
	}
	var all []string
	for text := range strings.Lines(string(data)) {
		before, rest, found := strings.Cut(strings.TrimSuffix(text, "\n"), " ms=")
		if found {
			_, rest, _ = strings.Cut(rest, " ")
			before += " " + rest
		}
		all = append(all, strings.TrimPrefix(before, "sshd[7]: pam_authn(sshd:auth): "))
	}
	return all
}

// newCall is a call of sshd's with provider "test" and an empty configuration.
func newCall(t *testing.T, start frame.Start) (*Call, logbook) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(r.Close(), w.Close()) })
	start.ID = "7f3a1c"
	c := &Call{
		Start:   start,
		Journal: &journal.Journal{Service: "sshd", Group: "auth", Pid: 7, ID: start.ID, Stderr: w},
		Began:   time.Now(),
		line:    line.Line{Name: "test", Timeout: 90 * time.Second},
		config:  &config.Config{Path: "/etc/authn/test.yaml"},
	}
	c.conv = &conversation{pace: &c.pace}
	return c, logbook{t, r, w}
}

// A fake provider records how it was called.
type fake struct {
	can   []string // what As answers to
	calls []string
	req   *authn.Request
}

func (f *fake) call(name string, req *authn.Request) error {
	f.calls, f.req = append(f.calls, name), req
	return authn.ErrAbort
}

func (f *fake) As(target any) bool {
	name := ""
	switch t := target.(type) {
	case *authn.AccountManager:
		*t, name = f, "account"
	case *authn.CredentialSetter:
		*t, name = f, "setcred"
	case *authn.SessionManager:
		*t, name = f, "session"
	case *authn.PasswordChanger:
		*t, name = f, "password"
	}
	return slices.Contains(f.can, name)
}

func (f *fake) Authenticate(_ context.Context, r *authn.Request, _ authn.Conversation) (authn.Identity, error) {
	return authn.Identity{}, f.call("authenticate", r)
}

func (f *fake) CheckAccount(_ context.Context, r *authn.Request, _ authn.Conversation) error {
	return f.call("check", r)
}

func (f *fake) SetCredentials(_ context.Context, r *authn.Request, op authn.CredentialOp) error {
	return f.call(op.String(), r)
}

func (f *fake) OpenSession(_ context.Context, r *authn.Request, _ authn.Conversation) error {
	return f.call("open", r)
}

func (f *fake) CloseSession(_ context.Context, r *authn.Request) error { return f.call("close", r) }

func (f *fake) CanChangePassword(_ context.Context, r *authn.Request) error {
	return f.call("can change", r)
}

func (f *fake) ChangePassword(_ context.Context, r *authn.Request, _ authn.Conversation) error {
	return f.call("change", r)
}

func TestDispatch(t *testing.T) {
	all := []string{"account", "setcred", "session", "password"}
	tests := []struct {
		name  string
		call  int
		flags uint32
		can   []string
		want  string // the call; "": none
		err   error
	}{
		{"authenticate", frame.Authenticate, 0, nil, "authenticate", authn.ErrAbort},
		{"account", frame.Account, 0, all, "check", authn.ErrAbort},
		{"open_session", frame.OpenSession, 0, all, "open", authn.ErrAbort},
		{"close_session", frame.CloseSession, 0, all, "close", authn.ErrAbort},
		{"the_first_pass_of_chauthtok", frame.Password, frame.PrelimCheck, all, "can change", authn.ErrAbort},
		{"the_second_pass_of_chauthtok", frame.Password, 0, all, "change", authn.ErrAbort},
		{"setcred_without_flags_establishes", frame.SetCred, 0, all, "establish", authn.ErrAbort},
		{"setcred_establishes", frame.SetCred, frame.EstablishCred, all, "establish", authn.ErrAbort},
		{"setcred_deletes", frame.SetCred, frame.DeleteCred | frame.Silent, all, "delete", authn.ErrAbort},
		{"setcred_reinitializes", frame.SetCred, frame.ReinitializeCred, all, "reinitialize", authn.ErrAbort},
		{"setcred_refreshes", frame.SetCred, frame.RefreshCred, all, "refresh", authn.ErrAbort},

		{"no_account", frame.Account, 0, []string{"setcred", "session", "password"}, "", authn.ErrIgnore},
		{"no_session_to_open", frame.OpenSession, 0, []string{"account", "setcred", "password"}, "", authn.ErrIgnore},
		{"no_session_to_close", frame.CloseSession, 0, nil, "", authn.ErrIgnore},
		{"no_password", frame.Password, 0, []string{"account", "setcred", "session"}, "", authn.ErrIgnore},
		{"no_credentials_is_success", frame.SetCred, 0, []string{"account", "session", "password"}, "", nil},
		{"an_unknown_call", 7, 0, all, "", authn.ErrIgnore},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newCall(t, frame.Start{Call: tt.call, Flags: tt.flags})
			f := &fake{can: tt.can}
			id, err := c.dispatch(t.Context(), f)
			want := strings.Fields(strings.ReplaceAll(tt.want, " ", "_"))
			for i := range f.calls {
				f.calls[i] = strings.ReplaceAll(f.calls[i], " ", "_")
			}
			if id.Subject != "" || !errors.Is(err, tt.err) || authn.ResultOf(err) != authn.ResultOf(tt.err) || !slices.Equal(f.calls, want) {
				t.Errorf("calls %q, %v; want %q, %v", f.calls, err, want, tt.err)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	start := frame.Start{
		Call: frame.Authenticate, Service: "sshd", User: "admin", RHost: "192.0.2.7", TTY: "ssh", RUser: "root",
		Subject: "mittens", Ticket: []byte("t"),
	}
	want := authn.Request{
		Service: "sshd", User: "admin", RHost: "192.0.2.7", TTY: "ssh", RUser: "root",
		Subject: "mittens", Ticket: []byte("t"), Args: []string{"a=b"}, Files: map[string][]byte{}, Timeout: 90 * time.Second,
	}
	tests := []struct {
		name   string
		change func(s *frame.Start, r *authn.Request)
	}{
		{"what_the_module_says", func(*frame.Start, *authn.Request) {}},
		{"silence", func(s *frame.Start, r *authn.Request) { s.Flags, r.Silent = frame.Silent, true }},
		{"expired_tokens_only", func(s *frame.Start, r *authn.Request) { s.Flags, r.Expired = frame.ChangeExpiredAuthtok, true }},
		{"a_claimed_subject_is_not_a_subject", func(s *frame.Start, r *authn.Request) {
			s.Claimed, s.Subject = true, "mit\xfftens"
			r.Subject, r.ClaimedSubject = "", "mit?tens"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			start, want := start, want
			tt.change(&start, &want)
			c, _ := newCall(t, start)
			c.line.Args = []string{"a=b"}
			if got := c.request(); !reflect.DeepEqual(*got, want) {
				t.Errorf("got  %+v\nwant %+v", *got, want)
			}
		})
	}
}

// folder is a folder that can be trusted.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFiles(t *testing.T) {
	dir := folder(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, size := range map[string]int{"admin": 5, "all": 3, "large": 64 << 10, "larger": 64<<10 + 1, "writable": 1, "mallory": 1} {
		must(os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("x", size)), 0o600))
	}
	must(os.Chmod(filepath.Join(dir, "writable"), 0o666))
	must(os.Symlink("admin", filepath.Join(dir, "link")))
	must(os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	must(os.Symlink("sub", filepath.Join(dir, "linked")))
	must(os.WriteFile(filepath.Join(dir, "sub", "f"), []byte("f"), 0o600))
	tests := []struct {
		name  string
		user  string
		files map[string]string // below dir
		want  map[string]int    // names and sizes
		log   string
	}{
		{"a_file_is_read", "admin", map[string]string{"a": "all"}, map[string]int{"a": 3}, ""},
		{"the_user_names_one", "admin", map[string]string{"a": "%u"}, map[string]int{"a": 5}, ""},
		{"a_missing_one_is_absent", "stranger", map[string]string{"a": "%u", "b": "all"}, map[string]int{"b": 3}, ""},
		{"the_largest_is_read", "admin", map[string]string{"a": "large"}, map[string]int{"a": 64 << 10}, ""},
		{"a_larger_one_is_not", "admin", map[string]string{"a": "larger"}, nil, "larger has more than 65536 bytes"},
		{"all_of_them_are_bounded", "admin", map[string]string{"a": "large", "b": "large", "c": "all"}, map[string]int{"a": 64 << 10},
			"authn.files.b: with the files before it, "},
		{"an_unsafe_one_is_absent", "admin", map[string]string{"a": "writable"}, nil, "writable can be written by others"},
		{"a_link_is_not_followed", "link", map[string]string{"a": "%u"}, nil, "link is a symbolic link"},
		{"nor_one_in_the_way", "linked", map[string]string{"a": "%u/f"}, nil, "linked is a symbolic link"},
		{"a_folder_is_absent", "sub", map[string]string{"a": "%u"}, nil, "is not a regular file"},
		{"no_user_is_no_path", "", map[string]string{"a": "%u"}, nil, ""},
		{"dots_are_no_path", "..", map[string]string{"a": "%u/all"}, nil, ""},
		{"a_slash_is_no_path", "sub/f", map[string]string{"a": "%u"}, nil, ""},
		{"a_name_that_goes_up_is_no_path", "../admin", map[string]string{"a": "sub/%u"}, nil, ""},
		{"a_leading_dash_is_no_path", "-x", map[string]string{"a": "%u"}, nil, ""},
		{"a_newline_is_no_path", "admin\n", map[string]string{"a": "%u"}, nil, ""},
		{"other_bytes_are_no_path", "adm\xffin", map[string]string{"a": "%u"}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, log := newCall(t, frame.Start{User: tt.user})
			c.config.Framework.Files = map[string]string{}
			for name, path := range tt.files {
				c.config.Framework.Files[name] = filepath.Join(dir, path)
			}
			got := c.files()
			for name, size := range tt.want {
				if len(got[name]) != size {
					t.Errorf("%s has %d bytes, want %d", name, len(got[name]), size)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("%d files, want %d", len(got), len(tt.want))
			}
			lines := strings.Join(log.lines(), "\n")
			if tt.log == "" && lines != "" || !strings.Contains(lines, tt.log) {
				t.Errorf("the log is %q, want %q", lines, tt.log)
			}
		})
	}
}

func TestLog(t *testing.T) {
	known := frame.Start{Call: frame.Authenticate, User: "admin", RHost: "192.0.2.7", Exists: true}
	unknown := frame.Start{Call: frame.Authenticate, User: "hunter2"}
	tests := []struct {
		name   string
		start  frame.Start
		id     authn.Identity
		err    error
		stderr string
		want   []string
	}{
		{"success", known, authn.Identity{Subject: "mittens@example.com"}, nil, "",
			[]string{"provider=test user=admin subject=mittens@example.com rhost=192.0.2.7 result=success id=7f3a1c"}},
		{"a_refusal_has_its_reason", known, authn.Identity{}, fmt.Errorf("wrong code: %w", authn.ErrAuth), "",
			[]string{`provider=test user=admin rhost=192.0.2.7 result=auth_err reason="wrong code" id=7f3a1c`}},
		{"a_bare_refusal_has_none", known, authn.Identity{}, authn.ErrAuth, "",
			[]string{"provider=test user=admin rhost=192.0.2.7 result=auth_err id=7f3a1c"}},
		{"a_fault_without_result_is_a_reason", known, authn.Identity{}, errors.New("oops"), "",
			[]string{"provider=test user=admin rhost=192.0.2.7 result=system_err reason=oops id=7f3a1c"}},
		{"several_reasons_are_one_line", known, authn.Identity{}, fmt.Errorf("%w: %w", errors.Join(errors.New("a"), errors.New("b")), authn.ErrSystem), "",
			[]string{`provider=test user=admin rhost=192.0.2.7 result=system_err reason="a; b" id=7f3a1c`}},
		{"a_name_that_nobody_has_may_be_a_password", unknown, authn.Identity{}, fmt.Errorf("there is no %s: %w", "hunter2", authn.ErrAuth), "",
			[]string{`provider=test user=? result=auth_err reason="there is no <typed>" id=7f3a1c`}},
		{"also_where_the_provider_writes_it_elsewhere", unknown, authn.Identity{}, authn.ErrAuth, "panic: hunter2\n",
			[]string{`debug="the provider wrote to standard error: panic: <typed>\n" id=7f3a1c`, "provider=test user=? result=auth_err id=7f3a1c"}},
		{"who_gets_in_has_a_name", unknown, authn.Identity{Subject: "mittens"}, nil, "",
			[]string{"provider=test user=hunter2 subject=mittens result=success id=7f3a1c"}},
		{"a_later_call_has_the_subject_of_the_first", frame.Start{Call: frame.OpenSession, User: "admin", Exists: true, Subject: "mittens"}, authn.Identity{}, nil, "",
			[]string{"provider=test user=admin subject=mittens result=success id=7f3a1c"}},
		{"but_not_when_it_refuses", frame.Start{Call: frame.Account, User: "admin", Exists: true, Subject: "mittens"}, authn.Identity{}, authn.ErrAuth, "",
			[]string{"provider=test user=admin result=auth_err id=7f3a1c"}},
		{"a_claimed_subject_is_called_so", frame.Start{Call: frame.OpenSession, User: "admin", Exists: true, Subject: "root result=x", Claimed: true}, authn.Identity{}, nil, "",
			[]string{`provider=test user=admin claimed_subject="root result=x" result=success id=7f3a1c`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, log := newCall(t, tt.start)
			c.Journal.Debug = true
			if !tt.start.Exists {
				c.conv.remember(tt.start.User)
			}
			_, _ = c.stderr.Write([]byte(tt.stderr))
			c.log(tt.id, authn.ResultOf(tt.err), tt.err)
			if got := log.lines(); !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestLevels(t *testing.T) {
	for r, want := range map[authn.Result]journal.Level{
		authn.Success: journal.Info, authn.ErrIgnore: journal.Info, authn.ErrAuthInfoUnavail: journal.Alert,
		authn.ErrSystem: journal.Err, authn.ErrService: journal.Err, authn.ErrAuth: journal.Notice, authn.ErrConv: journal.Notice,
	} {
		if got := level(r); got != want {
			t.Errorf("%s is logged at %d, want %d", r.Error(), got, want)
		}
	}
}

func TestTheProvidersLogIsRedacted(t *testing.T) {
	c, log := newCall(t, frame.Start{})
	c.Journal.Debug = true
	c.conv.remember("hunter2")
	for _, level := range []wire.Level{wire.Level_LEVEL_DEBUG, wire.Level_LEVEL_ERROR, 99} {
		c.providerLog(level, `phrase="hunter2"`)
	}
	want := `provider=test log="phrase=\"<typed>\"" id=7f3a1c`
	if got := log.lines(); !slices.Equal(got, []string{want, want, want}) {
		t.Errorf("got %q", got)
	}
}

func TestResult(t *testing.T) {
	id := authn.Identity{
		Subject: "mittens", Ticket: []byte("t"), Env: map[string]string{"AUTHN_B": "2", "AUTHN_A": "1"},
	}
	tests := []struct {
		name   string
		call   int
		result authn.Result
		want   frame.Result
	}{
		{"a_login_gets_all", frame.Authenticate, authn.Success, frame.Result{
			Subject: "mittens", Ticket: []byte("t"),
			Variables: []string{"AUTHN_A=1", "AUTHN_B=2", "AUTHN_PROVIDER=test", "AUTHN_SUBJECT=mittens", "AUTHN_ID=7f3a1c"},
		}},
		{"a_refusal_gets_nothing", frame.Authenticate, authn.ErrAuth, frame.Result{Code: 7}},
		{"another_call_gets_nothing", frame.Account, authn.Success, frame.Result{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := newCall(t, frame.Start{Call: tt.call})
			if got := c.result(id, tt.result); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTheLargestIdentityFitsIntoAFrame(t *testing.T) {
	id := authn.Identity{Subject: strings.Repeat("s", authn.MaxSubject), Ticket: make([]byte, authn.MaxTicket), Env: map[string]string{}}
	for i := range authn.MaxEnv {
		id.Env[fmt.Sprintf("AUTHN_%058d", i)] = strings.Repeat("v", authn.MaxEnvValue)
	}
	if err := id.Check(); err != nil {
		t.Fatal(err)
	}
	c, _ := newCall(t, frame.Start{Call: frame.Authenticate})
	if _, err := c.result(id, authn.Success).Encode(); err != nil {
		t.Error(err)
	}
}

func TestOnlyStrangersAreHeldBack(t *testing.T) {
	for call, held := range map[int]bool{
		frame.Authenticate: true, frame.Password: true,
		frame.SetCred: false, frame.Account: false, frame.OpenSession: false, frame.CloseSession: false,
	} {
		c, _ := newCall(t, frame.Start{Call: call})
		if err := c.started(time.Second, false); err != nil || c.pace.stepping() != held {
			t.Errorf("call %d is held back: %v, want %v; %v", call, c.pace.stepping(), held, err)
		}
	}
}

func TestStarted(t *testing.T) {
	c, _ := newCall(t, frame.Start{Call: frame.Authenticate})
	if err := c.started(0, false); err != nil || c.pace.stepping() {
		t.Errorf("no step: %v", err)
	}
	if err := c.started(time.Second, false); err != nil || c.pace.step != time.Second {
		t.Errorf("a step: %v", err)
	}
	c.config.Framework.Step = time.Second
	if err := c.started(2*time.Second, false); authn.ResultOf(err) != authn.ErrSystem || c.pace.step != time.Second {
		t.Errorf("two steps: %v", err)
	}
	if err := c.started(2*time.Second, true); err != nil || c.pace.step != time.Second {
		t.Errorf("a step, and a default: %v", err)
	}
}

func TestFault(t *testing.T) {
	for _, err := range []error{
		errors.New("oops"), authn.ErrIgnore, authn.Success,
		fmt.Errorf("oops: %w", authn.ErrAuthInfoUnavail), errors.Join(authn.ErrAuth, authn.ErrSystem),
	} {
		if got := fault(err); authn.ResultOf(got) != authn.ErrSystem {
			t.Errorf("fault(%v) is %s", err, authn.ResultOf(got).Error())
		}
	}
	if got := fault(fmt.Errorf("oops: %w", authn.ErrSystem)).Error(); got != "oops: system_err" {
		t.Errorf("it says it twice: %s", got)
	}
}

// Whatever a provider says when its time is over, PAM hears that.
func TestEnded(t *testing.T) {
	c, _ := newCall(t, frame.Start{})
	for _, tt := range []struct {
		name  string
		cause error
		err   error
		want  authn.Result
	}{
		{"success_stays", errTimeout, nil, authn.Success},
		{"a_refusal_stays", nil, authn.ErrAuth, authn.ErrAuth},
		{"the_timeout_is_system_err", errTimeout, authn.ErrIgnore, authn.ErrSystem},
		{"also_for_a_broken_connection", errTimeout, errors.New("EOF"), authn.ErrSystem},
		{"a_user_who_gave_up_is_conv_err", errGaveUp, authn.ErrSystem, authn.ErrConv},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			if tt.cause != nil {
				cancel(tt.cause)
			}
			if got := authn.ResultOf(c.ended(ctx, tt.err)); got != tt.want {
				t.Errorf("got %s, want %s", got.Error(), tt.want.Error())
			}
			cancel(nil)
		})
	}
}

// A call that gets no further than its line or its configuration.
func TestServeWithoutAProvider(t *testing.T) {
	dir := folder(t)
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("authn: {oops: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.yaml")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		words  []string
		reason string
	}{
		{"no_words", nil, `reason="the word provider= is missing`},
		{"a_bad_word", []string{"provider=test", "oops"}, `reason="word \"oops\" is unknown`},
		{"no_configuration", []string{"provider=test", "config=" + dir + "/none"}, `none: cannot open it: No such file`},
		{"a_bad_configuration", []string{"provider=test", "config=" + bad}, `bad.yaml:1: authn.oops: unknown key`},
		{"no_program", []string{"provider=" + dir + "/authn-test", "config=" + empty}, `reason="the provider: `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, silent := range []uint32{0, frame.Silent} {
				c, log := newCall(t, frame.Start{Call: frame.Authenticate, User: "admin", Exists: true, Words: tt.words, Flags: silent})
				h := &host{}
				c.Module = talk(t, h, nil).module
				if got := c.Serve(t.Context()); !reflect.DeepEqual(got, frame.Result{Code: 4}) {
					t.Errorf("the module hears %+v", got)
				}
				if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "result=system_err ") || !strings.Contains(lines[0], tt.reason) {
					t.Errorf("the log is %q", lines)
				}
				told := len(h.seen) == 1 && strings.HasSuffix(h.seen[0], " error This login is not possible at the moment (reference 7f3a1c).")
				if silent == 0 && !told || silent != 0 && len(h.seen) > 0 {
					t.Errorf("the user saw %q", h.seen)
				}
			}
		})
	}
}

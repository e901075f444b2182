// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

func TestValue(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"a_word_stays", "mittens@example.com", "mittens@example.com"},
		{"an_address_stays", "2001:db8::7%eth0", "2001:db8::7%eth0"},
		{"other_writing_stays", "müller", "müller"},
		{"nothing_is_quoted", "", `""`},
		{"a_space_is_quoted", "wrong code", `"wrong code"`},
		{"an_equals_sign_is_quoted", "a=b", `"a=b"`},
		{"a_quote_is_escaped", `a"b`, `"a\"b"`},
		{"a_backslash_is_escaped", `a\nb`, `"a\\nb"`},
		{"a_newline_is_escaped", "a\nb", `"a\nb"`},
		{"a_carriage_return_is_escaped", "a\rb", `"a\rb"`},
		{"a_nul_is_escaped", "a\x00b", `"a\x00b"`},
		{"an_escape_sequence_is_escaped", "\x1b[2J", `"\x1b[2J"`},
		{"a_c1_control_is_escaped", "\u009b2J", `"\u009b2J"`},
		{"a_byte_that_is_no_text_is_escaped", "a\xffb", `"a\xffb"`},
		{"half_a_character_is_escaped", "\xe2\x82", `"\xe2\x82"`},
		{"a_turn_of_direction_is_escaped", "a\u202eb", `"a\u202eb"`},
		{"a_line_separator_is_escaped", "a\u2028b", `"a\u2028b"`},
		{"a_zero_width_space_is_escaped", "a\u200bb", `"a\u200bb"`},
		{"a_wide_space_is_escaped", "a\u3000b", `"a\u3000b"`},
		{"what_fits_exactly_stays", strings.Repeat("x", 20), strings.Repeat("x", 20)},
		{"what_is_too_long_is_cut", strings.Repeat("x", 21), strings.Repeat("x", 20) + "..."},
		{"it_is_cut_between_characters", strings.Repeat("x", 19) + "é", strings.Repeat("x", 19) + "..."},
		{"it_is_cut_between_escapes", strings.Repeat("x", 17) + "\xff", `"` + strings.Repeat("x", 17) + `..."`},
		{"escapes_count_as_long_as_they_are", strings.Repeat("\xff", 9), `"` + strings.Repeat(`\xff`, 5) + `..."`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Value(tt.in, 20); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// FuzzValue: whatever a stranger types is one value on one line, and can be
// read back.
func FuzzValue(f *testing.F) {
	for _, s := range []string{"", "a b", "\n", `"`, `\`, "\xff\xfe", "a=b id=1", "\u202e", "é", "\x1b]0;x\a"} {
		f.Add(s, 256)
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit &= 0xfff
		got := Value(s, limit)
		if len(got) > limit+len(`""...`) {
			t.Errorf("%d bytes, at most %d are wanted", len(got), limit)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%q has %q in it", got, r)
			}
		}
		back := got
		if strings.HasPrefix(got, `"`) {
			var err error
			if back, err = strconv.Unquote(got); err != nil {
				t.Fatalf("%s cannot be read back: %v", got, err)
			}
		} else if strings.ContainsAny(got, " =\"\\") || got == "" {
			t.Errorf("%s wants quotes", got)
		}
		if short, cut := strings.CutSuffix(back, "..."); back != s && (!cut || !strings.HasPrefix(s, short)) {
			t.Errorf("%s reads back as %q, was %q", got, back, s)
		}
	})
}

// fields reads a logfmt line as strictly as it is written.
func fields(line string) (all [][2]string, err error) {
	for line != "" {
		name, rest, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, ` "\`) {
			return nil, fmt.Errorf("no name at %q", line)
		}
		value := rest
		if strings.HasPrefix(rest, `"`) {
			if value, err = strconv.QuotedPrefix(rest); err != nil {
				return nil, err
			}
		} else if i := strings.IndexByte(rest, ' '); i >= 0 {
			value = rest[:i]
		}
		line = rest[len(value):]
		if line != "" && line[0] != ' ' {
			return nil, fmt.Errorf("%q follows a value", line)
		}
		line = strings.TrimPrefix(line, " ")
		if value[0] == '"' {
			value, _ = strconv.Unquote(value)
		}
		all = append(all, [2]string{name, value})
	}
	return all, nil
}

// FuzzLine: nobody forges a line or a field, whatever they are called.
func FuzzLine(f *testing.F) {
	f.Add("sshd", "admin", "192.0.2.7", "wrong code")
	f.Add("sshd: x", "root result=success", "\n<0>kernel: ", `"`)
	f.Add("", "", "", "")
	f.Add("\x00\x1b", "\xff", `\`, `\" id=1`)
	f.Fuzz(func(t *testing.T, service, user, rhost, reason string) {
		line := datagram(t, &Journal{Service: service, Group: "auth", Pid: 7, ID: "7f3a1c"},
			"user", user, "rhost", rhost, "result", "auth_err", "reason", reason)
		head, rest, ok := strings.Cut(line, ": pam_authn(")
		name, _, ok2 := strings.Cut(rest, ":auth): ")
		if !ok || !ok2 || head != "<83>"+name+"[7]" || strings.ContainsAny(name, " \t\n:[]()<>") || name == "" {
			t.Fatalf("the line begins as %q", line)
		}
		got, err := fields(rest[len(name)+len(":auth): "):])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		want := [][2]string{{"user", user}, {"rhost", rhost}, {"result", "auth_err"}, {"reason", reason}, {"id", "7f3a1c"}}
		for _, w := range want {
			if w[1] == "" {
				continue
			}
			if len(got) == 0 || got[0][0] != w[0] || got[0][1] != w[1] && !strings.HasSuffix(got[0][1], "...") {
				t.Fatalf("%q has %q, want %q", line, got, w)
			}
			got = got[1:]
		}
		if len(got) > 0 {
			t.Errorf("%q has %q besides", line, got)
		}
	})
}

// datagram is what syslog hears of one line.
func datagram(t *testing.T, j *Journal, fields ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j.socket = path
	j.Line(Err, fields...)
	return receive(t, l)
}

func receive(t *testing.T, l *net.UnixConn) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	if err := l.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestSyslog(t *testing.T) {
	j := &Journal{Service: "sshd", Group: "auth", Pid: 4711, ID: "7f3a1c"}
	got := datagram(t, j, "provider", "onelogin", "subject", "", "reason", "wrong code", "ms", "812")
	if want := `<83>sshd[4711]: pam_authn(sshd:auth): provider=onelogin reason="wrong code" ms=812 id=7f3a1c`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLevelsAreSyslogsSeverities(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j := &Journal{Service: "x", Group: "auth", Debug: true, socket: path}
	for level, want := range map[Level]string{Alert: "<81>", Err: "<83>", Warning: "<84>", Notice: "<85>", Info: "<86>", Debug: "<87>"} {
		j.Line(level, "a", "b")
		if got := receive(t, l); !strings.HasPrefix(got, want+"x[0]: ") {
			t.Errorf("level %d is logged as %s", level, got)
		}
	}
}

func TestTheTagIsAWord(t *testing.T) {
	for in, want := range map[string]string{
		"sshd":                  "sshd",
		"vsftpd.d-x_1":          "vsftpd.d-x_1",
		"a b:c[1]<2>\n(d)":      "abc12d",
		"müller":                "mller",
		"":                      "pam_authn",
		"\xff":                  "pam_authn",
		strings.Repeat("x", 40): strings.Repeat("x", 32),
	} {
		if got := tag(in); got != want {
			t.Errorf("tag(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestDebugIsSilentUnlessAskedFor(t *testing.T) {
	r, w := pipe(t)
	j := &Journal{Service: "sshd", Group: "auth", Stderr: w}
	j.Debugf("step %d", 1)
	j.Line(Debug, "a", "b")
	j.Debug = true
	j.Debugf("step %d", 2)
	if got, want := readLine(t, r), "sshd[0]: pam_authn(sshd:auth): debug=\"step 2\"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.Close()
		_ = w.Close()
	})
	return r, w
}

// readLine reads what one write has written.
func readLine(t *testing.T, r *os.File) string {
	t.Helper()
	buf := make([]byte, 2*maxLine)
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := r.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// The values of strangers are bounded, as they are written.
func TestTheResultCannotBePushedOffALine(t *testing.T) {
	r, w := pipe(t)
	j := &Journal{Service: strings.Repeat("s", 99), Group: "open_session", Pid: 1 << 22, ID: "7f3a1c", Stderr: w}
	long := strings.Repeat("\xff", 64<<10)
	j.Line(Err, "provider", long, "user", long, "subject", long, "claimed_subject", long, "rhost", long,
		"tty", long, "ruser", long, "result", "auth_err", "reason", long, "ms", "1")
	got := readLine(t, r)
	if len(got) >= maxLine || !strings.HasSuffix(got, " ms=1 id=7f3a1c\n") || !strings.Contains(got, " result=auth_err ") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}

func TestALineTooLongStillEnds(t *testing.T) {
	r, w := pipe(t)
	j := &Journal{Stderr: w}
	var fields []string
	for range 10 {
		fields = append(fields, "reason", strings.Repeat("x", maxReason))
	}
	j.Line(Err, fields...)
	if got := readLine(t, r); len(got) != maxLine || !strings.HasSuffix(got, "x\n") {
		t.Errorf("%d bytes, ending in %q", len(got), got[len(got)-2:])
	}
}

// fill writes until the descriptor takes no more.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for size := 4096; size > 0; {
		if _, err := unix.Write(fd, make([]byte, size)); errors.Is(err, unix.EAGAIN) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

// within fails if fn takes longer than d.
func within(t *testing.T, d time.Duration, fn func()) {
	t.Helper()
	began := time.Now()
	fn()
	if took := time.Since(began); took > d {
		t.Errorf("it took %v", took)
	}
}

func TestAPipeThatNobodyReadsHoldsUpOnce(t *testing.T) {
	t.Parallel()
	r, w := pipe(t)
	fill(t, int(w.Fd()))
	j := &Journal{Stderr: w}
	within(t, 3*patience, func() { j.Line(Err, "a", "b") })
	within(t, patience/2, func() {
		for range 100 {
			j.Line(Err, "a", "b")
		}
	})
	_ = w.Close()
	if data, err := io.ReadAll(r); err != nil || len(bytes.Trim(data, "\x00")) > 0 {
		t.Errorf("written all the same: %q, %v", bytes.Trim(data, "\x00"), err)
	}
}

func TestASyslogThatNobodyReadsHoldsUpOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	j := &Journal{socket: path}
	within(t, 3*patience, func() {
		for !j.stuck.Load() {
			j.Line(Err, "a", "b")
		}
	})
	within(t, patience/2, func() {
		for range 20 {
			j.Line(Err, "a", "b")
		}
	})
}

func TestALogThatIsGoneIsNoMatter(t *testing.T) {
	j := &Journal{socket: filepath.Join(t.TempDir(), "none")}
	j.Line(Err, "a", "b")
	r, w := pipe(t)
	_ = r.Close()
	j = &Journal{Stderr: w}
	j.Line(Err, "a", "b")
}

// The descriptor is the host's too, and so are its flags.
func TestTheHostsStandardErrorKeepsItsFlags(t *testing.T) {
	for _, flag := range []int{0, unix.O_NONBLOCK} {
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|flag); err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fds[1]), "host's stderr")
		(&Journal{Stderr: f}).Line(Err, "a", "b")
		if got, err := unix.FcntlInt(uintptr(fds[1]), unix.F_GETFL, 0); err != nil || got&unix.O_NONBLOCK != flag {
			t.Errorf("flags %#o, %v, want %#o", got, err, flag)
		}
		_ = f.Close()
		_ = unix.Close(fds[0])
	}
}

func TestLineLeavesItsArgumentsAlone(t *testing.T) {
	_, w := pipe(t)
	args := append(make([]string, 0, 8), "a", "b")
	(&Journal{ID: "7f3a1c", Stderr: w}).Line(Err, args...)
	if got := args[:4]; got[2] != "" {
		t.Errorf("they are %q now", got)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package limits_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/pamshim/worker/internal/limits"
)

// childEnv makes this binary a process that uses the store in that folder, as
// often as its argument says, and prints how often it was allowed.
const childEnv = "AUTHN_LIMITS_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		var n, allowed int
		if _, err := fmt.Sscan(os.Args[1], &n); err != nil {
			panic(err)
		}
		s := &limits.Store{Dir: dir}
		for range n {
			ok, err := s.Allow("push/mittens", 50, time.Hour)
			if err != nil {
				panic(err)
			}
			if ok {
				allowed++
			}
		}
		fmt.Println(allowed)
		return
	}
	os.Exit(m.Run())
}

// A step sets the clock and tries.
type step struct {
	at     time.Duration // since the beginning
	key    string
	n      int
	window time.Duration
	want   bool
}

func TestAllow(t *testing.T) {
	tests := []struct {
		name  string
		steps []step
	}{
		{"the_first_n_are_allowed", []step{
			{0, "a", 2, time.Hour, true},
			{1, "a", 2, time.Hour, true},
			{2, "a", 2, time.Hour, false},
			{3, "a", 2, time.Hour, false},
		}},
		{"keys_are_counted_apart", []step{
			{0, "a", 1, time.Hour, true},
			{0, "b", 1, time.Hour, true},
			{0, "a\x00", 1, time.Hour, true},
			{0, "", 1, time.Hour, true},
			{1, "a", 1, time.Hour, false},
			{1, "b", 1, time.Hour, false},
		}},
		{"the_window_slides", []step{
			{0, "a", 2, time.Minute, true},
			{40 * time.Second, "a", 2, time.Minute, true},
			{59 * time.Second, "a", 2, time.Minute, false},
			{time.Minute, "a", 2, time.Minute, true},
			{99 * time.Second, "a", 2, time.Minute, false},
			{100 * time.Second, "a", 2, time.Minute, true},
		}},
		{"a_refused_use_does_not_count", []step{
			{0, "a", 1, time.Minute, true},
			{30 * time.Second, "a", 1, time.Minute, false},
			{time.Minute, "a", 1, time.Minute, true},
		}},
		{"a_lower_limit_counts_what_was_allowed_before", []step{
			{0, "a", 3, time.Hour, true},
			{1, "a", 3, time.Hour, true},
			{2, "a", 2, time.Hour, false},
			{2, "a", 3, time.Hour, true},
		}},
		{"a_shorter_window_forgets_sooner", []step{
			{0, "a", 1, time.Hour, true},
			{2 * time.Minute, "a", 1, time.Minute, true},
			{2 * time.Minute, "a", 1, time.Hour, false},
		}},
		{"another_keys_window_ends_by_itself", []step{
			{0, "a", 1, 24 * time.Hour, true},
			{0, "b", 1, time.Second, true},
			{time.Second, "b", 1, time.Second, true},
			{24*time.Hour - 1, "a", 1, 24 * time.Hour, false},
			{24 * time.Hour, "a", 1, 24 * time.Hour, true},
		}},
		{"a_clock_set_back_does_not_allow_more", []step{
			{100 * time.Hour, "a", 1, time.Minute, true},
			{0, "a", 1, time.Minute, false},
			{30 * time.Second, "a", 1, time.Minute, false},
		}},
		{"nor_does_it_refuse_for_long", []step{
			{100 * time.Hour, "a", 1, time.Minute, true},
			{0, "a", 1, time.Minute, false},
			{time.Minute, "a", 1, time.Minute, true},
		}},
		{"a_clock_set_back_a_little_does_neither", []step{
			{10 * time.Second, "a", 1, time.Minute, true},
			{0, "a", 1, time.Minute, false},
			{59 * time.Second, "a", 1, time.Minute, false},
			{60 * time.Second, "a", 1, time.Minute, true},
		}},
		{"a_clock_set_ahead_ends_windows", []step{
			{0, "a", 1, time.Hour, true},
			{9000 * time.Hour, "a", 1, time.Hour, true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			begin := time.Unix(1_700_000_000, 0)
			dir, now := t.TempDir(), begin
			for i, s := range tt.steps {
				now = begin.Add(s.at)
				store := &limits.Store{Dir: dir, Now: func() time.Time { return now }} // a new process each time
				if got, err := store.Allow(s.key, s.n, s.window); got != s.want || err != nil {
					t.Errorf("step %d: %v, %v", i, got, err)
				}
			}
		})
	}
}

func store(t *testing.T) *limits.Store {
	t.Helper()
	return &limits.Store{Dir: t.TempDir()}
}

func use(t *testing.T, s *limits.Store, key string) {
	t.Helper()
	if ok, err := s.Allow(key, 1000, time.Hour); !ok || err != nil {
		t.Fatalf("Allow(%q) = %v, %v", key, ok, err)
	}
}

func TestTheFilesAreForTheOwnerAlone(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	s := store(t)
	use(t, s, "a")
	use(t, s, "b")
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
		}
	}
	if got := strings.Join(names, " "); got != "limits limits.lock" {
		t.Errorf("there are %s", got)
	}
}

func TestKeysCannotBeReadFromTheFile(t *testing.T) {
	s, other := store(t), store(t)
	for _, key := range []string{"mittens@example.com", "m"} {
		use(t, s, key)
		use(t, other, key)
	}
	data, err := os.ReadFile(filepath.Join(s.Dir, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("mittens")) {
		t.Error("a key is in the file")
	}
	otherData, err := os.ReadFile(filepath.Join(other.Dir, "limits"))
	if err != nil {
		t.Fatal(err)
	}
	const record, hash = 32, 16
	for at := len(data) - 2*record; at < len(data); at += record {
		if bytes.Contains(otherData, data[at:at+hash]) {
			t.Error("the same key looks the same in another machine's file")
		}
	}
}

func TestADamagedFileIsNotAnEmptyOne(t *testing.T) {
	tests := []struct {
		name   string
		damage func(data []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut_in_the_header", func(d []byte) []byte { return d[:20] }},
		{"cut_in_a_record", func(d []byte) []byte { return d[:len(d)-1] }},
		{"longer_by_a_byte", func(d []byte) []byte { return append(d, 0) }},
		{"another_version", func(d []byte) []byte { d[13]++; return d }},
		{"something_else", func(d []byte) []byte { return bytes.Repeat([]byte("x"), len(d)) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := store(t)
			use(t, s, "a")
			path := filepath.Join(s.Dir, "limits")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			damaged := tt.damage(data)
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			want := path + " is damaged: remove it to start counting anew"
			if ok, err := s.Allow("a", 1000, time.Hour); ok || err == nil || err.Error() != want {
				t.Errorf("Allow = %v, %v", ok, err)
			}
			if err := s.Check(); err == nil || err.Error() != want {
				t.Errorf("Check = %v", err)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, damaged) {
				t.Error("the file was changed")
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			use(t, s, "a")
		})
	}
}

// What a call that was killed left behind is written over.
func TestALeftoverIsNoMatter(t *testing.T) {
	s := store(t)
	use(t, s, "a")
	left := filepath.Join(s.Dir, "limits.new")
	if err := os.WriteFile(left, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	use(t, s, "a")
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if ok, err := s.Allow("a", 2, time.Hour); ok || err != nil {
		t.Errorf("the third use is %v, %v", ok, err)
	}
}

func TestAFullStoreRefusesAndEmptiesItself(t *testing.T) {
	begin := time.Now()
	now := begin
	s := &limits.Store{Dir: t.TempDir(), Now: func() time.Time { return now }}
	use(t, s, "a")
	path := filepath.Join(s.Dir, "limits")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const record = 32
	header, one := data[:len(data)-record], data[len(data)-record:]
	if err := os.WriteFile(path, append(header, bytes.Repeat(one, limits.MaxRecords)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Allow("b", 1, time.Hour); ok || !errors.Is(err, limits.ErrFull) {
		t.Errorf("another key: %v, %v", ok, err)
	}
	if ok, err := s.Allow("a", 1, time.Hour); ok || err != nil {
		t.Errorf("a key that is refused anyway: %v, %v", ok, err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<19+100 {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	now = begin.Add(time.Hour)
	use(t, s, "b")
	if info, err := os.Stat(path); err != nil || info.Size() != int64(len(data)) {
		t.Errorf("after its windows the file has %d bytes, %v", info.Size(), err)
	}
}

func TestAStoreThatCannotBeUsedIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(path string) error{
		"no_folder":       func(string) error { return nil },
		"a_link_as_lock":  func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Symlink("x", p+"/limits.lock")) },
		"a_folder_as_it":  func(p string) error { return os.MkdirAll(p+"/limits", 0o700) },
		"a_folder_as_new": func(p string) error { return os.MkdirAll(p+"/limits.new", 0o700) },
		"a_link_as_new":   func(p string) error { return errors.Join(os.Mkdir(p, 0o700), os.Symlink("x", p+"/limits.new")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &limits.Store{Dir: filepath.Join(dir, name)}
			if err := make(s.Dir); err != nil {
				t.Fatal(err)
			}
			if ok, err := s.Allow("a", 1, time.Hour); ok || err == nil {
				t.Errorf("Allow = %v, %v", ok, err)
			}
		})
	}
}

func TestManyAtOnceAreCountedExactly(t *testing.T) {
	s := store(t)
	var allowed atomic.Int32
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 5 {
				ok, err := s.Allow("push/mittens", 20, time.Hour)
				if err != nil {
					t.Error(err)
				}
				if ok {
					allowed.Add(1)
				}
			}
		})
	}
	all.Wait()
	if allowed.Load() != 20 {
		t.Errorf("%d were allowed, want 20", allowed.Load())
	}
}

func TestManyProcessesAreCountedExactly(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var sum atomic.Int32
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			cmd := exec.Command(self, "15")
			cmd.Env = append(os.Environ(), childEnv+"="+dir, "GORACE=atexit_sleep_ms=0")
			out, err := cmd.Output()
			var n int32
			if _, scanErr := fmt.Sscan(string(out), &n); err != nil || scanErr != nil {
				t.Errorf("%v, %s", err, out)
			}
			sum.Add(n)
		})
	}
	all.Wait()
	if sum.Load() != 50 {
		t.Errorf("%d were allowed, want 50", sum.Load())
	}
}

// A call that hangs with the lock must not hang the next one.
func TestALockThatIsHeldIsAnError(t *testing.T) {
	s := store(t)
	use(t, s, "a")
	f, err := os.Open(filepath.Join(s.Dir, "limits.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if ok, err := s.Allow("a", 9, time.Hour); ok || !errors.Is(err, unix.EWOULDBLOCK) {
			t.Errorf("Allow = %v, %v", ok, err)
		}
		if took := time.Since(began); took < time.Second || took > 10*time.Second {
			t.Errorf("it waited %v", took)
		}
	})
}

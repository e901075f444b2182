// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pam-authn/pam-authn/pamshim/hosttest"
)

var sanitizers = []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"}

var sanitizedHost = sync.OnceValues(func() (string, error) {
	return compile("sanitized-host", slices.Concat(sanitizers, hostSources, []string{"-lpam", "-pthread", "-ldl"})...)
})

var sanitizedModule = sync.OnceValues(func() (string, error) {
	sources, err := filepath.Glob("../module/*.c")
	if err != nil {
		return "", err
	}
	sources = append(sources, "../frame/frame.c", "../frame/duration.c", "../safefile/safefile.c")
	return compile("sanitized.so", slices.Concat(sanitizers, sources, []string{"-shared", "-fPIC", "-fvisibility=hidden", "-lpam"})...)
})

// sanitize puts the sanitized module and host in their places, and returns the
// host's environment. A host that ends with anything but 0, because of a leak
// for example, fails the test.
func sanitize(t *testing.T, m *hosttest.Machine) []string {
	t.Helper()
	m.Install(must(t, sanitizedModule), tree.Module(), 0o644)
	m.Install(must(t, sanitizedHost), hostPath, 0o755)
	return []string{"PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_stack_use_after_return=1", "UBSAN_OPTIONS=print_stacktrace=1"}
}

func TestSanitizersFindNothing(t *testing.T) {
	for _, traits := range []string{"", "reaps", "ignores,masks,no_stdio", "threads", "alarms=1000", "holds", "cancelled=3000", "leaves"} {
		t.Run("host "+traits, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			env := sanitize(t, m)
			calls, code := sixCalls, success
			if traits == "leaves" || traits == "cancelled=3000" {
				calls, code = "a", 26                            // the host's own word for it
				env = append(env, "LSAN_OPTIONS=detect_leaks=0") // libpam's
			}
			for _, r := range start(t, m, spec{traits: traits, env: env, calls: calls, repeat: soak()}).play(nil) {
				if r.code != code {
					t.Errorf("%s returned %d", r.call, r.code)
				}
			}
		})
	}
	t.Run("garbage", func(t *testing.T) {
		t.Parallel()
		m := newGarbageMachine(t, "20s", quickGarbage...)
		env := sanitize(t, m)
		for _, g := range quickGarbage {
			t.Run(g.name, func(t *testing.T) { g.check(t, m, spec{calls: "a", env: env}) })
		}
	})
	for _, g := range slowGarbage {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			m := newGarbageMachine(t, "100ms", g)
			g.check(t, m, spec{calls: "a", env: sanitize(t, m)})
		})
	}
}

func TestValgrindFindsNothing(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "valgrind")
	valgrind := []string{"valgrind", "-q", "--error-exitcode=88", "--leak-check=full", "--errors-for-leak-kinds=definite",
		"--child-silent-after-fork=yes", "--trace-children=no"}
	for _, r := range start(t, m, spec{wrap: valgrind}).play(nil) {
		if r.code != success {
			t.Errorf("%s returned %d", r.call, r.code)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package libpam

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// Where the worker or the provider cannot be had, nobody waits. The aim is
// 100 ms, which a loaded machine may miss: the times are for reading (-v).
func TestRefusalsAreQuick(t *testing.T) {
	const line = "auth required $MODULE worker=$DIR/worker provider=$DIR/authn-scenario config=$DIR/scenario.yaml\n"
	for name, breakIt := range map[string]func(t *testing.T, worker, provider string){
		"no_worker":                func(t *testing.T, worker, _ string) { must(t, os.Remove(worker)) },
		"worker_not_executable":    func(t *testing.T, worker, _ string) { must(t, os.Chmod(worker, 0o644)) },
		"worker_of_somebody_else":  func(t *testing.T, worker, _ string) { must(t, os.Chown(worker, pamtest.AliceUID, -1)) },
		"worker_no_worker":         func(t *testing.T, worker, _ string) { pamtest.CopyFile(t, "/bin/true", worker, 0o755) },
		"worker_no_program":        func(t *testing.T, worker, _ string) { must(t, os.WriteFile(worker, []byte("x"), 0o755)) },
		"no_provider":              func(t *testing.T, _, provider string) { must(t, os.Remove(provider)) },
		"provider_not_executable":  func(t *testing.T, _, provider string) { must(t, os.Chmod(provider, 0o644)) },
		"provider_for_all_to_edit": func(t *testing.T, _, provider string) { must(t, os.Chmod(provider, 0o777)) },
		"provider_no_provider":     func(t *testing.T, _, provider string) { pamtest.CopyFile(t, "/bin/true", provider, 0o755) },
		"provider_no_program":      func(t *testing.T, _, provider string) { must(t, os.WriteFile(provider, []byte("x"), 0o755)) },
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			a := newApp(t, "alice", line, "{}\n")
			tree := pamtest.Shared(t)
			worker, provider := a.path("worker"), a.path("authn-scenario")
			pamtest.CopyFile(t, tree.Worker(), worker, 0o755)
			pamtest.CopyFile(t, tree.Provider("scenario"), provider, 0o755)
			breakIt(t, worker, provider)
			began := time.Now()
			a.want("system_err", a.tx.Authenticate(0))
			d := time.Since(began)
			t.Logf("refused in %v", d.Round(100*time.Microsecond))
			if d > late {
				t.Errorf("refused after %v", d)
			}
			a.wantOneSentence()
			if n := len(a.log()); n != 1 {
				t.Errorf("%d lines in the log, want one:\n%s", n, strings.Join(a.log(), "\n"))
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What all calls share lies in files of the machine. The tests below change
// them and run alone.

func TestWithoutTheUserNobodyGetsIn(t *testing.T) {
	pamtest.Root(t)
	edit(t, "/etc/passwd", func(text string) string { return strings.ReplaceAll(text, "\nauthn:", "\nother:") })
	a := newApp(t, "alice", "auth required $AUTHN\n", "{}\n")
	a.want("system_err", a.tx.Authenticate(0))
	a.wantOneSentence()
	want := `reason="there is no user authn for the provider to run as: make one with: adduser --system --group --no-create-home authn"`
	if log := a.lastLog(); !strings.Contains(log, want) {
		t.Errorf("the log says %s", log)
	}
}

func TestTheUserMustNotBeRoot(t *testing.T) {
	for name, row := range map[string]string{
		"uid_0": "\nauthn:x:0:19990:", "gid_0": "\nauthn:x:19990:0:", "nobody's_uid": "\nauthn:x:65534:19990:",
	} {
		t.Run(name, func(t *testing.T) {
			pamtest.Root(t)
			edit(t, "/etc/passwd", func(text string) string { return strings.ReplaceAll(text, "\nauthn:x:19990:19990:", row) })
			a := newApp(t, "alice", "auth required $AUTHN\n", "{}\n")
			a.want("system_err", a.tx.Authenticate(0))
			if log := a.lastLog(); !strings.Contains(log, "is nobody for a provider to run as") {
				t.Errorf("the log says %s", log)
			}
		})
	}
}

const limitsFile = "/var/lib/authn/limits"

func TestADamagedStoreAllowsNothing(t *testing.T) {
	pamtest.Root(t)
	a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{allow: $SERVICE, n: 1000, window: 1h}]\n")
	a.want("success", a.tx.Authenticate(0))
	for name, change := range map[string]func(string) string{
		"cut":     func(text string) string { return text[:len(text)-1] },
		"empty":   func(string) string { return "" },
		"garbage": func(string) string { return "all are welcome" },
	} {
		t.Run(name, func(t *testing.T) {
			edit(t, limitsFile, change)
			a.want("system_err", a.tx.Authenticate(0))
			if log := a.lastLog(); !strings.Contains(log, limitsFile+" is damaged: remove it to start counting anew") {
				t.Errorf("the log says %s", log)
			}
		})
	}
	a.want("success", a.tx.Authenticate(0))
}

func TestAStoreOfSomebodyElseAllowsNothing(t *testing.T) {
	pamtest.Root(t)
	a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{allow: $SERVICE, n: 1000, window: 1h}]\n")
	a.want("success", a.tx.Authenticate(0))
	must(t, os.Chown("/var/lib/authn", pamtest.AliceUID, -1))
	t.Cleanup(func() { must(t, os.Chown("/var/lib/authn", 0, -1)) })
	a.want("system_err", a.tx.Authenticate(0))
	if log := a.lastLog(); !strings.Contains(log, "/var/lib/authn is not a folder of root's alone") {
		t.Errorf("the log says %s", log)
	}
}

func TestTheWindowOfAllowEnds(t *testing.T) {
	pamtest.Root(t)
	t.Parallel()
	a := newApp(t, "alice", "auth required $AUTHN\n", "authenticate: [{allow: $SERVICE, n: 1, window: 5s}]\n")
	began := time.Now()
	a.want("success", a.tx.Authenticate(0))
	for {
		first := time.Now()
		err := a.tx.Authenticate(0)
		if err == nil {
			if d := time.Since(began); d < 5*time.Second {
				t.Errorf("allowed again after %v", d)
			}
			return
		}
		a.want("auth_err", err)
		if first.Sub(began) > 5*time.Second+late {
			t.Fatal("never allowed again")
		}
		time.Sleep(100 * time.Millisecond) // the window is what is tested
	}
}

// edit changes a file until the test ends.
func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	before, err := os.ReadFile(path)
	must(t, err)
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.WriteFile(path, []byte(change(string(before))), info.Mode()))
	t.Cleanup(func() { must(t, os.WriteFile(path, before, info.Mode())) })
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/msteinert/pam/v2"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/pamshim/pamtest"
)

// A person is who is at the prompt.
type person struct {
	answer func(text string) (string, error) // nil: types a password

	mu    sync.Mutex
	shown []shown
}

// shown is a text on the person's screen.
type shown struct {
	style pam.Style
	text  string
}

// RespondPAM implements [pam.ConversationHandler].
func (p *person) RespondPAM(style pam.Style, text string) (string, error) {
	p.mu.Lock()
	p.shown = append(p.shown, shown{style, text})
	p.mu.Unlock()
	switch {
	case style == pam.TextInfo || style == pam.ErrorMsg:
		return "", nil
	case p.answer != nil:
		return p.answer(text)
	}
	return "a password", nil
}

func (p *person) saw(style pam.Style) (texts []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.shown {
		if s.style == style {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// An outcome is what a call came to.
type outcome struct {
	result authn.Result
	took   time.Duration
	env    map[string]string
	lines  []string // of the log, of this call
	left   []string // processes
	peak   int      // kB that the worker had in memory
}

// A step is what a test does to a call while it runs.
type step struct {
	at  string                     // the mark that the provider leaves
	do  func(worker, provider int) // what then happens
	ran atomic.Bool
}

// call makes one call of PAM on a thread of its own, whose children can then be
// counted.
func (p *place) call(t *testing.T, who *person, kind authn.Call, s *step) outcome {
	t.Helper()
	return p.callFrom(t, who, kind, s, func() {})
}

// callFrom is call after setup has run on the thread.
func (p *place) callFrom(t *testing.T, who *person, kind authn.Call, s *step, setup func()) outcome {
	t.Helper()
	before := len(pamtest.Log(t, p.name))
	o := p.run(t, who, kind, s, setup)
	o.lines = pamtest.Log(t, p.name)[before:]
	return o
}

// run is callFrom without a look at the log.
func (p *place) run(t *testing.T, who *person, kind authn.Call, s *step, setup func()) (o outcome) {
	t.Helper()
	ch := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		setup()
		var err error
		o, err = p.transact(who, kind, s)
		ch <- err
	}()
	if err := <-ch; err != nil {
		t.Fatal(err)
	}
	return o
}

func (p *place) transact(who *person, kind authn.Call, s *step) (o outcome, err error) {
	tx, err := pam.StartConfDir(p.name, "root", who, p.m.services)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, tx.End()) }()
	tid := syscall.Gettid()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() { stopped <- p.watch(tid, s, stop) }()

	began := time.Now()
	o.result = resultOf(one(tx, kind))
	o.took = time.Since(began)
	o.left = p.processes()
	for _, pid := range children(os.Getpid(), tid) {
		if !slices.Contains(p.known, pid) {
			o.left = append(o.left, fmt.Sprintf("%d, a child of the application", pid))
		}
	}
	close(stop)
	o.peak = <-stopped
	if len(o.left) > 0 {
		purge(p.uid)
	}
	o.env, err = tx.GetEnvList()
	return o, err
}

func one(tx *pam.Transaction, kind authn.Call) error {
	switch kind {
	case authn.CallSetCred:
		return tx.SetCred(pam.EstablishCred)
	case authn.CallAccount:
		return tx.AcctMgmt(0)
	case authn.CallOpenSession:
		return tx.OpenSession(0)
	case authn.CallCloseSession:
		return tx.CloseSession(0)
	case authn.CallPassword:
		return tx.ChangeAuthTok(0)
	}
	return tx.Authenticate(0)
}

func resultOf(err error) authn.Result {
	var status pam.Error
	if errors.As(err, &status) {
		return authn.Result(status)
	}
	return authn.Success
}

// watch follows the worker of the thread's call: it keeps the most memory that
// the worker was seen to have, and takes the step when its time has come.
func (p *place) watch(tid int, s *step, stop <-chan struct{}) (peak int) {
	for {
		select {
		case <-stop:
			return peak
		case <-time.After(5 * time.Millisecond):
		}
		worker := workerOf(tid)
		if worker == 0 {
			continue
		}
		kb, _ := strconv.Atoi(field(fmt.Sprintf("/proc/%d/status", worker), "VmHWM", 0))
		peak = max(peak, kb)
		if s == nil || s.ran.Load() {
			continue
		}
		if marks, _ := filepath.Glob(fmt.Sprintf("/run/authn/%d-*/at-%s", worker, s.at)); len(marks) > 0 {
			s.take(worker)
		}
	}
}

func (s *step) take(worker int) {
	if s.ran.Swap(true) {
		return
	}
	provider := 0
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", worker))
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		for _, pid := range children(worker, tid) {
			provider = pid
		}
	}
	s.do(worker, provider)
}

// workerOf finds the worker below the waiter of the thread's call, or 0.
func workerOf(tid int) int {
	for _, waiter := range children(os.Getpid(), tid) {
		for _, worker := range children(waiter, waiter) {
			if field(fmt.Sprintf("/proc/%d/status", worker), "Name", 0) == "authn-worker" {
				return worker
			}
		}
	}
	return 0
}

// A fact is a case: what a provider does and what comes of it.
type fact struct {
	mode   string
	arg    string
	words  []string // of the PAM line, besides the timeout
	config string   // more lines of the configuration
	kind   authn.Call
	who    func(text string) (string, error)
	gaveUp bool          // who does, and is told nothing any more
	within time.Duration // if 0, the module's limit, which is the last
	step   *step         // what the test does meanwhile

	want   authn.Result // system_err if 0
	reason string       // what matches the log's reason
	check  func(*testing.T, outcome, *person)
}

// timeout is the line's. The worker keeps it, and where it cannot, the module
// ends the call two seconds later.
const timeout = 3 * time.Second

// busy are the ways to misbehave that need a processor; two of them at the same
// time, or the others would be late.
var (
	busy      = regexp.MustCompile(`^(endless|floods|burns|talks_endlessly|overflows|allocates|leaves_(many|depth|a_writer)|a_main)`)
	processor = make(chan struct{}, 2)
)

// name is the fact's, to be read behind "a provider that".
func (f fact) name() string {
	name := f.mode
	if f.arg != "" {
		name += "=" + strings.ReplaceAll(f.arg, "/", "_")
	}
	if f.config != "" {
		name += ",stepping"
	}
	if f.kind > authn.CallAuthenticate {
		name += "," + f.kind.String()
	}
	return name
}

// sentence is all that a user is told.
var sentence = regexp.MustCompile(`^This login is not possible at the moment \(reference [0-9a-f]{6}\)\.$`)

// reasonOf takes the reason out of the line of a call.
var reasonOf = regexp.MustCompile(`result=(\w+)(?: reason=("(?:[^"\\]|\\.)*"|\S+))?`)

// prove runs the fact and judges what came of it.
func (f fact) prove(t *testing.T, m *machine) (o outcome, reason string) {
	t.Helper()
	p := m.newPlace(t, f.mode, f.arg, append([]string{"timeout=" + timeout.String()}, f.words...)...)
	if f.config != "" {
		p.configure(t, f.mode, f.arg, f.config)
	}
	if f.want == 0 {
		f.want = authn.ErrSystem
	}
	if f.within == 0 {
		f.within = timeout + 3*time.Second
	}
	if busy.MatchString(f.mode) {
		processor <- struct{}{}
		defer func() { <-processor }()
	}
	if f.kind == 0 {
		f.kind = authn.CallAuthenticate
	}
	who := &person{answer: f.who}
	o = p.call(t, who, f.kind, f.step)
	reason = f.judge(t, p, o, who)
	if f.check != nil {
		f.check(t, o, who)
	}
	return o, reason
}

func (f fact) judge(t *testing.T, p *place, o outcome, who *person) (reason string) {
	t.Helper()
	want := f.want
	if want == success {
		want = authn.Success
	}
	if o.result != want {
		t.Errorf("PAM hears %s, want %s", o.result.Error(), want.Error())
	}
	if o.took > f.within {
		t.Errorf("it took %s, want at most %s", o.took, f.within)
	}
	if len(o.left) > 0 {
		t.Errorf("left behind: %s", strings.Join(o.left, "; "))
	}
	if want != authn.Success && f.kind == authn.CallAuthenticate {
		for name := range o.env {
			if strings.HasPrefix(name, "AUTHN_") {
				t.Errorf("%s is in the environment after a refusal", name)
			}
		}
	}
	reason = f.judgeLog(t, o)
	f.judgeScreen(t, want, who)
	p.wantSwept(t)
	return reason
}

// judgeLog wants one line with the result, and the reason in words.
func (f fact) judgeLog(t *testing.T, o outcome) string {
	t.Helper()
	var results [][]string
	for _, line := range o.lines {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
			t.Errorf("a control character is in the log: %q", line)
		}
		if m := reasonOf.FindStringSubmatch(line); m != nil && !strings.Contains(line, " log=") && !strings.Contains(line, " debug=") {
			results = append(results, m)
		}
	}
	if len(results) != 1 {
		t.Errorf("%d lines with a result in the log, want 1:\n%s", len(results), strings.Join(o.lines, "\n"))
		return ""
	}
	reason := results[0][2]
	if unquoted, err := strconv.Unquote(reason); err == nil {
		reason = unquoted
	}
	if results[0][1] != o.result.Error() {
		t.Errorf("the log says %s, PAM heard %s", results[0][1], o.result.Error())
	}
	if !regexp.MustCompile(f.reason).MatchString(reason) {
		t.Errorf("the reason is %q, want %q", reason, f.reason)
	}
	return reason
}

// judgeScreen wants one calm sentence for what is nobody's fault at the prompt.
func (f fact) judgeScreen(t *testing.T, want authn.Result, who *person) {
	t.Helper()
	errs := who.saw(pam.ErrorMsg)
	if want != authn.ErrSystem || f.gaveUp {
		return
	}
	if len(errs) != 1 || !sentence.MatchString(errs[0]) {
		t.Errorf("the user sees %q, want one calm sentence", errs)
	}
}

// wantSwept makes another call, which succeeds, and looks for what is still
// there.
func (p *place) wantSwept(t *testing.T) {
	t.Helper()
	next := p.m.newPlace(t, "succeeds", "", "timeout=30s")
	if o := next.call(t, &person{}, authn.CallAuthenticate, nil); o.result != authn.Success {
		t.Errorf("the next call: %s\n%s", o.result.Error(), strings.Join(o.lines, "\n"))
	}
	for _, uid := range []int{p.uid, next.uid} {
		if left := folders(uid); len(left) > 0 {
			t.Errorf("after the next call there is still %s", strings.Join(left, ", "))
		}
	}
}

// success stands for authn.Success in a fact, where 0 stands for system_err.
const success = authn.Result(-1)

// A table collects what a test prints at its end.
type table struct {
	mu   sync.Mutex
	rows []string
}

func (tb *table) add(name string, o outcome, reason string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if len(reason) > 140 {
		reason = reason[:140] + "..."
	}
	tb.rows = append(tb.rows, fmt.Sprintf("%-52s %5d ms  %4d MB  %-11s %s", name, o.took.Milliseconds(), o.peak>>10, o.result.Error(), reason))
}

func (tb *table) print(t *testing.T) {
	t.Logf("case, time, the worker's memory, result, reason\n%s", strings.Join(tb.rows, "\n"))
}

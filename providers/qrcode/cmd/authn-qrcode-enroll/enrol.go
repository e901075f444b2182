// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/signal"
	"os/user"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/terminal"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/wire"
)

// Limits of typing digits, as at a login.
const (
	maxComparisons = 3
	maxPrompts     = 6
)

// maxRefusals is how many offers are refused before it ends. A child that was
// taken over could go on for ever.
const maxRefusals = 8

// enrol takes in one phone.
func enrol(args []string) (int, error) {
	o := newOptions("enrol")
	link := o.Bool("link", false, "")
	o.StringVar(&o.worker, "worker", "", "")
	o.StringVar(&o.provider, "provider", "", "")
	rest, err := o.parse(args)
	if err != nil {
		return misused, err
	}
	if len(rest) < 2 {
		return misused, wrong("wants ACCOUNT and SUBJECT")
	}
	e := &enrolment{plan: enroll.Plan{Account: rest[0], Subject: rest[1]}, comment: strings.Join(rest[2:], " "), link: *link}
	if err := e.check(); err != nil {
		return misused, wrong("%v", err)
	}
	if e.settings, err = o.settings(); err != nil {
		return failed, err
	}
	if err := e.prepare(); err != nil {
		return failed, err
	}
	return e.run()
}

// An enrolment is root's half: it prints, reads the digits, and writes the line.
type enrolment struct {
	settings *enroll.Settings
	store    *enroll.Store
	plan     enroll.Plan
	comment  string
	link     bool

	child   *enroll.Child
	shown   bool // the code
	signals chan os.Signal
	lines   chan line
	offered *approvers.Approver // verified, and the phone shows the digits
	code    string

	comparisons, prompts, refusals int

	deaf bool // the child takes no frames
}

// A line is one that was typed.
type line struct {
	text string
	err  error
}

func (e *enrolment) check() error {
	if err := enroll.CheckAccount(e.plan.Account); err != nil {
		return err
	}
	if err := approvers.CheckSubject(e.plan.Subject); err != nil {
		return err
	}
	return enroll.CheckComment(e.comment)
}

// prepare finds out before anybody takes out a phone whether it can be done.
func (e *enrolment) prepare() error {
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err != nil {
		return withHint(errors.New("standard input is no terminal, at which the digits are typed"), "over ssh, use ssh -t")
	}
	e.store = enroll.OpenStore(e.settings.Approvers)
	if err := e.store.Prepare(e.plan.Account); err != nil {
		return err
	}
	handle, err := e.store.Handle(e.plan.Account, e.plan.Subject)
	if err != nil {
		return err
	}
	if handle == nil {
		handle = enroll.NewHandle()
	} else {
		fmt.Printf("%s has a passkey here. The same phone would replace it, and the line of the old one\n"+
			"would be of no more use. For another account of the same phone, copy the line.\n", e.plan.Subject)
	}
	e.plan.UserHandle = handle
	e.spelling()
	return nil
}

// spelling points out an account that may be none. It may also be of a
// directory, or be made later.
func (e *enrolment) spelling() {
	var unknown user.UnknownUserError
	if _, err := user.Lookup(e.plan.Account); errors.As(err, &unknown) {
		fmt.Fprintf(os.Stderr, "authn-qrcode-enroll: note: /etc/passwd has no account %s: is that its name?\n", e.plan.Account)
	}
}

func (e *enrolment) run() (int, error) {
	child, err := enroll.StartChild(e.settings.RunAs)
	if err != nil {
		return failed, err
	}
	e.child = child
	defer child.Close()
	e.signals = make(chan os.Signal, 1)
	signal.Notify(e.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(e.signals)
	e.send(&enroll.Message{Type: enroll.TypeStart, Start: &enroll.Start{Config: e.settings.Provider, Plan: e.plan}})
	return e.loop()
}

// loop goes from event to event until it is over.
func (e *enrolment) loop() (int, error) {
	for !e.deaf {
		var done bool
		var code int
		var err error
		select {
		case m, ok := <-e.child.Messages:
			if !ok {
				return failed, nothing(e.child.Why())
			}
			done, code, err = e.said(m)
		case typed := <-e.lines:
			done, code, err = e.typed(typed)
		case <-e.signals:
			fmt.Println()
			e.tell(enroll.TypeFinish, wire.EndHostGone)
			return cancelled, nothing(errors.New("interrupted"))
		}
		if done {
			return code, err
		}
	}
	return failed, nothing(errors.New("the network process does not listen"))
}

// nothing is err with what an administrator wants to know first.
func nothing(err error) error { return fmt.Errorf("nothing was enrolled: %w", err) }

func (e *enrolment) tell(typ, result string) { e.send(&enroll.Message{Type: typ, Result: result}) }

// send tells the child something, which has a moment to take it. One that is
// gone says so itself.
func (e *enrolment) send(m *enroll.Message) {
	if err := e.child.Send(m); errors.Is(err, os.ErrDeadlineExceeded) {
		e.deaf = true
	}
}

// said acts on a message of the child.
func (e *enrolment) said(m *enroll.Message) (done bool, code int, err error) {
	if !e.shown && (m.Type == enroll.TypePhone || m.Type == enroll.TypeOffer) {
		return true, failed, nothing(errors.New("the network process has a phone, and nobody saw a code"))
	}
	switch m.Type {
	case enroll.TypeReady:
		if e.shown {
			return true, failed, nothing(errors.New("the network process wants to show a second code"))
		}
		e.shown = true
		return e.show(m.HP)
	case enroll.TypePhone:
		fmt.Println("A phone has opened it.")
	case enroll.TypeNote:
		fmt.Fprintf(os.Stderr, "authn-qrcode-enroll: note: %s\n", m.Text)
	case enroll.TypeOffer:
		return e.judge(m.Line)
	case enroll.TypeEnd:
		if e.offered != nil {
			fmt.Println() // behind the prompt
		}
		return true, refused, ended(m)
	}
	return false, 0, nil
}

// ended says why the child gave up.
func ended(m *enroll.Message) error {
	err := nothing(errors.New(m.Text))
	switch m.Result {
	case enroll.ResultExpired:
		return withHint(err, "run it again when the phone is at hand")
	case enroll.ResultSecondPhone:
		return withHint(err, "somebody else may have seen the code: run it again, and show it to nobody else")
	case enroll.ResultRelay:
		return withHint(err, "see relay, relay_token, ca_file and proxy of the configuration, and the relay's log")
	}
	return err
}

// show prints the code.
func (e *enrolment) show(hp []byte) (done bool, code int, err error) {
	c := e.settings.Config
	fmt.Printf("\nFor %s to approve logins to %s at %s, with a new key of %s.\n\n", e.plan.Subject, e.plan.Account, c.Host, c.RPID)
	if e.link || c.QR == "off" {
		fmt.Printf("Open this link on the phone:\n\n  %s%s\n\n", c.PageURL, wire.PageLink("", hp))
	} else {
		picture, err := terminal.Draw(wire.PageLink(c.PageURL, hp), terminal.MaxRows, c.Invert)
		if err != nil {
			return true, failed, nothing(err)
		}
		fmt.Print(picture, "Scan this with the phone.\n")
	}
	fmt.Printf("It is good for %d seconds and for one phone; let nobody else see it.\n", enroll.Seconds(c))
	return false, 0, nil
}

// judge takes or refuses what the child offers as proven. Only here are the
// digits drawn.
func (e *enrolment) judge(offer string) (done bool, code int, err error) {
	a, err := e.accept(offer)
	if err != nil {
		return e.refuse(enroll.Plain(err.Error()))
	}
	e.offered = a
	e.send(&enroll.Message{Type: enroll.TypeAccept, Code: e.code})
	fmt.Printf("The phone holds a new %s and shows six digits.\n", kindOf(a))
	e.lines = make(chan line)
	// What was typed before now was typed by somebody who saw no digits.
	_ = unix.IoctlSetInt(0, unix.TCFLSH, unix.TCIFLUSH)
	e.prompt("")
	return false, 0, nil
}

// refuse says why an offer is not taken. The phone may offer something else, a
// few times.
func (e *enrolment) refuse(why string) (done bool, code int, err error) {
	fmt.Fprintf(os.Stderr, "authn-qrcode-enroll: note: refused what the phone offers: %s\n", why)
	e.send(&enroll.Message{Type: enroll.TypeRefuse, Text: why})
	if e.refusals++; e.refusals < maxRefusals {
		return false, 0, nil
	}
	e.tell(enroll.TypeFinish, wire.EndRefused)
	return true, refused, nothing(fmt.Errorf("%d offers were refused", e.refusals))
}

func kindOf(a *approvers.Approver) string {
	if a.Passkey == nil {
		return "sign-in of " + a.Issuer
	}
	return "passkey"
}

func (e *enrolment) accept(offer string) (*approvers.Approver, error) {
	if e.offered != nil {
		return nil, enroll.SecondKey
	}
	a, err := enroll.ParseOffer(offer, e.plan, e.settings.Config)
	if err != nil {
		return nil, err
	}
	taken, err := e.store.Taken(e.plan.Account, a)
	if err != nil {
		return nil, err
	}
	if taken {
		return nil, enroll.KeyExists
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return nil, err
	}
	e.code = fmt.Sprintf("%06d", n)
	a.Comment = e.comment
	return &a, nil
}

// input is what is typed. A line that is longer than any digits is no answer.
var input = bufio.NewReaderSize(os.Stdin, 256)

// prompt asks, and goes on: the answer comes in lines.
func (e *enrolment) prompt(before string) {
	e.prompts++
	fmt.Print(before, "Code shown on the phone: ")
	go func() {
		text, err := readLine(input)
		e.lines <- line{text, err}
	}()
}

func readLine(r *bufio.Reader) (string, error) {
	text, err := r.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		_, err = r.ReadSlice('\n')
		text = nil
	}
	return strings.TrimSpace(string(text)), err
}

// typed compares what was typed with the digits, and writes the line if they
// are right.
func (e *enrolment) typed(typed line) (done bool, code int, err error) {
	if typed.err != nil {
		fmt.Println()
		e.tell(enroll.TypeFinish, wire.EndHostGone)
		if errors.Is(typed.err, io.EOF) {
			typed.err = errors.New("no digits were typed")
		}
		return true, refused, nothing(typed.err)
	}
	if over, code, err := e.meanwhile(); over {
		return true, code, err
	}
	digits := wire.Digits(typed.text)
	switch {
	case len(digits) != len(e.code): // no guess: the Enter key, a slip
	case subtle.ConstantTimeCompare([]byte(digits), []byte(e.code)) == 1:
		return e.write()
	default:
		e.comparisons++
		e.tell(enroll.TypeWrong, "")
	}
	if e.comparisons == maxComparisons || e.prompts == maxPrompts {
		e.tell(enroll.TypeFinish, wire.EndRefused)
		return true, refused, withHint(nothing(errors.New("these are not the digits of the phone")),
			"if the phone of somebody else opened the code, it was seen: run it again, and show it to nobody else")
	}
	e.prompt("Not accepted. ")
	return false, 0, nil
}

// meanwhile hears what the child said before the digits were typed: a second
// phone, for example.
func (e *enrolment) meanwhile() (done bool, code int, err error) {
	for {
		select {
		case m, ok := <-e.child.Messages:
			if !ok {
				return true, failed, nothing(e.child.Why())
			}
			if done, code, err := e.said(m); done {
				return true, code, err
			}
		default:
			return false, 0, nil
		}
	}
}

// write is the only place where an approver comes into being.
func (e *enrolment) write() (done bool, code int, err error) {
	if err := e.store.Add(e.plan.Account, *e.offered); err != nil {
		e.tell(enroll.TypeFinish, wire.EndRefused)
		return true, failed, nothing(err)
	}
	e.tell(enroll.TypeFinish, wire.EndIn)
	audit("enrolled", e.plan.Account, *e.offered)
	fmt.Printf("\n%s can now approve logins to %s. %s has a new line, which is good on every host:\n\n%s\n",
		e.plan.Subject, e.plan.Account, e.store.Path(e.plan.Account), e.offered.Line())
	return true, fine, nil
}

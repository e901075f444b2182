// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/pam-authn/pam-authn/authn"
	"github.com/pam-authn/pam-authn/authn/plugin"
)

// What an author who uses package plugin can do wrong, and what a program that
// was broken into can.
func init() {
	add(map[string]func(){
		"behaves":               author(behaves),
		"panics":                author(func(*authn.Request, authn.Conversation) error { panic("hunter2") }),
		"panics_with_nil_map":   author(func(*authn.Request, authn.Conversation) error { var m map[string]int; m["x"]++; return nil }),
		"panics_in_a_goroutine": author(func(*authn.Request, authn.Conversation) error { go panic("hunter2"); forever(); return nil }),
		"fatal_error":           author(func(*authn.Request, authn.Conversation) error { new(sync.Mutex).Unlock(); return nil }),
		"overflows_its_stack":   author(func(*authn.Request, authn.Conversation) error { return fmt.Errorf("%d", deep(1)) }),
		"ends_its_goroutine":    author(func(*authn.Request, authn.Conversation) error { runtime.Goexit(); return nil }),
		"exits_in_the_call":     author(func(*authn.Request, authn.Conversation) error { os.Exit(0); return nil }),
		"forgets_the_deadline": author(func(*authn.Request, authn.Conversation) error {
			time.Sleep(3500 * time.Millisecond)
			return nil
		}),
		"forgets_an_error":  author(func(_ *authn.Request, c authn.Conversation) error { _, _ = c.PromptSecret("Password: "); return nil }),
		"says_a_bare_error": author(func(*authn.Request, authn.Conversation) error { return errors.New("something") }),
		"a_new_that_panics": func() {
			plugin.Main(func(struct{}, *slog.Logger) (provider, error) { panic("hunter2") })
		},
		"a_new_that_hangs": func() {
			plugin.Main(func(struct{}, *slog.Logger) (provider, error) { forever(); return provider{}, nil })
		},
		"a_main_that_chatters": func() {
			fmt.Fprintln(os.Stderr, "loading ...")
			go flood(os.Stderr, []byte("still here\n"))
			author(behaves)()
		},

		"allocates_much": author(func(*authn.Request, authn.Conversation) error { return allocate(2 << 30) }),
		"writes_much":    author(func(*authn.Request, authn.Conversation) error { return writeFile(10 << 20) }),
		"opens_many":     author(openMany),
		"prints_in_a_call": author(func(*authn.Request, authn.Conversation) error {
			fmt.Println("1|1|tcp|127.0.0.1:1|grpc|")
			return errors.New("printed")
		}),
		"floods_its_stdout": author(func(*authn.Request, authn.Conversation) error { flood(os.Stdout, []byte(text(1000)+"\n")); return nil }),
		"floods_its_stderr": author(func(*authn.Request, authn.Conversation) error { flood(os.Stderr, []byte(text(100)+"\n")); return nil }),
		"prints_a_secret": author(func(_ *authn.Request, c authn.Conversation) error {
			p, err := c.PromptSecret("Password: ")
			if err == nil {
				_, _ = syscall.Write(2, []byte("the password is "+p.Reveal())) // os.Stderr is go-plugin's
				os.Exit(3)
			}
			return err
		}),
	})
}

// provider is a provider whose call does what it is told.
type provider struct {
	call func(*authn.Request, authn.Conversation) error
}

func author(call func(*authn.Request, authn.Conversation) error) func() {
	return func() {
		plugin.Main(func(struct{}, *slog.Logger) (provider, error) { return provider{call}, nil })
	}
}

// Authenticate implements [authn.Authenticator].
func (p provider) Authenticate(_ context.Context, req *authn.Request, conv authn.Conversation) (authn.Identity, error) {
	return authn.Identity{Subject: "chaos"}, p.call(req, conv)
}

func behaves(_ *authn.Request, conv authn.Conversation) error {
	_, err := conv.PromptSecret("Password: ")
	return err
}

func deep(n int) int {
	var room [1 << 10]byte
	room[n%len(room)] = 1
	return deep(n+1) + int(room[(n+1)%len(room)])
}

func allocate(n int) error {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	return fmt.Errorf("had %d bytes", len(b))
}

func writeFile(n int) error {
	return os.WriteFile(folder()+"/large", make([]byte, n), 0o600)
}

// openMany says how many descriptors could be opened.
func openMany(*authn.Request, authn.Conversation) error {
	for n := 0; ; n++ {
		if _, err := syscall.Open("/dev/null", syscall.O_RDONLY, 0); err != nil || n == 1000 {
			return fmt.Errorf("opened %d: %w", n, err)
		}
	}
}

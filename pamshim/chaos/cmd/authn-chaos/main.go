// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Authn-chaos is a provider that misbehaves, for tests: the variable CHAOS,
// which authn.env in its configuration sets, says how, and CHAOS_ARG adds a
// word to that. It speaks the wire by itself where package plugin would not
// let it break a rule. It is never installed.
package main

import (
	"fmt"
	"os"
	"time"
)

// Where the mode and its argument are named. A process that the provider
// starts of its own program is told so by childKey.
const (
	modeKey  = "CHAOS"
	argKey   = "CHAOS_ARG"
	childKey = "CHAOS_CHILD"
)

// modes are the ways to misbehave, by name. Each is a whole program.
var modes = map[string]func(){}

// add adds modes; every file of this package adds its own.
func add(more map[string]func()) {
	for name, run := range more {
		if modes[name] != nil {
			panic("two modes are called " + name)
		}
		modes[name] = run
	}
}

func main() {
	if role := os.Getenv(childKey); role != "" {
		child(role)
		return
	}
	run := modes[os.Getenv(modeKey)]
	if run == nil {
		fmt.Fprintf(os.Stderr, "authn-chaos: error: there is no mode %q\n", os.Getenv(modeKey))
		os.Exit(2)
	}
	run()
}

// folder is the private folder.
func folder() string { return os.Getenv("PLUGIN_UNIX_SOCKET_DIR") }

// arrived leaves a mark in the private folder for the test to see.
func arrived(at string) {
	must(os.WriteFile(folder()+"/at-"+at, nil, 0o600))
}

func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "authn-chaos: error: %v\n", err)
		os.Exit(3)
	}
}

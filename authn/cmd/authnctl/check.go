// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// check becomes the worker: what it finds wrong is what it would refuse.
func check(args []string) (int, error) {
	o := newOptions("check")
	provider := o.String("provider", "", "")
	workerFlag := o.String("worker", "", "")
	files, err := o.parse(args)
	if err != nil {
		return misused, err
	}
	worker, err := locate(*workerFlag, workerName, installedWorker)
	if err != nil {
		return failed, err
	}
	argv := []string{workerName, "check"}
	if *provider != "" {
		name, err := program(*provider, worker)
		if err != nil {
			return failed, err
		}
		argv = append(argv, "-provider="+name)
	}
	argv = append(append(argv, "--"), files...)
	err = syscall.Exec(worker, argv, os.Environ()) //nolint:gosec // the administrator's own
	return failed, fmt.Errorf("%s: %w", worker, err)
}

// showVersion says which versions these are, for a report about them.
func showVersion(args []string) (int, error) {
	o := newOptions("version")
	workerFlag := o.String("worker", "", "")
	rest, err := o.parse(args)
	if err != nil {
		return misused, err
	}
	if len(rest) > 0 {
		return misused, wrong("version takes no %q", rest[0])
	}
	fmt.Printf("authnctl %s\n", version)
	worker, err := locate(*workerFlag, workerName, installedWorker)
	if err != nil {
		return failed, err
	}
	out, err := exec.Command(worker, "version").Output() //nolint:gosec // the administrator's own
	if err != nil {
		return failed, fmt.Errorf("%s version: %w", worker, err)
	}
	fmt.Printf("%s", out)
	return fine, nil
}

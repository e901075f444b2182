// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/syslog"
	"os"

	"github.com/pam-authn/pam-authn/providers/qrcode/internal/approvers"
	"github.com/pam-authn/pam-authn/providers/qrcode/internal/enroll"
)

// audit leaves a line in the system's log, beside those of the logins that
// come of it. All that is in it was checked to be words. It says so if nobody
// listens, and changes nothing of what was done.
func audit(what, account string, a approvers.Approver) {
	text := fmt.Sprintf("%s: account=%s subject=%s credential=%s", what, account, a.Subject, credential(a))
	if by := os.Getenv("SUDO_USER"); enroll.CheckAccount(by) == nil {
		text += " by=" + by
	}
	w, err := syslog.New(syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, "authn-qrcode-enroll")
	if err == nil {
		err = w.Notice(text)
		_ = w.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "authn-qrcode-enroll: note: this is not in the system's log: nobody listens at /dev/log")
	}
}

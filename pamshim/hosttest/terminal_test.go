// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package hosttest

import "testing"

func TestNewlines(t *testing.T) {
	var n newlines
	got := ""
	for _, chunk := range []string{"a\r", "\nb\r\r", "\n\r(alice) Password: ", "\r\n10%\r", "20%\r\n", "\r", "\rc"} {
		got += string(n.convert([]byte(chunk)))
	}
	if want := "a\nb\n(alice) Password: \n10%\r20%\nc"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verdicts judges every rule of ours in a file, as "LINE problem text".
func verdicts(t *testing.T, file string) (all []string) {
	t.Helper()
	s, err := readService(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range []string{"auth", "account", "session", "password"} {
		for _, l := range s.stacks[group] {
			if !l.ours() {
				continue
			}
			for _, v := range judge(group, s.stacks[group], l.rule) {
				kind := "notice"
				if v.problem {
					kind = "problem"
				}
				all = append(all, strings.TrimPrefix(l.where(), file+":")+" "+kind+" "+v.text)
			}
		}
	}
	return all
}

func TestJudgements(t *testing.T) {
	const ours = "pam_authn.so provider=x\n"
	tests := []struct{ name, stack, want string }{
		{"required_alone", "auth required " + ours, ""},
		{"requisite_before_unix", "auth requisite " + ours + "auth required pam_unix.so\n", ""},
		{"sufficient_before_deny", "auth required pam_env.so\nauth sufficient " + ours + "auth required pam_deny.so\n", ""},
		{"sufficient_alone", "auth sufficient " + ours, ""},
		{"optional_behind_a_delay", "auth optional pam_faildelay.so\nauth optional " + ours, ""},
		{"required_behind_a_delay", "auth optional pam_faildelay.so\nauth required " + ours, ""},
		{"required_behind_rootok", "auth sufficient pam_rootok.so\nauth required " + ours, ""},
		{"jump_over_deny", "auth [success=1 default=ignore] " + ours + "auth requisite pam_deny.so\nauth required pam_permit.so\n", ""},

		{"sufficient_behind_a_keyring", "auth optional pam_gnome_keyring.so\nauth sufficient " + ours,
			`2 problem control "sufficient" throws a refusal away`},
		{"optional_before_permit", "auth optional " + ours + "auth required pam_permit.so\n",
			`1 problem control "optional" throws a refusal away`},
		{"optional_before_a_condition", "auth optional " + ours + "auth required pam_succeed_if.so uid >= 1000\n",
			`1 problem control "optional" throws a refusal away`},
		{"accidents_let_in", "auth [success=ok system_err=ignore default=die] " + ours + "auth required pam_permit.so\n",
			`1 problem control "success=ok system_err=ignore default=die" throws system_err away`},
		{"jump_too_short", "auth [success=1 default=ignore] " + ours + "auth optional pam_deny.so\nauth required pam_permit.so\n",
			`1 problem control "success=1 default=ignore" throws a refusal away`},
		{"an_outage_lets_in", "auth [success=ok authinfo_unavail=ignore default=die] " + ours + "auth required pam_permit.so\n",
			"1 problem authinfo_unavail: whoever can cut the network gets in"},

		{"either_is_enough", "auth sufficient " + ours + "auth required pam_unix.so\n",
			"1 notice after a refusal here, pam_unix.so (line 2) can still let in: either is enough"},
		{"one_of_two_others", "auth sufficient " + ours + "auth sufficient pam_unix.so\nauth sufficient pam_sss.so\nauth required pam_deny.so\n",
			"1 notice after a refusal here, pam_unix.so (line 2) or pam_sss.so (line 3) can still let in"},
		{"both_others", "auth sufficient " + ours + "auth required pam_unix.so\nauth required pam_sss.so\n",
			"1 notice after a refusal here, pam_unix.so (line 2) with pam_sss.so (line 3) can still let in"},
		{"debian's_common_auth", "auth [success=2 default=ignore] " + ours + "auth [success=1 default=ignore] pam_unix.so\n" +
			"auth requisite pam_deny.so\nauth required pam_permit.so\n",
			"1 notice after a refusal here, pam_unix.so (line 2) can still let in"},
		{"an_outage_leads_elsewhere", "auth [success=done authinfo_unavail=ignore default=die] " + ours + "auth required pam_unix.so\n",
			"1 notice authinfo_unavail: when nobody can be reached, pam_unix.so (line 2) can let in"},
		{"accidents_lead_elsewhere", "auth [success=done system_err=ignore conv_err=ignore default=die] " + ours + "auth required pam_unix.so\n",
			"1 notice after system_err, conv_err here, pam_unix.so (line 2) can still let in"},

		{"account_required", "account required " + ours + "account required pam_unix.so\n", ""},
		{"account_behind_debian's_unix", "account [success=1 default=ignore] pam_unix.so\naccount requisite pam_deny.so\n" +
			"account required pam_permit.so\naccount required " + ours, ""},
		{"account_ignored", "account [success=ok default=ignore] " + ours + "account required pam_unix.so\n",
			`1 notice control "success=ok default=ignore" throws a refusal away`},
		{"account_partly_ignored", "account [success=ok acct_expired=ignore default=bad] " + ours + "account required pam_unix.so\n",
			`1 notice control "success=ok acct_expired=ignore default=bad" throws acct_expired away`},

		{"session_before_env", "session required " + ours + "session required pam_env.so\n", ""},
		{"session_behind_env", "session required pam_env.so\nsession required " + ours, "2 notice behind pam_env.so (line 1)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "svc")
			if err := os.WriteFile(file, []byte(tt.stack), 0o600); err != nil {
				t.Fatal(err)
			}
			got := verdicts(t, file)
			switch {
			case tt.want == "" && len(got) > 0, tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)):
				t.Errorf("got %q\nwant %q", got, tt.want)
			}
		})
	}
}

// The stacks that are shipped say what is to be said about them.
func TestShippedStacks(t *testing.T) {
	files, err := filepath.Glob("../../../../examples/pam.d/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		if filepath.Ext(file) == ".md" {
			continue
		}
		got := strings.Join(verdicts(t, file), "\n")
		if strings.Contains(file, "break-glass") != strings.Contains(got, "authinfo_unavail: when nobody can be reached") ||
			strings.Contains(got, "problem") || strings.Count(got, "\n") > 0 {
			t.Errorf("%s: %s", file, got)
		}
	}
}

func TestKindsOfFiles(t *testing.T) {
	tests := []struct {
		name, data string
		pam        bool
	}{
		{"/etc/pam.d/sshd", "", true},
		{"/etc/pam.d/odd.yaml", "hash: x", true},
		{"/etc/authn/x.yaml", "auth required x", false},
		{"/etc/onepam.json", "{}", false},
		{"/tmp/stack", "# a\n-auth required pam_unix.so\n", true},
		{"/tmp/stack", "@include common-auth\n", true},
		{"/tmp/x.conf", "auth: x\naccount: y\n", false},
	}
	for _, tt := range tests {
		if got := isPAM(tt.name, []byte(tt.data)); got != tt.pam {
			t.Errorf("%s %q: %t", tt.name, tt.data, got)
		}
	}
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
)

func TestRulesAreReadAsLibpamReadsThem(t *testing.T) {
	tests := []struct {
		name, data string
		line       int
		group      string
		control    string
		module     string
		words      []string
	}{
		{"plain", "auth required pam_authn.so provider=x", 1, "auth", "required", "pam_authn.so", []string{"provider=x"}},
		{"blank_and_comment_first", "\n# a comment\n\t\n auth\trequired\tm.so\n", 4, "auth", "required", "m.so", nil},
		{"group_in_capitals", "AUTH required m.so", 1, "auth", "required", "m.so", nil},
		{"group_with_a_dash", "-session optional m.so a", 1, "session", "optional", "m.so", []string{"a"}},
		{"bracketed_control", "account [success=ok  default=die] m.so", 1, "account", "success=ok  default=die", "m.so", nil},
		{"bracketed_word", `auth required m.so [config=/a b] c`, 1, "auth", "required", "m.so", []string{"config=/a b", "c"}},
		{"bracket_inside_a_bracket", `auth required m.so [a=[x\]] b`, 1, "auth", "required", "m.so", []string{"a=[x]", "b"}},
		{"bracket_not_at_the_start", `auth required m.so a=[x y]`, 1, "auth", "required", "m.so", []string{"a=[x", "y]"}},
		{"word_right_behind_a_bracket", `auth required m.so [a]b`, 1, "auth", "required", "m.so", []string{"a", "b"}},
		{"bracket_left_open", `auth required m.so [a b`, 1, "auth", "required", "m.so", []string{"a b"}},
		{"empty_word", `auth required m.so []`, 1, "auth", "required", "m.so", []string{""}},
		{"comment_behind", "auth required m.so a # b", 1, "auth", "required", "m.so", []string{"a"}},
		{"comment_inside_a_word", "auth required m.so a#b c", 1, "auth", "required", "m.so", []string{"a"}},
		{"comment_inside_a_bracket", "auth required m.so [a #b] c", 1, "auth", "required", "m.so", []string{"a "}},
		{"continued", "auth \\\n required \\ \n\tm.so a", 1, "auth", "required", "m.so", []string{"a"}},
		{"continued_over_a_comment_and_a_blank", "\nauth \\\n# no end\n\nrequired m.so a\\\nb", 2, "auth", "required", "m.so", []string{"a", "b"}},
		{"backslash_before_a_comment", "auth required m.so a \\ # b", 1, "auth", "required", "m.so", []string{"a", `\`}},
		{"backslash_inside", `auth required m.so a\b`, 1, "auth", "required", "m.so", []string{`a\b`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules := parseFile("f", tt.data)
			if len(rules) != 1 {
				t.Fatalf("%d rules", len(rules))
			}
			r := rules[0]
			if r.line != tt.line || r.group != tt.group || r.control != tt.control || r.module != tt.module ||
				!slices.Equal(r.words, tt.words) || len(r.faults) > 0 {
				t.Errorf("read as %+v", *r)
			}
		})
	}
}

func TestFaultsOfRules(t *testing.T) {
	tests := []struct{ name, data, want string }{
		{"group", "aut required m.so", `"aut" is no group`},
		{"no_control", "auth", "no control"},
		{"no_module", "auth required", "no module"},
		{"unknown_result", "auth [sucess=ok default=die] m.so", `"sucess" is no result`},
		{"unknown_action", "auth [success=okay] m.so", `"ay" is no result`},
		{"no_action", "auth [success=] m.so", "is no action"},
		{"jump_of_nothing", "auth [success=0] m.so", `"0" is no action`},
		{"no_equals", "auth [success ok] m.so", `no = behind "success"`},
		{"word_for_a_control", "auth requierd m.so", `"requierd" is no result`},
		{"windows", "auth required m.so\r\n", "carriage return"},
		{"continued_by_nothing", "auth required m.so \\\n", "ends with a backslash"},
		{"long", "auth required m.so " + strings.Repeat("x", 1010), "more than 1023 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rules := parseFile("f", tt.data)
			if len(rules) != 1 || !strings.Contains(strings.Join(rules[0].faults, "\n"), tt.want) {
				t.Errorf("%d rules, faults %q", len(rules), rules[0].faults)
			}
		})
	}
}

func TestActions(t *testing.T) {
	a, err := parseActions("success=2 default=die ignore=ignore system_err = reset")
	if err != nil {
		t.Fatal(err)
	}
	for r, want := range map[authn.Result]action{
		authn.Success: 2, authn.ErrAuth: actDie, authn.ErrIgnore: actIgnore, authn.ErrSystem: actReset,
	} {
		if a[r] != want {
			t.Errorf("%s: %d, want %d", r.Error(), a[r], want)
		}
	}
	if a, _ := parseActions("success=ok"); a[authn.ErrAuth] != actBad {
		t.Error("what is not given is not bad")
	}
}

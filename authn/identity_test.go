// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package authn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pam-authn/pam-authn/authn"
)

func TestIdentityCheck(t *testing.T) {
	env := func(name, value string) authn.Identity {
		return authn.Identity{Subject: "mittens", Env: map[string]string{name: value}}
	}
	many := map[string]string{}
	for i := range authn.MaxEnv + 1 {
		many[fmt.Sprintf("AUTHN_%d", i)] = ""
	}
	x := strings.Repeat("x", 5000)
	tests := []struct {
		name string
		id   authn.Identity
		want string // in the error; empty: none
	}{
		{"a_subject_is_enough", authn.Identity{Subject: "Kätzchen Nº 1 <mittens@example.com>"}, ""},
		{"everything_at_its_limit_is_fine", authn.Identity{
			Subject: x[:authn.MaxSubject], Ticket: []byte(x[:authn.MaxTicket]),
			Env: map[string]string{"AUTHN_A9_" + strings.Repeat("Z", 55): x[:authn.MaxEnvValue], "AUTHN_EMPTY": ""},
		}, ""},
		{"a_ticket_may_be_any_bytes", authn.Identity{Subject: "mittens", Ticket: []byte{0, 255, '\n'}}, ""},
		{"no_subject_is_refused", authn.Identity{Ticket: []byte("x")}, "success without saying who"},
		{"a_long_subject_is_refused", authn.Identity{Subject: x[:authn.MaxSubject+1]}, "subject"},
		{"a_newline_in_the_subject_is_refused", authn.Identity{Subject: "mittens\nroot"}, "subject"},
		{"a_nul_in_the_subject_is_refused", authn.Identity{Subject: "mittens\x00"}, "subject"},
		{"invalid_utf8_in_the_subject_is_refused", authn.Identity{Subject: "mittens\xff"}, "subject"},
		{"a_turned_subject_is_refused", authn.Identity{Subject: "mittens\u202etoor"}, "subject"},
		{"a_long_ticket_is_refused", authn.Identity{Subject: "mittens", Ticket: []byte(x[:authn.MaxTicket+1])}, "ticket"},
		{"many_variables_are_refused", authn.Identity{Subject: "mittens", Env: many}, "more than 32"},
		{"another_prefix_is_refused", env("LD_PRELOAD", "x.so"), `"LD_PRELOAD"`},
		{"the_prefix_alone_is_refused", env("AUTHN_", "x"), `"AUTHN_"`},
		{"a_lower_case_name_is_refused", env("AUTHN_code", "x"), `"AUTHN_code"`},
		{"an_equals_sign_in_a_name_is_refused", env("AUTHN_A=B", "x"), `"AUTHN_A=B"`},
		{"a_long_name_is_refused", env("AUTHN_"+strings.ToUpper(x[:59]), "x"), "AUTHN_XXX"},
		{"the_framework's_provider_is_refused", env(authn.EnvProvider, "x"), "the framework's"},
		{"the_framework's_subject_is_refused", env(authn.EnvSubject, "x"), "the framework's"},
		{"the_framework's_id_is_refused", env(authn.EnvID, "x"), "the framework's"},
		{"a_long_value_is_refused", env("AUTHN_A", x[:authn.MaxEnvValue+1]), "the value of AUTHN_A"},
		{"a_newline_in_a_value_is_refused", env("AUTHN_A", "b\nLD_PRELOAD=x"), "the value of AUTHN_A"},
		{"a_nul_in_a_value_is_refused", env("AUTHN_A", "b\x00"), "the value of AUTHN_A"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.id.Check()
			if tt.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tt.want != "" && (!errors.Is(err, authn.ErrSystem) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want system_err about %q", err, tt.want)
			}
		})
	}
}

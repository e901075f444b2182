// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package line_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pam-authn/pam-authn/pamshim/worker/internal/line"
)

// usual is what a line with provider=qrcode says.
func usual(change func(*line.Line)) line.Line {
	l := line.Line{
		Name: "qrcode", Program: "/usr/libexec/authn/providers/authn-qrcode", Config: "/etc/authn/qrcode.yaml",
		Timeout: 90 * time.Second,
	}
	if change != nil {
		change(&l)
	}
	return l
}

func TestParse(t *testing.T) {
	tests := []struct {
		name  string
		words string
		want  line.Line
	}{
		{"a_name_is_enough", "provider=qrcode", usual(nil)},
		{"every_word_is_understood",
			"provider=qrcode config=/c.yaml timeout=1m30s setcred debug log=stderr try_first_pass worker=/w qrcode.a=b",
			line.Line{
				Name: "qrcode", Program: "/usr/libexec/authn/providers/authn-qrcode", Config: "/c.yaml", Worker: "/w",
				Timeout: 90 * time.Second, SetCred: true, Debug: true, Stderr: true, TryFirstPass: true, Args: []string{"a=b"},
			}},
		{"use_first_pass_is_understood", "use_first_pass provider=qrcode", usual(func(l *line.Line) { l.UseFirstPass = true })},
		{"a_path_tells_the_name", "provider=/opt/x/authn-qrcode", usual(func(l *line.Line) { l.Program = "/opt/x/authn-qrcode" })},
		{"a_path_need_not_begin_with_authn", "provider=/opt/authn-x/qrcode", usual(func(l *line.Line) { l.Program = "/opt/authn-x/qrcode" })},
		{"only_one_prefix_is_taken_off", "provider=/opt/authn-authn-x", line.Line{
			Name: "authn-x", Program: "/opt/authn-authn-x", Config: "/etc/authn/authn-x.yaml", Timeout: 90 * time.Second}},
		{"a_name_may_have_digits_and_dashes", "provider=a1-b_2", line.Line{
			Name: "a1-b_2", Program: "/usr/libexec/authn/providers/authn-a1-b_2", Config: "/etc/authn/a1-b_2.yaml", Timeout: 90 * time.Second}},
		{"the_shortest_timeout_is_a_second", "provider=qrcode timeout=1s", usual(func(l *line.Line) { l.Timeout = time.Second })},
		{"the_longest_timeout_is_an_hour", "provider=qrcode timeout=60m", usual(func(l *line.Line) { l.Timeout = time.Hour })},
		{"arguments_keep_their_order_and_their_equals_signs", "qrcode.b=1=2 provider=qrcode qrcode.a= qrcode.c.d=x.y",
			usual(func(l *line.Line) { l.Args = []string{"b=1=2", "a=", "c.d=x.y"} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := line.Parse(strings.Fields(tt.words))
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct {
		name  string
		words []string
		want  []string // one part of each problem, in their order
	}{
		{"no_words", nil, []string{"the word provider= is missing"}},
		{"no_provider", []string{"debug"}, []string{"the word provider= is missing"}},
		{"an_empty_provider", []string{"provider="}, []string{`word "provider=": a provider's name is of small letters`}},
		{"a_provider_without_value", []string{"provider"}, []string{`word "provider" is unknown`}},
		{"a_provider_in_capitals", []string{"provider=QRcode"}, []string{`word "provider=QRcode": a provider's name`}},
		{"a_provider_that_leaves_its_folder", []string{"provider=../x"}, []string{`word "provider=../x": write the whole path`}},
		{"a_provider_that_leaves_its_folder_from_the_root", []string{"provider=/a/../x"}, []string{`word "provider=/a/../x": write the whole path`}},
		{"a_provider_that_is_a_folder", []string{"provider=/a/x/"}, []string{`word "provider=/a/x/": write the whole path`}},
		{"a_provider_that_is_dots", []string{"provider=.."}, []string{"a provider's name"}},
		{"a_provider_that_begins_with_a_digit", []string{"provider=1x"}, []string{"a provider's name"}},
		{"a_provider_with_a_very_long_name", []string{"provider=" + strings.Repeat("x", 33)}, []string{"a provider's name"}},
		{"a_provider_that_is_no_text", []string{"provider=\xff"}, []string{`word "provider=\xff"`}},
		{"a_provider_with_a_newline", []string{"provider=x\ny"}, []string{`word "provider=x\ny"`}},
		{"a_mistyped_word", []string{"provider=x", "setcreds"}, []string{`word "setcreds" is unknown; the words are provider=`}},
		{"a_mistyped_setting", []string{"provider=x", "time-out=3s"}, []string{`word "time-out=3s" is unknown`}},
		{"an_empty_word", []string{"provider=x", ""}, []string{`word "" is unknown`}},
		{"a_flag_with_a_value", []string{"provider=x", "debug=1"}, []string{`word "debug=1" is unknown`}},
		{"a_word_in_capitals", []string{"provider=x", "DEBUG"}, []string{`word "DEBUG" is unknown`}},
		{"a_relative_config", []string{"provider=x", "config=x.yaml"}, []string{`word "config=x.yaml": write the whole path`}},
		{"an_empty_config", []string{"provider=x", "config="}, []string{`word "config=": write the whole path`}},
		{"a_config_with_dots", []string{"provider=x", "config=/etc/../x"}, []string{`word "config=/etc/../x": write the whole path`}},
		{"a_relative_worker", []string{"provider=x", "worker=w"}, []string{`word "worker=w": write the whole path`}},
		{"a_timeout_without_unit", []string{"provider=x", "timeout=90"}, []string{`word "timeout=90": write a duration from 1s to 1h`}},
		{"a_timeout_too_short", []string{"provider=x", "timeout=999ms"}, []string{"write a duration"}},
		{"a_timeout_too_long", []string{"provider=x", "timeout=61m"}, []string{"write a duration"}},
		{"a_negative_timeout", []string{"provider=x", "timeout=-90s"}, []string{"write a duration"}},
		{"another_log", []string{"provider=x", "log=/var/log/x"}, []string{`word "log=/var/log/x": the log goes to syslog`}},
		{"a_word_twice", []string{"provider=x", "debug", "debug"}, []string{`word "debug": debug is given twice`}},
		{"a_setting_twice", []string{"provider=x", "provider=y"}, []string{`word "provider=y": provider is given twice`}},
		{"both_of_the_passes", []string{"provider=x", "try_first_pass", "use_first_pass"}, []string{"exclude each other"}},
		{"another_providers_argument", []string{"provider=x", "y.a=1"}, []string{`word "y.a=1" is for provider "y", but this line's is "x"`}},
		{"an_argument_without_key", []string{"provider=x", "x.=1"}, []string{`word "x.=1" has no key`}},
		{"an_argument_without_provider", []string{"provider=x", ".a=1"}, []string{`word ".a=1" is for provider ""`}},
		{"an_argument_without_value", []string{"provider=x", "x.a"}, []string{`word "x.a" is unknown`}},
		{"an_argument_twice", []string{"provider=x", "x.a=1", "x.a=1"}, []string{`word "x.a=1" has no key, or one that is given twice`}},
		{"arguments_of_a_provider_that_is_not_known", []string{"provider=?", "x.a=1"}, []string{"a provider's name"}},
		{"everything_at_once", []string{"oops", "timeout=x", "config=x", "y.a=1", "provider=x"}, []string{
			`"oops" is unknown`, `"timeout=x"`, `"config=x"`, `"y.a=1"`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := line.Parse(tt.words)
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(tt.want) {
				t.Fatalf("%d problems instead of %d:\n%v", len(got), len(tt.want), err)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("problem %d is\n%s\nwithout\n%s", i, got[i], tt.want[i])
				}
			}
		})
	}
}

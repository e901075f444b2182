// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An edit takes something out of a file, which must be in it once.
type edit struct{ file, old, new string }

// A mutant is the host without one check, or without two where each of them
// suffices, and the attack that must succeed then, or be stopped by something
// else.
type mutant struct {
	check  string
	attack string // of the test's name, and a subtest's
	edits  []edit
	pkg    string // of the attack, relative to providers/qrcode; empty: this one
}

// Files with checks, relative to providers/qrcode.
const (
	passkeyGo  = "internal/proof/passkey.go"
	oidcGo     = "internal/proof/oidc.go"
	attemptGo  = "attempt.go"
	providerGo = "qrcode.go"
	sessionGo  = "internal/host/session.go"
	phoneGo    = "internal/host/phone.go"
	dialGo     = "internal/host/dial.go"
	boxGo      = "internal/wire/box.go"
	messagesGo = "internal/wire/messages.go"
	socketGo   = "internal/wire/socket.go"
	wireGo     = "internal/wire/wire.go"

	registryGo   = "relay/registry.go"
	relayPhoneGo = "relay/phone.go"
	appJS        = "web/static/app.js"
	newPasskeyGo = "internal/enroll/passkey.go"
	enrolGo      = "cmd/authn-qrcode-enroll/enrol.go"
)

// without is a mutant that has these edits.
func without(check, attack string, edits ...edit) mutant {
	return mutant{check: check, attack: attack, edits: edits}
}

// off is a mutant whose condition is never true: "if" and "case" read alike.
func off(file, condition, attack string) mutant {
	return without(condition, attack, never(file, condition))
}

func never(file, condition string) edit {
	for _, word := range []string{"if ", "case "} {
		if c, ok := strings.CutPrefix(condition, word); ok {
			end := map[string]string{"if ": " {", "case ": ":"}[word]
			return edit{file, condition + end, word + "false && (" + c + ")" + end}
		}
	}
	panic(condition)
}

// out is a mutant without a piece of code.
func out(file, code, attack string) mutant {
	return without(strings.TrimSpace(code), attack, edit{file, code, ""})
}

// alone is a mutant without what the library checks once more, either: only then
// the attack succeeds.
func alone(m mutant) mutant {
	m.check += ", and the library's"
	switch m.edits[0].file {
	case passkeyGo:
		m.edits = append(m.edits, edit{passkeyGo, "return refusedByLibrary(err)", "if refusedByLibrary(err) == error(reason.PasskeySignature) {\n\t\t\treturn reason.PasskeySignature\n\t\t}"})
	case oidcGo:
		m.edits = append(m.edits, never(oidcGo, "if refused != nil"), edit{oidcGo, "return token.Subject, nil", "_ = token\n\treturn got.Subject, nil"})
	}
	return m
}

// in is a mutant whose attack is among the tests of another package.
func (m mutant) in(pkg string) mutant {
	m.pkg = pkg
	return m
}

var mutants = slices.Concat(hostMutants, twice(), otherMutants)

// libraryToo are attacks that the libraries' own checks stop, too.
var libraryToo = []string{
	"TestPasskeys/with_the_handle_of_another", "TestPasskeys/made_and_not_used", "TestPasskeys/for_another_challenge",
	"TestReplay/of_the_assertion", "TestPasskeys/on_a_page_of_another_origin", "TestPasskeys/inside_another_page",
	"TestPasskeys/below_another_page", "TestPasskeys/used_for_another_rp_id", "TestPasskeys/without_anybody",
	"TestPasskeys/without_user_verification", "TestPasskeys/with_the_BE_flag_set", "TestPasskeys/with_the_BE_flag_cleared",
	"TestSignIns/of_another_issuer", "TestSignIns/for_another_client", "TestSignIns/expired",
}

// twice are the mutants of these attacks, without the library's check.
func twice() (list []mutant) {
	for _, m := range hostMutants {
		if slices.Contains(libraryToo, m.attack) {
			m.edits = slices.Clone(m.edits)
			list = append(list, alone(m))
		}
	}
	return list
}

// otherMutants are of the relay, the page and the program that enrols.
var otherMutants = []mutant{
	out(registryGo, " || u.pending >= limit", "TestAThousandPendingLogins"),
	off(relayPhoneGo, "if !strings.EqualFold(origin, s.PageOrigin)", "TestTheRealRelayTakesNoNonsense"),
	without("what is new wants a second tap", "TestHostBShowsTheCodeOfHostA", edit{appJS, "if (what.length === 0) return action();", "return action();"}),
	without("page_origin and rp_id are this page's", "TestTheCodeOfAnotherPage", edit{appJS, "if (mine === theirs) continue;", "continue;"}),
	without("who comes back has departed from here", "TestALinkSentToAVictim", edit{appJS, "if (!back) throw new Failure('sent-link');", "if (!back) return view.show('home');"}),

	off(newPasskeyGo, "case c.Type != string(protocol.CreateCeremony)", "TestKeysAreRefused/an_approval_in_its_place").in("internal/enroll"),
	off(newPasskeyGo, "case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(wire.Nonce(te))) != 1", "TestKeysAreRefused/made_for_another_enrolment").in("internal/enroll"),
	off(newPasskeyGo, "case c.Origin != k.Origin", "TestKeysAreRefused/made_on_another_page").in("internal/enroll"),
	off(newPasskeyGo, "case !bytes.Equal(object.AuthData.RPIDHash, hash[:])", "TestKeysAreRefused/made_for_another_rp_id").in("internal/enroll"),
	off(newPasskeyGo, "case !flags.HasUserPresent()", "TestKeysAreRefused/made_without_anybody").in("internal/enroll"),
	off(newPasskeyGo, "case !flags.HasUserVerified()", "TestKeysAreRefused/made_by_nobody_verified").in("internal/enroll"),
	off(newPasskeyGo, "case flags.HasBackupEligible() && k.DeviceBound", "TestKeysAreRefused/synced_where_that_is_forbidden").in("internal/enroll"),
	without("the second signature", "TestKeysAreRefused/a_proof_over_something_else", edit{newPasskeyGo, "return p, checkProof(k, p, wire.EnrollProof(te, object), m.Assertion)", "return p, nil"}).in("internal/enroll"),
	without("the digits", "TestWrongDigitsThreeTimes", edit{enrolGo, "case subtle.ConstantTimeCompare([]byte(digits), []byte(e.code)) == 1:", "case subtle.ConstantTimeCompare(nil, nil) == 1:"}).in("cmd/authn-qrcode-enroll"),
	without("three comparisons", "TestWrongDigitsThreeTimes", edit{enrolGo, "e.comparisons == maxComparisons || ", ""}).in("cmd/authn-qrcode-enroll"),
	without("six prompts", "TestSixPromptsAreEnough", edit{enrolGo, " || e.prompts == maxPrompts", ""}).in("cmd/authn-qrcode-enroll"),
	out(enrolGo, "_ = unix.IoctlSetInt(0, unix.TCFLSH, unix.TCIFLUSH)", "TestDigitsTypedAheadAreDropped").in("cmd/authn-qrcode-enroll"),
}

// hostMutants are of the host. Where two checks do the same, and neither is
// missed alone, both are taken away.
var hostMutants = []mutant{
	// What a passkey signed.
	off(passkeyGo, "if len(assertion) > wire.MaxAssertion", "TestPasskeys/too_large"),
	without("assertion parses", "TestPasskeys/malformed", edit{passkeyGo, "if err != nil {\n\t\treturn nil, reason.PasskeyMalformed\n\t}\n\ta :=", "_ = err\n\ta :="}),
	out(passkeyGo, " && bytes.Equal(p.ID, id)", "TestPasskeys/of_a_stranger"),
	out(passkeyGo, " && bytes.Equal(p.ID, id)", "TestPasskeys/of_another_account"),
	off(passkeyGo, "case p.RPID != k.RPID", "TestPasskeys/enrolled_for_another_rp_id"),
	off(passkeyGo, "case k.DeviceBound && p.BackupEligible", "TestPasskeys/synced_where_that_is_forbidden"),
	off(passkeyGo, "case subtle.ConstantTimeCompare(got.Response.UserHandle, p.UserHandle) != 1", "TestPasskeys/with_the_handle_of_another"),
	off(passkeyGo, "case c.Type != string(protocol.AssertCeremony)", "TestPasskeys/made_and_not_used"),
	off(passkeyGo, "case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(wire.Nonce(challenge))) != 1", "TestPasskeys/for_another_challenge"),
	off(passkeyGo, "case subtle.ConstantTimeCompare([]byte(c.Challenge), []byte(wire.Nonce(challenge))) != 1", "TestReplay/of_the_assertion"),
	off(passkeyGo, "case c.Origin != k.Origin", "TestPasskeys/on_a_page_of_another_origin"),
	off(passkeyGo, "case c.CrossOrigin", "TestPasskeys/inside_another_page"),
	off(passkeyGo, "case c.TopOrigin != nil", "TestPasskeys/below_another_page"),
	off(passkeyGo, "case !bytes.Equal(data.RPIDHash, hash[:])", "TestPasskeys/used_for_another_rp_id"),
	off(passkeyGo, "case !data.Flags.HasUserPresent()", "TestPasskeys/without_anybody"),
	off(passkeyGo, "case !data.Flags.HasUserVerified()", "TestPasskeys/without_user_verification"),
	off(passkeyGo, "case data.Flags.HasBackupEligible() != p.BackupEligible", "TestPasskeys/with_the_BE_flag_set"),
	off(passkeyGo, "case data.Flags.HasBackupEligible() != p.BackupEligible", "TestPasskeys/with_the_BE_flag_cleared"),
	without("the library's own checks", "TestPasskeys/backed_up_but_not_eligible", edit{passkeyGo, "k.checkAuthenticator, k.checkSignature,", "k.checkAuthenticator,"}),
	without("k.checkSignature", "TestPasskeys/with_another_signature", edit{passkeyGo, "k.checkAuthenticator, k.checkSignature,", "k.checkAuthenticator,"}),
	without("k.checkSignature", "TestPasskeys/of_a_stranger_under_a_known_id", edit{passkeyGo, "k.checkAuthenticator, k.checkSignature,", "k.checkAuthenticator,"}),

	// What an issuer signed.
	off(oidcGo, "if !slices.Contains(algorithms, algorithm)", "TestSignIns/alg_none"),
	off(oidcGo, "if !slices.Contains(algorithms, algorithm)", "TestSignIns/alg_HS256_with_the_public_key"),
	off(oidcGo, "if !signed.right", "TestSignIns/signed_with_another_key"),
	off(oidcGo, "if !signed.right", "TestSignIns/changed_after_signing"),
	without("token parses", "TestSignIns/with_a_malformed_token", edit{oidcGo, "if err != nil {\n\t\treturn \"\", reason.OIDCMalformed\n\t}\n\tif !slices", "_ = err\n\tif !slices"}),
	off(oidcGo, "if got.Issuer != i.URL", "TestSignIns/of_another_issuer"),
	out(oidcGo, "len(many) != 1 || ", "TestSignIns/for_another_client_too"),
	out(oidcGo, "many[0] != i.ClientID || ", "TestSignIns/for_another_client"),
	out(oidcGo, ` || (got.Party != "" && got.Party != i.ClientID)`, "TestSignIns/authorized_for_another_client"),
	without("iat is there", "TestSignIns/issued_at_no_time", edit{oidcGo, "if !ok {\n\t\treturn reason.OIDCNoIssuedAt\n\t}", "_ = ok"}),
	off(oidcGo, "if d := now.Sub(issued); d > maxSkew || d < -maxSkew", "TestSignIns/clock_ten_minutes_slow").with("if d := now.Sub(issued); false && (d > maxSkew || d < -maxSkew)"),
	off(oidcGo, "if d := now.Sub(issued); d > maxSkew || d < -maxSkew", "TestSignIns/clock_ten_minutes_fast").with("if d := now.Sub(issued); false && (d > maxSkew || d < -maxSkew)"),
	off(oidcGo, "if !ok || !now.Before(expiry)", "TestSignIns/expired"),
	off(oidcGo, "if subtle.ConstantTimeCompare([]byte(got.Nonce), []byte(wire.Nonce(c.Transcript))) != 1", "TestSignIns/for_another_login"),
	off(oidcGo, "if subtle.ConstantTimeCompare([]byte(got.Nonce), []byte(wire.Nonce(c.Transcript))) != 1", "TestSignIns/for_another_phone"),
	off(oidcGo, "case !ok", "TestSignIns/without_auth_time"),
	off(oidcGo, "case at.Before(c.Start.Add(-authTimeSlack))", "TestSignIns/with_an_old_session"),
	without("a.Sub == sub", "TestSignIns/of_another_person", edit{oidcGo, "a.Sub == sub", `sub != ""`}),
	out(oidcGo, " && a.Issuer == i.URL", "TestSignIns/of_the_same_name_at_another_issuer"),
	without("resp.StatusCode != http.StatusOK", "TestSignIns/with_a_code_that_was_used", edit{oidcGo, "if resp.StatusCode != http.StatusOK {\n\t\treturn \"\", reason.OIDCExchange", "if false {\n\t\treturn \"\", reason.OIDCExchange"}),
	off(oidcGo, `if answer.IDToken == ""`, "TestSignIns/without_an_ID_token"),
	off(oidcGo, "if len(keys) == 0", "TestIssuersThatLie/without_keys"),
	out(oidcGo, " && k.Valid() && k.IsPublic()", "TestIssuersThatLie/with_a_secret_key"),
	without("i.URL == m.Issuer && offered", "TestSignIns/at_an_issuer_that_is_not_configured", edit{attemptGo, "if i.URL == m.Issuer && offered {", "if offered || true {"}),
	off(attemptGo, "if !a.mayExchange()", "TestSignIns/with_more_codes_than_anybody_needs"),
	off(oidcGo, "if refused != nil", "TestSignIns/not_good_yet"),
	without("a verifier for every phone", "TestSignIns/with_a_code_of_another_phone", edit{oidcGo, "if _, err := rand.Read(secret); err != nil {", "if _, err := rand.Read(nil); err != nil {"}),

	// What was shown when it was signed.
	out(messagesGo, "d.RPID, ", "TestTheApprovalOfSomethingElse/another_rp_id"),
	out(messagesGo, "d.PageOrigin, ", "TestTheApprovalOfSomethingElse/another_page"),
	out(messagesGo, "d.Host, ", "TestTheApprovalOfSomethingElse/another_host"),
	out(messagesGo, ", d.Account", "TestTheApprovalOfSomethingElse/another_account"),
	out(messagesGo, "d.Service, ", "TestTheApprovalOfSomethingElse/another_service"),
	out(messagesGo, "d.RHost, ", "TestTheApprovalOfSomethingElse/another_address"),
	out(messagesGo, "d.TTY, ", "TestTheApprovalOfSomethingElse/another_terminal"),
	without("start", "TestTheApprovalOfSomethingElse/another_time", edit{messagesGo, "d.TTY, start)", "d.TTY)"}),
	out(messagesGo, ", string(c.pp)", "TestTheApprovalOfAnotherLogin/on_another_phone_of_this_session"),
	out(messagesGo, "string(c.id[:]), string(c.hp), ", "TestTheApprovalOfAnotherLogin/with_the_same_phone_key"),
	out(wireGo, "b = binary.BigEndian.AppendUint32(b, uint32(len(p)))", "TestTheApprovalOfSomethingElse/fields_run_together"),
	off(providerGo, "if !wire.Printable(req.User)", "TestAnAccountThatNoPhoneCanShow"),

	// Boxes and their numbers.
	without("box: seq", "TestBoxes/sealed_under_another_number", edit{boxGo, "strconv.FormatUint(uint64(seq), 10), typ", `strconv.FormatUint(uint64(seq)*0, 10), typ`}),
	without("box: seq", "TestBoxes/replayed_under_the_next_number", edit{boxGo, "strconv.FormatUint(uint64(seq), 10), typ", `strconv.FormatUint(uint64(seq)*0, 10), typ`}),
	without("box: type", "TestBoxes/sealed_as_another_type", edit{boxGo, "10), typ)", "10))"}),
	without("box: direction, in key and data", "TestBoxes/of_the_other_direction", edit{boxGo, `Version+" "+string(dir), 32`, `Version, 32`}, edit{boxGo, "string(dir),\n", "\n"}),
	without("box: kind, in key and data", "TestBoxes/of_the_other_kind", edit{boxGo, "LP(Version, string(kind), ", "LP(Version, "}, edit{boxGo, "LP(Version, string(c.kind), ", "LP(Version, "}),
	off(boxGo, "if sealed < boxUnit || sealed > MaxPlain || sealed%boxUnit != 0", "TestBoxes/not_padded"),
	without("errors.Is(err, wire.ErrBox)", "TestBoxes/changed", edit{phoneGo, "if errors.Is(err, wire.ErrBox) {\n\t\t\treturn reason.PhoneBox\n\t\t}", ""}),
	without("content is JSON", "TestMessages/a_box_of_no_JSON", edit{phoneGo, "if err != nil {\n\t\t\treturn reason.PhoneContent\n\t\t}", ""}),
	off(phoneGo, "case int(seq) < len(p.answers)", "TestNumbers/other_bytes_under_a_used_number"),
	without("order, when it comes and after a wait", "TestNumbers/out_of_order",
		never(phoneGo, "case int(seq) > len(p.answers)"),
		edit{phoneGo, "p.mu.Lock()\n\t\t\treturn reason.PhoneOrder", "p.mu.Lock()\n\t\t\treturn nil"},
	),
	off(phoneGo, "case p.closed", "TestNumbers/after_that"),
	without("p.answers[seq].digest == digest", "TestARepeatedApprovalIsNone", edit{phoneGo, "p.answers[seq].digest == digest:", "false:"}),
	off(phoneGo, "if seq >= maxMessages", "TestNumbers/too_many_messages"),
	out(phoneGo, "p.closed = p.badBoxes >= maxBadBoxes", "TestNumbers/too_many_boxes_that_do_not_open"),

	// Who a phone is, and what it says.
	without("hello before all else", "TestMessages/without_a_hello", edit{phoneGo, "if p == nil {\n\t\treturn \"\", reason.PhoneUnknown\n\t}", ""}),
	without("hello before all else", "TestReplay/in_the_next_login_without_a_hello", edit{phoneGo, "if p == nil {\n\t\treturn \"\", reason.PhoneUnknown\n\t}", ""}),
	off(phoneGo, "case m.ID != wire.IDString(s.HP())", "TestMessages/hello_to_another_login"),
	off(phoneGo, `case m.SHA1 != "" && (s.cid == nil || m.SHA1 != wire.CIDSHA1(s.cid))`, "TestMessages/hello_with_the_scan_of_another_connection"),
	without("key gives a secret", "TestMessages/hello_with_a_key_that_gives_no_secret", edit{phoneGo, "if err != nil {\n\t\treturn nil, reason.PhoneKey\n\t}", "_ = err"}),
	off(phoneGo, "if len(s.phones) >= s.Phones", "TestPhones/a_fourth"),
	off(phoneGo, "if len(s.phones) >= s.Phones", "TestASecondPhoneAtAnEnrolment"),
	without("s.Kind != wire.Enroll", "TestASecondPhoneAtAnEnrolment", edit{phoneGo, "if s.Kind != wire.Enroll {", "if true {"}),
	off(phoneGo, "case s.Kind != wire.Login", "TestAnEnrolmentHasNoTypedCode"),
	off(phoneGo, "case s.lookups >= maxLookups", "TestTypedCodesAreGuessed/too_often"),
	off(phoneGo, "case subtle.ConstantTimeCompare(m.Proof, wire.Proof(s.typed)) != 1", "TestTypedCodesAreGuessed/once"),
	off(messagesGo, "if len(body) > MaxBody", "TestMalformedMessages"),
	off(messagesGo, "case v != Version", "TestMessages/hello_of_another_version"),
	off(messagesGo, "case p.Seq != 0", "TestMalformedMessages"),
	off(messagesGo, "case !ValidID(p.ID)", "TestMalformedMessages"),
	off(messagesGo, "case len(p.SHA1) > 40", "TestMalformedMessages"),
	off(messagesGo, `if p.Seq == 0 || p.Box == ""`, "TestMalformedMessages"),
	off(messagesGo, "if !ValidLoc(p.Loc)", "TestMalformedMessages"),
	without("case of unknown types", "TestMessages/an_enrolments_message", edit{attemptGo, "return nil, reason.PhoneKind", "return &a.approvers[0], nil"}),

	// Digits, and the end.
	off(attemptGo, "if subtle.ConstantTimeCompare([]byte(digits), []byte(code)) != 1", "TestDigitsAreGuessed/wrongly"),
	off(attemptGo, "if subtle.ConstantTimeCompare([]byte(digits), []byte(code)) != 1", "TestDigitsAreGuessed/by_one_digit"),
	off(attemptGo, "if len(digits) != len(code)", "TestDigitsAreGuessed/in_part"),
	off(attemptGo, "if comparisons == maxComparisons", "TestTheRightDigitsTooLate"),
	without("maxPrompts = 6", "TestNobodyApproves", edit{attemptGo, "maxPrompts     = 6", "maxPrompts     = 7"}),
	without("two seconds after early digits", "TestNobodyApproves", edit{attemptGo, "time.NewTimer(a.early)", "time.NewTimer(0)"}),
	without("what comes while they pass", "TestDigitsBeforeTheApproval", edit{attemptGo, "\t\tapproved = nil\n", ""}),
	without("no code: no comparison", "TestNobodyApproves", edit{attemptGo, "return a.awaitApproval(), false", "return &approvers.Approver{Subject: \"anybody\"}, false"}),
	out(attemptGo, "a.approved != nil || ", "TestSixtyApprovals"),
	without("the end, before and when the digits are compared", "TestARefusalIsTheEnd/after_the_digits",
		edit{attemptGo, "if err := a.over(conv); err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t\tby, compared", "by, compared"},
		edit{attemptGo, " && a.session.End(wire.EndIn, nil)", ""},
	),
	out(attemptGo, " || a.session.Why() != nil", "TestARefusalIsTheEnd/while_an_approval_is_judged"),
	out(phoneGo, "s.End(wire.EndRefused, reason.Refused)", "TestARefusalIsTheEnd/after_the_digits"),
	without("the time is up", "TestALoginExpires/approved_in_time", edit{sessionGo, "s.End(wire.EndExpired, reason.Expired)", ""}),
	off(providerGo, `if p.config.Code == "off" && !local(req)`, "TestWithoutDigits/from_another_machine"),
	off(providerGo, `if req.RHost != ""`, "TestWithoutDigits/from_another_machine"),
	off(providerGo, "if a.Fingerprint() == fingerprint", "TestTheAccountPhase/approver_replaced").with("if a.Fingerprint() != fingerprint || true"),
	off(providerGo, "if !ours", "TestTheAccountPhase/ticket_of_another_provider"),

	off(providerGo, "if len(req.Args) == 0", "TestPAMLinesThatDoNotFit/a_word_that_nobody_knows").with("if len(req.Args) == 0 || true"),
	off(providerGo, "if ttl < minTTL", "TestPAMLinesThatDoNotFit/too_little_time"),

	// The relay.
	without("certificate", "TestCertificates/self_signed", edit{dialGo, "RootCAs: roots, ", "InsecureSkipVerify: true, RootCAs: roots, "}),
	without("certificate", "TestCertificates/of_another_name", edit{dialGo, "RootCAs: roots, ", "InsecureSkipVerify: true, RootCAs: roots, "}),
	off(dialGo, "case isTLS(err)", "TestCertificates/no_TLS_there"),
	without("case http.StatusUnauthorized", "TestRelays/401", edit{dialGo, "case http.StatusUnauthorized:\n\t\treturn reason.RelayToken", ""}),
	without("case http.StatusForbidden", "TestRelays/403", edit{dialGo, "case http.StatusForbidden:\n\t\treturn reason.RelayForbidden", ""}),
	without("case http.StatusTooManyRequests", "TestRelays/429", edit{dialGo, "case http.StatusTooManyRequests:\n\t\treturn reason.RelayBusy", ""}),
	without("case resp != nil", "TestRelays/500", edit{dialGo, "case resp != nil:\n\t\treturn nil, answered(resp)", "case resp == nil && err == nil:"}),
	out(dialGo, "CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },", "TestRelays/a_redirection"),
	out(dialGo, "conn.SetReadLimit(wire.MaxEnvelope)", "TestRelaysThatGoMeanwhile/a_message_that_is_too_large"),
	without("outages are the dial's alone", "TestRelays/hangs_up", edit{dialGo, "unreached := authn.Unreachable(beyondProxy(err))", "unreached := authn.ErrAuthInfoUnavail"}),
	without("case result == wire.ResultLimit", "TestRelays/too_many", never(sessionGo, "case result == wire.ResultLimit")),
	off(sessionGo, "case result != wire.ResultTaken", "TestRelays/an_unheard_of_result"),
	without("return reason.RelayTaken", "TestRelays/everything_is_taken", edit{sessionGo, "return reason.RelayTaken", "return nil"}),
	off(sessionGo, "if e.Action == ask.Action", "TestRelays/answers_something_else").with("if e.Action == ask.Action || true"),
	out(sessionGo, " || len(s.cid) != wire.CIDSize", "TestRelays/a_connection_id_of_the_wrong_size"),
	without("typ != websocket.MessageText", "TestRelays/binary", edit{sessionGo, "typ != websocket.MessageText", "typ == 0"}),
	off(socketGo, `case e.Action == ""`, "TestRelays/no_action"),
	out(sessionGo, "s.End(wire.EndHostGone, reason.RelayDrains)", "TestRelaysThatGoMeanwhile/draining"),
	without("the socket is lost", "TestRelaysThatGoMeanwhile/broken", edit{sessionGo, "s.End(wire.EndHostGone, why)", "_ = why"}),
}

// with is off with another text in place of the condition.
func (m mutant) with(condition string) mutant {
	m.edits[0].new = condition + m.edits[0].new[len(m.edits[0].new)-2:]
	return m
}

// TestMutants takes a while.
func TestMutants(t *testing.T) {
	if os.Getenv("MUTATE") != "1" {
		t.Skip("MUTATE=1 builds the tests once for every check of the host")
	}
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	var mu sync.Mutex
	var report []string
	slots := make(chan struct{}, 3)
	var all sync.WaitGroup
	for i, m := range mutants {
		if only := os.Getenv("MUTANT"); only != "" && !strings.Contains(m.check+" "+m.attack, only) {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			how, err := m.try(t.Context(), dir, filepath.Join(scratch, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s without %q: %v", m.edits[0].file, m.check, err)
				how = "NOT RED"
			}
			report = append(report, fmt.Sprintf("%s | %s | %s | %s", m.edits[0].file, m.check, m.attack, how))
			t.Log(report[len(report)-1])
		})
	}
	all.Wait()
	t.Logf("%d of %d mutants were tried", len(report), len(mutants))
}

// try builds the tests with m in place of the host, and runs its attack. It
// returns how that ended; an error if as without m.
func (m mutant) try(ctx context.Context, dir, scratch string) (string, error) {
	overlay, err := m.overlay(dir, scratch)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	program := filepath.Join(scratch, "attack.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", program, ".")
	build.Dir = filepath.Join(dir, "attack")
	if m.pkg != "" {
		build.Dir = filepath.Join(dir, m.pkg)
	}
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c: %w\n%s", err, text)
	}
	defer os.Remove(program) //nolint:errcheck // with the folder, else
	attack := "^" + strings.ReplaceAll(m.attack, "/", "$/^") + "$"
	run := exec.CommandContext(ctx, program, "-test.run", attack, "-test.timeout", "120s", "-test.v")
	run.Dir, run.Env = build.Dir, append(os.Environ(), "GOFLAGS=-overlay="+overlay) // for tests that build programs
	text, err := run.CombinedOutput()
	if !bytes.Contains(text, []byte("=== RUN   "+m.attack)) {
		return "", fmt.Errorf("there is no attack %s", m.attack)
	}
	if err == nil || bytes.Contains(text, []byte(broken)) {
		return "", fmt.Errorf("this shows nothing:\n%s", text)
	}
	return ending(text), nil
}

// broken is what world.succeeds says, which proves nothing about an attack.
const broken = "nothing was changed, and nobody got in"

var endingRE = regexp.MustCompile(`(?m)^.*(?:_test\.go:\d+: |panic: ).*$`)

// ending says how an attack's test failed: what happened if it says so, or else
// its first complaints.
func ending(text []byte) string {
	for _, worst := range []string{"THE ATTACK SUCCEEDED", "DIGITS WERE SHOWN"} {
		if bytes.Contains(text, []byte(worst)) {
			return worst
		}
	}
	var lines []string
	for _, line := range endingRE.FindAllString(string(text), -1) {
		if !strings.Contains(line, "the phone hears: ") && len(lines) < 2 {
			lines = append(lines, fmt.Sprintf("%.160s", strings.TrimSpace(line)))
		}
	}
	return strings.Join(lines, "; ")
}

// overlay writes the changed files and the list of them that the go command
// wants.
func (m mutant) overlay(dir, scratch string) (string, error) {
	if err := os.Mkdir(scratch, 0o700); err != nil {
		return "", err
	}
	changed := make(map[string]string)
	for _, e := range m.edits {
		text, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(dir, e.file))
			if err != nil {
				return "", err
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("%s: %q is there %d times", e.file, e.old, n)
		}
		changed[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := make(map[string]string)
	for file, text := range changed {
		to := filepath.Join(scratch, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(dir, file)] = to
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(scratch, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

// TestMutantsFit: every check is still where the table says, and every attack
// has its test.
func TestMutantsFit(t *testing.T) {
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	scratch := t.TempDir()
	for i, m := range mutants {
		if _, err := m.overlay(dir, filepath.Join(scratch, fmt.Sprint(i))); err != nil {
			t.Errorf("%s: %v", m.attack, err)
		}
	}
}

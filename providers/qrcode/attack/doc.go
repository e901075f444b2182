// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package attack has no code, only tests: the ways in which somebody might get
// in by QR code without being let in. Each begins with a login that succeeds,
// changes one thing, and wants a certain reason in the log, a certain result
// for PAM, and digits on no phone. Relays are real, or an attacker's that does
// what a relay does; where it matters what the page does, it is a browser's.
//
// Two of the ways are tested elsewhere: digits that are not typed at an
// enrolment, beside authn-qrcode-enroll, and keys that it must not take, in
// internal/enroll.
//
// What each check is for shows when it is taken away:
//
//	MUTATE=1 go test ./providers/qrcode/attack -run TestMutants -timeout 60m -v
//
// builds the tests anew without it, once for every check, and wants the attack
// that it is there for to fail. MUTANT=TEXT picks those whose check or attack
// contains the text. It takes some ten minutes on two cores, and root, for the
// program that enrols.
package attack

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package onelogintest

import "slices"

// Variants says which reading of the public facts a server follows where they
// conflict or are silent. The zero value is what OneLogin's API reference shows
// or, where that says nothing, what most public programs expect.
type Variants struct {
	Name string // for subtests

	// StringIDs sends ids of users and roles as strings.
	StringIDs bool
	// NumericDeviceIDs sends device ids of the v2 API as numbers, as the Python
	// SDK's models have them; the pages show strings.
	NumericDeviceIDs bool
	// SingleObjects answers verifications with an object where the pages show
	// a list of one.
	SingleObjects bool

	// WrongCode is the answer of the v2 API to a wrong code.
	WrongCode WrongCode
	// PollEnvelope answers errors of verifications in the v1 envelope, and a bad
	// token at GET verifications/:id, as the page on polling does.
	PollEnvelope bool
	// LostPush is what a poll hears of a push that expired.
	LostPush LostPush
	// ProtectByPUT accepts a Protect code at PUT verifications/:id; the page
	// says that this cannot "currently" be.
	ProtectByPUT bool
	// MFARespectsStatus refuses to list, trigger and verify factors of users
	// who are not active.
	MFARespectsStatus bool

	// FullList sends role_ids and all else in the list of users, too.
	FullList bool
	// IgnoreFields ignores the query key fields.
	IgnoreFields bool
	// FoldCase finds users by email and username whatever the letters' case.
	FoldCase bool
	// ReverseLists sends users, roles and devices the other way round.
	ReverseLists bool
	// FlatRoles sends the roles of a user (v1) as a list, not as a list in a
	// list.
	FlatRoles bool
	// ExtraFields adds fields that no page mentions, and lists manager_user_id
	// as a string.
	ExtraFields bool

	// TokenLikeCode answers a bad token or scope, in the MFA calls of v2, just as
	// a wrong code: the pages show "InvalidCredentials" without saying for which.
	TokenLikeCode bool
	// TellScope says "Insufficient Permission" also in the v2 API.
	TellScope bool
	// RemainingLife tells in expires_in what is left of a token's life, not
	// what its whole life was.
	RemainingLife bool
	// Wait is how a 429 tells when to come back.
	Wait Wait
	// WaitBody is the body of a 429.
	WaitBody WaitBody
	// NoRateHeaders leaves X-RateLimit-* out of answers.
	NoRateHeaders bool
	// ProtectTwice lists Protect twice in the v1 API, with and without
	// needs_trigger.
	ProtectTwice bool
	// NumericCodes sends codes of six digits; without it they have letters, as
	// in "B41832".
	NumericCodes bool
}

// WrongCode is an answer to a wrong code.
type WrongCode int

// Answers to a wrong code.
const (
	WrongFlat401     WrongCode = iota // {"statusCode":401,"name":"InvalidCredentials"}
	WrongEnvelope401                  // "Failed authentication with this factor"
	WrongFlat403                      // {"statusCode":403,"name":"ForbiddenAction"}
)

// LostPush is an answer about a push that expired.
type LostPush int

// Answers about a push that expired.
const (
	LostNotFound LostPush = iota // 404
	LostPending                  // "pending" for ever
	LostExpired                  // "expired", which no page lists
)

// Wait is how a 429 tells when to come back.
type Wait int

// Ways to tell when to come back.
const (
	WaitRetryAfter Wait = iota
	WaitReset           // X-RateLimit-Reset, seconds
	WaitBoth
	WaitNeither
)

// WaitBody is the body of a 429.
type WaitBody int

// Bodies of a 429.
const (
	WaitJSON  WaitBody = iota // an error of the API that was called
	WaitText                  // a line of text
	WaitEmpty                 // nothing
)

// AllVariants returns named readings to run a test with: the documented one,
// one for each point that differs from it, and the one where all differ.
func AllVariants() []Variants {
	return slices.Clone(allVariants)
}

var allVariants = []Variants{
	{Name: "documented"},
	{Name: "string_ids", StringIDs: true},
	{Name: "numeric_device_ids", NumericDeviceIDs: true},
	{Name: "single_objects", SingleObjects: true},
	{Name: "wrong_code_is_an_envelope", WrongCode: WrongEnvelope401},
	{Name: "wrong_code_is_403", WrongCode: WrongFlat403},
	{Name: "poll_errors_are_envelopes", PollEnvelope: true},
	{Name: "lost_push_stays_pending", LostPush: LostPending},
	{Name: "lost_push_is_expired", LostPush: LostExpired},
	{Name: "protect_code_by_put", ProtectByPUT: true},
	{Name: "mfa_respects_status", MFARespectsStatus: true},
	{Name: "full_list", FullList: true},
	{Name: "fields_are_ignored", IgnoreFields: true},
	{Name: "letter_case_is_ignored", FoldCase: true},
	{Name: "reverse_lists", ReverseLists: true},
	{Name: "flat_roles", FlatRoles: true},
	{Name: "extra_fields", ExtraFields: true},
	{Name: "bad_token_looks_like_wrong_code", TokenLikeCode: true},
	{Name: "scope_is_told", TellScope: true},
	{Name: "remaining_life", RemainingLife: true},
	{Name: "wait_for_reset", Wait: WaitReset, WaitBody: WaitText},
	{Name: "wait_unsaid", Wait: WaitNeither, WaitBody: WaitEmpty, NoRateHeaders: true},
	{Name: "protect_twice", ProtectTwice: true},
	{Name: "numeric_codes", NumericCodes: true},
	{
		Name: "everything_differs", StringIDs: true, NumericDeviceIDs: true, SingleObjects: true,
		WrongCode: WrongEnvelope401, PollEnvelope: true, LostPush: LostExpired, ProtectByPUT: true,
		MFARespectsStatus: true, FullList: true, IgnoreFields: true, FoldCase: true, ReverseLists: true,
		FlatRoles: true, ExtraFields: true, TokenLikeCode: true, TellScope: true, RemainingLife: true,
		Wait: WaitNeither, WaitBody: WaitEmpty, NoRateHeaders: true, ProtectTwice: true, NumericCodes: true,
	},
}

// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package timing holds the built provider onelogin to its promise that nobody
// learns who exists: through libpam, with the real module, worker and provider,
// and an emulated OneLogin. It has nothing but tests.
//
// Who is at the prompt must not show in what is asked and said, in what OneLogin
// is asked, nor in any time from the start or an answer to the next prompt or
// result. Times are compared as they are, to the microsecond, which is finer
// than any screen or network: 200 logins of each kind of person, in random
// order, and the Mann-Whitney U test between each kind and people who exist and
// type a wrong code.
//
// The criterion is p > 0.01 for each pair. Some fifty pairs are looked at in a
// run, so that two runs in five would meet a smaller p by chance alone. A pair
// that fails is therefore looked at again, with fresh logins, and is a leak if
// it fails three times in a row and leans the same way each time. By chance
// that happens to one pair in four million. A difference that one look finds
// nearly always is found by three, too, and p < 1e-7 needs no second look. That
// the check can fail, one of the tests proves: without padding it does.
package timing

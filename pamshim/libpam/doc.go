// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Package libpam calls the built module through the system's libpam, in the
// test's own process. It has nothing but tests. Most of them are transcripts
// under testdata: see [TestTranscripts].
package libpam

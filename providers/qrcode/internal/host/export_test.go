// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package host

// InFlight returns how many posts wait for their answer.
func (s *Session) InFlight() int { return len(s.slots) }
